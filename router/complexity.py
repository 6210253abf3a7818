"""How hard a prompt looks: features, a score from 0 to 1, and a tier.

Owns what is counted and how it is weighed. What needs a parse comes from `syntax` and is absent without one: never
guessed, and left out of the score. The tier chooses among experts of one domain; which domain, it does not touch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from router.syntax import Syntax

Tier = Literal["simple", "medium", "complex"]

LEXICAL = ("vocabulary_richness", "readability", "schema_count", "code_count", "length")
PARSED = ("syntactic_depth", "entity_density", "clause_count")

# What a feature counts for, and the value from which on it counts fully.
_WEIGHTS: Mapping[str, tuple[float, float]] = {
    "syntactic_depth": (0.2, 8.0),
    "entity_density": (0.1, 0.25),
    "clause_count": (0.2, 5.0),
    "vocabulary_richness": (0.1, 1.0),
    "readability": (0.1, 1.0),
    "schema_count": (0.15, 4.0),
    "code_count": (0.05, 3.0),
    "length": (0.1, 120.0),
}
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)|\n+")
_SYLLABLE = re.compile(r"[aeiouyáéíóúâêôãõà]+")
_SCHEMA = re.compile(r"\bcreate\s+table\b|\)-\[|\bjoin\b|\bforeign\s+key\b|\binterface\b", re.I)
_CODE = re.compile(r"```|\bdef \w|\bfunction\b|=>|[;{}]\s*$", re.M)
MAX_WORDS = 1000


@dataclass(frozen=True, slots=True)
class Tiers:
    """Below `simple` a prompt is simple, from `complex` on it is complex."""

    simple: float = 0.3
    complex: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.simple <= self.complex <= 1:
            raise ValueError(f"the tiers' bounds are {self.simple} and {self.complex}, they must rise within 0 and 1")

    def of(self, score: float) -> Tier:
        return "simple" if score < self.simple else "medium" if score < self.complex else "complex"


@dataclass(frozen=True, slots=True)
class Complexity:
    score: float
    tier: Tier
    features: Mapping[str, float]
    """Raw values: levels, shares, counts, words. Readability is 0 for a text that all can read and 1 for a hard one."""
    absent: tuple[str, ...] = field(default=())
    """Features that nothing here can measure."""


def analyse(text: str, syntax: Syntax | None, tiers: Tiers) -> Complexity:
    features = lexical_features(text)
    if syntax is not None:
        features |= {
            "syntactic_depth": float(syntax.depth),
            "entity_density": syntax.entity_density,
            "clause_count": float(syntax.num_clauses),
        }
    present = {name: weight for name, (weight, _) in _WEIGHTS.items() if name in features}
    total = sum(weight * min(features[name] / _WEIGHTS[name][1], 1.0) for name, weight in present.items())
    score = total / sum(present.values())
    absent = tuple(name for name in PARSED if name not in features)
    return Complexity(round(score, 4), tiers.of(score), features, absent)


def lexical_features(text: str) -> dict[str, float]:
    """What words and marks alone say, in the order of LEXICAL."""
    words = _WORD.findall(text.lower())[:MAX_WORDS]
    total = len(words) or 1
    sentences = max(len(_SENTENCE_END.findall(text)), 1)
    return {
        "vocabulary_richness": len(set(words)) / total,
        "readability": 1 - _flesch(words, sentences) / 100 if words else 0.0,
        "schema_count": float(len(_SCHEMA.findall(text))),
        "code_count": float(len(_CODE.findall(text))),
        "length": float(len(words)),
    }


def _flesch(words: list[str], num_sentences: int) -> float:
    """Flesch's reading ease (1948), held within 0 and 100."""
    syllables = sum(len(_SYLLABLE.findall(word)) or 1 for word in words)
    ease = 206.835 - 1.015 * len(words) / num_sentences - 84.6 * syllables / len(words)
    return min(max(ease, 0.0), 100.0)
