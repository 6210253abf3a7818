"""Blocks and their hashes under any order of use: who holds what, what is found again, what gives way."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.kv_blocks import BlockPool
from engine.prefix_hash import extend_hashes
from engine.request import SamplingParams
from engine.sequence import Part, Sequence

SIZE = 4


def digest(text: str) -> bytes:
    return text.encode()


def filled(pool: BlockPool, *names: str) -> list[int]:
    """A table of registered blocks, one for each name."""
    table: list[int] = []
    assert pool.allocate(table, (), len(names) * SIZE)
    for block, name in zip(table, names, strict=True):
        pool.register(block, digest(name))
    return table


def test_the_longest_run_from_the_beginning_is_found() -> None:
    pool = BlockPool(8, SIZE)
    table = filled(pool, "a", "b", "c")
    assert pool.find(map(digest, "abxc")) == table[:2]
    assert pool.find(map(digest, "xab")) == []


def test_a_released_block_is_found_until_it_is_needed() -> None:
    pool = BlockPool(3, SIZE)
    first = filled(pool, "a", "b")
    blocks = list(first)
    pool.release(first)
    assert pool.num_free == 3 and pool.find(map(digest, "ab")) == blocks
    other: list[int] = []
    assert pool.grow(other, 2 * SIZE)
    assert pool.find(map(digest, "ab")) == blocks[:1], "of a prefix, its end gives way before its beginning"
    assert pool.grow(other, 3 * SIZE) and pool.find(map(digest, "a")) == []
    pool.check_integrity([other])


def test_the_least_recently_released_prefix_gives_way() -> None:
    pool = BlockPool(2, SIZE)
    old, new = filled(pool, "old"), filled(pool, "new")
    pool.release(old)
    pool.release(new)
    assert pool.grow(old, SIZE)
    assert not pool.find([digest("old")]) and pool.find([digest("new")])


def test_a_found_block_that_nobody_uses_counts_as_taken() -> None:
    """Two free blocks of which one is the prefix: three positions' blocks are not there."""
    pool = BlockPool(2, SIZE)
    table = filled(pool, "a", "b")
    pool.release(table)
    assert not pool.allocate(table, pool.find([digest("a")]), 3 * SIZE)
    assert table == [] and pool.num_free == 2
    assert pool.allocate(table, pool.find([digest("a")]), 2 * SIZE)
    pool.check_integrity([table])


def test_the_first_block_of_a_hash_keeps_it() -> None:
    pool = BlockPool(2, SIZE)
    first, second = filled(pool, "a"), filled(pool, "a")
    assert pool.find([digest("a")]) == first
    pool.check_integrity([first, second])


class PoolMachine(RuleBasedStateMachine):
    """Tables come, share, are registered and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(6, SIZE)
        self.tables: list[tuple[list[int], str]] = []
        self.content: dict[int, str] = {}

    @rule(name=st.text("ab", min_size=1, max_size=4))
    def allocate(self, name: str) -> None:
        """A sequence whose blocks are named by the prefixes of a word; a found block has to hold that prefix."""
        prefixes = [name[: index + 1] for index in range(len(name))]
        found = self.pool.find(map(digest, prefixes))
        assert [self.content[block] for block in found] == prefixes[: len(found)]
        table: list[int] = []
        if self.pool.allocate(table, found, len(name) * SIZE):
            assert table[: len(found)] == found
            for block, prefix in list(zip(table, prefixes, strict=True))[len(found) :]:
                self.content[block] = prefix
                self.pool.register(block, digest(prefix))
            self.tables.append((table, name))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        table, _ = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        self.pool.release(table)

    @invariant()
    def what_a_table_names_is_what_it_holds(self) -> None:
        self.pool.check_integrity([table for table, _ in self.tables])
        for table, name in self.tables:
            assert [self.content[block] for block in table] == [name[: i + 1] for i in range(len(name))]


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def sequence(ids: tuple[int, ...], parts: tuple[Part, ...] = (), salt: str = "") -> Sequence:
    return Sequence(1, ids, parts, SamplingParams(), None, 100, salt)


def test_all_that_the_content_depends_on_is_in_the_hash() -> None:
    ids, expert = tuple(range(8)), Part("sha-1", "sql", 0.5, 2)
    other = Part("sha-2", "cypher", 0.5, 0)
    variants = [
        sequence(ids),
        sequence((*ids[:7], 9)),
        sequence(ids, salt="tenant"),
        sequence(ids, (expert,)),
        sequence(ids, (Part("sha-1", "sql", 0.625, 2),)),
        sequence(ids, (Part("sha-3", "sql", 0.5, 2),)),
        sequence(ids, (expert, other)),
        sequence(ids, (other, expert)),
    ]
    hashes = [extend_hashes(variant, 2, SIZE) for variant in variants]
    assert len({tuple(found) for found in hashes}) == len({found[1] for found in hashes}) == len(variants)


def test_the_name_of_an_expert_is_not_in_the_hash() -> None:
    ids = tuple(range(8))
    named = [extend_hashes(sequence(ids, (Part("sha-1", name, 1.0, 1),)), 2, SIZE) for name in ("sql", "renamed")]
    assert named[0] == named[1]


def test_a_block_depends_on_all_before_it_and_on_nothing_after() -> None:
    one = extend_hashes(sequence((1, 2, 3, 4, 5, 6, 7, 8)), 2, SIZE)
    assert extend_hashes(sequence((1, 2, 3, 4, 5, 6, 7, 9)), 2, SIZE)[0] == one[0]
    assert extend_hashes(sequence((0, 2, 3, 4, 5, 6, 7, 8)), 2, SIZE)[1] != one[1]


def test_hashes_of_an_answer_follow_those_of_the_prompt() -> None:
    """A prompt that repeats an answer is the same content."""
    answered = sequence((1, 2, 3))
    answered.output_ids += [4, 5, 6, 7, 8]
    assert extend_hashes(answered, 2, SIZE) == extend_hashes(sequence(tuple(range(1, 9))), 2, SIZE)
