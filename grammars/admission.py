"""Which grammars llama.cpp may be given: those that it reads, compiles and starts in little time and memory.

Knows neither llama.cpp's memory nor a vocabulary, and never runs a grammar: `growth` and `trial` do. Every check takes
time that is linear in the grammar. Called by `compiler` for our own texts and in `trial`'s process for all others.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from grammars.errors import GrammarInvalid
from grammars.gbnf import MAX_BYTES, parse
from grammars.lowered import Atom, Choice, Loop, Lowered, Node, lower
from grammars.syntax import Grammar
from grammars.token_places import check_tokens

MAX_ELEMENTS: Final = 200_000  # 1.6 MB in llama.cpp; a clone compares each with each place of each stack
MAX_STARTS: Final = 1_000
"""How many ways of going on llama.cpp may have to hold at one place. It compares each new one with all others, so the
time goes with the square."""
MAX_VISITS: Final = 10_000_000  # elements that llama.cpp's check for left recursion, which remembers little, looks at
MAX_LEFT_DEPTH: Final = 5_000  # that check calls itself; a call takes 200 bytes of stack
_SATURATED: Final = 10**12


@dataclass(frozen=True, slots=True)
class Admitted:
    """A grammar that may be compiled with this root."""

    grammar: Grammar
    lowered: Lowered
    root: str
    unreachable: tuple[str, ...]
    """Rules that the root never comes to. A hint and no fault: people cut grammars out of larger ones."""
    nullable: tuple[bool, ...]
    """Of each lowered node, whether it may be empty."""
    left_order: tuple[int, ...]
    """All nodes, each after those that it may begin with."""


def admit(text: str, root: str = "root", max_bytes: int = MAX_BYTES) -> Admitted:
    """Parse and check. Raises GrammarInvalid."""
    return check(parse(text, max_bytes), root)


def check(grammar: Grammar, root: str = "root") -> Admitted:
    """Raises GrammarInvalid for the first fault found."""
    if root not in grammar.rules:
        known = ", ".join(list(grammar.rules)[:8])
        raise GrammarInvalid(f"there is no rule {root[:64]!r} to be the root; it has: {known[:200]}")
    lowered = lower(grammar)
    if lowered.num_elements > MAX_ELEMENTS:
        reason = "its literals, times their repetitions, come to"
        raise GrammarInvalid(f"{reason} {lowered.num_elements:,} elements; the limit is {MAX_ELEMENTS:,}")
    reached = _reached(lowered, lowered.rules[root])
    _check_ends(lowered, reached)
    nullable = _derived(lowered.nodes, _nullable_clauses(lowered.nodes))
    _check_loops(lowered, nullable)
    order = _left_order(lowered, nullable)
    check_tokens(lowered, nullable)
    _check_starts(lowered, nullable, order)
    unreachable = tuple(name for name, number in lowered.rules.items() if not reached[number])
    return Admitted(grammar, lowered, root, unreachable, tuple(nullable), tuple(order))


def _fault(lowered: Lowered, number: int, reason: str) -> GrammarInvalid:
    return GrammarInvalid(f"rule {lowered.owners[number][:64]!r} {reason}", *lowered.places[number])


def _inside(node: Node) -> Iterator[int]:
    """The nodes that this one mentions."""
    atoms = (node.atom,) if isinstance(node, Loop) else (atom for sequence in node.alternatives for atom in sequence)
    return (atom for atom in atoms if isinstance(atom, int))


def _reached(lowered: Lowered, root: int) -> list[bool]:
    reached = [False] * len(lowered.nodes)
    reached[root] = True
    todo = [root]
    while todo:
        for inner in _inside(lowered.nodes[todo.pop()]):
            if not reached[inner]:
                reached[inner] = True
                todo.append(inner)
    return reached


Clause = tuple[int, tuple[int, ...]]
"""The first holds if all others do."""


def _derived(nodes: Sequence[Node], clauses: Iterable[Clause]) -> list[bool]:
    """For which nodes the clauses say that it holds: each clause counts down what it still waits for."""
    holds = [False] * len(nodes)
    waiting: list[list[list[int]]] = [[] for _ in nodes]  # of each node, the clauses as [missing, head]
    todo: deque[int] = deque()
    for head, body in clauses:
        clause = [len(body), head]
        for inner in body:
            waiting[inner].append(clause)
        if not body:
            todo.append(head)
    while todo:
        number = todo.popleft()
        if holds[number]:
            continue
        holds[number] = True
        for clause in waiting[number]:
            clause[0] -= 1
            if clause[0] == 0:
                todo.append(clause[1])
    return holds


def _nullable_clauses(nodes: Sequence[Node]) -> Iterator[Clause]:
    for number, node in enumerate(nodes):
        for sequence in ((node.atom,),) if isinstance(node, Loop) else node.alternatives:
            if isinstance(node, Loop) and node.least == 0:
                yield number, ()
            elif all(isinstance(atom, int) for atom in sequence):
                yield number, tuple(atom for atom in sequence if isinstance(atom, int))


def _ending_clauses(nodes: Sequence[Node]) -> Iterator[Clause]:
    for number, node in enumerate(nodes):
        for sequence in ((node.atom,),) if isinstance(node, Loop) else node.alternatives:
            body = tuple(atom for atom in sequence if isinstance(atom, int))
            yield number, () if isinstance(node, Loop) and node.least == 0 else body


def _check_ends(lowered: Lowered, reached: list[bool]) -> None:
    """From everywhere some sentence ends, so that nothing that was accepted so far can lead into a dead end."""
    ends = _derived(lowered.nodes, _ending_clauses(lowered.nodes))
    for number, is_reached in enumerate(reached):
        if is_reached and not ends[number]:
            raise _fault(lowered, number, "can never end: each of its alternatives needs itself again")


def _check_loops(lowered: Lowered, nullable: list[bool]) -> None:
    for number, node in enumerate(lowered.nodes):
        if isinstance(node, Loop) and node.most is None and isinstance(node.atom, int) and nullable[node.atom]:
            raise _fault(lowered, number, 'repeats without limit what may be empty, as in ("a"*)*')


def _left(node: Node, nullable: list[bool]) -> Iterator[Sequence[Atom]]:
    """Of each alternative, the atoms that may come first."""
    for sequence in ((node.atom,),) if isinstance(node, Loop) else node.alternatives:
        end = next((i for i, atom in enumerate(sequence) if not (isinstance(atom, int) and nullable[atom])), None)
        yield sequence if end is None else sequence[: end + 1]


def _left_order(lowered: Lowered, nullable: list[bool]) -> list[int]:
    """All nodes, each after those that it may begin with. Raises GrammarInvalid where one may begin with itself."""
    order: list[int] = []
    state = [0] * len(lowered.nodes)  # 1 while open, 2 once it is in the order
    for first in range(len(lowered.nodes)):
        path: list[tuple[int, Iterator[int]]] = []
        enter: int | None = first
        while True:
            if enter is not None and state[enter] == 1:
                raise _left_recursion(lowered, [number for number, _ in path], enter)
            if enter is not None and state[enter] == 0:
                state[enter] = 1
                lefts = _left(lowered.nodes[enter], nullable)
                path.append((enter, iter([atom for atoms in lefts for atom in atoms if isinstance(atom, int)])))
            if not path:
                break
            enter = next(path[-1][1], None)
            if enter is None:
                number, _ = path.pop()
                state[number] = 2
                order.append(number)
    return order


def _left_recursion(lowered: Lowered, path: list[int], again: int) -> GrammarInvalid:
    circle = [lowered.owners[number] for number in path[path.index(again) :]]
    names = list(dict.fromkeys(circle))
    shown = " -> ".join(name[:32] for name in [*names[:6], names[0]])
    return _fault(lowered, again, f"is left-recursive: it may begin with itself ({shown})")


@dataclass(slots=True)
class _Cost:
    """What it takes llama.cpp to begin a node: stacks, ways through it on the empty text, elements seen, calls deep."""

    starts: int = 0
    empties: int = 0
    visits: int = 1
    depth: int = 1


def _check_starts(lowered: Lowered, nullable: list[bool], order: list[int]) -> None:
    costs = [_Cost() for _ in lowered.nodes]
    visits = 0
    for number in order:
        node = lowered.nodes[number]
        cost = _loop_cost(node, costs) if isinstance(node, Loop) else _choice_cost(node, costs, nullable)
        costs[number] = cost
        if cost.starts > MAX_STARTS:
            reason = f"can begin in more than {MAX_STARTS:,} ways, the limit; share what alternatives begin with"
            raise _fault(lowered, number, reason)
        visits += cost.visits if isinstance(node, Choice) else cost.visits * (node.most or 1)
        if visits > MAX_VISITS:
            raise _fault(lowered, number, "refers to the same rules at its beginning in too many ways")
        if cost.depth > MAX_LEFT_DEPTH:
            raise _fault(lowered, number, f"begins with more than {MAX_LEFT_DEPTH:,} rules within one another")
    for number, node in enumerate(lowered.nodes):
        if isinstance(node, Choice) and _most_ways(node, costs) > MAX_STARTS:
            raise _fault(lowered, number, f"can go on in more than {MAX_STARTS:,} ways after a part, the limit")


def _cost_of(atom: Atom, costs: list[_Cost]) -> _Cost:
    return costs[atom] if isinstance(atom, int) else _Cost(starts=1)


def _choice_cost(node: Choice, costs: list[_Cost], nullable: list[bool]) -> _Cost:
    total = _Cost(visits=1 + sum(len(sequence) + 1 for sequence in node.alternatives))
    for sequence, left in zip(node.alternatives, _left(node, nullable), strict=True):
        ways = 1
        for atom in left:
            inner = _cost_of(atom, costs)
            total.starts = min(total.starts + ways * inner.starts, _SATURATED)
            total.visits = min(total.visits + inner.visits, _SATURATED)
            total.depth = max(total.depth, inner.depth + 1)
            ways = min(ways * inner.empties, _SATURATED)
        if len(left) == len(sequence):
            total.empties = min(total.empties + ways, _SATURATED)
    return total


def _loop_cost(node: Loop, costs: list[_Cost]) -> _Cost:
    """The chain that llama.cpp writes: what may be empty lets the start slide through all copies."""
    inner = _cost_of(node.atom, costs)
    num_copies = 1 if node.most is None else node.most
    if not inner.empties:
        starts = inner.starts if num_copies else 0
        return _Cost(starts, int(node.least == 0), inner.visits + 4, inner.depth + 1)
    ways, starts, empties = 1, 0, 0
    for copy in range(num_copies):
        empties += ways if copy >= node.least else 0
        starts = min(starts + ways * inner.starts, _SATURATED)
        ways = min(ways * inner.empties, _SATURATED)
    visits = min(num_copies * (inner.visits + 4), _SATURATED)
    return _Cost(starts, min(empties + ways, _SATURATED), visits, inner.depth + num_copies)


def _most_ways(node: Choice, costs: list[_Cost]) -> int:
    """In how many ways a sequence may go on, at the place where it may in the most."""
    most = 0
    for sequence in node.alternatives:
        ways = 0
        for atom in reversed(sequence):
            inner = _cost_of(atom, costs)
            ways = min(inner.starts + (inner.empties * ways if inner.empties else 0), _SATURATED)
            most = max(most, ways)
    return most
