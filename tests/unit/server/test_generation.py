"""One request's story: who answers, with which defaults, under which grammar, and what is let go of."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.errors import ExpertNotFound, PackageInvalid, StoreFull
from adapters_store.store import AdapterStore
from engine.errors import AdapterIncompatible, EngineOverloaded, PromptTooLong
from engine.request import FinishReason, GenerationRequest, SamplingParams
from grammars import library, spec
from grammars.errors import GrammarInvalid, GrammarUnknown
from router.decision import ExpertScore, RouteDecision, RouteQuery, in_eighths
from server.generation import Running, answer, begin, choose_experts
from server.replies import reply_of
from server.schemas import GenerateRequest, Reply
from server.services import Services
from server.text_reader import Piece
from server.wire import ExpertChoice
from tests.fakes import FakeCompiler, FakeEngine, FakeGeneration, FakeMatcher, make_services


class TwoExperts:
    """A router that mixes, as the later stages will."""

    async def refresh(self) -> None:
        """It knows two experts for good."""

    def route(self, query: RouteQuery) -> RouteDecision:
        experts = (ExpertScore("sql", 0.61), ExpertScore("json", 0.02))[: query.max_experts]
        return RouteDecision(experts, "policy", "a mixture", 0.9, {"sql": 0.61, "json": 0.02})


def ask(prompt: object = "hello", **fields: object) -> GenerateRequest:
    return GenerateRequest.model_validate({"prompt": prompt, **fields})


def room_for_one(experts_dir: Path) -> int:
    return (experts_dir / "sql" / "adapter_model.safetensors").stat().st_size


async def finish(running: Running) -> tuple[str, Reply]:
    *streamed, answers = [parts async for parts in answer(running)]
    running.close()
    assert isinstance(answers, tuple)
    reply = reply_of(running, answers)
    assert reply.text == "".join(part.text for parts in streamed for part in parts if isinstance(part, Piece))
    return reply.text, reply


class ReplacedOnce(FakeEngine):
    """Finds at its first request that the package was replaced since it was fetched."""

    async def submit(self, request: GenerationRequest) -> FakeGeneration:
        if not self.requests:
            self.requests.append(request)
            raise PackageInvalid("sql", "it was replaced while a request waited for it; ask again")
        return await super().submit(request)


async def test_a_package_replaced_between_fetch_and_lowering_is_fetched_again(services: Services) -> None:
    engine = ReplacedOnce()
    engine.start()
    text, _ = await finish(await begin(replace(services, engine=engine), ask("hello", experts=["sql"])))
    assert text == "sql: hello" and len(engine.requests) == 2


async def test_the_router_chooses_by_the_prompts_cue(services: Services) -> None:
    text, reply = await finish(await begin(services, ask("count the singers in SQL")))
    assert text == "sql: count the singers in SQL"
    assert [expert.name for expert in reply.experts] == ["sql"]
    assert reply.routing.stage == "keywords"


async def test_no_cue_means_the_base_and_that_is_an_answer(services: Services) -> None:
    text, reply = await finish(await begin(services, ask("hello")))
    assert text == "base: hello"
    assert (reply.experts, reply.routing.stage) == ([], "none")


async def test_the_router_does_not_know_experts_of_another_base(services: Services) -> None:
    _, reply = await finish(await begin(services, ask("in another tongue")))
    assert reply.experts == []


async def test_an_empty_list_asks_for_the_base_whatever_the_prompt_says(services: Services) -> None:
    _, reply = await finish(await begin(services, ask("count in SQL", experts=[])))
    assert (reply.experts, reply.routing.stage) == ([], "explicit")


async def test_named_experts_come_in_the_order_and_with_the_weights_of_the_request(
    services: Services,
) -> None:
    experts = [ExpertChoice(name="json", weight=0.3), "sql"]
    text, reply = await finish(await begin(services, ask(experts=experts)))
    assert text == "json+sql: hello"
    assert [(expert.name, expert.weight) for expert in reply.experts] == [("json", 0.3), ("sql", 1.0)]
    assert (reply.experts[0].version, reply.experts[0].kind) == ("1.2.3", "lora")


async def test_an_unknown_expert_is_refused_with_the_names_that_exist(services: Services) -> None:
    with pytest.raises(ExpertNotFound, match="sql"):
        await begin(services, ask(experts=["poet"]))


async def test_an_expert_of_another_base_is_refused_before_it_reaches_the_engine(
    services: Services, engine: FakeEngine
) -> None:
    with pytest.raises(AdapterIncompatible, match="foreign"):
        await begin(services, ask(experts=["foreign"]))
    assert engine.requests == []


async def test_the_routers_weights_are_rounded_to_eighths(services: Services) -> None:
    mixing = replace(services, router=TwoExperts())
    decision = choose_experts(mixing, ask(max_experts=2))
    assert decision.experts == (ExpertScore("sql", 0.625), ExpertScore("json", 0.125))
    assert decision.scores == {"sql": 0.61, "json": 0.02}
    assert len(choose_experts(mixing, ask(max_experts=1)).experts) == 1


@given(st.floats(0, 4))
def test_an_eighth_is_near_and_never_nothing(weight: float) -> None:
    rounded = in_eighths(weight)
    assert rounded * 8 == int(rounded * 8) >= 1
    assert abs(rounded - weight) <= 1 / 8


async def test_what_the_request_leaves_out_the_expert_fills_and_then_the_server(
    services: Services, engine: FakeEngine
) -> None:
    (await begin(services, ask(experts=["sql"], top_k=7, seed=3))).close()
    assert engine.requests[0].sampling == SamplingParams(temperature=0.5, max_tokens=40, top_k=7, seed=3)


async def test_a_zero_in_the_request_is_a_value(services: Services, engine: FakeEngine) -> None:
    (await begin(services, ask(experts=["sql"], temperature=0))).close()
    assert engine.requests[0].sampling.temperature == 0


async def test_of_several_experts_the_first_gives_the_defaults(services: Services, engine: FakeEngine) -> None:
    (await begin(services, ask(experts=["json", "sql"]))).close()
    assert engine.requests[0].sampling == SamplingParams()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"experts": ["sql"]}, "sql"),
        ({"experts": ["json"]}, 'root ::= "{}"'),
        ({"experts": ["free"]}, None),
        ({"experts": []}, None),
        ({"experts": ["sql"], "grammar": None}, None),
        ({"experts": ["sql"], "grammar": "json"}, "json"),
        ({"experts": [], "grammar": "labels"}, "labels"),
        ({"experts": ["json", "sql"]}, 'root ::= "{}"'),
        ({"experts": [{"name": "json", "weight": 0.5}, "sql"]}, "sql"),
    ],
)
async def test_the_grammar_is_the_heaviest_experts_unless_the_request_names_one(
    fields: dict[str, object], expected: str | None, services: Services, engine: FakeEngine
) -> None:
    (await begin(services, ask(**fields))).close()
    matcher = engine.requests[0].matcher
    if expected is None:
        assert matcher is None
    else:
        assert isinstance(matcher, FakeMatcher)
        assert matcher.gbnf == (library.text(expected) if expected in library.names() else expected)


@pytest.mark.parametrize(
    ("fields", "tried"),
    [
        ({"experts": [], "grammar": "labels"}, []),
        ({"experts": ["sql"]}, []),
        ({"experts": ["json"]}, [('root ::= "{}"', "root")]),
        ({"experts": ["sql"], "grammar": {"gbnf": "x ::= [a]", "root": "x"}}, [("x ::= [a]", "x")]),
        ({"experts": [], "grammar": {"choice": ["no", "yes"]}}, [('root ::= "no" | "yes"\n', "root")]),
    ],
)
async def test_only_the_librarys_grammars_are_compiled_untried(
    fields: dict[str, object], tried: list[tuple[str, str]], services: Services
) -> None:
    (await begin(services, ask(**fields))).close()
    assert isinstance(services.compiler, FakeCompiler)
    assert services.compiler.tried == tried
    assert len(services.compiler.compiled) == 1


@pytest.mark.parametrize(
    ("grammar", "same_as"),
    [
        ({"json_schema": {"enum": [1, 2]}}, spec.JsonSchema('{"enum": [1, 2]}')),
        ({"json_schema": True}, spec.JsonSchema("true")),
        ({"regex": "[ab]+"}, spec.Pattern("[ab]+")),
        ({"library": "sql", "schema": "CREATE TABLE t (a INT);"}, spec.Narrowed("sql", "CREATE TABLE t (a INT);")),
        ({"library": "sql", "from_prompt": True}, spec.Narrowed("sql", "CREATE TABLE u (b INT);")),
    ],
)
async def test_every_form_of_a_grammar_becomes_gbnf_that_is_tried(
    grammar: dict[str, object], same_as: spec.Spec, services: Services
) -> None:
    messages = [
        {"role": "system", "content": "CREATE TABLE u (b INT);"},
        {"role": "assistant", "content": "CREATE TABLE w (c INT);"},
        {"role": "user", "content": "How many?"},
    ]
    body = GenerateRequest.model_validate({"messages": messages, "experts": [], "grammar": grammar})
    (await begin(services, body)).close()
    assert isinstance(services.compiler, FakeCompiler)
    assert services.compiler.tried == [(spec.source(same_as).gbnf, "root")]
    assert services.compiler.searched == ["library" not in grammar]


async def test_a_packages_faulty_grammar_is_not_the_clients_fault(services: Services) -> None:
    assert isinstance(services.compiler, FakeCompiler)
    services.compiler.fault = GrammarInvalid("it has no rules")
    with pytest.raises(GrammarInvalid):
        await begin(services, ask(experts=[], grammar={"gbnf": "#"}))
    with pytest.raises(PackageInvalid, match="it has no rules"):
        await begin(services, ask(experts=["json"]))


async def test_an_unknown_grammar_is_refused_with_the_librarys_names(services: Services) -> None:
    with pytest.raises(GrammarUnknown, match="json"):
        await begin(services, ask(grammar="poetry"))


async def test_a_full_queue_is_refused_before_any_work(services: Services, engine: FakeEngine) -> None:
    engine.num_queued = engine.max_queue
    with pytest.raises(EngineOverloaded):
        await begin(services, ask(experts=["sql"]))
    assert services.store.stats().misses == 0
    assert isinstance(services.compiler, FakeCompiler)
    assert services.compiler.compiled == []


async def test_an_expert_is_leased_until_the_answer_ends(experts_dir: Path, engine: FakeEngine) -> None:
    one_at_a_time = AdapterStore(experts_dir, room_for_one(experts_dir))
    services = replace(make_services(experts_dir, engine), store=one_at_a_time)
    engine.start()
    running = await begin(services, ask(experts=["sql"]))
    with pytest.raises(StoreFull):
        await begin(services, ask(experts=["json"]))
    await finish(running)
    running.close()  # twice is harmless
    (await begin(services, ask(experts=["json"]))).close()


async def test_a_refusal_by_the_engine_lets_go_of_the_experts(
    services: Services, engine: FakeEngine, experts_dir: Path
) -> None:
    engine.max_prompt = 3
    one_at_a_time = replace(services, store=AdapterStore(experts_dir, room_for_one(experts_dir)))
    for expert in ("sql", "json"):
        with pytest.raises(PromptTooLong, match="3"):
            await begin(one_at_a_time, ask("a longer prompt", experts=[expert]))


async def test_closing_stops_the_engines_work(services: Services, engine: FakeEngine) -> None:
    running = await begin(services, ask())
    running.close()
    assert engine.generations[0].is_cancelled


async def test_the_reply_counts_tokens_and_tells_times(services: Services) -> None:
    _, reply = await finish(await begin(services, ask("hello", experts=["sql"])))
    assert reply.usage.model_dump() == {
        "prompt_tokens": 5,
        "cached_tokens": 0,
        "completion_tokens": 10,
        "thinking_tokens": 0,
        "total_tokens": 15,
    }
    times = reply.timings
    assert (times.queue_ms, times.swap_ms, times.first_token_ms, times.total_ms) == (0.5, 2.0, 3.0, 7.0)
    assert times.route_ms >= 0
    assert reply.id.startswith("gen-")


async def test_an_answer_cut_by_its_length_says_so(services: Services) -> None:
    text, reply = await finish(await begin(services, ask(max_tokens=4)))
    assert (text, reply.finish_reason) == ("base", FinishReason.LENGTH)


async def test_ten_at_once_give_each_its_own_answer_and_id(services: Services) -> None:
    bodies = [ask(f"prompt {n}", experts=[("sql", "json", "free")[n % 3]]) for n in range(10)]
    answers = await asyncio.gather(*[_whole(services, body) for body in bodies])
    assert [text for text, _ in answers] == [f"{('sql', 'json', 'free')[n % 3]}: prompt {n}" for n in range(10)]
    assert len({reply.id for _, reply in answers}) == 10


async def _whole(services: Services, body: GenerateRequest) -> tuple[str, Reply]:
    return await finish(await begin(services, body))
