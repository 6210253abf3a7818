"""`GET /grammars`: what the library holds, and the text of each grammar.

Needs no engine, so it answers while the server still starts. Knows the library alone.
"""

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from grammars import library
from grammars.catalogue import LibraryGrammar
from grammars.errors import GrammarUnknown
from server.grammar_fields import FORMS
from server.schemas import ErrorBody, GrammarCard, GrammarList, GrammarText


def api() -> APIRouter:
    """The paths."""
    routes = APIRouter()
    routes.add_api_route("/grammars", list_grammars, methods=["GET"])
    routes.add_api_route("/grammars/{name}", show_grammar, methods=["GET"], responses={404: {"model": ErrorBody}})
    return routes


async def list_grammars() -> GrammarList:
    """Every grammar that a request may name, with sentences that it admits, and the forms in which it may bring one."""
    return GrammarList(grammars=[_card(grammar) for grammar in library.catalogue()], forms=list(FORMS))


async def show_grammar(name: str) -> GrammarText:
    """One grammar with its GBNF, as it is without a schema."""
    try:
        grammar = library.find(name)
    except GrammarUnknown as error:
        raise HTTPException(404, str(error)) from None
    return GrammarText(**_card(grammar).model_dump(), gbnf=library.text(name))


def _card(grammar: LibraryGrammar) -> GrammarCard:
    return GrammarCard(
        name=grammar.name,
        description=grammar.description,
        examples=list(grammar.examples),
        takes_schema=grammar.takes_schema,
    )
