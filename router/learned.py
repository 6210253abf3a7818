"""Stages two and three: linear heads over embeddings, then a small network over all that is known of a prompt.

Owns the choice between them, abstention, and experts that the network does not know yet. Called by `pipeline` for what
the keywords pass on.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adapters_store.manifest import Manifest
from router.bag import clip
from router.complexity import Complexity, Tiers, analyse
from router.cues import normalize
from router.decision import ExpertScore, RouteDecision, RouteQuery, Stage, in_eighths
from router.encoder import Encoder, Vectors
from router.features import Seen, look, policy_row
from router.fit import Network, sigmoid, softmax
from router.heads import Head, HeadTable, head_from_examples
from router.keywords import Finding, KeywordStage, Measured, Measures
from router.lexical import lexical_logits
from router.model import RouterModel
from router.syntax import Parser

NONE = "none"


class LearnedStages:
    """Safe to call from any thread: nothing here changes after it is built."""

    def __init__(
        self, manifests: Sequence[Manifest], model: RouterModel, encoder: Encoder, parser: Parser | None, tiers: Tiers
    ) -> None:
        """Raises ModelInvalid where the model was fitted on another encoder."""
        model.check(encoder)
        self._model, self._encoder, self._parser, self._tiers = model, encoder, parser, tiers
        self._tags = {manifest.name: _domain_of(manifest) for manifest in manifests}
        weights = model.weights
        self._network = Network(weights.hidden, weights.hidden_bias, weights.out, weights.out_bias)
        present = {manifest.name: manifest for manifest in manifests}
        heads: dict[str, Head] = {
            name: Head(weights.heads[row], float(weights.heads_bias[row]))
            for row, name in enumerate(model.names)
            if name in present
        }
        self._num_trained = len(heads)
        for name in sorted(present.keys() - set(model.names)):
            if (head := _new_head(present[name], model, encoder)) is not None:
                heads[name] = head
        self._names = tuple(heads)
        self._columns = {name: column for column, name in enumerate(model.names)}
        self._table = HeadTable(list(heads.values()))

    def decide(self, query: RouteQuery, findings: Mapping[str, Finding], first: RouteDecision) -> RouteDecision:
        """Stage two's answer if it is sure and one expert is enough, else stage three's."""
        seen = look(self._encoder, query.text)
        rows, logits = self._table.logits(seen.vectors)
        weights, thresholds = self._model.weights, self._model.thresholds
        base = float(weights.heads[-1] @ seen.vectors + weights.heads_bias[-1])
        names = [self._names[row] for row in rows]
        is_new = rows >= self._num_trained
        if query.max_experts == 1:
            joint = np.append(_above_none(logits, base, is_new), np.float32(base))
            shares = softmax(joint / thresholds.embeddings_temperature)
            best = int(shares.argmax())
            label = NONE if best == len(names) else names[best]
            if shares[best] >= thresholds.embeddings.get(label, 2.0):
                scores = dict(zip(names, map(float, sigmoid(joint[:-1])), strict=True))
                return self._answer(
                    query,
                    "embeddings",
                    [label],
                    dict(zip([*names, NONE], map(float, shares), strict=True)),
                    scores,
                    None,
                    first,
                )
        return self._by_policy(query, seen, findings, names, np.where(is_new, logits, 0), is_new, first)

    def _by_policy(
        self,
        query: RouteQuery,
        seen: Seen,
        findings: Mapping[str, Finding],
        names: list[str],
        new_logits: Vectors,
        is_new: NDArray[np.bool_],
        first: RouteDecision,
    ) -> RouteDecision:
        thresholds = self._model.thresholds
        weights = self._model.weights
        deep = self._network.logits(policy_row(seen, findings, self._model.names)[None])[0]
        plain = lexical_logits(seen.bag, weights.idf, weights.lexical, weights.lexical_bias)
        all_logits = blended(deep, plain, thresholds.lexical_share)
        base = float(all_logits[-1])
        own = np.array([all_logits[self._columns[name]] if name in self._columns else 0 for name in names], np.float32)
        joint: Vectors = np.where(is_new, _above_none(new_logits, base, is_new), own)
        shares = softmax(np.append(joint, np.float32(base)) / thresholds.policy_temperature)
        alone = np.where(is_new, sigmoid(new_logits), sigmoid(own))
        scores = dict(zip(names, map(float, alone), strict=True))
        by_share = dict(zip([*names, NONE], map(float, shares), strict=True))
        ranked = sorted((n for n in names if query.allows(n)), key=lambda n: (-by_share[n], n))
        chosen = [name for name in ranked[:1] if by_share[name] >= thresholds.policy.get(name, 0.5)]
        chosen = chosen or [expert.name for expert in first.experts]
        if chosen:
            chosen += [name for name in ranked if name not in chosen and scores[name] >= thresholds.also]
        syntax = self._parser.parse(query.text) if self._parser is not None else None
        complexity = analyse(clip(query.text), syntax, self._tiers)
        chosen = [self._of_tier(name, complexity, query) for name in chosen]
        return self._answer(query, "policy", chosen or [NONE], by_share, scores, complexity, first)

    def _answer(
        self,
        query: RouteQuery,
        stage: Stage,
        chosen: Sequence[str],
        shares: Mapping[str, float],
        scores: Mapping[str, float],
        complexity: Complexity | None,
        first: RouteDecision,
    ) -> RouteDecision:
        kept = [name for name in dict.fromkeys(chosen) if name != NONE and query.allows(name)][: query.max_experts]
        total = sum(scores.get(name, 1.0) for name in kept) or 1.0
        experts = tuple(
            ExpertScore(name, in_eighths(scores.get(name, 1.0) / total), round(scores.get(name, 1.0), 4))
            for name in kept
        )
        top = sorted(shares, key=lambda name: -shares[name])[:3]
        visible = [name for name in top if name == NONE or query.allows(name)]
        said = ", ".join(f"{name} {shares[name]:.2f}" for name in visible)
        return RouteDecision(
            experts=experts,
            stage=stage,
            reason=f"{stage}: {said}; {first.reason}",
            confidence=round(shares.get(kept[0] if kept else NONE, 0.0), 4),
            scores={name: round(score, 4) for name, score in scores.items() if query.allows(name)},
            complexity=complexity,
            router_version=self._model.version,
        )

    def _of_tier(self, name: str, complexity: Complexity, query: RouteQuery) -> str:
        """The expert of the same domain that is meant for prompts as hard as this one, where there is one."""
        domain, tier = self._tags[name]
        if domain is None or tier == complexity.tier:
            return name
        wanted = (domain, complexity.tier)
        fitting = [other for other, tags in self._tags.items() if tags == wanted and query.allows(other)]
        return min(fitting, default=name)


def measure_new(manifests: Sequence[Manifest], model: RouterModel) -> Measures:
    """The trained experts' cues as measured, and those of new ones against the background, of which they need nothing.

    A cue that took no prompt of the background has been right on all of them.
    """
    new = [manifest for manifest in manifests if manifest.name not in model.names]
    wrong: Counter[tuple[str, str]] = Counter()
    stage = KeywordStage(new)
    for text, _ in model.background if new else ():
        for name, finding in stage.examine(normalize(text)).items():
            if finding.strength:
                wrong.update((name, cue) for cue in finding.matched)
    total = len(model.background)
    return {
        **model.measured,
        **{
            manifest.name: {
                cue: Measured(total - wrong[manifest.name, cue], wrong[manifest.name, cue])
                for cue in manifest.routing.cues
            }
            for manifest in new
        },
    }


def describe(manifest: Manifest) -> list[str]:
    """What a manifest says its prompts are like: examples, cues as text, and the description last."""
    cues = [cue.removeprefix("^").replace("...", " ") for cue in manifest.routing.cues]
    return [text for text in (*manifest.routing.examples, *cues[:50], manifest.description) if text.strip()]


def _new_head(manifest: Manifest, model: RouterModel, encoder: Encoder) -> Head | None:
    """None for one that says nothing of itself, or nothing that sets it apart: it is reached by its name."""
    if not (texts := describe(manifest)):
        return None
    vectors = np.array([look(encoder, text).vectors for text in texts], np.float32)
    others = np.array([manifest.name not in experts for _, experts in model.background])
    return head_from_examples(vectors, model.weights, others)


def blended(deep: Vectors, plain: Vectors, share: float) -> Vectors:
    """Two opinions as one: logits [..., outputs], weighed."""
    found: Vectors = np.float32(1 - share) * deep + np.float32(share) * plain
    return found


def _above_none(logits: Vectors, base: float, is_new: NDArray[np.bool_]) -> Vectors:
    """A new expert was set against the whole background, so its logit is relative to `none`."""
    found: Vectors = np.where(is_new, logits + np.float32(base), logits)
    return found


def _domain_of(manifest: Manifest) -> tuple[str | None, str | None]:
    """What the tags `domain:NAME` and `tier:NAME` say."""
    found: dict[str, str] = {}
    for tag in manifest.tags:
        if match := re.fullmatch(r"(domain|tier):(\S+)", tag):
            found[match[1]] = match[2]
    return found.get("domain"), found.get("tier")
