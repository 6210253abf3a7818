"""The kernels at the sizes of a real base (Qwen3-0.6B), on a CUDA device. Run with `pytest -m gpu`."""

import pytest
import torch

pytest.importorskip("triton")

from engine.model.triton.attention import paged_attention
from engine.model.triton.low_rank import low_rank
from tests.unit.engine.test_triton_attention import Paged
from tests.unit.engine.test_triton_low_rank import expected, make_slots, mixtures

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("tokens", [1, 10, 33, 512])
@pytest.mark.parametrize(("inner", "out"), [(1024, 3072), (3072, 1024)])
def test_ten_experts_of_all_kinds_on_a_real_layer(tokens: int, inner: int, out: int) -> None:
    shapes = [*((1, 1, rank) for rank in (8, 16, 24, 32, 1, 5, 0)), (8, 8, 16), (16, 8, 8), (2, 4, 30)]
    slots = make_slots(shapes, inner, out, 1, torch.bfloat16)
    used, weights = mixtures(tokens, 10, len(shapes), 1)
    x, before = (torch.randn(tokens, size, device="cuda").to(torch.bfloat16) for size in (inner, out))
    wanted = expected(before, x, slots, used, weights, True)
    results = []
    for _ in range(2):
        y = before.clone()
        low_rank(y, x, slots.a, slots.b, slots.k, slots.shapes, used, weights, slots.blocks, slots.g)
        results.append(y)
    torch.testing.assert_close(results[0].float(), wanted, atol=0.05, rtol=0.01)
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize("quantized", [False, True])
def test_thirty_two_long_rows(quantized: bool) -> None:
    lengths = [0, 1, 15, 16, 17, 127, 128, 129, 2047, 2048, 2049, 4000, *range(300, 900, 30)]
    cache = Paged(lengths, 16, 8, 128, 3, torch.bfloat16)
    arguments = cache.quantized() if quantized else (cache.keys, cache.values, None, None)
    query = torch.randn(len(lengths), 16, 128, device="cuda").to(torch.bfloat16)
    scale = 128**-0.5
    runs = [
        paged_attention(query, *arguments[:2], cache.tables, cache.lengths, scale, *arguments[2:]) for _ in range(2)
    ]
    torch.testing.assert_close(runs[0].float(), cache.expected(query, scale), atol=0.02, rtol=0.02)
    assert torch.equal(runs[0], runs[1])
