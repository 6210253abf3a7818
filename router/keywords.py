"""Stage one: cues that an expert declares in its manifest.

Owns the choice between experts whose cues match. Meant to be right whenever it answers and to abstain often;
what it abstains on is for the later stages. Called by `pipeline`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from adapters_store.manifest import Manifest
from router.cues import Cue, compile_cue, normalize
from router.decision import ExpertScore, RouteDecision, RouteQuery


@dataclass(frozen=True, slots=True)
class _Expert:
    name: str
    cues: tuple[Cue, ...]
    excludes: tuple[Cue, ...]


@dataclass(frozen=True, slots=True)
class _Finding:
    """What the cues of one expert say about a text."""

    name: str
    strength: int  # characters of the text that its cues cover: more and longer cues say more, overlaps nothing
    matched: tuple[str, ...]
    veto: str | None


class KeywordStage:
    def __init__(self, manifests: Iterable[Manifest]) -> None:
        # In name order, so that no answer depends on the order of directories.
        self._experts = tuple(_compile(manifest) for manifest in sorted(manifests, key=lambda m: m.name))

    def route(self, query: RouteQuery) -> RouteDecision:
        """One expert with weight 1, or none. Two whose cues match equally well are a tie: neither is sure."""
        text = normalize(query.text)
        findings = [_examine(expert, text) for expert in self._experts]
        total = sum(finding.strength for finding in findings) or 1
        scores = {finding.name: finding.strength / total for finding in findings}
        matched = sorted((f for f in findings if f.strength), key=lambda f: -f.strength)
        leaders = [finding for finding in matched if finding.strength == matched[0].strength]
        reason = _explain(findings, leaders)
        if len(leaders) != 1:
            return RouteDecision((), "none", reason, 0.0, scores)
        winner = leaders[0].name
        return RouteDecision((ExpertScore(winner, 1.0),), "keywords", reason, scores[winner], scores)


def _compile(manifest: Manifest) -> _Expert:
    hints = manifest.routing
    return _Expert(manifest.name, tuple(map(compile_cue, hints.cues)), tuple(map(compile_cue, hints.excludes)))


def _examine(expert: _Expert, text: str) -> _Finding:
    found = {cue.phrase: cue.find(text) for cue in expert.cues}
    matched = tuple(phrase for phrase, positions in found.items() if positions)
    veto = next((cue.phrase for cue in expert.excludes if cue.find(text)), None) if matched else None
    strength = 0 if veto else len(frozenset[int]().union(*found.values()))
    return _Finding(expert.name, strength, matched, veto)


def _explain(findings: list[_Finding], leaders: list[_Finding]) -> str:
    said = [_sentence(finding) for finding in leaders]
    if len(leaders) > 1:
        said.insert(0, "a tie")
    said += [_sentence(f) for f in findings if f.matched and f not in leaders]
    return "; ".join(said) or "no cue of any expert matched"


def _sentence(finding: _Finding) -> str:
    cues = ", ".join(f'"{phrase}"' for phrase in finding.matched)
    sentence = f"{finding.name} matched {cues}"
    return f'{sentence} but excludes "{finding.veto}"' if finding.veto else sentence
