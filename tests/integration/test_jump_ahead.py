"""A trained expert under schemas of its own task says the same with jumping and without, in far fewer passes."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from bench.quality import open_bench
from engine.request import ExpertUse, GenerationRequest, SamplingParams
from engine.service import Engine
from grammars.json_schema import to_gbnf
from training.measure import unseen
from training.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
BASE, EXPERTS = ROOT / "models" / "nano", ROOT / "adapters_store" / "experts"
KINDS = {str: "string", int: "integer"}


def test_a_trained_expert_says_the_same_with_jumping_in_far_fewer_steps() -> None:
    bench = open_bench(BASE, EXPERTS, "fp32", 20)
    examples = unseen(bench.tokenizer.hf, TASKS["json-extract"], 20, seed=21)

    async def answers(engine: Engine) -> list[list[int]]:
        async def answer(prompt: str, expected: str) -> list[int]:
            fields = {name: {"type": KINDS[type(value)]} for name, value in json.loads(expected).items()}
            schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
            request = GenerationRequest(
                "test",
                bench.tokenizer.encode_chat([("user", prompt)]),
                (ExpertUse(bench.experts["json-extract"], 1.0),),
                SamplingParams(max_tokens=160),
                bench.compiler.compile(to_gbnf(schema)).matcher(),
            )
            return [event.token_id async for event in await engine.submit(request) if event.token_id is not None]

        return [await answer(example.prompt, example.answer) for example in examples]

    bench.engine.stop()
    found, steps = [], []
    for jump_ahead in (True, False):
        engine = Engine.load(replace(bench.engine.config, jump_ahead=jump_ahead))
        engine.start()
        found.append(asyncio.run(answers(engine)))
        steps.append(engine.stats().steps)
        engine.stop()
    same = [one == other for one, other in zip(*found, strict=True)]
    assert sum(same) >= 19
    assert steps[0] <= 0.7 * steps[1]
    right = [
        json.loads(str(bench.tokenizer.hf.decode(ids))) == json.loads(example.answer)
        for ids, example in zip(found[0], examples, strict=True)
    ]
    assert sum(right) >= 14
