"""A parse, where one can be had: spaCy with any installed pipeline that has a parser.

Owns the only use of spaCy, an optional extra. Knows no scores. Called by `pipeline` for prompts that reach the last
stage.
"""

import importlib
import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

from router.errors import ParserInvalid

MAX_CHARS = 600
"""What is parsed of a long prompt: the time of a parse grows with its length."""

_CLAUSES = frozenset({"ROOT", "ccomp", "xcomp", "advcl", "acl", "relcl", "csubj", "csubjpass", "parataxis", "conj"})


@dataclass(frozen=True, slots=True)
class Syntax:
    depth: int
    """Of the deepest word below the root of its sentence, in edges."""
    entity_density: float
    """Named entities per word."""
    num_clauses: int


class Parser:
    def __init__(self, pipeline: Any, name: str) -> None:
        self.name = name
        self._pipeline = pipeline

    def parse(self, text: str) -> Syntax:
        doc = self._pipeline(text[:MAX_CHARS])
        words = [token for token in doc if not token.is_punct and not token.is_space]
        depths = [_depth(token) for token in words]
        clauses = sum(token.dep_ in _CLAUSES and token.pos_ in ("VERB", "AUX") for token in words)
        return Syntax(max(depths, default=0), len(doc.ents) / (len(words) or 1), max(clauses, int(bool(words))))


def find_parser(name: str = "auto") -> Parser | None:
    """`none`: no parser. `auto`: the first installed pipeline that parses, or None. Else that pipeline, by its name;
    raises ParserInvalid where it is missing or only a blank one.
    """
    if name == "none" or (name == "auto" and importlib.util.find_spec("spacy") is None):
        return None
    try:
        spacy = importlib.import_module("spacy")
    except ImportError as fault:
        raise ParserInvalid(f"the parser {name!r} needs the extra `parser`: {fault}") from fault
    for candidate in spacy.util.get_installed_models() if name == "auto" else [name]:
        try:
            pipeline = spacy.load(candidate)
        except (OSError, ValueError) as fault:
            if name != "auto":
                raise ParserInvalid(f"spaCy cannot load {name!r}: {fault}") from fault
            logging.getLogger(__name__).warning("the spaCy pipeline %s cannot be loaded", candidate)
            continue
        if pipeline.has_pipe("parser"):
            return Parser(pipeline, candidate)
        if name != "auto":
            raise ParserInvalid(f"the spaCy pipeline {name!r} has no parser")
    return None


def _depth(token: Any) -> int:
    return sum(1 for _ in token.ancestors)
