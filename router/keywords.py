"""Stage one: cues that an expert declares in its manifest, and experts that a prompt calls by name.

Owns the choice between experts whose cues match. Meant to be right whenever it answers and to abstain often;
what it abstains on is for the later stages. Called by `pipeline`.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from adapters_store.manifest import Manifest
from router.cues import Cue, CueIndex, compile_cue, normalize, words_in
from router.decision import ExpertScore, RouteDecision, RouteQuery

MIN_PRECISION = 0.99
"""A cue that was wrong more often than this leaves room for decides nothing alone."""

# Only at the very beginning: further in, an @ is an address, a handle or somebody's quotation.
_CALLS = re.compile(r"\s{0,20}((?:@[a-z0-9][a-z0-9._-]{0,63}[,:\s]\s{0,20}){1,10})")
_CALL = re.compile(r"@([a-z0-9][a-z0-9._-]{0,63}?)[,:\s]")


@dataclass(frozen=True, slots=True)
class Measured:
    """How a cue did on the labelled prompts in which its expert's cues were the strongest."""

    right: int
    wrong: int

    @property
    def precision(self) -> float:
        """With half a mistake assumed (Krichevsky and Trofimov, 1981), so that few prompts never prove perfection."""
        return (self.right + 0.5) / (self.right + self.wrong + 1)


Measures = Mapping[str, Mapping[str, Measured]]
"""Expert -> cue -> how it did; a cue that was never met is not there."""


_NEVER = Measured(0, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the cues of one expert say about a text."""

    strength: int  # characters of the text that its cues cover: more and longer cues say more, overlaps nothing
    matched: tuple[str, ...]
    veto: str | None


class KeywordStage:
    def __init__(self, manifests: Iterable[Manifest], measured: Measures | None = None) -> None:
        # In name order, so that no answer depends on the order of directories.
        ordered = sorted(manifests, key=lambda m: m.name)
        self._names = tuple(manifest.name for manifest in ordered)
        self._measured = measured
        self._index: CueIndex[tuple[str, bool]] = CueIndex(
            (cue, (manifest.name, is_cue)) for manifest in ordered for cue, is_cue in _cues_of(manifest)
        )

    def route(self, query: RouteQuery) -> RouteDecision:
        """The answer of this stage alone."""
        return self.decide(query, self.examine(normalize(query.text)))

    def examine(self, normalized: str) -> dict[str, Finding]:
        """Of the experts whose cues match a normalized text, in name order."""
        matched: dict[str, dict[str, frozenset[int]]] = {}
        vetoes: dict[str, str] = {}
        for cue, (name, is_cue), positions in self._index.find(normalized, frozenset(words_in(normalized))):
            if is_cue:
                matched.setdefault(name, {})[cue.phrase] = positions
            else:
                vetoes[name] = min(vetoes.get(name, cue.phrase), cue.phrase)
        return {name: _finding(matched[name], vetoes.get(name)) for name in sorted(matched)}

    def decide(self, query: RouteQuery, findings: Mapping[str, Finding], version: str = "untrained") -> RouteDecision:
        """One expert with weight 1, or none. Two whose cues match equally well are a tie: neither is sure."""
        allowed = {name: finding for name, finding in findings.items() if query.allows(name)}
        total = sum(finding.strength for finding in allowed.values()) or 1
        scores = {name: 0.0 for name in self._names if query.allows(name)}
        scores |= {name: finding.strength / total for name, finding in allowed.items()}
        best = max((finding.strength for finding in allowed.values()), default=0)
        leaders = [name for name, finding in allowed.items() if finding.strength == best > 0]
        reason = _explain(allowed, leaders)
        if len(leaders) != 1:
            return RouteDecision((), "none", reason, 0.0, scores, router_version=version)
        winner = leaders[0]
        confidence = scores[winner]
        if self._measured is not None:
            known = self._measured.get(winner, {})
            surest = max((known.get(cue, _NEVER) for cue in findings[winner].matched), key=lambda one: one.precision)
            if surest.precision < MIN_PRECISION:
                why = f"{reason}; the surest was right {surest.right} times, wrong {surest.wrong}: too little to decide"
                return RouteDecision((), "none", why, 0.0, scores, router_version=version)
            confidence = surest.precision
        chosen = (ExpertScore(winner, 1.0),)
        return RouteDecision(chosen, "keywords", reason, confidence, scores, router_version=version)


def called_by_name(text: str, names: Collection[str]) -> tuple[str, ...]:
    """The experts that a prompt begins with, such as `@sql list ...`; others that it calls there are no experts."""
    start = _CALLS.match(f"{text[:800].lower()} ")
    found = _CALL.findall(start[1]) if start else []
    return tuple(name for name in dict.fromkeys(found) if name in names)


def _cues_of(manifest: Manifest) -> Iterable[tuple[Cue, bool]]:
    yield from ((compile_cue(phrase), True) for phrase in manifest.routing.cues)
    yield from ((compile_cue(phrase), False) for phrase in manifest.routing.excludes)


def _finding(found: Mapping[str, frozenset[int]], veto: str | None) -> Finding:
    strength = 0 if veto else len(frozenset[int]().union(*found.values()))
    return Finding(strength, tuple(sorted(found)), veto)


def _explain(findings: Mapping[str, Finding], leaders: list[str]) -> str:
    said = [_sentence(name, findings[name]) for name in leaders]
    if len(leaders) > 1:
        said.insert(0, "a tie")
    said += [_sentence(name, finding) for name, finding in findings.items() if name not in leaders]
    return "; ".join(said) or "no cue of any expert matched"


def _sentence(name: str, finding: Finding) -> str:
    cues = ", ".join(f'"{phrase}"' for phrase in finding.matched)
    sentence = f"{name} matched {cues}"
    return f'{sentence} but excludes "{finding.veto}"' if finding.veto else sentence
