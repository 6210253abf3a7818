"""The adapter kernels against the dense form written out, through Triton's interpreter or on a CUDA device."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from engine.model.triton import CHUNK
from engine.model.triton.low_rank import diagonal, low_rank, rank_blocks

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# On a device these are part of what `-m gpu` runs.
pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []
few = settings(max_examples=12, deadline=None)


@dataclass(frozen=True, slots=True)
class Slots:
    """Slots as a layer holds them; whatever no adapter wrote is NaN."""

    a: Tensor
    b: Tensor
    k: Tensor
    g: Tensor
    shapes: Tensor
    dense: list[Tensor]
    """K (x) BA of each slot, [out, in]."""

    @property
    def blocks(self) -> int:
        return max(rank_blocks(rank, right) for _, right, rank in self.shapes.tolist())


def make_slots(shapes: list[tuple[int, int, int]], inner: int, out: int, seed: int, dtype: torch.dtype) -> Slots:
    """One slot for each (l, m, rank), its K [l, m], A [rank, in / m] and B [rank, out / l] random."""
    generator = torch.Generator().manual_seed(seed)
    room = max(rank * max(inner // right, out // left) for left, right, rank in shapes)
    rows = max(1, -(-room // min(inner, out)))
    a, b = torch.full((len(shapes), rows, inner), torch.nan), torch.full((len(shapes), rows, out), torch.nan)
    k = torch.full((len(shapes), max(left * right for left, right, _ in shapes)), torch.nan)
    dense = []
    for slot, (left, right, rank) in enumerate(shapes):
        parts = [torch.randn(*shape, generator=generator).to(dtype).float() / 4 for shape in (
            (rank, inner // right), (rank, out // left), (left, right)
        )]  # fmt: skip
        parts[2] = torch.ones(1, 1) if left == right == 1 else parts[2]
        for part, memory in zip(parts, (a, b, k), strict=True):
            memory[slot].view(-1)[: part.numel()] = part.flatten()
        dense.append(torch.kron(parts[2], parts[1].t() @ parts[0]).to(DEVICE))
    g = torch.randn(len(shapes), out, generator=generator)
    a, b, k, g = (part.to(DEVICE, dtype) for part in (a, b, k, g))
    return Slots(a, b, k, g, torch.tensor(shapes, dtype=torch.int32, device=DEVICE), dense)


def expected(y: Tensor, x: Tensor, slots: Slots, used: Tensor, weights: Tensor, scales: bool) -> Tensor:
    """Token by token, expert by expert, in fp32."""
    y, x = y.float().clone(), x.float()
    for token in range(len(x)):
        pairs = [(s, w) for s, w in zip(used[token].tolist(), weights[token].tolist(), strict=True) if s >= 0 and w]
        if scales:
            y[token] *= 1 + sum(w * slots.g[s].float() for s, w in pairs)
        for s, w in pairs:
            y[token] += w * (slots.dense[s] @ x[token])
    return y


def mixtures(tokens: int, experts: int, num_slots: int, seed: int) -> tuple[Tensor, Tensor]:
    """Slots from -1 on, weights in eighths from 0 on."""
    generator = torch.Generator().manual_seed(seed)
    used = torch.randint(-1, num_slots, (tokens, experts), generator=generator, dtype=torch.int32)
    weights = torch.randint(0, 9, (tokens, experts), generator=generator) / 8
    return used.to(DEVICE), weights.to(DEVICE)


@few
@given(
    tokens=st.integers(1, 4),
    experts=st.integers(1, 10),
    ranks=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    inner=st.sampled_from([1, 7, 33, 64, CHUNK + 3, 2 * CHUNK]),
    out=st.sampled_from([1, 5, 48, 128, 131, 300]),
    scales=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_token_gets_the_weighted_sum_of_its_slots(
    tokens: int, experts: int, ranks: list[int], inner: int, out: int, scales: bool, seed: int
) -> None:
    slots = make_slots([(1, 1, rank) for rank in ranks], inner, out, seed, torch.float32)
    used, weights = mixtures(tokens, experts, len(ranks), seed)
    x, y = torch.randn(tokens, inner, device=DEVICE), torch.randn(tokens, out, device=DEVICE)
    wanted = expected(y, x, slots, used, weights, scales)
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks, slots.g if scales else None)
    torch.testing.assert_close(y, wanted, atol=2e-4, rtol=2e-4)


@few
@given(
    shapes=st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 6]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([0, 1, 5, 16, 19])),
        min_size=1,
        max_size=3,
    ),
    tokens=st.integers(1, 3),
    experts=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_kronecker_and_plain_slots_share_a_batch(
    shapes: list[tuple[int, int, int]], tokens: int, experts: int, seed: int
) -> None:
    slots = make_slots([*shapes, (1, 1, 8)], 40, 150, seed, torch.float32)
    used, weights = mixtures(tokens, experts, len(shapes) + 1, seed)
    x, y = torch.randn(tokens, 40, device=DEVICE), torch.randn(tokens, 150, device=DEVICE)
    wanted = expected(y, x, slots, used, weights, True)
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks, slots.g)
    torch.testing.assert_close(y, wanted, atol=2e-4, rtol=2e-4)


def test_a_kronecker_factor_longer_than_a_chunk_is_summed_over_its_own_chunks_alone() -> None:
    inner = 4 * CHUNK
    slots = make_slots([(2, 2, 3), (1, 1, 3), (2, 4, 3)], inner, 64, 1, torch.float32)
    used = torch.tensor([[0, -1], [1, 2], [2, 0]], dtype=torch.int32, device=DEVICE)
    weights = torch.ones(3, 2, device=DEVICE)
    x, y = torch.randn(3, inner, device=DEVICE), torch.zeros(3, 64, device=DEVICE)
    wanted = expected(y, x, slots, used, weights, False)
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks)
    torch.testing.assert_close(y, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_fp32(dtype: torch.dtype) -> None:
    slots = make_slots([(1, 1, 16), (1, 1, 3)], 300, 200, 3, dtype)
    used, weights = mixtures(5, 2, 2, 3)
    x, y = (torch.randn(5, size, device=DEVICE).to(dtype) for size in (300, 200))
    wanted = expected(y, x, slots, used, weights, True)
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks, slots.g)
    assert y.dtype is dtype
    torch.testing.assert_close(y.float(), wanted, atol=0, rtol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("poison", [torch.inf, torch.nan])
@pytest.mark.parametrize("weights", [[[0.5, 0.0]], [[0.5, torch.nan]]])
def test_a_slot_that_a_token_does_not_use_gives_nothing_not_even_zero_times_infinity(
    poison: float, weights: list[list[float]]
) -> None:
    slots = make_slots([(1, 1, 8), (2, 2, 8)], 32, 48, 5, torch.float32)
    for part in (slots.a, slots.b, slots.k, slots.g):
        part[1] = poison
    used = torch.tensor([[0, 1 if weights[0][1] == 0 else -1]], dtype=torch.int32, device=DEVICE)
    given_weights = torch.tensor(weights, device=DEVICE)
    x, y = torch.randn(1, 32, device=DEVICE), torch.randn(1, 48, device=DEVICE)
    wanted = expected(y, x, slots, used[:, :1], given_weights[:, :1], True)
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, given_weights, slots.blocks, slots.g)
    torch.testing.assert_close(y, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_an_infinite_token_spoils_no_other() -> None:
    slots = make_slots([(1, 1, 8)], 32, 48, 5, torch.float32)
    used, weights = torch.zeros(2, 1, dtype=torch.int32, device=DEVICE), torch.ones(2, 1, device=DEVICE)
    x, y = torch.randn(2, 32, device=DEVICE), torch.zeros(2, 48, device=DEVICE)
    x[0] = torch.inf
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks)
    assert y[1].isfinite().all()
    torch.testing.assert_close(y[1], slots.dense[0] @ x[1], atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_an_infinity_meets_no_zeros_of_ranks_that_are_not_there() -> None:
    slots = make_slots([(1, 1, 1)], 32, 48, 5, torch.float32)
    used, weights = torch.zeros(1, 1, dtype=torch.int32, device=DEVICE), torch.ones(1, 1, device=DEVICE)
    x, y = torch.randn(1, 32, device=DEVICE), torch.zeros(1, 48, device=DEVICE)
    x[0, 3] = torch.inf
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks)
    assert torch.equal(y[0], slots.dense[0][:, 3] * torch.inf)


def test_a_token_without_slots_is_left_as_it_is() -> None:
    slots = make_slots([(1, 1, 8)], 32, 48, 5, torch.bfloat16)
    used = torch.full((3, 2), -1, dtype=torch.int32, device=DEVICE)
    x, y = (torch.randn(3, size, device=DEVICE).to(torch.bfloat16) for size in (32, 48))
    before = y.clone()
    weights = torch.ones(3, 2, device=DEVICE)
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks, slots.g)
    assert torch.equal(y, before)


def test_a_step_without_tokens_or_without_experts_is_fine() -> None:
    slots = make_slots([(1, 1, 8)], 32, 48, 5, torch.float32)
    for tokens, experts in ((0, 2), (2, 0)):
        used, weights = mixtures(tokens, experts, 1, 0)
        x, y = torch.randn(tokens, 32, device=DEVICE), torch.randn(tokens, 48, device=DEVICE)
        before = y.clone()
        low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks, slots.g)
        diagonal(y, slots.g, used, weights)
        assert torch.equal(y, before)


def test_a_token_gets_the_same_bits_whatever_the_batch() -> None:
    slots = make_slots([(1, 1, 20), (2, 2, 4), (1, 1, 3)], 2 * CHUNK, 130, 7, torch.float32)
    used, weights = mixtures(5, 3, 3, 7)
    x, y = torch.randn(5, 2 * CHUNK, device=DEVICE), torch.randn(5, 130, device=DEVICE)
    single = y.clone()
    parts = (slots.a, slots.b, slots.k, slots.shapes)
    low_rank(y, x, *parts, used, weights, slots.blocks, slots.g)
    for token in range(5):
        row = slice(token, token + 1)
        low_rank(single[row], x[row], *parts, used[row], weights[row], slots.blocks, slots.g)
    assert torch.equal(y, single)


def test_a_slot_beyond_the_room_reads_and_writes_nothing_outside() -> None:
    """A loader refuses it; what fits, here the first of eight columns of K, is all that is computed."""
    slots = make_slots([(1, 1, 8), (2, 8, 16)], 32, 48, 5, torch.float32)
    used, weights = torch.tensor([[0], [1], [0]], dtype=torch.int32, device=DEVICE), torch.ones(3, 1, device=DEVICE)
    x, y = torch.randn(3, 32, device=DEVICE), torch.zeros(3, 48, device=DEVICE)
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, blocks=1)
    torch.testing.assert_close(y[[0, 2]], x[[0, 2]] @ slots.dense[0].t(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(y[1], slots.dense[1][:, :4] @ x[1, :4], atol=1e-4, rtol=1e-4)


def test_rows_of_a_wider_tensor_are_found_by_their_stride() -> None:
    slots = make_slots([(1, 1, 4)], 24, 40, 9, torch.float32)
    used, weights = torch.zeros(3, 1, dtype=torch.int32, device=DEVICE), torch.ones(3, 1, device=DEVICE)
    wide_x, wide_y = torch.randn(3, 60, device=DEVICE), torch.randn(3, 100, device=DEVICE)
    before, x, y = wide_y.clone(), wide_x[:, 8:32], wide_y[:, 16:56]
    low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks)
    torch.testing.assert_close(y, before[:, 16:56] + x @ slots.dense[0].t(), atol=1e-4, rtol=1e-4)
    assert torch.equal(wide_y[:, :16], before[:, :16]) and torch.equal(wide_y[:, 56:], before[:, 56:])


@few
@given(tokens=st.integers(1, 4), experts=st.integers(1, 10), width=st.integers(1, 300), seed=st.integers(0, 99))
def test_a_diagonal_scales_in_place_or_beside(tokens: int, experts: int, width: int, seed: int) -> None:
    used, weights = mixtures(tokens, experts, 3, seed)
    y, g = torch.randn(tokens, width, device=DEVICE), torch.randn(3, width, device=DEVICE)
    picked = torch.where((used >= 0)[:, :, None], g[used.clamp_min(0).long()], 0)
    wanted, before = y * (1 + (weights[:, :, None] * picked).sum(1)), y.clone()
    beside = diagonal(y, g, used, weights, out=torch.empty_like(y))
    torch.testing.assert_close(beside, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(y, before)
    assert diagonal(y, g, used, weights) is y and torch.equal(y, beside)
