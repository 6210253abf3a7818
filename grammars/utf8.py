"""Which tokens can stand in valid UTF-8. llama.cpp does not ask: it reads overlong forms (`E0 80 80`), surrogates
(`ED A0 80`) and what lies beyond Unicode as characters, and their text becomes U+FFFD.

Called by `vocabulary`.
"""

from codecs import getincrementaldecoder
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SECOND_BYTES: Final = {
    0xE0: range(0xA0, 0xC0),
    0xED: range(0x80, 0xA0),
    0xF0: range(0x90, 0xC0),
    0xF4: range(0x80, 0x90),
}
"""After these leading bytes not every continuation may come (RFC 3629, section 4); after the second one, every may."""
_CONTINUATION: Final = range(0x80, 0xC0)


def is_part_of_text(piece: bytes) -> bool:
    """The bytes lie somewhere in some valid text: what is left of a character, characters, the beginning of one."""
    start = next((at for at, byte in enumerate(piece) if byte not in _CONTINUATION), len(piece))
    try:
        getincrementaldecoder("utf-8")().decode(piece[start:])
    except UnicodeDecodeError:
        return False
    return start <= 3


def barred_after(pieces: Mapping[int, bytes]) -> dict[int, NDArray[np.int64]]:
    """Of each token that ends in one of those leading bytes, the tokens that may not come next; sorted."""
    barred = {
        lead: np.array(sorted(i for i, p in pieces.items() if p[0] in _CONTINUATION and p[0] not in seconds), np.int64)
        for lead, seconds in _SECOND_BYTES.items()
    }
    return {token_id: barred[piece[-1]] for token_id, piece in pieces.items() if piece[-1] in barred}
