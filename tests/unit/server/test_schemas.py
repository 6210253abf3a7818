"""What a request body may hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from server.grammar_fields import ChoiceGrammar, GbnfGrammar
from server.schemas import GenerateRequest
from server.wire import ExpertChoice


def parse(**fields: object) -> GenerateRequest:
    return GenerateRequest.model_validate_json(json.dumps({"prompt": "hi", **fields}))


def test_a_prompt_is_one_user_message() -> None:
    assert [(turn.role, turn.text) for turn in parse().turns] == [("user", "hi")]


def test_messages_keep_their_roles_and_the_router_reads_all_user_text() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "second"},
    ]
    body = parse(prompt=None, messages=messages)
    assert [turn.role for turn in body.turns] == ["system", "user", "assistant", "user"]
    assert body.user_text == "first\nsecond"


@pytest.mark.parametrize("fields", [{"prompt": None}, {"messages": [{"role": "user", "content": "x"}]}])
def test_exactly_one_of_prompt_and_messages_is_needed(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="either prompt or messages"):
        parse(**fields)


def test_names_and_weights_may_be_mixed() -> None:
    body = parse(experts=["sql", {"name": "json", "weight": 0.5}, {"name": "free"}])
    assert body.experts == [
        "sql",
        ExpertChoice(name="json", weight=0.5),
        ExpertChoice(name="free", weight=1.0),
    ]


def test_an_unsent_field_is_none_so_that_the_expert_may_decide() -> None:
    body = parse()
    assert body.temperature is None
    assert body.max_tokens is None
    assert (body.experts, body.max_experts, body.grammar, body.stream) == ("auto", 1, "auto", False)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": 5},
        {"messages": []},
        {"surprise": 1},
        {"temperature": -0.1},
        {"temperature": 5.1},
        {"temperature": "0.5"},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0},
        {"top_p": 1.01},
        {"top_k": -2},
        {"top_k": 1.5},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": 10**9},
        {"max_experts": 0},
        {"max_experts": 11},
        {"seed": -(2**63) - 1},
        {"seed": 2**63},
        {"stop": ""},
        {"stop": "x" * 65},
        {"stop": ["x"] * 9},
        {"stop": ["x", ""]},
        {"stream": "yes"},
        {"experts": "sql"},
        {"experts": [{"name": "sql", "weight": 0}]},
        {"experts": [{"name": "sql", "weight": float("nan")}]},
        {"experts": [{"name": "sql", "path": "/etc/passwd"}]},
        {"experts": ["sql", "sql"]},
        {"experts": ["sql", {"name": "sql", "weight": 2.0}]},
        {"experts": [f"e{n}" for n in range(11)]},
        {"experts": [""]},
    ],
)
def test_a_field_out_of_its_bounds_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        parse(**fields)


def test_the_largest_seed_is_accepted() -> None:
    assert parse(seed=2**63 - 1).seed == 2**63 - 1


@pytest.mark.parametrize("grammar", ['root ::= "a"', "root ::= [a-z]+\n", ["json"], 7, "", "JSON", {}, {"ebnf": "x"}])
def test_what_is_no_form_of_a_grammar_is_refused_with_a_word_on_the_forms(grammar: object) -> None:
    with pytest.raises(ValidationError, match=r'send "auto" .*, \{"choice".* or \{"library"'):
        parse(grammar=grammar)


def test_a_grammar_of_the_clients_own_passes() -> None:
    gbnf = parse(grammar={"gbnf": 'start ::= "a"', "root": "start"}).grammar
    assert isinstance(gbnf, GbnfGrammar)
    assert (gbnf.gbnf, gbnf.root) == ('start ::= "a"', "start")
    choice = parse(grammar={"choice": ["yes", "no"]}).grammar
    assert isinstance(choice, ChoiceGrammar)
    assert choice.choice == ["yes", "no"]


@pytest.mark.parametrize(
    "grammar",
    [
        {"gbnf": ""},
        {"gbnf": "x" * 32_769},
        {"gbnf": 7},
        {"gbnf": "root ::= x", "root": ""},
        {"gbnf": "root ::= x", "root": "a b"},
        {"gbnf": "root ::= x", "root": "root\n"},
        {"gbnf": "root ::= x", "root": "r" * 65},
        {"gbnf": "root ::= x", "choice": ["a"]},
        {"choice": []},
        {"choice": [""]},
        {"choice": [1]},
        {"choice": "yes"},
        {"choice": ["x" * 1001]},
        {"choice": [f"{n}" for n in range(1001)]},
        {"choice": [f"{n:0>34}" for n in range(1000)]},
        {"json_schema": "{}"},
        {"json_schema": 1},
        {"json_schema": "true"},
        {"json_schema": None},
        {"json_schema": {"const": float("nan")}},
        {"json_schema": {"const": "x" * 65_536}},
        {"json_schema": {}, "regex": "a"},
        {"regex": ""},
        {"regex": "x" * 4_097},
        {"library": "sql"},
        {"library": "SQL", "schema": "x"},
        {"library": "sql", "schema": ""},
        {"library": "sql", "schema": "x" * 65_537},
        {"library": "sql", "schema": "x", "from_prompt": True},
        {"library": "sql", "from_prompt": False},
    ],
)
def test_a_clients_grammar_out_of_its_bounds_is_refused(grammar: object) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(grammar=grammar)
    assert all("a name" not in fault["loc"] for fault in caught.value.errors())


@pytest.mark.parametrize("grammar", ["auto", None, "json", "no-such-name"])
def test_a_grammars_name_passes_and_is_looked_up_later(grammar: str | None) -> None:
    assert parse(grammar=grammar).grammar == grammar


def test_one_stop_string_is_a_list_of_one() -> None:
    assert parse(stop="END").stop_strings == ("END",)
    assert parse(stop=["a", "b"]).stop_strings == ("a", "b")
    assert parse().stop_strings == ()


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_json_value_in_place_of_the_experts_gets_past_as_something_else(value: object) -> None:
    try:
        experts = parse(experts=value).experts
    except ValidationError:
        return
    assert experts == "auto" or all(isinstance(name, str | ExpertChoice) for name in experts)
