"""Remembered masks: within their bytes, the most recent ones, and the same bits."""

from sys import getsizeof

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammars.masks import MaskCache


@given(st.lists(st.booleans(), min_size=1, max_size=100))
def test_a_mask_comes_back_as_it_was(bits: list[bool]) -> None:
    masks = MaskCache()
    masks.put("here", np.array(bits))
    found = masks.get("here", len(bits))
    assert found is not None and found.tolist() == bits
    assert masks.get("elsewhere", len(bits)) is None


@given(st.lists(st.integers(1, 7), max_size=40))
def test_the_least_recently_used_masks_go_when_the_bytes_run_out(keys: list[int]) -> None:
    entry = 10 + getsizeof(1)
    masks = MaskCache(limit_bytes=3 * entry)
    recent: list[int] = []
    for key in keys:
        found = masks.get(key, 80)
        assert (found is not None) == (key in recent[-3:])
        masks.put(key, np.arange(80) == key)
        recent = [other for other in recent if other != key] + [key]
        assert masks.num_bytes == entry * min(3, len(recent))


def test_large_keys_take_their_room() -> None:
    masks = MaskCache(limit_bytes=3000)
    for number in range(50):
        masks.put((number, frozenset({bytes(1000)})), np.ones(8, np.bool_))
    assert [masks.get((number, frozenset({bytes(1000)})), 8) is not None for number in (0, 47, 49)] == [
        False,
        False,
        True,
    ]
    assert 1000 < masks.num_bytes <= 3000


def test_a_mask_that_is_too_large_is_not_kept() -> None:
    masks = MaskCache(limit_bytes=5)
    masks.put("here", np.ones(80, np.bool_))
    assert masks.get("here", 80) is None and masks.num_bytes == 0


def test_a_remembered_mask_can_not_be_changed() -> None:
    masks = MaskCache()
    masks.put("here", np.ones(8, np.bool_))
    found = masks.get("here", 8)
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found[0] = False
