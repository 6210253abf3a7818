"""What an operator asks of a package beyond being whole.

Owns the limits and whose signature counts. Knows no files. The server builds one from its settings, the command line
one from its options; `package` applies it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    max_package_bytes: int = 4 << 30
    """Of all files that a manifest lists, together."""
    max_rank: int | None = None
    """Of any low-rank part but LoKr's, whose place in a slot depends on its factors; None leaves it to the engine."""
    base: str | None = None
    """The only base whose experts are taken; None takes all, and a request for one of another base is refused then."""
    require_signature: bool = False
    """Refuse what no trusted key has signed."""
    trusted_keys: frozenset[bytes] = frozenset()
    """Ed25519 public keys, 32 bytes each."""

    def __post_init__(self) -> None:
        for key in self.trusted_keys:
            if len(key) != 32:
                raise ValueError(f"a trusted key has {len(key)} bytes, an Ed25519 public key has 32")


LENIENT = Policy()
