"""The words' own model: the support vector machine that scikit-learn fits, from the same features."""

import numpy as np
import pytest

from router.lexical import NUM_BUCKETS, fit_idf, fit_lexical, lexical_bag, lexical_logits

TEXTS = [
    f"{wish} {thing}"
    for wish in ("translate to portuguese", "convert to metres", "please convert", "say in portuguese", "hello")
    for thing in ("the red house", "five kilometres", "a boat", "ten litres of milk", "my friend", "it")
]
WISHES = np.repeat([0, 1, 1, 0, 2], 6)


def fitted() -> tuple[list[list[int]], np.ndarray, np.ndarray, np.ndarray]:
    bags = [lexical_bag(text, text) for text in TEXTS]
    idf = fit_idf(bags)
    return bags, idf, *fit_lexical(bags, np.eye(3, dtype=np.float32)[WISHES], idf, seed=1)


def test_it_tells_the_wishes_apart_whatever_the_thing() -> None:
    bags, idf, table, bias = fitted()
    logits = np.array([lexical_logits(bag, idf, table, bias) for bag in bags])
    assert (logits.argmax(axis=1) == WISHES).all()
    unseen = lexical_bag("convert a boat into milk", "convert a boat into milk")
    assert lexical_logits(unseen, idf, table, bias).argmax() == 1


def test_its_margins_are_those_of_scikit_learn() -> None:
    svm = pytest.importorskip("sklearn.svm")
    bags, idf, table, bias = fitted()
    rows = np.zeros((len(bags), NUM_BUCKETS), np.float32)
    for row, bag in zip(rows, bags, strict=True):
        row[bag] = idf[bag] / np.linalg.norm(idf[bag])
    theirs = svm.LinearSVC(C=0.6, tol=1e-6, max_iter=10_000).fit(rows, WISHES).decision_function(rows)
    ours = np.array([lexical_logits(bag, idf, table, bias) for bag in bags])
    assert np.abs(ours - theirs).max() < 0.1


def test_a_text_without_features_gets_the_bias() -> None:
    bias = np.array([1.0, 2.0], np.float32)
    assert lexical_logits([], np.zeros(NUM_BUCKETS, np.float32), np.zeros((NUM_BUCKETS, 2), np.float32), bias) is bias
