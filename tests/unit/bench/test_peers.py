"""What peers are asked, over a real socket, and that none of them outlives the bench."""

import json
import os
from pathlib import Path

import pytest
import torch

from bench.peers import ServerSpec, batched_samples, bench_samples, completion_body, run_server, running_server
from bench.sequential import measure, seconds_for
from bench.workload import Job, Prompts, even_case


def spec_of(program: Path, **settings: object) -> ServerSpec:
    return ServerSpec(program, Path("base.gguf"), 2, **settings)  # type: ignore[arg-type]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def logged(program: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in program.with_name("log").read_text().splitlines()]


def test_a_request_names_its_own_lora_and_silences_the_others() -> None:
    body = completion_body(Job((5, 6, 7), 9, "ten/b"), {"ten/a": 0, "ten/b": 1})
    assert body["lora"] == [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 1.0}]
    assert body["prompt"] == [5, 6, 7] and body["n_predict"] == 9
    assert body["ignore_eos"] is True and body["cache_prompt"] is False and body["temperature"] == 0.0


def test_a_request_for_the_base_silences_every_lora() -> None:
    assert [entry["scale"] for entry in completion_body(Job((1,), 1), {"ten/a": 0, "ten/b": 1})["lora"]] == [0.0, 0.0]
    assert "lora" not in completion_body(Job((1,), 1), {})


def test_a_server_answers_every_case_and_is_gone_afterwards(fake_llama: Path) -> None:
    loras = (Path("gguf/ten/a.gguf"), Path("gguf/ten/b.gguf"))
    case = even_case("loras", Prompts(100), ["ten/a", "ten/b"], (3, 6), runs=2)
    traces = run_server(spec_of(fake_llama, parallel=2, context=64, loras=loras), [case])
    assert [[len(trace.token_times) for trace in run] for run in traces["loras"]] == [[6, 6], [6, 6]]
    started, *bodies = logged(fake_llama)
    arguments, pid = started["arguments"], started["pid"]
    assert isinstance(arguments, list) and isinstance(pid, int)
    assert not is_running(pid)
    assert arguments[arguments.index("--lora") + 1] == "gguf/ten/a.gguf,gguf/ten/b.gguf"
    assert arguments[arguments.index("--ctx-size") + 1] == "128" and "--lora-init-without-apply" in arguments
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert [body["n_predict"] for body in bodies] == [4, 4] + [6] * 4


def test_a_server_is_ended_when_the_bench_fails(fake_llama: Path) -> None:
    with pytest.raises(RuntimeError, match="the bench fails"), running_server(spec_of(fake_llama)):
        raise RuntimeError("the bench fails")
    pid = logged(fake_llama)[0]["pid"]
    assert isinstance(pid, int) and not is_running(pid)


def test_an_answer_cut_short_is_no_measurement(fake_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_LLAMA_LIMIT", "5")
    case = even_case("alone", Prompts(100), [None], (3, 6), runs=1)
    with pytest.raises(RuntimeError, match="generated 5 tokens, 6 were asked for"):
        run_server(spec_of(fake_llama), [case])


def test_a_server_that_cannot_start_says_why(fake_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_LLAMA_BROKEN", "1")
    with (
        pytest.raises(RuntimeError, match="llama-server ended with 1: cannot read the model"),
        running_server(spec_of(fake_llama)),
    ):
        pass


def test_the_tools_samples_are_read(fake_llama: Path) -> None:
    assert bench_samples(fake_llama, Path("base.gguf"), 2, 3, (512, 0, 0)) == (20.0, 21.0, 22.0)
    assert batched_samples(fake_llama, Path("base.gguf"), 2, 2, (1024, 32, 10)) == (55.5, 55.5)


def test_a_tool_that_fails_says_why(fake_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_LLAMA_BROKEN", "1")
    with pytest.raises(RuntimeError, match="fake-llama ended with 1: cannot read the model"):
        bench_samples(fake_llama, Path("base.gguf"), 2, 3, (512, 0, 0))


def test_what_was_not_generated_costs_what_the_later_tokens_did() -> None:
    assert seconds_for(first=2.0, sampled=5.0, num_sampled=4, output=11) == 2.0 + 10 * 1.0


def test_a_sample_lost_in_noise_is_not_extrapolated() -> None:
    with pytest.raises(ValueError, match=r"4 tokens took 1\.9 s and the first alone 2\.0 s"):
        seconds_for(first=2.0, sampled=1.9, num_sampled=4, output=11)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_peft_answers_with_every_one_of_the_ten(random_base: Path) -> None:
    seconds = measure(random_base, "ten", (8, 4), 4, torch.float32)
    assert len(seconds) == 10 and min(seconds) > 0
