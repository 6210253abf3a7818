"""The rules by which cypher.gbnf walks a graph, made from a description of it.

Only its labels, relationships and properties exist then; a relationship leads where it leads in the graph, also past
a node that the query gives no label, and a map in a pattern has properties of its own node. What a grammar can not see
stays free: of which node a variable is, so `a.name` may be a property of any. Called by `library`.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from grammars.graph_schema import Graph, graph_of, lines_in
from grammars.prefix_tree import one_of, tree

MAX_HOPS: Final = 3
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def rules(schema: str, _reserved: Collection[str]) -> str:
    """GBNF of `path` and `operand`, with levels of `hops`. Raises SchemaTextInvalid."""
    graph = graph_of(schema)
    codes = {label: _letters(i) for i, label in enumerate(graph.labels)}
    kinds = {name: _letters(i) for i, name in enumerate(graph.types)}
    starts = {spelled(label): (f'map-{code} ")" hops-{code}-1',) for label, code in codes.items()}
    properties = {name for of in (*graph.labels.values(), *graph.types.values()) for name in of}
    lines = [
        f'path     ::= "(" word? (":" ({tree(starts)}) | ")" hops-any)',
        "operand  ::= word" + (f' ("." ({one_of(sorted(map(spelled, properties)))}))?' if properties else ""),
        _hops("hops-any", _steps(graph, codes, kinds, graph.labels)),
        *(_hops(f"hops-{code}-1", _steps(graph, codes, kinds, (label,))) for label, code in codes.items()),
        *(f'hops-{code}-{MAX_HOPS + 1} ::= ""' for code in codes.values()),
        *(_node(label, code) for label, code in codes.items()),
        *(f"map-{codes[label]}   ::= {_map(of)}" for label, of in graph.labels.items()),
        *(f"edge-{kinds[name]}  ::= {_map(of)}" for name, of in graph.types.items()),
    ]
    return "\n".join(["", *lines, ""])


def find(prompt: str) -> str | None:
    """The lines of a prompt that describe a graph."""
    return lines_in(prompt)


def spelled(name: str) -> str:
    """A name as Cypher takes it: anything unusual in backticks."""
    return name if _PLAIN.fullmatch(name) else "`" + name.replace("`", "``") + "`"


Steps = tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]


def _steps(graph: Graph, codes: dict[str, str], kinds: dict[str, str], labels: Iterable[str]) -> Steps:
    """What may follow a relationship's name in `-[:` and in `<-[:`, from any of some labels.

    Without an arrow, a relationship may be walked either way.
    """
    forward: dict[str, dict[str, None]] = {}
    backward: dict[str, dict[str, None]] = {}
    either: dict[str, dict[str, None]] = {}
    here = set(labels)
    for step in graph.relationships:
        if step.source in here:
            forward.setdefault(step.type, {})[codes[step.target]] = None
            either.setdefault(step.type, {})[codes[step.target]] = None
        if step.target in here:
            backward.setdefault(step.type, {})[codes[step.source]] = None
            either.setdefault(step.type, {})[codes[step.source]] = None
    with_dash: dict[str, tuple[str, ...]] = {}
    with_arrow: dict[str, tuple[str, ...]] = {}
    for name, targets in either.items():
        onward = f'">" ({_targets(forward[name])}) | ' if name in forward else ""
        with_dash[spelled(name)] = (f'edge-{kinds[name]} "]-" ({onward}{_targets(targets)})',)
    for name, targets in backward.items():
        with_arrow[spelled(name)] = (f'edge-{kinds[name]} "]-" ({_targets(targets)})',)
    return with_dash, with_arrow


def _targets(codes: Iterable[str]) -> str:
    return " | ".join(f"node-{code} hops-{code}-2" for code in codes)


def _hops(rule: str, steps: Steps) -> str:
    with_dash, with_arrow = steps
    options = [f'"-[" word? ":" ({tree(with_dash)})'] if with_dash else []
    options += [f'"<-[" word? ":" ({tree(with_arrow)})'] if with_arrow else []
    return f"{rule} ::= " + (f"({' | '.join(options)})?" if options else '""')


def _node(label: str, code: str) -> str:
    """The label may go unsaid, since the relationship that leads here has told it."""
    name = one_of([":" + spelled(label)])
    return f'node-{code}  ::= "(" (word ({name})? map-{code} | {name} map-{code})? ")"'


def _map(properties: Collection[str]) -> str:
    """Nothing, or a map of at most three."""
    if not properties:
        return '""'
    names = one_of(sorted(map(spelled, properties)))
    return f'(" {{" ({names}) ": " literal (", " ({names}) ": " literal){{0,2}} "}}")?'


def _letters(index: int) -> str:
    """0 is aa, 1 is ab: a number at a rule's end would be a level of nesting."""
    return chr(97 + index // 26) + chr(97 + index % 26)
