"""`GET /grammars`: the library with its examples, and each grammar's text."""

import httpx
import pytest

from grammars import library
from grammars.byte_vocabulary import byte_vocabulary
from grammars.compiler import GrammarCompiler
from grammars.explain import explain


async def test_the_list_is_the_library_with_examples(client: httpx.AsyncClient) -> None:
    cards = (await client.get("/grammars")).json()["grammars"]
    assert [card["name"] for card in cards] == list(library.names())
    assert all(set(card) == {"name", "description", "examples", "takes_schema"} for card in cards)
    assert all(card["description"] and card["examples"] for card in cards)
    assert [card["name"] for card in cards if card["takes_schema"]] == ["cypher", "sql"]


async def test_every_form_has_an_example_that_generate_takes(client: httpx.AsyncClient) -> None:
    forms = (await client.get("/grammars")).json()["forms"]
    assert [form["name"] for form in forms] == ["choice", "regex", "json_schema", "gbnf", "library"]
    for form in forms:
        response = await client.post("/generate", json={"prompt": "hi", "grammar": form["example"], "max_tokens": 20})
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("name", ["sql", "json_object"])
async def test_a_grammar_comes_with_a_text_that_its_examples_belong_to(client: httpx.AsyncClient, name: str) -> None:
    shown = (await client.get(f"/grammars/{name}")).json()
    with byte_vocabulary() as vocabulary:
        compiled = GrammarCompiler(vocabulary).compile(shown["gbnf"])
        assert all(explain(compiled, example).is_sentence for example in shown["examples"])


async def test_an_unknown_grammar_is_not_found_and_the_known_ones_are_named(client: httpx.AsyncClient) -> None:
    response = await client.get("/grammars/poetry")
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "not_found" and "the library has: cypher, date, json" in error["message"]
