"""Replayed decode steps of a small model made of the kernels: on a CUDA device as graphs, elsewhere run again."""

from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from engine.model.cuda_graphs import CudaRecorder, DecodeGraphs, DecodeInputs, Recording, bucket_sizes
from engine.model.triton.attention import paged_attention, write_cache
from engine.model.triton.fused import norm_rope, rms_norm
from engine.model.triton.low_rank import low_rank

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# On a device these are part of what `-m gpu` runs.
pytestmark = [pytest.mark.gpu] if DEVICE.type == "cuda" else []
VOCAB, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, BLOCK, BLOCKS, TABLE, SLOTS, RANK = 40, 32, 4, 2, 16, 2, 310, 110, 3, 4
SCRATCH = (BLOCKS - 1) * BLOCK
LONG = 200 if DEVICE.type == "cuda" else 5


Mixture = list[tuple[int, float]]
MIXED: list[Mixture] = [[(0, 1.0)], [], [(2, 0.5), (1, 0.25)]]
BASE: list[Mixture] = [[], [], []]


class Decoder:
    """One layer of attention whose output has slots, greedy."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def make(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(DEVICE)

        self.embedding, self.gain, self.head_gain = make(VOCAB, HIDDEN), make(HIDDEN), make(HEAD_DIM)
        self.qkv = make((HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN) / 6
        self.out = make(HIDDEN, HEADS * HEAD_DIM) / 6
        self.a, self.b = make(SLOTS, RANK, HEADS * HEAD_DIM) / 6, make(SLOTS, RANK, HIDDEN)
        self.k, self.g = torch.ones(SLOTS, 1, device=DEVICE), make(SLOTS, HIDDEN)
        self.shapes = torch.tensor([[1, 1, RANK]] * SLOTS, dtype=torch.int32, device=DEVICE)
        angles = torch.outer(torch.arange(TABLE * BLOCK), 0.5 ** torch.arange(HEAD_DIM // 2)).repeat(1, 2).to(DEVICE)
        self.cos, self.sin = angles.cos(), angles.sin()
        self.steps = 0
        self.keys, self.values = torch.zeros(2, BLOCKS, BLOCK, KV_HEADS, HEAD_DIM, device=DEVICE)

    def step(self, inputs: DecodeInputs) -> Tensor:
        self.steps += 1
        hidden = self.embedding[inputs.ids]
        heads = (rms_norm(hidden, self.gain, 1e-6) @ self.qkv.t()).unflatten(1, (-1, HEAD_DIM))
        cos, sin = self.cos[inputs.positions], self.sin[inputs.positions]
        turned = norm_rope(heads[:, : HEADS + KV_HEADS], self.head_gain, cos, sin, 1e-6)
        write_cache(turned[:, HEADS:], heads[:, HEADS + KV_HEADS :], self.keys, self.values, inputs.write)
        query = turned[:, :HEADS]
        mixed = paged_attention(query, self.keys, self.values, inputs.block_tables, inputs.lengths, 0.25).flatten(1)
        y = mixed @ self.out.t()
        low_rank(y, mixed, self.a, self.b, self.k, self.shapes, inputs.token_slots, inputs.token_weights, 1, self.g)
        return rms_norm(hidden, self.gain, 1e-6, added=y) @ self.embedding.t()


def run_again(run: Callable[[], Tensor]) -> Recording:
    """What a graph does, without one: the same computation from the same memory into the same memory."""
    result = run()

    def replay() -> None:
        result.copy_(run())

    return Recording(replay, result)


def make_graphs(decoder: Decoder, sizes: list[int]) -> DecodeGraphs:
    record = CudaRecorder() if DEVICE.type == "cuda" else run_again
    return DecodeGraphs(decoder.step, sizes, [0, 2], TABLE, SCRATCH, DEVICE, record)


def make_inputs(ids: list[int], positions: list[int], mixtures: list[Mixture]) -> DecodeInputs:
    """Row r lies in the blocks r, r + rows, r + 2 rows, and so on."""
    rows, experts, most = len(ids), max(map(len, mixtures)), max(positions) // BLOCK + 1
    tables = [
        [row + i * rows if i <= position // BLOCK else 0 for i in range(most)] for row, position in enumerate(positions)
    ]
    write = [
        table[position // BLOCK] * BLOCK + position % BLOCK for table, position in zip(tables, positions, strict=True)
    ]
    full = [[*mixture, *[(-1, 0.0)] * (experts - len(mixture))] for mixture in mixtures]
    integers = (
        ids,
        positions,
        write,
        [position + 1 for position in positions],
        tables,
        [[s for s, _ in row] for row in full],
    )
    weights = torch.tensor([[weight for _, weight in row] for row in full]).view(rows, experts)
    parts = [*(torch.tensor(values, dtype=torch.int32) for values in integers), weights]
    return DecodeInputs(*parts)


def run_at_once(decoder: Decoder) -> Callable[[DecodeInputs], Tensor]:
    """The step on the device, neither padded nor recorded."""
    return lambda inputs: decoder.step(DecodeInputs(*(getattr(inputs, f.name).to(DEVICE) for f in fields(inputs))))


def decode(step: Callable[[DecodeInputs], Tensor], mixtures: list[Mixture], length: int) -> Tensor:
    """Logits [length, rows, vocab] of greedy steps from a token of each row's own."""
    ids, logits = [3 * row + 1 for row in range(len(mixtures))], []
    for position in range(length):
        logits.append(step(make_inputs(ids, [position] * len(ids), mixtures)).cpu().clone())
        ids = logits[-1].argmax(-1).tolist()
    return torch.stack(logits)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("mixtures", [MIXED, BASE], ids=["experts", "base"])
def test_a_long_answer_is_the_same_replayed_and_at_once(mixtures: list[Mixture]) -> None:
    found = decode(make_graphs(Decoder(), [4]).run, mixtures, LONG)
    assert_close(found, decode(run_at_once(Decoder()), mixtures, LONG))


def test_adapters_act_on_their_own_rows_under_replay() -> None:
    graphs = make_graphs(Decoder(), [4])
    mixed, base = (decode(graphs.run, mixtures, 1)[0] for mixtures in [MIXED, BASE])
    assert_close(mixed[1], base[1])
    assert (mixed[0] - base[0]).abs().max() > 0.1 and (mixed[2] - base[2]).abs().max() > 0.1


def test_a_swap_by_copy_into_the_same_addresses_acts_without_a_new_recording() -> None:
    decoder = Decoder()
    graphs = make_graphs(decoder, [1])
    recorded, addresses = decoder.steps, [part.data_ptr() for part in (decoder.a, decoder.b, decoder.g)]
    before = decode(graphs.run, [[(0, 1.0)]], 4)
    for part in (decoder.a, decoder.b, decoder.g):
        part[0].copy_(part[1])
    after = decode(graphs.run, [[(0, 1.0)]], 4)
    assert [part.data_ptr() for part in (decoder.a, decoder.b, decoder.g)] == addresses
    assert (after[0] - before[0]).abs().max() > 0.1
    if DEVICE.type == "cuda":
        assert decoder.steps == recorded
    assert_close(after, decode(graphs.run, [[(1, 1.0)]], 4))


def test_rows_of_padding_write_to_the_scratch_position_alone() -> None:
    decoder = Decoder()
    graphs = make_graphs(decoder, [4])
    graphs.run(make_inputs([1, 2, 3, 4], [9, 8, 7, 6], [[(0, 1.0)]] * 4))
    keys, values = decoder.keys.clone(), decoder.values.clone()
    graphs.run(make_inputs([5], [2], [[(1, 1.0)]]))
    changed = ((decoder.keys != keys) | (decoder.values != values)).flatten(0, 1).any(-1).any(-1).nonzero()
    assert set(changed.flatten().tolist()) <= {2, SCRATCH} and 2 in changed


def test_padding_attends_to_nothing_and_uses_no_slot() -> None:
    seen: list[DecodeInputs] = []

    def step(inputs: DecodeInputs) -> Tensor:
        seen.append(inputs)
        return inputs.ids[:, None] * 2.0

    record = CudaRecorder() if DEVICE.type == "cuda" else run_again
    graphs = DecodeGraphs(step, [3], [2], TABLE, SCRATCH, DEVICE, record)
    assert graphs.run(make_inputs([7], [3], [[(1, 0.5)]])).tolist() == [[14.0]]
    assert seen[-1].lengths.tolist() == [4, 0, 0] and seen[-1].write.tolist()[1:] == [SCRATCH] * 2
    assert seen[-1].token_slots.tolist() == [[1, -1], [-1, -1], [-1, -1]]
    assert seen[-1].token_weights.tolist() == [[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_a_small_step_after_a_large_one_sees_nothing_of_it() -> None:
    graphs, fresh = make_graphs(Decoder(), [4]), make_graphs(Decoder(), [4])
    graphs.run(make_inputs([1, 2, 3, 4], [9, 8, 7, 6], [[(0, 1.0), (2, 1.0)]] * 4))
    small = make_inputs([5], [0], [[(1, 1.0)]])
    assert_close(graphs.run(small), fresh.run(small))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (lambda: make_inputs([1, 2, 3], [0, 0, 0], [[], [], []]), "3 rows, recorded are up to 2"),
        (lambda: make_inputs([1], [0], [[(0, 1.0)] * 3]), "3 experts in a row, recorded are up to 2"),
        (lambda: make_inputs([1], [TABLE * BLOCK], [[]]), f"a table of {TABLE + 1} blocks, recorded are {TABLE}"),
    ],
)
def test_a_step_larger_than_what_was_recorded_is_refused(inputs: Callable[[], DecodeInputs], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_graphs(Decoder(), [1, 2]).run(inputs())


def test_fields_share_one_buffer_and_begin_on_sixteen_bytes() -> None:
    buffer = torch.zeros(DecodeInputs.buffer_size(3, 2, 5), dtype=torch.int32)
    inputs = DecodeInputs.within(buffer, 3, 2, 5)
    for value, field in enumerate(fields(inputs), 1):
        part = getattr(inputs, field.name)
        assert (part.data_ptr() - buffer.data_ptr()) % 16 == 0 and part.is_contiguous() and not part.any()
        part.fill_(value)
    assert buffer.count_nonzero() == 4 * 3 + 3 * 5 + 2 * 3 * 2


@given(most=st.integers(1, 300))
def test_a_step_is_padded_to_less_than_twice_its_rows(most: int) -> None:
    sizes = bucket_sizes(most)
    assert sizes[0] == 1 and sizes[-1] == most
    for rows in range(1, most + 1):
        size = min(size for size in sizes if size >= rows)
        assert size < 2 * rows and size - rows < 8
