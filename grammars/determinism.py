"""Whether a grammar can be shown to keep llama.cpp's stacks few, whatever the text: then there are no bad ones to find.

Stacks part at a choice, or where a repetition may go on or end. Where the characters that each way may begin with are
disjoint (the condition of strong LL(1) grammars: Rosenkrantz and Stearns 1970), the next character leaves one way at
most. Everywhere else the ways are followed, in every context, until one is left or a limit ends the attempt. By
induction every set of stacks that a text can lead to is then what opens up behind a single stack, or one that was
followed:

* all stacks that agree on a character lie behind the place where the first of them part, which was looked at;
* so m of them do at most, m being the most that were seen to agree; and since each stack waits for one of K classes of
  characters, no more than K times m can ever be open;
* no stack that was followed was come to in two ways, so a text has no more readings than stacks.

It is linear where all is disjoint. A grammar that it shows nothing of may be harmless all the same. Called by `growth`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from grammars.lowered import Atom, Chars, Loop, Lowered, Node
from grammars.stacks import Machine, Position

MAX_COMPARED: Final = 8_000_000  # stacks with stacks, for one character: some 16 ms of llama.cpp
MAX_FOLLOWED: Final = 256  # stacks at once
BUDGET: Final = 20_000  # steps of work, about 1 µs each


class _TooMany(Exception):
    """Nothing can be shown within the limits."""


def is_deterministic(lowered: Lowered, root: int, nullable: Sequence[bool], left_order: Sequence[int]) -> bool:
    """False where nothing was shown. `nullable` and `left_order` are those of `admission`."""
    if lowered.tokens():  # a negated one is any text as well
        return False
    classes = _Classes(lowered)
    firsts = _firsts(lowered.nodes, nullable, left_order, classes)
    follows = _follows(lowered.nodes, firsts, nullable, classes)
    search = _Search(lowered, root, classes)
    try:
        for number, node in enumerate(lowered.nodes):
            if _may_clash(node, firsts, follows[number], nullable, classes):
                search.follow(number, node)
    except _TooMany:
        return False
    return (classes.count * search.most_agreeing) ** 2 <= MAX_COMPARED


class _Classes:
    """The characters that the grammar does not tell apart, as bits; what nothing matches is in none."""

    def __init__(self, lowered: Lowered) -> None:
        atoms = {atom for node in lowered.nodes for sequence in _sequences(node) for atom in sequence}
        spans = {span for atom in atoms if isinstance(atom, Chars) for span in atom.ranges}
        spans |= {(ord(char), ord(char)) for atom in atoms if isinstance(atom, str) for char in atom}
        self._bounds = sorted({bound for low, high in spans for bound in (low, high + 1)})
        self._masks: dict[Chars | str, int] = {}

    @property
    def count(self) -> int:
        return len(self._bounds)

    def mask(self, atom: Atom) -> int:
        """Of the characters that a text or a class may begin with."""
        if not isinstance(atom, Chars | str):
            return 0
        key = atom[0] if isinstance(atom, str) else atom
        if (known := self._masks.get(key)) is None:
            ranges = ((ord(key), ord(key)),) if isinstance(key, str) else key.ranges
            known = self._masks[key] = sum(self._at(high + 1) - self._at(low) for low, high in ranges)
        return known

    def _at(self, bound: int) -> int:
        return 1 << bisect_left(self._bounds, bound)


def _sequences(node: Node) -> tuple[tuple[Atom, ...], ...]:
    return ((node.atom,),) if isinstance(node, Loop) else node.alternatives


def _firsts(nodes: Sequence[Node], nullable: Sequence[bool], order: Sequence[int], classes: _Classes) -> list[int]:
    """What each node's texts may begin with."""
    firsts = [0] * len(nodes)
    for number in order:
        node = nodes[number]
        if not isinstance(node, Loop) or node.most != 0:
            for sequence in _sequences(node):
                firsts[number] |= _first_of(sequence, firsts, nullable, classes)[0]
    return firsts


def _first_of(
    sequence: Iterable[Atom], firsts: Sequence[int], nullable: Sequence[bool], classes: _Classes
) -> tuple[int, bool]:
    """What a sequence may begin with, and whether it may be empty."""
    mask = 0
    for atom in sequence:
        mask |= firsts[atom] if isinstance(atom, int) else classes.mask(atom)
        if not (isinstance(atom, int) and nullable[atom]):
            return mask, False
    return mask, True


def _follows(nodes: Sequence[Node], firsts: Sequence[int], nullable: Sequence[bool], classes: _Classes) -> list[int]:
    """What may come after each node, in any context."""
    follows = [0] * len(nodes)
    inherits: list[list[int]] = [[] for _ in nodes]  # of each node, those that may be its last part
    for number, node in enumerate(nodes):
        for sequence in _sequences(node):
            mask, is_empty = (firsts[number], True) if isinstance(node, Loop) and node.most != 1 else (0, True)
            for atom in reversed(sequence):
                if isinstance(atom, int):
                    follows[atom] |= mask
                    if is_empty:
                        inherits[number].append(atom)
                    mask = firsts[atom] | (mask if nullable[atom] else 0)
                    is_empty = is_empty and nullable[atom]
                else:
                    mask, is_empty = classes.mask(atom), False
    todo = list(range(len(nodes)))
    while todo:
        number = todo.pop()
        for inner in inherits[number]:
            if follows[number] & ~follows[inner]:
                follows[inner] |= follows[number]
                todo.append(inner)
    return follows


def _may_clash(node: Node, firsts: Sequence[int], follow: int, nullable: Sequence[bool], classes: _Classes) -> bool:
    """Two ways on from the node may begin with one character."""
    seen = follow if isinstance(node, Loop) else 0
    for sequence in _sequences(node):
        mask, is_empty = _first_of(sequence, firsts, nullable, classes)
        mask |= follow if is_empty else 0
        if mask & seen:
            return True
        seen |= mask
    return False


class _Search:
    """Follows the ways that part at a node while more than one of them agrees with the text."""

    def __init__(self, lowered: Lowered, root: int, classes: _Classes) -> None:
        self._nodes = lowered.nodes
        self._root = root
        self._classes = classes
        self._machine = Machine(lowered)
        self._calls: list[list[Position]] | None = None
        self._seen: set[tuple[int, frozenset[int]]] = set()
        self.most_agreeing = 1

    def follow(self, number: int, node: Node) -> None:
        """Raises _TooMany."""
        if isinstance(node, Loop):
            for copies in range(node.least, node.least + 1 if node.most is None else node.most):
                self._spend(1)
                self._from(number, self._machine.between(number, copies))
        else:
            self._from(number, self._machine.begin(number))

    def _from(self, number: int, stacks: Iterable[int]) -> None:
        """All texts from these stacks on. The empty stack is the end of this node, and what follows its callers'."""
        todo = [(number, frozenset(stacks))]
        while todo:
            world = todo.pop()
            if world in self._seen:
                continue
            self._seen.add(world)
            number, open_stacks = world
            self._spend(len(open_stacks))
            if 0 in open_stacks:
                todo += self._contexts(number, open_stacks - {0})
            else:
                todo += ((number, after) for after in self._steps(open_stacks))

    def _contexts(self, number: int, others: frozenset[int]) -> Iterator[tuple[int, frozenset[int]]]:
        """The same stacks wherever the node is mentioned, its end replaced by what comes there."""
        if number == self._root:
            yield number, others
        for call in self._called_at(number):
            self._spend(len(others))
            base = self._machine.behind(call)
            moved = {self._machine.on(stack, base) for stack in others}
            yield call[0], frozenset(moved.union(self._machine.expanded(base)))

    def _steps(self, stacks: frozenset[int]) -> Iterator[frozenset[int]]:
        """The sets of stacks after each character on which two or more agree."""
        masks = {stack: self._classes.mask(self._machine.top(stack)) for stack in stacks}
        seen = shared = 0
        for mask in masks.values():
            shared |= seen & mask
            seen |= mask
        groups = set()
        while shared:
            bit = shared & -shared
            shared ^= bit
            groups.add(tuple(stack for stack, mask in masks.items() if mask & bit))
            self._spend(len(masks))
        for group in groups:
            self.most_agreeing = max(self.most_agreeing, len(group))
            ways = Counter(after for stack in group for after in self._machine.after(stack))
            if max(ways.values()) > 1:
                raise _TooMany
            yield frozenset(ways)

    def _spend(self, num_stacks: int) -> None:
        self._machine.work += num_stacks
        if self._machine.work > BUDGET or num_stacks > MAX_FOLLOWED:
            raise _TooMany

    def _called_at(self, number: int) -> list[Position]:
        """Where the node is mentioned; in a repetition, as each of its copies."""
        if self._calls is None:
            self._calls = [[] for _ in self._nodes]
            for caller, node in enumerate(self._nodes):
                if not isinstance(node, Loop):
                    for i, sequence in enumerate(node.alternatives):
                        for j, atom in enumerate(sequence):
                            if isinstance(atom, int):
                                self._calls[atom].append((caller, i, j, 0))
                elif isinstance(node.atom, int):
                    copies = range(node.least + 1 if node.most is None else node.most)
                    self._calls[node.atom] += ((caller, 0, copy, 0) for copy in copies)
        return self._calls[number]
