"""llama.cpp's stacks over a grammar, followed without llama.cpp: what `growth` walks and `determinism` reasons with.

A stack is a number; equal stacks have equal numbers. Expanded stacks are those whose top is a text, a class or a token.
"""

from grammars.lowered import Atom, Choice, Loop, Lowered

Position = tuple[int, int, int, int]
"""Of a choice: node, alternative, item, character of a literal. Of a repetition: node, -1 before or 0 inside a copy,
copies done, character."""


class Machine:
    """llama.cpp's stacks, each a number for its top and the stack below; 0 is the empty one."""

    def __init__(self, lowered: Lowered) -> None:
        self._nodes = lowered.nodes
        self._cells: list[tuple[Position, int]] = [((0, 0, 0, 0), 0)]
        self._numbers: dict[tuple[Position, int], int] = {}
        self._opened: dict[int, tuple[int, ...]] = {}
        self.work = 0

    def begin(self, node: int) -> tuple[int, ...]:
        """The expanded stacks of a node with nothing below."""
        return self._expanded(self._entered(node, 0))

    def between(self, loop: int, num_copies: int) -> tuple[int, ...]:
        """The expanded stacks of a repetition once so many copies are done, with nothing below."""
        return self._expanded([self._cell((loop, -1, num_copies, 0), 0)])

    def behind(self, call: Position) -> int:
        """The stack, not expanded, that is left when the node which stands at this position ends."""
        return self._advanced(self._cell(call, 0))

    def expanded(self, stack: int) -> tuple[int, ...]:
        return self._expanded([stack])

    def on(self, stack: int, base: int) -> int:
        """The stack with another one below it."""
        positions = []
        while stack:
            position, stack = self._cells[stack]
            positions.append(position)
        for position in reversed(positions):
            base = self._cell(position, base)
        self.work += 1 + len(positions)
        return base

    def top(self, stack: int) -> Atom:
        """The text, class or token that an expanded stack waits for; of a text, what is left of it."""
        position = self._cells[stack][0]
        atom = self._atom(position)
        return atom[position[3] :] if isinstance(atom, str) else atom

    def after(self, stack: int) -> tuple[int, ...]:
        """The expanded stacks once the top's next character has come."""
        if (known := self._opened.get(stack)) is None:
            known = self._opened[stack] = self._expanded([self._advanced(stack)])
        return known

    def _atom(self, position: Position) -> Atom:
        node = self._nodes[position[0]]
        return node.atom if isinstance(node, Loop) else node.alternatives[position[1]][position[2]]

    def _cell(self, position: Position, below: int) -> int:
        if (number := self._numbers.get((position, below))) is None:
            number = self._numbers[position, below] = len(self._cells)
            self._cells.append((position, below))
        return number

    def _entered(self, number: int, below: int) -> list[int]:
        node = self._nodes[number]
        if isinstance(node, Loop):
            return [self._cell((number, -1, 0, 0), below)]
        return [
            self._cell((number, i, 0, 0), below) if sequence else below for i, sequence in enumerate(node.alternatives)
        ]

    def _advanced(self, stack: int) -> int:
        (number, alternative, item, at), below = self._cells[stack]
        node, atom = self._nodes[number], self._atom((number, alternative, item, at))
        if isinstance(atom, str) and at + 1 < len(atom):
            return self._cell((number, alternative, item, at + 1), below)
        if isinstance(node, Choice):
            is_last = item + 1 == len(node.alternatives[alternative])
            return below if is_last else self._cell((number, alternative, item + 1, 0), below)
        if node.most is None:
            return self._cell((number, -1, min(item + 1, node.least), 0), below)
        return below if item + 1 == node.most else self._cell((number, -1, item + 1, 0), below)

    def _expanded(self, stacks: list[int]) -> tuple[int, ...]:
        seen: set[int] = set()
        ready: list[int] = []
        todo = list(stacks)
        while todo:
            stack = todo.pop()
            if stack in seen:
                continue
            seen.add(stack)
            self.work += 1
            (number, alternative, item, _), below = self._cells[stack]
            node = self._nodes[number]
            if stack == 0:
                ready.append(0)
            elif isinstance(node, Loop) and alternative < 0:
                if item >= node.least:
                    todo.append(below)
                if node.most is None or item < node.most:
                    todo.append(self._cell((number, 0, item, 0), below))
            elif isinstance(atom := self._atom(self._cells[stack][0]), int):
                todo += self._entered(atom, self._advanced(stack))
            else:
                ready.append(stack)
        return tuple(ready)
