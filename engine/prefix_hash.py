"""What the content of a KV block depends on, as one hash: pure functions, no pool and no tensors.

A key or value depends on every token up to its position and on the weights that computed it. So a block's hash chains
the previous block's with its own tokens, and the chain's head holds the exact mixture: the generation and the weight
of each expert, in order. Never a name or a slot, which change their meaning. The head also holds the salt that keeps
tenants apart. Virtual tokens enter as (generation, index). `repr` of such tuples is unambiguous.
"""

import hashlib

from engine.sequence import Sequence


def extend_hashes(sequence: Sequence, num_blocks: int, block_size: int) -> list[bytes]:
    """The hashes of the first `num_blocks` full blocks, computed once and kept by the sequence."""
    hashes = sequence.block_hashes
    for index in range(len(hashes), num_blocks):
        previous = hashes[-1] if hashes else _head(sequence)
        hashes.append(_block(previous, sequence, index * block_size, (index + 1) * block_size))
    return hashes[:num_blocks]


def _head(sequence: Sequence) -> bytes:
    mixture = tuple((part.generation, part.weight) for part in sequence.parts)
    return hashlib.sha256(repr((sequence.salt, mixture)).encode()).digest()


def _block(previous: bytes, sequence: Sequence, start: int, end: int) -> bytes:
    virtual = [(part.generation, index) for part, index in sequence.virtual_tokens(start, end)]
    content = repr((virtual, sequence.real_tokens(start, end))).encode()
    return hashlib.sha256(previous + content).digest()
