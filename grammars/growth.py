"""How many places llama.cpp would have to hold at once as text comes in, found by walking a grammar with bad texts.

llama.cpp keeps a stack for each way to read the text so far, and looks through a token's characters without merging
ways that meet again: a rule that reads one text in two ways doubles its work with every character. Whether a grammar
does that can not be decided in general. This is a search: from the root, from every repetition and from every rule
that comes back to itself, it takes the characters that most ways agree on, and runs of one character. Readings are
counted over such runs and over what is the beginning of a token, since between tokens llama.cpp merges them. What the
search finds is refused; what it does not find may still exist. Deterministic, and bounded by a budget. Called in
`trial`'s process.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from grammars.admission import Admitted
from grammars.determinism import MAX_COMPARED, is_deterministic
from grammars.errors import GrammarInvalid
from grammars.lowered import Atom, Chars, Loop, Lowered
from grammars.stacks import Machine
from grammars.syntax import Token

MAX_STACKS: Final = 1_000
MAX_READINGS: Final = 20_000
"""Of one text, in different ways: what llama.cpp tries one by one for a token of that text, 0.3 µs each."""
LENGTH: Final = 128  # characters; the longest tokens of vocabularies, runs of one character, have as many
BUDGET: Final = 150_000  # steps of work in all, about 1 µs each
_SHARE: Final = 30_000  # of it, for one beginning
_BEAM: Final = 3


def check(admitted: Admitted, token_texts: Sequence[str] = ()) -> bool:
    """Whether it is shown that no text takes llama.cpp too many stacks or readings; else a search has found none.

    Raises GrammarInvalid where it did. The texts are those of the vocabulary's tokens, sorted; short ones may be left
    out.
    """
    lowered = admitted.lowered
    if is_deterministic(lowered, lowered.rules[admitted.root], admitted.nullable, admitted.left_order):
        return True
    search(lowered, admitted.root, token_texts)
    return False


def search(lowered: Lowered, root: str, token_texts: Sequence[str] = ()) -> None:
    """Raises GrammarInvalid as `check` does, whatever can be shown."""
    machine = Machine(lowered)
    for start in _starts(lowered, lowered.rules[root]):
        _Search(machine, lowered, start, token_texts).run(min(machine.work + _SHARE, BUDGET))
        if machine.work > BUDGET:
            return


def _starts(lowered: Lowered, root: int) -> Iterator[int]:
    yield root
    for number, node in enumerate(lowered.nodes):
        if isinstance(node, Loop) and (node.most is None or node.most > 1):
            yield number
    yield from (number for number in _recursive(lowered) if number != root)


def _recursive(lowered: Lowered) -> list[int]:
    """Rules that come back to themselves: what is left when all that mention no such rule are peeled away."""
    inside = [set(_mentioned(lowered, number)) for number in range(len(lowered.nodes))]
    users: list[list[int]] = [[] for _ in inside]
    for number, inner in enumerate(inside):
        for other in inner:
            users[other].append(number)
    missing = [len(inner) for inner in inside]
    todo = [number for number, count in enumerate(missing) if not count]
    while todo:
        for user in users[todo.pop()]:
            missing[user] -= 1
            if not missing[user]:
                todo.append(user)
    return [number for number in lowered.rules.values() if missing[number]]


def _mentioned(lowered: Lowered, number: int) -> Iterator[int]:
    node = lowered.nodes[number]
    for sequence in ((node.atom,),) if isinstance(node, Loop) else node.alternatives:
        yield from (atom for atom in sequence if isinstance(atom, int))


@dataclass(frozen=True, slots=True)
class _Walk:
    readings: dict[int, int]
    """In how many ways each stack is come to, since the token began."""
    text: str
    token_start: int = 0

    @property
    def total(self) -> int:
        return sum(self.readings.values())


class _Search:
    def __init__(self, machine: Machine, lowered: Lowered, start: int, token_texts: Sequence[str]) -> None:
        self._machine = machine
        self._lowered = lowered
        self._start = start
        self._token_texts = token_texts

    def run(self, budget: int) -> None:
        """Look for a text with too many ways until the machine's work comes to the budget."""
        begin = _Walk(dict.fromkeys(self._machine.begin(self._start), 1), "")
        for char in self._worst_chars(begin):
            self._repeat(begin, char, budget)
        walks = [begin]
        seen: set[frozenset[tuple[int, int]]] = set()
        for _ in range(LENGTH):
            found: dict[frozenset[tuple[int, int]], _Walk] = {}
            for walk in walks:
                for char in self._worst_chars(walk):
                    longer = self._in_token(self._step(walk, char))
                    found[frozenset(longer.readings.items())] = longer
            new = [(key, walk) for key, walk in found.items() if key not in seen]
            seen.update(key for key, _ in new)
            walks = sorted((walk for _, walk in new), key=lambda walk: (-walk.total, walk.text))[:_BEAM]
            if not walks or self._machine.work > budget:
                return

    def _repeat(self, walk: _Walk, char: int, budget: int) -> None:
        """One character over and over, until nothing new comes of it."""
        for _ in range(LENGTH):
            before = walk.readings
            walk = self._step(walk, char)
            if not walk.readings or walk.readings == before or self._machine.work > budget:
                return

    def _in_token(self, walk: _Walk) -> _Walk:
        """The walk as it is while a token may be so long; else another token began with its last character."""
        token = walk.text[walk.token_start :]
        at = bisect_left(self._token_texts, token)
        if len(token) == 1 or (at < len(self._token_texts) and self._token_texts[at].startswith(token)):
            return walk
        return _Walk(dict.fromkeys(walk.readings, 1), walk.text, len(walk.text) - 1)

    def _worst_chars(self, walk: _Walk) -> list[int]:
        """Code points on which most readings agree; a token terminal is a step that the search does not take."""
        events: dict[int, int] = {}
        for stack, count in walk.readings.items():
            atom = self._machine.top(stack) if stack else Token(0, None)
            if isinstance(atom, str):
                ranges: tuple[tuple[int, int], ...] = ((ord(atom[0]), ord(atom[0])),)
            else:
                ranges = atom.ranges if isinstance(atom, Chars) else ()
            for low, high in ranges:
                events[low] = events.get(low, 0) + count
                events[high + 1] = events.get(high + 1, 0) - count
            self._machine.work += 1 + len(ranges) // 4
        readings, best = 0, []
        for char in sorted(events):
            readings += events[char]
            best.append((-readings, char))
        return [char for minus, char in sorted(best)[:_BEAM] if minus]

    def _step(self, walk: _Walk, char: int) -> _Walk:
        readings: dict[int, int] = {}
        num_made = 0
        for stack, count in walk.readings.items():
            if stack and matches(self._machine.top(stack), char):
                following = self._machine.after(stack)
                num_made += len(following)
                if num_made * max(len(readings), len(following)) > MAX_COMPARED:
                    raise self._fault(_Walk(readings, walk.text + chr(char)), "takes too long to follow")
                for next_stack in following:
                    readings[next_stack] = readings.get(next_stack, 0) + count
        self._machine.work += len(walk.readings) + num_made
        longer = _Walk(readings, walk.text + chr(char), walk.token_start)
        if len(readings) > MAX_STACKS:
            raise self._fault(longer, f"has more than {MAX_STACKS:,} places open")
        if longer.total > MAX_READINGS:
            raise self._fault(longer, f"can be read in more than {MAX_READINGS:,} ways")
        return longer

    def _fault(self, walk: _Walk, what: str) -> GrammarInvalid:
        owner, place = self._lowered.owners[self._start], self._lowered.places[self._start]
        reason = f"rule {owner[:64]!r} is too ambiguous: {walk.text[:40]!r} ({len(walk.text)} characters) {what}"
        return GrammarInvalid(reason, *place)


def matches(atom: Atom, char: int) -> bool:
    """The character may come where a stack has this text, class or token on top."""
    if isinstance(atom, str):
        return ord(atom[0]) == char
    return isinstance(atom, Chars) and any(low <= char <= high for low, high in atom.ranges)
