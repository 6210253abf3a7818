"""CLINC150 (Larson et al., 2019): its ten domains as experts, and its questions out of scope.

    python -m bench.router_clinc --data DIR/clinc150 [--encoder NAME] [--test]

Without `--test` the validation split is measured, which is what hyperparameters were chosen on. A head is trained for
each of the 150 intents and for the 100 foreign questions of the train split; a domain's probability is the sum over
its intents. Out of scope is what the probability of the best domain says, its threshold being that which refuses 4 % of
the validation questions.
"""

import json
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_union
from sklearn.svm import LinearSVC

from router.encoder import load_encoder
from router.fit import Array, FitConfig, fit_network, fit_temperature, softmax, wilson_lower

FALSE_REFUSALS = 0.04


def main() -> None:
    parser = ArgumentParser(description="Measure routing on CLINC150.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clinc150"))
    parser.add_argument("--encoder", default="embedded")
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args()
    data = json.loads((options.data / "data_full.json").read_text())
    domains = json.loads((options.data / "domains.json").read_text())
    domain_of = {intent: number for number, intents in enumerate(domains.values()) for intent in intents}
    intents = sorted(domain_of)
    split, foreign = ("test", "oos_test") if options.test else ("val", "oos_val")
    texts = {part: [text for text, _ in rows] for part, rows in data.items()}
    texts["train"] += texts["oos_train"]
    labels = {part: np.array([domain_of[intent] for _, intent in data[part]]) for part in ("train", "val", "test")}
    fine = np.array([intents.index(intent) for _, intent in data["train"]] + [len(intents)] * len(data["oos_train"]))
    groups = np.zeros((len(intents) + 1, len(domains)), np.float32)  # the last intent is none of them
    for number, intent in enumerate(intents):
        groups[number, domain_of[intent]] = 1

    words = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    ).fit(texts["train"])
    parts = ("train", "val", split, foreign)
    sparse = {part: words.transform(texts[part]) for part in parts}
    known = len(labels["train"])
    svc = LinearSVC().fit(sparse["train"][:known], labels["train"])
    report("TF-IDF + SVC (floor)", svc.predict(sparse[split]), labels[split])

    encoder = load_encoder(options.encoder)
    vectors = {part: encoder.encode(texts[part]) for part in parts}
    targets = np.eye(len(intents) + 1, dtype=np.float32)[fine]
    config = FitConfig(epochs=30, balance=0.0, dropout=0.3)
    linear = fit_network(vectors["train"], targets, replace(config, hidden=0, rate=2e-2))
    report("stage 2: heads", (softmax(linear.logits(vectors[split])) @ groups).argmax(axis=1), labels[split])
    network = fit_network(vectors["train"], targets, config)

    def alone(part: str) -> Array:
        return softmax(network.logits(vectors[part]))

    report("stage 3: network", (alone(split) @ groups).argmax(axis=1), labels[split])
    lexical = LinearSVC().fit(sparse["train"], fine)
    heat = fit_temperature(
        lexical.decision_function(sparse["val"]).astype(np.float32),
        np.array([intents.index(intent) for _, intent in data["val"]]),
    )

    def joint(part: str) -> Array:
        """The network's and the words' opinion, equally weighed."""
        other = softmax(lexical.decision_function(sparse[part]).astype(np.float32) / heat)
        return np.asarray((alone(part) + other) / 2, np.float32)

    report("stage 3 + words", (joint(split) @ groups).argmax(axis=1), labels[split])
    for name, scores in (("stage 3", alone), ("stage 3 + words", joint)):
        refuse(name, *((scores(part) @ groups).max(axis=1) for part in ("val", split, foreign)))


def report(name: str, predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    right = int((predicted == labels).sum())
    lower = wilson_lower(right, len(labels))
    print(f"| {name} | {right / len(labels):.2%} ({right} of {len(labels)}) | {lower:.2%} |", flush=True)


def refuse(name: str, tuned: Array, known: Array, foreign: Array) -> None:
    bar = np.quantile(tuned, FALSE_REFUSALS)
    area = roc_auc_score([1] * len(known) + [0] * len(foreign), np.concatenate((known, foreign)))
    print(f"| {name} | AUROC {area:.4f} | refused {(foreign < bar).mean():.1%} | falsely {(known < bar).mean():.2%} |")


if __name__ == "__main__":
    main()
