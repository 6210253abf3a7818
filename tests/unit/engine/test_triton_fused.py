"""The fused kernels against the plain functions that they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import silu

pytest.importorskip("triton")

from engine.model.layers import rms_norm as plain_rms_norm
from engine.model.rope import rotate
from engine.model.triton.fused import norm_rope, rms_norm, silu_mul

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# On a device these are part of what `-m gpu` runs.
pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []
few = settings(max_examples=12, deadline=None)
dtypes = st.sampled_from([torch.float32, torch.bfloat16])


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """The plain functions round more than once, and the interpreter cuts bf16 off where a device rounds."""
    bound = 4 * torch.finfo(found.dtype).eps
    torch.testing.assert_close(found, wanted, atol=bound, rtol=bound)


@few
@given(tokens=st.integers(0, 4), width=st.integers(1, 300), dtype=dtypes)
def test_a_norm_with_and_without_a_residual(tokens: int, width: int, dtype: torch.dtype) -> None:
    x, added = torch.randn(2, tokens, width, device=DEVICE).to(dtype)
    gain = torch.randn(width, device=DEVICE).to(dtype)
    before, total = x.clone(), x + added
    assert_close(rms_norm(x, gain, 1e-6), plain_rms_norm(x, gain, 1e-6))
    assert torch.equal(x, before)
    out = rms_norm(x, gain, 1e-6, added)
    assert_close(x, total)
    assert_close(out, plain_rms_norm(x, gain, 1e-6))


@few
@given(tokens=st.integers(0, 4), heads=st.integers(1, 3), half=st.integers(1, 40), dtype=dtypes)
def test_heads_are_normed_and_then_turned(tokens: int, heads: int, half: int, dtype: torch.dtype) -> None:
    fused = torch.randn(tokens, heads + 1, 2 * half, device=DEVICE).to(dtype)
    x, gain = fused[:, :heads], torch.randn(2 * half, device=DEVICE).to(dtype)
    angles = torch.randn(tokens, 1, half, device=DEVICE).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    wanted = rotate(plain_rms_norm(x, gain, 1e-6), cos, sin)
    assert_close(norm_rope(x, gain, cos, sin, 1e-6), wanted)


@few
@given(tokens=st.integers(0, 3), width=st.integers(1, 1100), dtype=dtypes)
def test_the_gate(tokens: int, width: int, dtype: torch.dtype) -> None:
    fused = 4 * torch.randn(tokens, 2 * width, device=DEVICE).to(dtype)
    gate, up = fused.chunk(2, -1)
    assert_close(silu_mul(gate, up), silu(gate) * up)


def test_a_row_of_zeros_is_normed_to_zeros() -> None:
    zeros = torch.zeros(2, 20, device=DEVICE)
    assert torch.equal(rms_norm(zeros, torch.ones(20, device=DEVICE), 1e-6), zeros)
