"""Labels, relationships and properties out of a text that describes a graph.

Reads patterns, with types or without (`(:Person {name: STRING})-[:KNOWS {since: DATE}]->(:Person)`), and the listing
that Neo4j's own tools print for a model ("Node properties:", "Relationship properties:"). Knows no grammar; called by
`cypher_schema`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from grammars.errors import SchemaTextInvalid

MAX_CHARS: Final = 65_536
MAX_LABELS: Final = 64
MAX_RELATIONSHIPS: Final = 256
MAX_PROPERTIES: Final = 1_000
MAX_NAME: Final = 64

# Possessive throughout (`*+`): two runs of blanks side by side would else be tried in every division of a long one.
_NAME: Final = r"(?:[^\W\d]\w*+|`[^`\n]{1,256}+`)"
_MAP: Final = r"(?:\{([^{}]*+)\})?+"
_NODE: Final = re.compile(rf"\(\s*+\w*+\s*+:\s*+({_NAME})\s*+{_MAP}\s*+\)")
_EDGE: Final = re.compile(rf"\s*+(<?+)\s*+-\s*+\[\s*+\w*+\s*+:\s*+({_NAME})\s*+{_MAP}\s*+\]\s*+-\s*+(>?+)\s*+")
_BETWEEN: Final = re.compile(r"[ \t,;]*+")
_PROPERTY: Final = re.compile(rf"\s*+({_NAME})\s*+(?::.*)?")
_HEADING: Final = re.compile(r"\W*(node|relationship)s?(?: properties)?[\W_]*", re.IGNORECASE)
_THE_RELATIONSHIPS: Final = re.compile(r"\W*the relationships[\W_]*", re.IGNORECASE)
_LISTED: Final = re.compile(rf"[-*\s]*+:?({_NAME})\**+:?\s*+\{{([^{{}}]*+)\}}\s*+")
_BULLET: Final = re.compile(rf"[-*]\s++\**+({_NAME})\**+\s*+:?\s*+")
_SUB_BULLET: Final = re.compile(rf"\s+[-*]\s+({_NAME})\s*:.*")

Section = Literal["", "node", "relationship"]


@dataclass(frozen=True, slots=True)
class Relationship:
    source: str
    type: str
    target: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Built line by line; the dicts keep the order of the text."""

    labels: dict[str, dict[str, None]] = field(default_factory=dict)
    """Label -> its properties."""
    types: dict[str, dict[str, None]] = field(default_factory=dict)
    """Relationship -> its properties."""
    relationships: dict[Relationship, None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Of all that it holds."""
        owners = (*self.labels.values(), *self.types.values())
        return len(owners) + sum(map(len, owners)) + len(self.relationships)


def graph_of(text: str) -> Graph:
    """Raises SchemaTextInvalid for the first line that describes no part of a graph, or what is beyond a limit."""
    if len(text) > MAX_CHARS:
        raise SchemaTextInvalid(1, f"{len(text)} characters; the limit is {MAX_CHARS}")
    reader = _Reader()
    size = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not reader.read(line):
            raise SchemaTextInvalid(number, f"{line.strip()[:60]!r} is no pattern such as (:A {{x}})-[:R]->(:B)")
        if (grown := reader.graph.size) > size:
            _check_limits(reader.graph, number)
            size = grown
    if not reader.graph.labels:
        raise SchemaTextInvalid(1, "there is no label")
    return reader.graph


def lines_in(text: str) -> str | None:
    """The lines of a text that describe a graph. None where no pattern is among them."""
    reader = _Reader()
    found = [line for line in text[:MAX_CHARS].splitlines() if line.strip() and reader.read(line)]
    return "\n".join(found) if reader.graph.labels else None


def _check_limits(graph: Graph, line: int) -> None:
    properties = [*graph.labels.values(), *graph.types.values()]
    counts = (
        ("labels", len(graph.labels), MAX_LABELS),
        ("relationships", len(graph.relationships), MAX_RELATIONSHIPS),
        ("properties", sum(map(len, properties)), MAX_PROPERTIES),
    )
    for what, count, limit in counts:
        if count > limit:
            raise SchemaTextInvalid(line, f"more than {limit} {what}")
    names = [*graph.labels, *graph.types, *(name for of in properties for name in of)]
    if longest := next((name for name in names if len(name) > MAX_NAME or not name.isprintable()), None):
        reason = f"the name {longest[:MAX_NAME]!r} is not printable or has more than {MAX_NAME} characters"
        raise SchemaTextInvalid(line, reason)


class _Reader:
    """Knows under which heading, and in whose list of properties, the next line stands."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._section: Section = ""
        self._owner: dict[str, None] | None = None

    def read(self, line: str) -> bool:
        """Whether the line says something of the graph; if so, it is in `graph` now."""
        if match := _HEADING.fullmatch(line):
            self._section = "node" if match[1].lower() == "node" else "relationship"
        elif _THE_RELATIONSHIPS.fullmatch(line):
            self._section = ""
        elif patterns := _patterns(line):
            for pattern in patterns:
                self._add(pattern)
        elif self._section and (match := _LISTED.fullmatch(line)):
            self._properties_of(match[1]).update(_properties(match[2]))
        elif self._section and (match := _BULLET.fullmatch(line)):
            self._owner = self._properties_of(match[1])
        elif self._owner is not None and (match := _SUB_BULLET.fullmatch(line)):
            self._owner[_bare(match[1])] = None
        else:
            return False
        return True

    def _properties_of(self, name: str) -> dict[str, None]:
        owners = self.graph.labels if self._section == "node" else self.graph.types
        return owners.setdefault(_bare(name), {})

    def _add(self, pattern: list[re.Match[str]]) -> None:
        """Nodes and, between them, edges."""
        for node in pattern[::2]:
            self.graph.labels.setdefault(_bare(node[1]), {}).update(_properties(node[2]))
        for left, edge, right in zip(pattern[::2], pattern[1::2], pattern[2::2], strict=False):
            name = _bare(edge[2])
            self.graph.types.setdefault(name, {}).update(_properties(edge[3]))
            source, target = _bare(left[1]), _bare(right[1])
            if edge[4] or not edge[1]:
                self.graph.relationships[Relationship(source, name, target)] = None
            if edge[1] or not edge[4]:  # without an arrow it may point either way
                self.graph.relationships[Relationship(target, name, source)] = None


def _patterns(line: str) -> list[list[re.Match[str]]]:
    """The patterns that make up a line, apart from what separates them; none if there is anything else in it."""
    found: list[list[re.Match[str]]] = []
    place = 0
    line = line.strip().rstrip(".")
    while place < len(line):
        pattern = list(_parts(line, place))
        if not pattern:
            return []
        found.append(pattern)
        place = pattern[-1].end()
        if between := _BETWEEN.match(line, place):
            place = between.end()
    return found


def _parts(line: str, place: int) -> Iterator[re.Match[str]]:
    node = _NODE.match(line, place)
    while node:
        yield node
        edge = _EDGE.match(line, node.end())
        node = _NODE.match(line, edge.end()) if edge else None
        if edge and node:
            yield edge


def _properties(text: str | None) -> dict[str, None]:
    parts = (_PROPERTY.fullmatch(part) for part in (text or "").split(","))
    return {_bare(part[1]): None for part in parts if part}


def _bare(name: str) -> str:
    return name.strip("`")
