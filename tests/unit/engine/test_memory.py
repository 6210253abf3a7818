"""Memory that goes back to the system while its tensor stays."""

import torch

from bench.own import resident_bytes
from engine.model.memory import forget, zeros


def test_a_part_of_a_tensor_is_given_back_and_reads_as_zeros() -> None:
    slots = zeros((4, 8 << 20), torch.empty(0))
    slots.fill_(1)
    full = resident_bytes()
    address = slots.data_ptr()
    forget(slots[2])
    freed = full - resident_bytes()
    assert 30 << 20 < freed < 34 << 20, "one slot of 32 MiB"
    assert slots.data_ptr() == address and not slots[2].any() and slots[[0, 1, 3]].all()


def test_what_lies_in_less_than_a_page_stays() -> None:
    small = torch.ones(8, 16)
    forget(small[3])
    assert small.all()


def test_neighbours_within_a_page_stay() -> None:
    slots = zeros((3, 5000), torch.empty(0))
    slots.fill_(1)
    forget(slots[1])
    assert slots[0].all() and slots[2].all()
