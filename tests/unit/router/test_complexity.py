"""How hard a prompt looks, with a parse and without."""

from types import SimpleNamespace
from typing import Any

import pytest

from router.complexity import PARSED, Complexity, Tiers, analyse
from router.errors import ParserInvalid
from router.syntax import Parser, Syntax, find_parser

LONG = "Considering the extraordinary heterogeneity of institutional arrangements, characterize their consequences " * 9


def of(text: str, syntax: Syntax | None = None) -> Complexity:
    return analyse(text, syntax, Tiers())


def test_what_needs_a_parse_is_absent_without_one_and_never_guessed() -> None:
    found = of("Who is he?")
    assert found.absent == PARSED
    assert not set(PARSED) & found.features.keys()


def test_a_parse_adds_its_features() -> None:
    found = of("Who is he?", Syntax(depth=8, entity_density=0.5, num_clauses=5))
    assert found.absent == ()
    assert found.features["syntactic_depth"] == 8
    assert found.score > of("Who is he?").score


def test_a_schema_and_hard_words_are_harder_than_a_greeting() -> None:
    assert of("hi").score < of(LONG).score
    assert of("count them").score < of("CREATE TABLE a (b INT); CREATE TABLE c (d INT); count them").score


@pytest.mark.parametrize(("score", "tier"), [(0.0, "simple"), (0.3, "medium"), (0.69, "medium"), (0.7, "complex")])
def test_the_tiers_begin_at_their_bounds(score: float, tier: str) -> None:
    assert Tiers().of(score) == tier


def test_bounds_that_fall_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0.8 and 0.2"):
        Tiers(0.8, 0.2)


def test_no_parser_is_no_fault_unless_it_is_asked_for_by_name() -> None:
    assert find_parser("none") is None
    with pytest.raises(ParserInvalid):
        find_parser("no_such_pipeline")


def test_a_tree_is_measured() -> None:
    root = SimpleNamespace(is_punct=False, is_space=False, dep_="ROOT", pos_="VERB", ancestors=[])
    leaf = SimpleNamespace(is_punct=False, is_space=False, dep_="ccomp", pos_="VERB", ancestors=[root])
    deep = SimpleNamespace(is_punct=False, is_space=False, dep_="obj", pos_="NOUN", ancestors=[leaf, root])

    class Doc(list[Any]):
        ents = (1,)

    parsed = Parser(lambda _: Doc([root, leaf, deep]), "tree").parse("any")
    assert parsed == Syntax(depth=2, entity_density=1 / 3, num_clauses=2)
