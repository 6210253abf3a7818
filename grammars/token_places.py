"""Where a token terminal may not stand: behind a character that could be inside the token's own text.

llama.cpp lets a candidate pass whose first characters are read as such and which, cut in two there, meets a terminal of
its own number; as it accepts the candidate it finds no way to go on, and ends the process. Called by `admission`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from grammars.errors import GrammarInvalid
from grammars.lowered import Atom, Chars, Choice, Lowered
from grammars.syntax import Token


def check_tokens(lowered: Lowered, nullable: Sequence[bool]) -> None:
    """Raises GrammarInvalid with the terminal's place. Time is linear in the grammar.

    A negated terminal, or one with a number, whose text is not known here, may follow no character at all. The others
    are judged together: they may follow none that any of them holds before its last one.
    """
    if not (tokens := lowered.tokens()):
        return
    inner = frozenset("".join(token.text[:-1] for token in tokens if token.text and not token.is_negated))
    _Search(lowered, nullable, None).run()
    _Search(lowered, nullable, inner).run()


def _is_bad(atom: str | Chars, inner: frozenset[str] | None) -> bool:
    if inner is None:
        return True
    if isinstance(atom, str):
        return atom[-1] in inner
    return any(low <= ord(char) <= high for low, high in atom.ranges for char in inner)


@dataclass(slots=True)
class _Search:
    """Backwards from the terminals over all that may stand right before them, each boundary of items once."""

    lowered: Lowered
    nullable: Sequence[bool]
    inner: frozenset[str] | None
    """What must not stand before the terminals that have a text; None to look at the other terminals."""
    users: list[list[tuple[int, int, int]]] = field(init=False)
    """Of each node, where it is mentioned: node, alternative and item; the latter two are 0 in a repetition."""
    seen: dict[tuple[int, int, int], bool] = field(default_factory=dict)
    """Of each boundary of items that was looked back from, whether all before it may be empty."""
    todo: list[tuple[int, bool, Token]] = field(default_factory=list)
    """Nodes of which the end (or, if not so, what stands before them) comes before this terminal."""

    def __post_init__(self) -> None:
        self.users = [[] for _ in self.lowered.nodes]
        for place, atom in self._items():
            if isinstance(atom, int):
                self.users[atom].append(place)

    def _items(self) -> list[tuple[tuple[int, int, int], Atom]]:
        return [
            ((number, i, j), atom)
            for number, node in enumerate(self.lowered.nodes)
            for i, sequence in enumerate(node.alternatives if isinstance(node, Choice) else ((node.atom,),))
            for j, atom in enumerate(sequence)
        ]

    def run(self) -> None:
        for place, atom in self._items():
            if isinstance(atom, Token) and (self.inner is None) == (atom.text is None or atom.is_negated):
                self._before(*place, atom)
        done: set[tuple[int, bool]] = set()
        while self.todo:
            number, is_end, token = self.todo.pop()
            if (number, is_end) in done:
                continue
            done.add((number, is_end))
            if not is_end:
                for user in self.users[number]:
                    self._before(*user, token)
                continue
            node = self.lowered.nodes[number]
            for i, sequence in enumerate(node.alternatives if isinstance(node, Choice) else ((node.atom,),)):
                self._back(number, i, len(sequence), token)

    def _before(self, number: int, alternative: int, item: int, token: Token) -> None:
        node = self.lowered.nodes[number]
        if not isinstance(node, Choice) and node.most != 1:
            self._back(number, 0, 1, token)  # another copy
        if self._back(number, alternative, item, token):
            self.todo.append((number, False, token))

    def _back(self, number: int, alternative: int, item: int, token: Token) -> bool:
        """Look at the items before this one while they may be empty; whether all of them may be."""
        node = self.lowered.nodes[number]
        sequence = node.alternatives[alternative] if isinstance(node, Choice) else (node.atom,)
        walked: list[tuple[int, int, int]] = []
        is_empty = True
        for at in range(item, 0, -1):
            boundary = (number, alternative, at)
            if boundary in self.seen:
                is_empty = self.seen[boundary]
                break
            walked.append(boundary)
            atom = sequence[at - 1]
            if isinstance(atom, int):
                self.todo.append((atom, True, token))
            elif not isinstance(atom, Token) and _is_bad(atom, self.inner):
                raise _fault(token)
            if not (isinstance(atom, int) and self.nullable[atom]):
                is_empty = False
                break
        self.seen.update(dict.fromkeys(walked, is_empty))
        return is_empty


def _fault(token: Token) -> GrammarInvalid:
    name = f"{'!' * token.is_negated}{token.text[:40] if token.text else f'<[{token.id}]>'}"
    reason = f"the token {name} may come right after a character, where llama.cpp could cut one token in two"
    return GrammarInvalid(f"{reason}; let only tokens stand before it", *token.place)
