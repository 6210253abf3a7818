"""Which expert's cues win, and when none does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.manifest import Manifest
from router.decision import ExpertScore, RouteDecision, RouteQuery
from router.keywords import KeywordStage
from tests.unit.router.manifests import manifest


def decide(text: str, *manifests: Manifest) -> RouteDecision:
    return KeywordStage(manifests).route(RouteQuery(text, max_experts=10))


RED = manifest("red", cues=("ripe tomato", "strawberry"), excludes=("green",))
BLUE = manifest("blue", cues=("blueberry", "deep sea"))
CUES = ["ripe tomato", "strawberry", "green", "blueberry", "deep sea", "nothing at all"]


def test_the_expert_whose_cue_matches_is_chosen_with_its_reason() -> None:
    decision = decide("a ripe tomato, please", RED, BLUE)
    assert decision.experts == (ExpertScore("red", 1.0),)
    assert decision.stage == "keywords"
    assert decision.reason == 'red matched "ripe tomato"'
    assert decision.confidence == 1.0


def test_without_a_cue_the_base_answers() -> None:
    decision = decide("an apple, please", RED, BLUE)
    assert decision == RouteDecision((), "none", "no cue of any expert matched", 0.0, {"blue": 0.0, "red": 0.0})


def test_an_exclude_vetoes_whatever_cues_match() -> None:
    decision = decide("a ripe tomato, a strawberry and a green apple", RED, BLUE)
    assert decision.experts == ()
    assert decision.stage == "none"
    assert decision.reason == 'red matched "ripe tomato", "strawberry" but excludes "green"'
    assert decision.scores["red"] == 0.0


def test_a_vetoed_expert_leaves_the_field_to_the_other() -> None:
    decision = decide("a ripe tomato, green, and a blueberry", RED, BLUE)
    assert decision.experts == (ExpertScore("blue", 1.0),)
    assert 'excludes "green"' in decision.reason


def test_an_exclude_is_word_bounded_too() -> None:
    assert decide("a ripe tomato from the greenhouse", RED).experts


def test_of_two_experts_the_one_with_more_matching_cues_wins() -> None:
    decision = decide("a ripe tomato, a strawberry, a blueberry", RED, BLUE)
    assert decision.experts == (ExpertScore("red", 1.0),)
    assert decision.scores == {"blue": pytest.approx(9 / 30), "red": pytest.approx(21 / 30)}
    assert decision.confidence == pytest.approx(21 / 30)
    assert decision.reason == 'red matched "ripe tomato", "strawberry"; blue matched "blueberry"'


def test_of_two_experts_the_one_with_the_longer_cue_wins() -> None:
    assert decide("a strawberry in the deep sea", RED, BLUE).experts == (ExpertScore("red", 1.0),)


def test_a_tie_is_left_to_the_base() -> None:
    decision = decide("one two", manifest("a", cues=("one",)), manifest("b", cues=("two",)))
    assert decision.experts == ()
    assert decision.stage == "none"
    assert decision.reason == 'a tie; a matched "one"; b matched "two"'
    assert decision.scores == {"a": 0.5, "b": 0.5}
    assert decision.confidence == 0.0


def test_overlapping_cues_count_once() -> None:
    many = manifest("many", cues=("sea", "the sea", "deep sea", "the deep sea"))
    one = manifest("one", cues=("the deep sea",))
    assert decide("in the deep sea", many, one).stage == "none"


def test_repeating_a_cue_does_not_make_it_stronger() -> None:
    assert decide("blueberry " * 50 + "ripe tomato", RED, BLUE).experts == (ExpertScore("red", 1.0),)


def test_an_expert_without_cues_is_never_chosen_but_has_a_score() -> None:
    decision = decide("anything", manifest("silent"))
    assert decision.experts == ()
    assert decision.scores == {"silent": 0.0}


def test_without_experts_everything_goes_to_the_base() -> None:
    assert decide("a ripe tomato").scores == {}


@given(st.lists(st.sampled_from(CUES), max_size=6), st.integers(1, 10))
def test_every_answer_keeps_the_contract(words: list[str], max_experts: int) -> None:
    decision = KeywordStage([RED, BLUE]).route(RouteQuery(", ".join(words), max_experts))
    assert decision.scores.keys() == {"red", "blue"}
    assert all(0 <= score <= 1 for score in decision.scores.values())
    assert 0 <= decision.confidence <= 1
    assert len(decision.experts) <= max_experts
    assert (decision.stage == "none") == (decision.experts == ())
    assert decision.reason


@given(st.lists(st.sampled_from(CUES), max_size=6))
def test_the_order_of_the_experts_does_not_matter(words: list[str]) -> None:
    assert decide(", ".join(words), RED, BLUE) == decide(", ".join(words), BLUE, RED)
