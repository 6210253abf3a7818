"""Storage in fewer bits: what comes back, what it takes, and what it costs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import AdapterStorage
from engine.model.delta import Delta, LinearDelta
from engine.packing import PROMPT, StoredDelta, pack, packing_error, unpack


def low_rank(rank: int, inner: int, out: int, scale: float = 1.0) -> LinearDelta:
    return LinearDelta(a=torch.randn(rank, inner) * scale, b=torch.randn(rank, out) * scale)


def delta_of(**linears: LinearDelta) -> Delta:
    return Delta("g", "n", {f"layers.0.{name}": linear for name, linear in linears.items()})


@pytest.mark.parametrize("storage", ["int8", "int4"])
def test_diagonals_kronecker_factors_and_prompts_stay_as_they_are(storage: AdapterStorage) -> None:
    linear = LinearDelta(torch.randn(2, 32), torch.randn(2, 32), torch.randn(2, 2), torch.randn(64), torch.randn(64))
    delta = Delta("g", "n", {"q": linear}, torch.randn(3, 64))
    kept = unpack(pack(delta, storage), torch.float32)
    assert kept.prompt is delta.prompt
    assert all(getattr(kept.linears["q"], part) is getattr(linear, part) for part in "kgc")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.sampled_from([32, 64, 320]), st.floats(1e-30, 1e30))
def test_int8_errs_by_half_a_step_of_its_row_and_int4_of_its_group(
    seed: int, rank: int, width: int, scale: float
) -> None:
    torch.manual_seed(seed)
    delta = delta_of(q=low_rank(rank, width, 64, scale))
    a = delta.linears["layers.0.q"].a
    assert a is not None
    pairs: list[tuple[AdapterStorage, torch.Tensor]] = [("int8", a), ("int4", a.unflatten(1, (-1, 32)))]
    for storage, rows in pairs:
        kept = unpack(pack(delta, storage), torch.float32).linears["layers.0.q"].a
        assert kept is not None
        step = rows.abs().amax(-1, keepdim=True) / (127 if storage == "int8" else 7)
        error = (kept.view(rows.shape) - rows).abs()
        assert (error <= step * 0.51 + 1e-37).all()


def test_zeros_stay_zero() -> None:
    delta = delta_of(q=LinearDelta(a=torch.zeros(2, 64), b=torch.zeros(2, 32)))
    for storage in ("int8", "int4"):
        kept = unpack(pack(delta, storage), torch.bfloat16).linears["layers.0.q"]
        assert all(not tensor.any() and tensor.dtype == torch.bfloat16 for tensor in kept.tensors)
        assert packing_error(delta, storage).whole == 0


def test_sizes_are_near_a_half_and_a_quarter_of_bf16() -> None:
    delta = delta_of(q=low_rank(16, 1024, 2048))
    plain = 16 * (1024 + 2048) * 2
    assert pack(delta, "int8").num_bytes == plain // 2 + 2 * 16 * 4
    assert pack(delta, "int4").num_bytes == plain // 4 + 16 * (1024 + 2048) // 32 * 2


def test_a_width_that_no_group_divides_is_kept_in_int8() -> None:
    kept = pack(delta_of(q=low_rank(2, 33, 64)), "int4")
    assert kept.tensors["layers.0.q|a"].dtype == torch.int8 and kept.tensors["layers.0.q|b"].dtype == torch.uint8
    assert unpack(kept, torch.float32).linears["layers.0.q"].a is not None


@pytest.mark.parametrize("storage", ["int8", "int4"])
def test_the_error_is_that_of_the_written_out_products(storage: AdapterStorage) -> None:
    torch.manual_seed(3)
    kronecker = LinearDelta(torch.randn(4, 32), torch.randn(4, 64), torch.randn(3, 2))
    delta = Delta("g", "n", {"0.q": low_rank(4, 64, 96), "1.q": low_rank(8, 64, 96, 3), "0.v": kronecker})
    kept = unpack(pack(delta, storage), torch.float32)

    def product(linear: LinearDelta) -> torch.Tensor:
        assert linear.a is not None and linear.b is not None
        return torch.kron(torch.ones(1, 1) if linear.k is None else linear.k, linear.b.t() @ linear.a)

    errors = {name: float((product(kept.linears[name]) - product(delta.linears[name])).norm()) for name in kept.linears}
    norms = {name: float(product(linear).norm()) for name, linear in delta.linears.items()}
    found = packing_error(delta, storage)
    q = (errors["0.q"] ** 2 + errors["1.q"] ** 2) ** 0.5 / (norms["0.q"] ** 2 + norms["1.q"] ** 2) ** 0.5
    assert found.by_module == pytest.approx({"q": q, "v": errors["0.v"] / norms["0.v"]}, rel=1e-3)
    whole = (sum(e**2 for e in errors.values()) / sum(n**2 for n in norms.values())) ** 0.5
    assert found.whole == pytest.approx(whole, rel=1e-3)
    assert packing_error(delta, "plain").whole == 0
    assert 0 < found.whole < (0.02 if storage == "int8" else 0.2)


def test_an_adapter_without_a_low_rank_part_loses_nothing() -> None:
    assert packing_error(delta_of(q=LinearDelta(g=torch.randn(8))), "int4").whole == 0


@pytest.mark.parametrize(
    "tensors",
    [
        {"strange": torch.zeros(1)},
        {"q|z": torch.zeros(1)},
        {"q|a.scales": torch.zeros(1, 1)},
        {"q|a": torch.zeros(2, 4, dtype=torch.int8), "q|a.scales": torch.zeros(3, 1)},
        {"q|a": torch.zeros(2, 4, dtype=torch.uint8), "q|a.scales": torch.zeros(2, 1)},
        {"q|a": torch.zeros(2, 4, 16, dtype=torch.uint8), "q|a.scales": torch.zeros(2, 3, 1)},
    ],
)
def test_a_table_that_no_adapter_packs_to_is_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"no part of an adapter|do not fit"):
        unpack(StoredDelta("g", "n", "lora", "int8", tensors), torch.float32)


def test_a_plain_table_holds_the_tensors_themselves() -> None:
    delta = Delta("g", "n", {"q": low_rank(2, 8, 8)}, torch.randn(2, 8))
    stored = pack(delta, "plain")
    assert stored.tensors["q|a"] is delta.linears["q"].a and stored.tensors[PROMPT] is delta.prompt
    assert stored.num_bytes == delta.num_bytes
