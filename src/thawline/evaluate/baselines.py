"""What costs next to nothing and must be beaten: the most frequent answer, or tag of a word, and TF-IDF with a linear model."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Text: TypeAlias = str | Sequence[str]
"""A text, or the two texts of a pair."""
Target: TypeAlias = str | Sequence[str] | float
"""A label, several labels, or a number, as `Example["label"]` has it."""

MAX_ROWS = 50_000
MAX_CHARACTERS = 10_000_000  # some 10 s, and 0.5 GB for the pairs of words
_MAX_FEATURES = 200_000
_MAX_WEIGHTS = 4_000_000  # of all labels together; the solver keeps some 25 vectors of them in float64
_MAX_WORK = 500_000_000  # characters times labels; some 20 s
# Of 1, 3, 10 and 30 the best, or within 0.005 macro F1 of it: 3-fold cross-validation in the training data of five corpora.
_C = 10

# Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, kana, and Han with its extensions.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Baselines:
    """Predictions by name of the baseline, in the form of the targets; `notes` says what was left out."""

    predictions: dict[str, list[Target]]
    notes: tuple[str, ...] = ()


def baselines(
    train_texts: Sequence[Text],
    train_targets: Sequence[Target],
    test_texts: Sequence[Text],
    *,
    problem: str,
    seed: int = 0,
) -> Baselines:
    """Predict the test texts with "majority" and "tfidf", learned from the training texts.

    "majority" is the most frequent label (several labels: each that more than half of the examples have; numbers: the mean).
    "tfidf" is TF-IDF over words and pairs of words (characters, where words are not set apart) with logistic regression, one
    for each label where there are several, or ridge regression. It learns from at most MAX_ROWS texts and MAX_CHARACTERS
    characters (fewer with more than 50 labels), drawn with `seed`, and a note says so; where nothing can be learned it is left
    out, and a note says so too.

    >>> texts, labels = ["good", "bad", "good film"] * 4, ["yes", "no", "yes"] * 4
    >>> found = baselines(texts, labels, ["bad", "good"], problem="single_label_classification")
    >>> found.predictions["majority"], found.predictions["tfidf"]
    (['yes', 'yes'], ['no', 'yes'])
    """
    assert len(train_texts) == len(train_targets) > 0, f"{len(train_texts)} texts, {len(train_targets)} targets"
    assert len(test_texts) > 0
    predictions: dict[str, list[Target]] = {"majority": majority(train_targets, problem, len(test_texts))}
    n_outputs = _outputs(train_targets, problem)
    chosen = _bounded(train_texts, n_outputs, seed)
    notes = []
    if len(chosen) < len(train_texts):
        notes.append(f"The TF-IDF baseline learned from {len(chosen):,} of {len(train_texts):,} training texts, to stay quick.")
    texts, targets = [train_texts[i] for i in chosen], [train_targets[i] for i in chosen]
    try:
        predictions["tfidf"] = _LEARN[problem](
            targets, *_features(texts, test_texts, min(_MAX_FEATURES, _MAX_WEIGHTS // n_outputs))
        )
    except _NothingToLearnError as reason:
        notes.append(f"There is no TF-IDF baseline: {reason}.")
    return Baselines(predictions, tuple(notes))


def majority(targets: Sequence[Target], problem: str, count: int) -> list[Target]:
    """Return the most frequent answer of the training set, `count` times."""
    return [_majority(targets, problem)] * count


def majority_tags(
    tokens: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], asked: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Return the most frequent tag of each token of `asked`, one sequence of tags an example, as the training set has it.

    `tokens` and `tags` are those of the training set. Of a token that is new there it is "O", where there is no such tag the
    most frequent one.

    >>> majority_tags([["in", "Rome"]], [["O", "B-place"]], [["Rome", "is", "in"]])
    [['B-place', 'O', 'O']]
    """
    counts = defaultdict[str, Counter[str]](Counter)
    for words, own in zip(tokens, tags, strict=True):
        for word, tag in zip(words, own, strict=True):
            counts[word][tag] += 1
    best = {word: _most(found) for word, found in counts.items()}
    every = Counter(tag for own in tags for tag in own)
    other = "O" if "O" in every or not every else _most(every)
    return [[best.get(word, other) for word in words] for words in asked]


def _most(counts: Counter[str]) -> str:
    """Return what is most frequent, of equals the first by name."""
    return min(counts, key=lambda label: (-counts[label], label))


class _NothingToLearnError(Exception):
    pass


def _majority(targets: Sequence[Target], problem: str) -> Target:
    if problem == "regression":
        return float(np.mean(np.asarray(targets, dtype=float)))
    if problem == "multi_label_classification":
        counts = Counter(label for labels in targets for label in set(_several(labels)))
        return sorted(label for label, count in counts.items() if count > len(targets) / 2)
    return _most(Counter(str(label) for label in targets))


def _outputs(targets: Sequence[Target], problem: str) -> int:
    return 1 if problem == "regression" else max(1, len({label for target in targets for label in _several(target)}))


def _bounded(texts: Sequence[Text], n_outputs: int, seed: int) -> list[int]:
    """Return which texts to learn from, in order: a random part where they are more than the bounds allow."""
    order = np.random.default_rng(seed).permutation(len(texts))[:MAX_ROWS]
    sizes = np.cumsum([len(text) if isinstance(text, str) else sum(map(len, text)) for text in (texts[i] for i in order)])
    kept = np.searchsorted(sizes, min(MAX_CHARACTERS, _MAX_WORK // n_outputs), side="right")
    return sorted(order[: max(1, int(kept))].tolist())


def _features(texts: Sequence[Text], test_texts: Sequence[Text], max_features: int) -> tuple[Any, Any]:
    """Return sparse features [N, F] of both; of a pair, each text has features of its own."""
    from scipy.sparse import hstack

    parts = [
        _vectorize(train, test, max_features)
        for train, test in zip(zip(*map(_pair, texts), strict=True), zip(*map(_pair, test_texts), strict=True), strict=True)
    ]
    return tuple(hstack(side, format="csr") for side in zip(*parts, strict=True))


def _vectorize(texts: Sequence[str], test_texts: Sequence[str], max_features: int) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    common: dict[str, Any] = {"sublinear_tf": True, "max_features": max_features, "min_df": 2 if len(texts) >= 1000 else 1}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **common)
    characters = TfidfVectorizer(ngram_range=(1, 2), analyzer="char", **common)
    for vectorizer in [characters] if unspaced(texts) else [words, characters]:
        try:
            return vectorizer.fit_transform(texts), vectorizer.transform(test_texts)
        except ValueError:  # no feature is in enough texts: they have no words, or are all unlike
            continue
    raise _NothingToLearnError("the training texts have nothing in common that TF-IDF could count")


def unspaced(texts: Sequence[str]) -> bool:
    """Whether a third of the letters are of scripts that put no spaces between words."""
    sample = "".join(text[:500] for text in texts[:1000])
    return 3 * len(UNSPACED.findall(sample)) > sum(map(str.isalpha, sample))


def _logistic(targets: Sequence[Any], train: Any, test: Any) -> list[Target]:
    from sklearn.linear_model import LogisticRegression

    if len(set(targets)) < 2:
        raise _NothingToLearnError("the training texts it learns from have one label only")
    model = LogisticRegression(C=_C, max_iter=5000).fit(train, np.asarray(targets, dtype=str))
    return [str(label) for label in model.predict(test)]


def _one_each(targets: Sequence[Any], train: Any, test: Any) -> list[Target]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import MultiLabelBinarizer

    binarizer = MultiLabelBinarizer()
    there = binarizer.fit_transform(targets).astype(bool)
    varies = there.any(axis=0) & ~there.all(axis=0)
    if not varies.any():
        raise _NothingToLearnError("all training texts it learns from have the same labels")
    model = OneVsRestClassifier(LogisticRegression(C=_C, max_iter=5000)).fit(train, there[:, varies].astype(int))
    found = np.tile(there.all(axis=0), (test.shape[0], 1))
    found[:, varies] = model.predict(test).reshape(test.shape[0], -1)
    return [list(map(str, binarizer.classes_[row])) for row in found]


def _ridge(targets: Sequence[Any], train: Any, test: Any) -> list[Target]:
    from sklearn.linear_model import Ridge

    return [float(value) for value in Ridge().fit(train, np.asarray(targets, dtype=float)).predict(test)]


_LEARN = {"single_label_classification": _logistic, "multi_label_classification": _one_each, "regression": _ridge}


def _pair(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def _several(target: Target) -> Sequence[str]:
    return [str(target)] if isinstance(target, (str, float, int)) else target
