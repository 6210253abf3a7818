"""The arithmetic of the engine benches, on traces small enough to check by hand."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.workload import (
    WARM_UP_TOKENS,
    Job,
    Prompts,
    Trace,
    closed_loop,
    decode_rate,
    even_case,
    prefill_rate,
    throughput,
)


def test_throughput_counts_all_tokens_from_the_first_submission_to_the_last_token() -> None:
    assert throughput([Trace(1.0, (2.0, 3.0)), Trace(1.5, (4.0, 5.0, 6.0))]) == 5 / 5.0


def test_one_stream_decodes_as_fast_as_its_tokens_follow_one_another() -> None:
    assert decode_rate([Trace(0.0, (10.0, 10.5, 11.0, 11.5))]) == pytest.approx(2.0)


def test_only_what_all_rows_decode_together_counts() -> None:
    """The first row was alone and fast until 5.0, the second stays alone after 7.0."""
    first = Trace(0.0, (1.0, 1.1, 1.2, 5.0, 6.0, 7.0))
    second = Trace(0.0, (5.0, 6.0, 7.0, 7.1, 7.2))
    assert decode_rate([first, second]) == pytest.approx(2.0)


def test_rows_that_never_decoded_together_have_no_rate() -> None:
    with pytest.raises(ValueError, match="2 requests decoded together for 0 tokens, at least 2"):
        decode_rate([Trace(0.0, (1.0, 2.0)), Trace(0.0, (3.0, 4.0))])


@given(
    rows=st.integers(1, 12),
    tokens=st.integers(16, 40),
    step=st.floats(0.01, 2.0),
    jitter=st.lists(st.floats(0, 1e-6), min_size=12, max_size=12),
)
def test_rows_in_step_decode_one_token_per_step_each_whenever_they_began(
    rows: int, tokens: int, step: float, jitter: list[float]
) -> None:
    """The events of one step reach their clients a little apart: that must not lose a token of the window."""
    traces = [Trace(0.0, tuple(step * (row + n) + jitter[row] for n in range(1, tokens + 1))) for row in range(rows)]
    assert decode_rate(traces) == pytest.approx(rows / step, rel=1e-3)


def test_prefill_is_the_prompt_over_the_wait_for_the_first_token() -> None:
    assert prefill_rate([Trace(1.0, (1.5, 9.0)), Trace(10.0, (11.5,))], 100) == 100.0


def test_a_case_has_a_client_per_expert_and_new_prompts_everywhere() -> None:
    case = even_case("name", Prompts(50_000), ["ten/a", None], (16, 8), runs=3, rounds=2)
    assert [[[job.expert for job in jobs] for jobs in run] for run in case.runs] == [[["ten/a"] * 2, [None] * 2]] * 3
    jobs = [job for run in (case.warm_up, *case.runs) for jobs in run for job in jobs]
    assert {len(job.prompt_ids) for job in jobs} == {16}
    assert len({job.prompt_ids for job in jobs}) == len(jobs) == 2 + 3 * 4
    assert [job.max_tokens for job in jobs] == [WARM_UP_TOKENS] * 2 + [8] * 12


def test_prompts_are_the_same_for_the_same_seed_and_within_the_vocabulary() -> None:
    assert Prompts(7, seed=3).draw(100) == Prompts(7, seed=3).draw(100) != Prompts(7, seed=4).draw(100)
    assert set(Prompts(7).draw(500)) == set(range(7))


async def test_a_client_asks_again_only_when_it_is_answered_and_all_clients_run_at_once() -> None:
    running = [0, 0]
    both = asyncio.Barrier(2)

    async def ask(job: Job) -> Trace:
        client, number = job.prompt_ids
        running[client] += 1
        assert running[client] == 1
        await asyncio.wait_for(both.wait(), 5)  # passes only while the other client asks, too
        running[client] -= 1
        return Trace(0.0, (float(number),))

    clients = tuple(tuple(Job((client, number), 1) for number in range(3)) for client in range(2))
    traces = await closed_loop(ask, clients)
    assert [trace.token_times for trace in traces] == [(0.0,), (1.0,), (2.0,)] * 2
