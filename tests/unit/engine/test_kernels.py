"""The base's kernels against the weight that they say they use."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.model.four_bit import Int4Linear
from engine.model.kernels import DenseLinear, Int8Linear, NF4Linear, exact_levels, integer_product, make_kernel


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def random_weight(out: int = 96, inner: int = 64) -> torch.Tensor:
    return torch.randn(out, inner, generator=torch.Generator().manual_seed(1))


def test_int8_weights_are_within_half_a_step_of_the_given_ones() -> None:
    weight = random_weight()
    kernel = Int8Linear(weight)
    assert ((kernel.dequantized() - weight).abs() <= kernel.scale[:, None] / 2 + 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 20), seed=st.integers(0, 1000), magnitude=st.sampled_from([1e-6, 1.0, 1e4]))
def test_int8_multiplies_by_the_weight_it_gives_back(rows: int, seed: int, magnitude: float) -> None:
    kernel = Int8Linear(random_weight())
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed)) * magnitude
    assert relative_error(kernel(x), x @ kernel.dequantized().t()) < 0.03


@pytest.mark.parametrize("outlier", [20.0, 200.0, 2000.0])
def test_an_outlier_channel_does_not_cost_the_other_channels_their_precision(outlier: float) -> None:
    kernel = Int8Linear(random_weight())
    x = torch.randn(8, 64)
    x[:, 17] = outlier
    alone = x.clone()
    alone[:, 17] = 0
    weight = kernel.dequantized()
    without_the_outlier = kernel(x) - x[:, 17:18] * weight[:, 17]
    assert relative_error(without_the_outlier, alone @ weight.t()) < 0.05


def test_a_row_of_int8_does_not_depend_on_its_neighbours() -> None:
    kernel = Int8Linear(random_weight())
    x = torch.randn(16, 64)
    x[3, 5] = 300
    together = kernel(x)
    assert torch.equal(together, torch.cat([kernel(row[None]) for row in x]))


def test_a_row_of_zeros_gives_zeros() -> None:
    assert torch.equal(Int8Linear(random_weight())(torch.zeros(2, 64)), torch.zeros(2, 96))


def test_an_output_of_zero_weights_stays_zero() -> None:
    weight = random_weight()
    weight[3] = 0
    y = Int8Linear(weight)(torch.randn(4, 64))
    assert y.isfinite().all() and (y[:, 3] == 0).all()


@pytest.mark.parametrize("inner", [64, 80, 33])
def test_int4_multiplies_by_the_weight_it_gives_back_whatever_the_width(inner: int) -> None:
    weight, x = random_weight(1100, inner), torch.randn(5, inner)
    kernel = Int4Linear(weight)
    assert kernel.dequantized().shape == weight.shape
    assert relative_error(kernel.dequantized(), weight) < 0.08
    assert torch.allclose(kernel(x), x @ kernel.dequantized().t(), atol=1e-4)


def test_int4_has_less_error_than_nf4_and_than_even_levels() -> None:
    weight = random_weight(256, 256)
    groups = weight.unflatten(1, (-1, 32))
    scale = groups.abs().amax(2, keepdim=True) / 7
    even = ((groups / scale).round() * scale).flatten(1)
    found = relative_error(Int4Linear(weight).dequantized(), weight)
    assert found < 0.9 * relative_error(even, weight)
    assert found < 0.9 * relative_error(NF4Linear(weight).dequantized(), weight)


def test_groups_of_zeros_stay_zeros_in_int4() -> None:
    weight = random_weight()
    weight[3], weight[5, :32] = 0, 0
    found = Int4Linear(weight).dequantized()
    assert found.isfinite().all() and (found[3] == 0).all() and (found[5, :32] == 0).all()


def test_nf4_multiplies_by_the_weight_it_gives_back() -> None:
    weight, x = random_weight(64, 64), torch.randn(5, 64)
    kernel = NF4Linear(weight)
    assert relative_error(kernel.dequantized(), weight) < 0.12
    assert torch.allclose(kernel(x), x @ kernel.dequantized().t(), atol=1e-4)


def test_quantized_kernels_are_smaller_than_dense_ones() -> None:
    weight = random_weight(256, 256)
    dense, int8, int4, nf4 = (make_kernel(weight, q).num_bytes for q in ("fp32", "int8", "int4", "nf4"))
    assert dense > 3.5 * int8 and int8 > 1.7 * int4 and int8 > 1.7 * nf4
    assert isinstance(make_kernel(weight, "bf16"), DenseLinear)


@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" in os.environ, reason="this is the run inside")
def test_the_product_is_exact_on_a_cpu_without_vnni() -> None:
    """There oneDNN adds pairs of products in 16 bits, which saturate; the same tests must hold."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:]


def test_the_largest_integers_are_multiplied_exactly() -> None:
    levels = exact_levels()
    packed = torch.ops.onednn.qlinear_prepack(torch.full((8, 512), 127, dtype=torch.int8), None)
    ones, zeros = torch.ones(8), torch.zeros(8, dtype=torch.int64)
    for sign in (1, -1):
        y = integer_product(torch.full((3, 512), float(sign * levels)), levels, packed, ones, zeros)
        assert (y == sign * levels * 127 * 512).all()
