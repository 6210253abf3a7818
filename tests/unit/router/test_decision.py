"""The router's words."""

import pytest

from router.decision import MAX_EXPERTS, RouteQuery
from router.errors import RouteQueryInvalid, RouterError


@pytest.mark.parametrize("max_experts", [0, -1, MAX_EXPERTS + 1])
def test_a_query_for_no_or_too_many_experts_is_refused_with_the_limit(max_experts: int) -> None:
    with pytest.raises(RouteQueryInvalid, match=f"max_experts is {max_experts}, it must be from 1 to 10"):
        RouteQuery("text", max_experts)


@pytest.mark.parametrize("max_experts", [1, MAX_EXPERTS])
def test_a_query_within_the_limits_is_taken(max_experts: int) -> None:
    assert RouteQuery("text", max_experts).max_experts == max_experts


def test_a_query_is_for_one_expert_unless_it_says_otherwise() -> None:
    assert RouteQuery("text").max_experts == 1


def test_every_fault_of_this_room_has_one_base() -> None:
    assert issubclass(RouteQueryInvalid, RouterError)
