"""Which KV block belongs to whom: integers only, the tensors are the runner's."""


class BlockPool:
    """Hands out blocks of `block_size` positions and takes them back."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self._free = list(range(num_blocks - 1, -1, -1))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def blocks_for(self, num_positions: int) -> int:
        return -(-num_positions // self.block_size)

    def grow(self, table: list[int], num_positions: int) -> bool:
        """Extend `table` to hold `num_positions`. Takes all the blocks it needs, or none and returns False."""
        missing = self.blocks_for(num_positions) - len(table)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            table.append(self._free.pop())
        return True

    def release(self, table: list[int]) -> None:
        self._free.extend(reversed(table))
        table.clear()

    def check_integrity(self, tables: list[list[int]]) -> None:
        """Every block is free or in exactly one table."""
        seen = sorted([*self._free, *(block for table in tables for block in table)])
        assert seen == list(range(self.num_blocks)), "a KV block is lost or owned twice"
