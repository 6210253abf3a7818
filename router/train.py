"""Training: labelled prompts in, a router out.

Owns what is fitted on which rows. Weights come from the rows `train` and the experts' own examples; the cues' precision
from all rows, since cues are fitted to none of them (a prompt in several typings counts as often); temperatures and
thresholds from `calibrate` rows where there are any, else from `held` ones. Knows no files. Called by the command line.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters_store.manifest import Manifest
from router.cues import normalize
from router.encoder import Encoder
from router.errors import RouterError
from router.evaluate import NONE
from router.features import look, policy_row
from router.fit import Array, Epoch, FitConfig, fit_network, fit_temperature, softmax
from router.keywords import KeywordStage, Measured, Measures
from router.learned import blended
from router.lexical import fit_idf, fit_lexical, lexical_logits
from router.model import RouterModel, Thresholds, Weights

Split = Literal["train", "held", "calibrate"]
NUM_BACKGROUND = 1500
_SURE = 0.995
"""Share of its answers that must have been right where stage two may answer."""
_SHRINKAGE = 0.2
_ALSO = 0.25
"""Of a second expert's independent score: 93 % of held prompts that need two get them, under 1 % of the others."""
_WRONG_COST = 2
"""Right answers that a wrongly chosen expert counts for: without one, the base would have answered."""


class TrainingInvalid(RouterError):
    """Rows from which no router can be trained."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    text: str
    experts: tuple[str, ...]
    split: Split
    is_own: bool = True
    """False where the text may be learnt from and not kept, as a router keeps rows to measure new experts on."""


@dataclass(frozen=True, slots=True)
class _Data:
    vectors: Array
    policy: Array
    bags: list[tuple[int, ...]]
    targets: Array
    labels: NDArray[np.int64]  # the first expert; the last column is `none`
    is_single: NDArray[np.bool_]


def train(
    rows: Sequence[TrainingRow],
    manifests: Sequence[Manifest],
    encoder: Encoder,
    config: FitConfig | None = None,
    note: Callable[[int, Epoch], None] | None = None,
) -> RouterModel:
    """Raises TrainingInvalid without rows to train on or to calibrate with, or with an unknown expert."""
    config = config or FitConfig()
    known = {manifest.name for manifest in manifests}
    if strangers := sorted({name for row in rows for name in row.experts} - known):
        raise TrainingInvalid(f"rows name {strangers[0]!r}, and there is no such expert")
    rows = [*rows, *(TrainingRow(text, (m.name,), "train") for m in manifests for text in m.routing.examples)]
    names = tuple(sorted({name for row in rows if row.split == "train" for name in row.experts}))
    keywords = KeywordStage(manifests)
    parts = {split: [row for row in rows if row.split == split] for split in ("train", "held", "calibrate")}
    tuned = parts["calibrate"] or parts["held"]
    if not names or not tuned or all(row.experts for row in parts["train"]):
        raise TrainingInvalid("rows are needed of experts and of none, some to train on and some held out")
    fitted = _look_at(parts["train"], names, keywords, encoder)
    heads = fit_network(fitted.vectors, fitted.targets, replace(config, hidden=0, rate=2e-2))
    policy = fit_network(fitted.policy, fitted.targets, replace(config, noise=fitted.vectors.shape[1]), note)
    idf = fit_idf(fitted.bags)
    words, words_bias = fit_lexical(fitted.bags, fitted.targets, idf, config.seed)
    weights = _weights(
        heads.out, heads.out_bias, policy.hidden, policy.hidden_bias, policy.out, policy.out_bias, fitted
    )
    calibrated = _look_at(tuned, names, keywords, encoder)
    sure_of = _look_at([*parts["held"], *parts["calibrate"]], names, keywords, encoder)
    temperature = fit_temperature(*_single(heads.logits(calibrated.vectors), calibrated))
    deep = policy.logits(calibrated.policy)
    shallow = np.array([lexical_logits(bag, idf, words, words_bias) for bag in calibrated.bags])
    # Margins are no logits yet.
    sharpness = np.float32(1 / fit_temperature(*_single(shallow, calibrated)))
    words, words_bias, shallow = words * sharpness, words_bias * sharpness, shallow * sharpness
    share = _best_share(deep, shallow, calibrated)
    policy_logits = blended(deep, shallow, share)
    policy_temperature = fit_temperature(*_single(policy_logits, calibrated))
    chosen_background = _background_rows(parts["train"], config.seed)
    return RouterModel(
        names=names,
        weights=replace(
            weights, lexical=words, lexical_bias=words_bias, idf=idf, background=weights.background[chosen_background]
        ),
        thresholds=Thresholds(
            embeddings=_sure_from(softmax(heads.logits(sure_of.vectors) / temperature), sure_of, names),
            policy=dict.fromkeys(names, _abstain_below(softmax(policy_logits / policy_temperature), calibrated)),
            also=_ALSO,
            embeddings_temperature=temperature,
            policy_temperature=policy_temperature,
            lexical_share=share,
        ),
        measured=_measure(keywords, rows),
        background=tuple((parts["train"][n].text[:400], parts["train"][n].experts) for n in chosen_background),
        encoder=encoder.fingerprint,
        calibration=hashlib.sha256(repr([(row.text, row.experts) for row in tuned]).encode()).hexdigest(),
    )


def _look_at(rows: Sequence[TrainingRow], names: Sequence[str], keywords: KeywordStage, encoder: Encoder) -> _Data:
    seen = [look(encoder, row.text) for row in rows]
    findings = [keywords.examine(normalize(row.text)) for row in rows]
    policy = [policy_row(one, found, names) for one, found in zip(seen, findings, strict=True)]
    targets = np.zeros((len(rows), len(names) + 1), np.float32)
    for row, target in zip(rows, targets, strict=True):
        for name in row.experts:
            target[names.index(name)] = 1
        target[-1] = not row.experts
    labels = np.array([names.index(row.experts[0]) if row.experts else len(names) for row in rows])
    single = np.array([len(row.experts) <= 1 for row in rows])
    return _Data(
        np.array([one.vectors for one in seen]), np.array(policy), [one.bag for one in seen], targets, labels, single
    )


def _single(logits: Array, data: _Data) -> tuple[Array, NDArray[np.int64]]:
    return logits[data.is_single], data.labels[data.is_single]


def _weights(
    heads: Array, heads_bias: Array, hidden: Array, hidden_bias: Array, out: Array, out_bias: Array, data: _Data
) -> Weights:
    mean = data.vectors.mean(axis=0)
    centred = data.vectors - mean
    covariance = centred.T @ centred / len(centred)
    ridge = np.eye(len(covariance), dtype=np.float32) * np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv((1 - _SHRINKAGE) * covariance + _SHRINKAGE * ridge)
    # Of unit size, so that half floats hold it; heads are scaled by their own examples anyway.
    inverse = (inverse / np.abs(inverse).max()).astype(np.float32)
    return Weights(
        heads=heads.T,
        heads_bias=heads_bias,
        hidden=hidden,
        hidden_bias=hidden_bias,
        out=out,
        out_bias=out_bias,
        lexical=np.zeros((0, 0), np.float32),
        lexical_bias=out_bias,
        idf=np.zeros(0, np.float32),
        background=data.vectors,
        background_mean=mean,
        background_inverse=inverse,
    )


def _best_share(deep: Array, shallow: Array, data: _Data) -> float:
    """What the words count for: the share under which the labels are likeliest at its best temperature."""

    def surprise(share: float) -> float:
        logits, labels = _single(blended(deep, shallow, share), data)
        shares = softmax(logits / fit_temperature(logits, labels))
        return float(-np.log(shares[np.arange(len(labels)), labels] + 1e-12).mean())

    return min((tenth / 10 for tenth in range(11)), key=surprise)


def _background_rows(rows: Sequence[TrainingRow], seed: int) -> list[int]:
    """Some of the training rows that may be kept, drawn once."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    return sorted([row for row in order if rows[row].is_own][:NUM_BACKGROUND])


def _sure_from(shares: Array, data: _Data, names: Sequence[str]) -> dict[str, float]:
    """By label, the lowest confidence from which on stage two was right nearly always; 2 where it never was."""
    best, top = shares.argmax(axis=1), shares.max(axis=1)
    right = np.array([data.targets[n, label] > 0 for n, label in enumerate(best)])
    found = {}
    for label, name in enumerate([*names, NONE]):
        order = np.flatnonzero(best == label)
        order = order[np.argsort(-top[order])]
        precision = right[order].cumsum() / (np.arange(len(order)) + 1)
        fitting = np.flatnonzero((precision >= _SURE) & (top[order] >= 0.5))
        # Halfway to certainty: the rows that this was read off are not those that will come.
        found[name] = round((1 + float(top[order[fitting[-1]]])) / 2, 4) if len(fitting) >= 20 else 2.0
    return found


def _abstain_below(shares: Array, data: _Data) -> float:
    """The threshold with the most right answers, less what wrongly chosen experts cost."""
    experts = shares[:, :-1]
    best, top = experts.argmax(axis=1), experts.max(axis=1)
    right = data.targets[np.arange(len(best)), best] > 0
    is_none = data.targets[:, -1] > 0
    grid = np.linspace(0.3, 0.8, 51)
    worth = [float(np.where(top >= bar, np.where(right, 1, -_WRONG_COST), is_none).sum()) for bar in grid]
    # One row more or less proves nothing: of what is nearly as good, the bar that is nearest to a half.
    fitting = grid[np.array(worth) >= max(worth) - 1]
    return round(float(min(fitting, key=lambda bar: abs(bar - 0.5))), 4)


def _measure(keywords: KeywordStage, rows: Sequence[TrainingRow]) -> Measures:
    """Of the rows in which one expert's cues are the strongest: how often each of them was right."""
    counts: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for row in rows:
        findings = keywords.examine(normalize(row.text))
        best = max((finding.strength for finding in findings.values()), default=0)
        leaders = [name for name, finding in findings.items() if finding.strength == best > 0]
        if len(leaders) == 1:
            for cue in findings[leaders[0]].matched:
                counts[leaders[0]][cue][leaders[0] not in row.experts] += 1
    return {name: {cue: Measured(*found) for cue, found in cues.items()} for name, cues in counts.items()}
