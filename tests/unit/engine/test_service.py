"""The engine as its callers see it: limits, cancellation, seeds, and what happens when it ends or dies."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.errors import (
    AdapterIncompatible,
    EngineOverloaded,
    EngineStopped,
    GrammarDeadEnd,
    LogitsInvalid,
    PromptTooLong,
    SamplingInvalid,
    TooManyExperts,
    UnsupportedModel,
)
from engine.model.config import read_config
from engine.model.native import NativeTransformer
from engine.model.native_library import library
from engine.request import ExpertUse, FinishReason, GenerationRequest, SamplingParams
from engine.scheduler import Scheduler
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask
from tests.unit.engine.models import Reference, configs, make_reference, save_base
from tests.unit.engine.test_sampler import AllowedSet

VOCAB = 97


def endless(**sampling: object) -> GenerationRequest:
    """A request that only its length ends: the small base seldom says its end token when it is greedy."""
    params = SamplingParams(max_tokens=110, **sampling)  # type: ignore[arg-type]
    return GenerationRequest("endless", (8, 9), (), params, EverythingBut(5))


class EverythingBut(AllowedSet):
    """A grammar that allows every token but one and is never complete."""

    def __init__(self, refused: int) -> None:
        super().__init__(*(set(range(VOCAB)) - {refused}), size=VOCAB)
        self.closed = 0

    def forced_tokens(self) -> list[int]:
        return []

    def close(self) -> None:
        self.closed += 1


async def test_a_prompt_that_leaves_no_room_is_refused_with_the_numbers(make_engine: MakeEngine) -> None:
    with pytest.raises(PromptTooLong, match="128 tokens, the limit is 127"):
        await ask(make_engine(), [7] * 128)


async def test_more_experts_than_slots_are_refused(make_engine: MakeEngine, references: dict[str, Reference]) -> None:
    with pytest.raises(TooManyExperts, match="2 experts at once, the server has 1"):
        await ask(make_engine(num_slots=1), [7], [(references["lora"], 1.0), (references["dora"], 1.0)])


async def test_a_full_queue_refuses_before_any_work(make_engine: MakeEngine) -> None:
    engine = make_engine(max_queue=2, max_batch=1)
    running = []
    with pytest.raises(EngineOverloaded, match="the limit is 2"):
        for _ in range(8):
            running.append(await engine.submit(endless()))
    for generation in running:
        generation.cancel()


async def test_cancelling_ends_the_stream_and_frees_the_cache(make_engine: MakeEngine) -> None:
    engine, request = make_engine(), endless()
    generation = await engine.submit(request)
    seen = []
    async for event in generation:
        seen.append(event)
        if len(seen) == 2:
            generation.cancel()
    assert seen[-1].finish is FinishReason.CANCELLED and len(seen) < 110
    assert engine.stats().kv_blocks_used == 0 and engine.stats().running == 0
    assert isinstance(request.matcher, EverythingBut) and request.matcher.closed == 1


async def test_a_seed_gives_one_answer_whatever_else_runs(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine()
    alone = (await ask(engine, [8, 9], temperature=1.2, seed=3)).ids
    crowd = [ask(engine, [7, n], [(references["dora"], 1.0)], temperature=1.0, seed=n) for n in range(6, 16)]
    together = await asyncio.gather(ask(engine, [8, 9], temperature=1.2, seed=3), *crowd)
    assert together[0].ids == alone


async def test_timings_tell_the_swap_and_a_second_use_needs_none(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine()
    first = await ask(engine, [8, 9], [(references["lora"], 1.0)])
    again = await ask(engine, [8, 9], [(references["lora"], 1.0)])
    assert first.timings and first.timings.swap_ms > 0
    assert again.timings and again.timings.swap_ms == 0
    assert 0 <= first.timings.queue_ms <= first.timings.first_token_ms <= first.timings.total_ms
    stats = engine.stats()
    assert stats.swaps == 1 and stats.resident == ("lora",) and stats.slots_used == 1


async def test_a_grammar_without_a_way_on_fails_its_request_alone(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with pytest.raises(GrammarDeadEnd):
        await ask(engine, [8, 9], matcher=AllowedSet(size=VOCAB))
    assert (await ask(engine, [8, 9])).finish
    assert engine.is_healthy


async def test_stopping_fails_what_runs_and_what_comes_later(make_engine: MakeEngine) -> None:
    engine = make_engine()
    generation = await engine.submit(endless())
    await asyncio.to_thread(engine.stop)
    with pytest.raises(EngineStopped):
        async for _ in generation:
            pass
    with pytest.raises(EngineStopped):
        await ask(engine, [8])
    assert not engine.is_healthy


async def test_a_crash_of_the_thread_fails_everyone_and_shows_in_the_health(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    first, second = await engine.submit(endless()), await engine.submit(endless())

    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(engine._loop.runner, "forward", broken)
    for generation in (first, second):
        with pytest.raises(EngineStopped, match="the device is gone"):
            async for _ in generation:
                pass
    assert not engine.is_healthy
    with pytest.raises(EngineStopped, match="the device is gone"):
        await ask(engine, [8])


@pytest.fixture(scope="module")
def even_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of whole vectors, so that the fused kernels serve it where they are."""
    return save_base(tmp_path_factory.mktemp("even"), 112)


@pytest.mark.parametrize("quantization", ["int8", "int4", "bf16"])
async def test_rounded_weights_serve_every_kind_nearly_as_whole_ones(
    make_engine: MakeEngine, even_base: Path, quantization: str
) -> None:
    rounded, whole = make_engine(base=even_base, quantization=quantization), make_engine(base=even_base)
    if quantization != "bf16" and library() is not None:
        assert isinstance(rounded._loop.runner.model, NativeTransformer)
    for seed, (name, (config, virtual)) in enumerate(configs().items()):
        reference = make_reference(even_base, name, config, virtual, seed)
        found, expected = [
            await ask(engine, [8, 9, 10], [(reference, 1.0)], max_tokens=1, logprobs=112) for engine in (rounded, whole)
        ]
        ours, theirs = (torch.tensor(sorted(answer.logprobs[0].top))[:, 1] for answer in (found, expected))
        likely = theirs > -5
        assert (ours - theirs)[likely].abs().max() < (2.5 if quantization == "int4" else 0.7), name
    memory = rounded.stats().memory_bytes
    assert set(memory) == {"base", "slots", "kv"} and min(memory.values()) > 0


@pytest.mark.parametrize("ids", [(), (VOCAB,), (8, -1)])
async def test_a_prompt_of_other_ids_is_refused_and_the_engine_lives(
    make_engine: MakeEngine, ids: tuple[int, ...]
) -> None:
    engine = make_engine()
    with pytest.raises(SamplingInvalid, match="prompt_ids"):
        await ask(engine, ids)
    assert (await ask(engine, [8])).finish


def test_a_tokenizer_longer_than_the_head_is_refused(make_engine: MakeEngine) -> None:
    with pytest.raises(UnsupportedModel, match="98 tokens, the model 97 logits"):
        make_engine(num_tokens=98)


async def test_requests_that_leave_do_not_count_as_waiting(make_engine: MakeEngine) -> None:
    engine = make_engine(max_queue=2)
    engine._loop.scheduler.plan = lambda: time.sleep(0.2) or plan()  # type: ignore[method-assign, func-returns-value]
    plan = Scheduler.plan.__get__(engine._loop.scheduler)
    generation = await engine.submit(endless())
    await anext(aiter(generation))
    for _ in range(5):
        generation.cancel()
    engine.check_capacity()


async def test_a_full_queue_refuses_requests_with_experts_too(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    """They wait for the lowering between the first look at the queue and the place in it."""
    engine = make_engine(max_queue=2, max_batch=1)
    uses = (ExpertUse(references["dora"].adapter, 1.0),)
    submits = [engine.submit(replace(endless(), experts=uses)) for _ in range(20)]
    outcomes = await asyncio.gather(*submits, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, EngineOverloaded)]
    assert len(refused) >= 17
    for outcome in outcomes:
        if not isinstance(outcome, BaseException):
            outcome.cancel()


@pytest.mark.parametrize("quantization", ["fp32", "int8"])
async def test_an_expert_that_overflows_fails_alone(
    make_engine: MakeEngine, references: dict[str, Reference], even_base: Path, quantization: str
) -> None:
    """Finite weights whose products are not: neighbours share the batch and the cache's tensors with it."""
    huge = {name: torch.full_like(tensor, 1e25) for name, tensor in references["lora"].adapter.tensors.items()}
    poison = replace(references["lora"], adapter=replace(references["lora"].adapter, tensors=huge, generation="poison"))
    engine = make_engine(base=even_base, quantization=quantization)
    prompts = [[8, 9, n] for n in range(6, 14)]
    alone = [(await ask(engine, ids)).ids for ids in prompts]
    crowd = await asyncio.gather(
        ask(engine, [7, 8], [(poison, 1.0)]), *(ask(engine, ids) for ids in prompts), return_exceptions=True
    )
    assert isinstance(crowd[0], LogitsInvalid)
    assert [getattr(answer, "ids", answer) for answer in crowd[1:]] == alone
    assert engine.is_healthy


async def test_an_expert_whose_scale_overflows_is_refused(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    reference = references["lora"]
    scaled = replace(reference.adapter, config={**reference.adapter.config, "lora_alpha": 1e60}, generation="scaled")
    with pytest.raises(AdapterIncompatible, match="do not fit"):
        await ask(make_engine(), [7], [(replace(reference, adapter=scaled), 1.0)])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}, "rope_parameters": None}, "rope_type 'dynamic'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0.5}}, "factor of at least 1, not 0.5"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor of at least 1, not None"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "mscale": 0.7}}, "'yarn' with mscale"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "with partial_rotary_factor"),
        ({"auto_map": {"AutoModel": "code.py"}}, "auto_map"),
        ({"model_type": "llama"}, "model_type 'llama'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"head_dim": None}, "head_dim"),
        ({"num_attention_heads": 5}, "num_key_value_heads 2 does not divide num_attention_heads 5"),
    ],
)
def test_a_base_that_would_be_run_wrongly_is_refused_by_its_key(
    base: Path, tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    config = json.loads((base / "config.json").read_text()) | change
    kept = {key: value for key, value in config.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    with pytest.raises(UnsupportedModel, match=fault):
        read_config(tmp_path)
