"""Metrics of transcripts: word and character error rate, as jiwer has them, after one normalisation of both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thawline.evaluate.resample import Array, Scoring, Sums
from thawline.evaluate.scores.words import edits, normalize, words


def _terms(true: Sequence[str], predicted: Sequence[str]) -> Array:
    """Keep edits and how many there are in the reference, of words, characters and words as written: int [N, 6]."""
    assert len(true) == len(predicted), f"{len(true)} references, {len(predicted)} transcripts"
    terms = np.zeros((len(true), 6), np.int32)
    for row, (reference, hypothesis) in enumerate(zip(true, predicted, strict=True)):
        one, other = normalize(reference), normalize(hypothesis)
        sides = ((words(one), words(other)), (one, other), (words(reference), words(hypothesis)))
        terms[row] = [number for a, b in sides for number in (edits(a, b), len(a))]
    return terms


def _finish(sums: Array) -> dict[str, Array]:
    wrong, there = sums[:, ::2], sums[:, 1::2]
    rates = wrong / np.where(there > 0, there, 1)
    return dict(zip(("wer", "cer", "wer_raw"), rates.T, strict=True))


speech_recognition = Scoring(
    _terms,
    lambda terms: Sums(terms.astype(float), _finish),
    main="wer",
    greater={"wer": False, "cer": False, "wer_raw": False},
    error=lambda terms: _finish(terms.astype(float))["wer"],
    measure="word error rate",
)
"""Edits over all examples by words (wer) or characters, spaces included (cer), of the references, after `words.normalize`;
wer_raw is before it. `true` and `predicted` are texts. In languages without spaces wer is cer, since each character counts as a
word. Where the references are empty, it is the number of words or characters that should not be there, as jiwer has it."""
