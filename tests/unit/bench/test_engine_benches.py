"""The engine benches from their command lines to their last line, on a base small enough for seconds."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import decode, mixed, offline, options, prefill, steps, swap
from engine.model.native_library import library


@pytest.fixture
def run(random_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls a bench as the shell would; the record that it prints."""

    def call(bench: Any, *arguments: object) -> dict[str, Any]:
        words = [str(random_base), "--quick", "--threads", "1", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", [bench.__name__, *words])
        bench.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    return call


def test_mixed_measures_ours_and_llama_and_says_what_was_not_run(run: Any, fake_llama: Path) -> None:
    found = run(mixed, "--quantization", "int8,int4", "--prompt", 8, "--output", 3, "--llama-server", fake_llama)
    rows = found["rows"]
    assert [row["name"].split(":")[0] for row in rows[:8]] == ["ours int8"] * 4 + ["ours int4"] * 4
    assert all(row["median"] > 0 for row in rows[:10])
    assert rows[10]["median"] is None and rows[10]["note"] == "needs --transformers"
    assert rows[0]["first_to_this"] == 1.0
    settings = found["settings"]
    assert settings["rss_bytes"] > sum(settings["memory_bytes"].values()) > 0
    assert settings["ready_s"] > settings["load_s"] > 0
    asked = [json.loads(line) for line in fake_llama.with_name("log").read_text().splitlines()][1:]
    scales = [[entry["scale"] for entry in body["lora"]] for body in asked]
    assert sorted(scales[10:20]) == sorted([float(i == j) for j in range(10)] for i in range(10))
    assert scales[30:] == [[0.0] * 10] * 10


def test_decode_compares_quantizations_and_both_tools(run: Any, fake_llama: Path) -> None:
    tools = ("--llama-bench", fake_llama, "--llama-batched-bench", fake_llama)
    found = run(decode, "--quantization", "int8,fp32", "--context", 8, "--batch-context", 16, "--output", 96, *tools)
    names = [(row["section"], row["name"]) for row in found["rows"]]
    assert names[:3] == [
        (0, "ours int8: one stream"),
        (0, "ours fp32: one stream"),
        (0, "llama-bench Q8_0: one stream"),
    ]
    assert len([section for section, _ in names if section == 1]) == 6
    assert all(row["median"] > 0 for row in found["rows"])


def test_prefill_has_a_section_per_length(run: Any) -> None:
    found = run(prefill, "--lengths", "16,8")
    assert [(row["section"], row["median"] is None) for row in found["rows"]] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]


def test_offline_is_scaled_down_and_both_cases_have_the_same_lengths(run: Any) -> None:
    found = run(offline, "--requests", 3, "--max-length", 8)
    assert [row["median"] is not None and row["median"] > 0 for row in found["rows"]] == [True, True, False]
    assert "--llama-server" in found["rows"][2]["note"]
    assert found["settings"]["requests"] == 3


def test_the_offline_load_is_within_its_lengths_and_the_same_with_experts(random_base: Path) -> None:
    args = options.parser(None).parse_args([str(random_base), "--runs", "2"])
    args.requests, args.max_length = 40, 300
    alone, mixed_case = offline.make_case(args, "name", [None]), offline.make_case(args, "name", ["ten/a", "ten/b"])
    for ours, theirs in zip(alone.runs, mixed_case.runs, strict=True):
        assert [jobs[0].max_tokens for jobs in ours] == [jobs[0].max_tokens for jobs in theirs]
        assert all(100 <= length <= 300 for jobs in ours for length in (len(jobs[0].prompt_ids), jobs[0].max_tokens))
    assert alone.runs[0] != alone.runs[1]


def test_a_base_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prefill", str(tmp_path / "missing")])
    with pytest.raises(SystemExit):
        prefill.main()
    assert "missing does not exist" in capsys.readouterr().err


@pytest.mark.skipif(library() is None, reason="needs the fused kernels")
def test_the_parts_of_a_step_are_within_the_step(run: Any) -> None:
    found = run(steps, "--rows", 3, "--context", 8, "--output", 6)["parts"]
    assert set(found) == {"ten", "base alone"}
    for parts in found.values():
        assert len(parts) == 6 and "attention" in parts
        assert all(0 < ms <= parts["in all"] for ms in parts.values())


def test_swap_measures_every_source_and_what_unloading_frees(run: Any, random_base: Path) -> None:
    found = run(swap, "--experts", random_base / "experts" / "ten", "--swaps", 3, "--firsts", 1, "--without-peft")
    assert len(found["swaps"]) == 10
    for swaps in found["swaps"]:
        assert (len(swaps["host"]), len(swaps["disk"]), len(swaps["first"])) == (3, 3, 1)
        assert min(*swaps["host"], *swaps["disk"], *swaps["first"]) > 0 and swaps["num_bytes"] > 0
    assert found["memory"]["held"]["host"] == sum(swaps["num_bytes"] for swaps in found["swaps"])
    assert found["memory"]["unloaded"]["host"] == 0


def test_churn_answers_everybody_and_keeps_ten_experts_in_their_slots(run: Any, random_base: Path) -> None:
    experts = random_base / "experts" / "ten"
    words = ("--churn", "--registered", 30, "--requests", 24, "--slices", 2, "--tokens", 3, "--clients", 4)
    found = run(swap, "--experts", experts, *words)
    fill, resident, churn = found["rounds"]
    assert [one["num_failed"] for one in found["rounds"]] == [0, 0, 0]
    assert resident["tiers"]["device"][1] == 0 and sum(resident["tiers"]["device"]) == 24
    assert churn["tiers"]["device"][1] > 0 and fill["tiers"]["device"][1] >= 20
