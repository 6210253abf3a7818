"""Which grammar holds an answer: the request's own, its tools', or the heaviest expert's. Called by `generation.py`."""

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from adapters_store.errors import PackageInvalid
from adapters_store.package import HostAdapter
from engine.request import ExpertUse
from grammars import library, spec
from grammars.errors import GrammarInvalid
from grammars.tool_calls import MAX_CALLS
from server.grammar_fields import (
    ChoiceGrammar,
    GbnfGrammar,
    GrammarField,
    NarrowedGrammar,
    RegexGrammar,
    SchemaGrammar,
)
from server.message_fields import NamedTool
from server.schemas import GenerateRequest
from server.services import CompilerDoor, Grammar, Services

NO_ARGUMENTS: Final[dict[str, object]] = {"type": "object", "properties": {}, "additionalProperties": False}


async def compile_grammar(services: Services, body: GenerateRequest, experts: Sequence[ExpertUse]) -> Grammar | None:
    """None where the text is free. Raises what the grammars raise."""
    theirs: HostAdapter | spec.Spec | None = asked_for(body)
    if theirs is None and (name := library_name(body.grammar, experts)) is not None:
        return await asyncio.to_thread(services.compiler.compile, library.text(name))
    if theirs is None and body.grammar == "auto":
        theirs = package_grammar(experts)
    if theirs is None:
        return None
    async with services.grammar_turns:
        return await asyncio.to_thread(compile_theirs, services.compiler, theirs)


def compile_theirs(compiler: CompilerDoor, theirs: HostAdapter | spec.Spec) -> Grammar:
    """A grammar of a client's or of a package's; what is wrong with the latter is not the client's fault."""
    if isinstance(theirs, HostAdapter):
        try:
            return compiler.compile_untrusted(theirs.grammar or "", "root", spec.MAX_MADE_BYTES)
        except GrammarInvalid as fault:
            raise PackageInvalid(theirs.manifest.name, str(fault)) from fault
    source = spec.source(theirs)
    return compiler.compile_untrusted(source.gbnf, source.root, source.max_bytes, source.is_searched)


def asked_for(body: GenerateRequest) -> spec.Spec | None:
    """What the request itself brings, as the grammars know it; None where it names one or leaves it to the expert."""
    if body.uses_tools:
        return tool_calls(body)
    match grammar := body.grammar:
        case GbnfGrammar():
            return spec.Gbnf(grammar.gbnf, grammar.root)
        case ChoiceGrammar():
            return spec.OneOf(tuple(grammar.choice))
        case SchemaGrammar():
            return spec.JsonSchema(grammar.text)
        case RegexGrammar():
            return spec.Pattern(grammar.regex)
        case NarrowedGrammar():
            if grammar.schema_text is None:
                return spec.NarrowedByPrompt(grammar.library, body.told_text)
            return spec.Narrowed(grammar.library, grammar.schema_text)
    return None


def tool_calls(body: GenerateRequest) -> spec.ToolCalls:
    """Calls of the tools: as many as may be, of those that may be, after free text unless one is required."""
    named = body.tool_choice.function.name if isinstance(body.tool_choice, NamedTool) else None
    functions = [tool.function for tool in body.tools or () if named in (None, tool.function.name)]
    return spec.ToolCalls(
        tuple((function.name, json.dumps(function.parameters or NO_ARGUMENTS)) for function in functions),
        has_text=body.tool_choice in (None, "auto"),
        max_calls=1 if named or body.parallel_tool_calls is False else MAX_CALLS,
    )


def library_name(wanted: GrammarField | None, experts: Sequence[ExpertUse]) -> str | None:
    """The library grammar that the request or, for `auto`, its heaviest expert names."""
    if wanted != "auto":
        return wanted if isinstance(wanted, str) else None
    reference = heaviest(experts).manifest.grammar if experts else None
    return reference.library if reference is not None else None


def package_grammar(experts: Sequence[ExpertUse]) -> HostAdapter | None:
    """The heaviest expert if it brings a grammar of its own."""
    adapter = heaviest(experts) if experts else None
    return adapter if adapter is not None and adapter.grammar is not None else None


def heaviest(experts: Sequence[ExpertUse]) -> HostAdapter:
    """The expert with the highest weight; of equals, the first."""
    return max(experts, key=lambda use: use.weight).adapter
