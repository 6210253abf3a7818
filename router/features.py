"""What the learned stages see of a prompt, as one row of numbers.

Owns the order of the columns: the encoder's vector of the prompt and of its skeleton, then the signals, the lexical
complexity, and per expert whether its cues match or veto. Knows no weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router.bag import clip
from router.complexity import LEXICAL, lexical_features
from router.encoder import Encoder, Vectors
from router.keywords import Finding
from router.lexical import lexical_bag
from router.signals import NAMES, read

_SCALES = {"vocabulary_richness": 1.0, "readability": 1.0, "schema_count": 4.0, "code_count": 4.0, "length": 200.0}
_MAX_STRENGTH = 40
PLAIN = len(NAMES) + len(LEXICAL)


@dataclass(frozen=True, slots=True)
class Seen:
    vectors: Vectors
    """[2 * encoder's width]: of the text and of its skeleton."""
    plain: Vectors
    """[PLAIN]: signals and lexical complexity."""
    bag: tuple[int, ...]
    """Buckets of `lexical`."""


def look(encoder: Encoder, text: str) -> Seen:
    text = clip(text)
    reading = read(text)
    lexical = lexical_features(text)
    plain = [*reading.values, *(min(lexical[name] / _SCALES[name], 1.0) for name in LEXICAL)]
    vectors = encoder.encode([text, reading.skeleton]).reshape(-1)
    return Seen(vectors, np.array(plain, np.float32), tuple(lexical_bag(text, reading.skeleton)))


def policy_row(seen: Seen, findings: Mapping[str, Finding], names: Sequence[str]) -> Vectors:
    """[2 * width + PLAIN + 2 * experts], experts in the order of `names`."""
    cues = np.zeros(2 * len(names), np.float32)
    for column, name in enumerate(names):
        if (finding := findings.get(name)) is not None:
            cues[2 * column] = min(finding.strength, _MAX_STRENGTH) / _MAX_STRENGTH
            cues[2 * column + 1] = finding.veto is not None
    return np.concatenate((seen.vectors, seen.plain, cues))
