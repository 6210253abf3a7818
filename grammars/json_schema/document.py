"""One schema document: its limits, where its subschemas are, and what a reference in it means.

Nothing outside the document is ever fetched. A subschema is a `Place`, known by its JSON pointer. Called by
everything else in this package.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias
from urllib.parse import unquote, urldefrag, urljoin

from grammars.errors import SchemaUnsupported
from grammars.json_schema import keywords

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 64
MAX_SCHEMAS: Final = 4_000


class Draft(Enum):
    DRAFT_7 = "draft-07"
    DRAFT_2020_12 = "2020-12"


@dataclass(frozen=True, slots=True)
class Place:
    """A subschema; two are equal when they stand at the same pointer."""

    pointer: str
    schema: Mapping[str, object] | bool = field(compare=False)
    base: str = field(compare=False, default="")
    is_own: bool = field(compare=False, default=False)  # written by us, with keywords that no client has

    def child(self, *tokens: str | int) -> str:
        return self.pointer + "".join(f"/{str(token).replace('~', '~0').replace('/', '~1')}" for token in tokens)


Node: TypeAlias = tuple[Place, ...]  # all of them hold at once; the empty one admits every value


class Document:
    """Raises SchemaUnsupported for a document that is too large, of a draft that is not known, or no schema at all."""

    def __init__(self, schema: object, draft: Draft | None = None, asserts_formats: bool = True) -> None:
        _check_size(schema)
        self.draft = draft or _draft_of(schema)
        self._asserts_formats = asserts_formats
        self._places: dict[str, Place] = {}
        self._resources: dict[str, str] = {}  # URI without fragment -> pointer of what it names
        self._anchors: dict[tuple[str, str], str] = {}
        self._index(schema, "#", "")
        self._resources.setdefault("", "#")
        self.root = self._places["#"]

    @property
    def is_draft_7(self) -> bool:
        return self.draft is Draft.DRAFT_7

    def at(self, place: Place, *tokens: str | int) -> Place:
        """The subschema of a keyword of this schema."""
        pointer = place.child(*tokens)
        if pointer not in self._places:
            raise SchemaUnsupported(str(tokens[0]), place.pointer, "there is no schema where one has to be")
        return self._places[pointer]

    def target(self, place: Place, reference: str) -> Place:
        """What a `$ref` of this schema refers to."""
        uri = place.base + reference if reference.startswith("#") else urljoin(place.base, reference)
        resource, fragment = urldefrag(uri)
        if resource not in self._resources:
            raise SchemaUnsupported("$ref", place.pointer, f"{reference!r} is not inside this document")
        pointer = self._resources[resource]
        fragment = unquote(fragment)
        if fragment.startswith("/"):
            pointer += fragment
        elif fragment:
            pointer = self._anchors.get((resource, fragment), "")
        if pointer not in self._places:
            raise SchemaUnsupported("$ref", place.pointer, f"{reference!r} names no schema of this document")
        return self._places[pointer]

    def graft(self, pointer: str, schema: Mapping[str, object]) -> Place:
        """Adds a schema of our own that says what a keyword comes to; the pointer names the keyword."""
        if pointer not in self._places:
            self._index(schema, pointer, "", is_own=True)
        return self._places[pointer]

    def _index(self, schema: object, pointer: str, base: str, is_own: bool = False) -> None:
        if not isinstance(schema, dict | bool):
            raise SchemaUnsupported(
                pointer.rpartition("/")[2], pointer, f"a schema is an object or a boolean, not {schema!r:.40}"
            )
        if len(self._places) == MAX_SCHEMAS:
            raise SchemaUnsupported("$schema", pointer, f"the document has more than {MAX_SCHEMAS:,} subschemas")
        if isinstance(schema, dict):
            base = self._named(schema, pointer, base)
            if not self._asserts_formats:
                schema = {name: value for name, value in schema.items() if name != "format"}
        place = Place(pointer, schema, base, is_own)
        self._places[pointer] = place
        if isinstance(schema, dict):
            for tokens, inner in _subschemas(schema):
                self._index(inner, place.child(*tokens), base, is_own)

    def _named(self, schema: Mapping[str, object], pointer: str, base: str) -> str:
        """Takes down the names that a schema gives itself; returns the base of the references inside."""
        name = schema.get("$id")
        if self.is_draft_7 and "$ref" in schema:
            name = None  # everything beside $ref is ignored there
        if isinstance(name, str):
            uri, fragment = urldefrag(urljoin(base, name))
            if fragment:
                self._anchors[uri or base, fragment] = pointer
            if uri and not name.startswith("#"):
                base = uri
                self._resources[uri] = pointer
        if pointer == "#":
            self._resources[base] = pointer
        elif "$schema" in schema and _draft_of(schema) is not self.draft:
            raise SchemaUnsupported("$schema", pointer, "one document can not be in two drafts")
        for keyword in ("$anchor", "$dynamicAnchor"):
            anchor = schema.get(keyword)
            if isinstance(anchor, str):
                self._anchors[base, anchor] = pointer
        return base


def _subschemas(schema: Mapping[str, object]) -> Iterator[tuple[tuple[str | int, ...], object]]:
    for keyword, value in schema.items():
        if isinstance(value, dict) and keyword in keywords.MAPS:
            for name, inner in value.items():
                if not (keyword == "dependencies" and isinstance(inner, list)):
                    yield (keyword, name), inner
        elif isinstance(value, list) and keyword in keywords.LISTS:
            for index, inner in enumerate(value):
                yield (keyword, index), inner
        elif keyword in keywords.SINGLE:
            yield (keyword,), value


def _draft_of(schema: object) -> Draft:
    uri = schema.get("$schema") if isinstance(schema, dict) else None
    match uri.rstrip("#").partition("//")[2] if isinstance(uri, str) else uri:
        case None | "json-schema.org/draft/2020-12/schema" | "json-schema.org/draft/2019-09/schema":
            return Draft.DRAFT_2020_12
        case "json-schema.org/draft-07/schema" | "json-schema.org/draft-06/schema":
            return Draft.DRAFT_7
    raise SchemaUnsupported("$schema", "#", f"{uri!r:.80} is neither draft 2020-12 nor draft 7")


def _check_size(schema: object) -> None:
    waiting = [(schema, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise SchemaUnsupported("$schema", "#", f"the document is nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            waiting.extend((item, depth + 1) for item in inner)
    try:
        size = len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, TypeError) as fault:  # lone surrogates, not a number, objects of Python's
        raise SchemaUnsupported("$schema", "#", f"the document is no JSON: {fault}") from fault
    if size > MAX_BYTES:
        raise SchemaUnsupported("$schema", "#", f"the document has {size:,} bytes; the limit is {MAX_BYTES:,}")
