"""Which KV block belongs to whom, and which hold a prefix worth keeping: integers only, the tensors are the runner's.

A full block may be registered under the hash of all that its content depends on. It can then be in several tables
at once, and when the last of them gives it up it stays findable until it is the least recently freed and somebody
needs a block. Blocks that are still written are in one table alone, so nothing is ever copied.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """Hands out blocks of `block_size` positions and takes them back."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self._num_users = [0] * num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))  # the next to be taken first
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}

    @property
    def num_free(self) -> int:
        """Blocks that nobody uses; some of them may still be found by their hash."""
        return len(self._free)

    def blocks_for(self, num_positions: int) -> int:
        return -(-num_positions // self.block_size)

    def find(self, hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest registered run from the first hash on."""
        found: list[int] = []
        for digest in hashes:
            if (block := self._block_of.get(digest)) is None:
                break
            found.append(block)
        return found

    def allocate(self, table: list[int], found: Sequence[int], num_positions: int) -> bool:
        """Fill an empty table: the found blocks, then new ones up to `num_positions`. All of it or nothing."""
        missing = self.blocks_for(num_positions) - len(found)
        if missing > len(self._free) - sum(block in self._free for block in found):
            return False
        self._use(table, found)
        return self.grow(table, num_positions)

    def grow(self, table: list[int], num_positions: int) -> bool:
        """Extend `table` to hold `num_positions`. Takes all the blocks it needs, or none and returns False."""
        missing = self.blocks_for(num_positions) - len(table)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            block, _ = self._free.popitem(last=False)
            if (digest := self._hash_of.pop(block, None)) is not None:
                del self._block_of[digest]
            self._num_users[block] = 1
            table.append(block)
        return True

    def replace(self, table: list[int], start: int, found: Sequence[int]) -> None:
        """Put found blocks in the place of those that hold nothing yet, from index `start` on."""
        held = table[start : start + len(found)]
        taken: list[int] = []
        self._use(taken, found)
        table[start : start + len(found)] = taken
        self.release(held)

    def register(self, block: int, digest: bytes) -> None:
        """Make a full block findable. Where the hash is known already, the first block keeps it."""
        if digest not in self._block_of and block not in self._hash_of:
            self._block_of[digest], self._hash_of[block] = block, digest

    def release(self, table: list[int]) -> None:
        """Give up a table. What nobody can find is taken next; of a prefix, its end before its beginning."""
        for block in reversed(table):
            self._num_users[block] -= 1
            if not self._num_users[block]:
                self._free[block] = None
                self._free.move_to_end(block, last=block in self._hash_of)
        table.clear()

    def _use(self, table: list[int], found: Sequence[int]) -> None:
        for block in found:
            self._free.pop(block, None)
            self._num_users[block] += 1
            table.append(block)

    def check_integrity(self, tables: Sequence[Sequence[int]]) -> None:
        """A block is free or in tables, counted rightly; only a findable one is in two; hashes name one block each."""
        users = Counter(block for table in tables for block in table)
        assert [users[block] for block in range(self.num_blocks)] == self._num_users, (
            "a KV block's users are miscounted"
        )
        assert set(self._free) == set(range(self.num_blocks)) - set(users), "a KV block is lost or free and in use"
        assert all(count == 1 or block in self._hash_of for block, count in users.items()), "a written block is shared"
        assert {block: digest for digest, block in self._block_of.items()} == self._hash_of, "a hash is out of step"
