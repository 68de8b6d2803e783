"""Metrics of generated text: how likely the reference is to the model, and how near to it what the model writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thawline.evaluate.resample import Array, Scoring, Sums, quotient
from thawline.evaluate.scores.words import common, normalize, words
from thawline.types import Prediction

_LARGEST = 700.0  # its exponential is still a number


def _terms(true: Sequence[str | None], predicted: Sequence[Prediction]) -> Array:
    """Keep loss, tokens, whether the texts are the same, ROUGE-L, and whether both are there: float [N, 5]."""
    assert len(true) == len(predicted), f"{len(true)} references, {len(predicted)} predictions"
    terms = np.zeros((len(true), 5))
    for row, (reference, prediction) in enumerate(zip(true, predicted, strict=True)):
        terms[row, :2] = prediction.get("loss", 0.0), prediction.get("tokens", 0)
        text = prediction.get("text")
        if reference is not None and text is not None:
            terms[row, 2:] = reference.split() == text.split(), rouge_l(reference, text), 1
    return terms


def rouge_l(reference: str, text: str) -> float:
    """Return the F measure of the longest common subsequence of words after `normalize` (Lin 2004, ROUGE-L of a sentence).

    Languages without spaces are compared character by character.

    >>> rouge_l("The cat sat.", "the dog sat"), rouge_l("\u4eca\u5929\u5929\u6c14", "\u4eca\u5929")
    (0.666..., 0.666...)
    """
    one, other = words(normalize(reference)), words(normalize(text))
    return 2 * common(one, other) / (len(one) + len(other)) if one or other else 0.0


def _statistic(terms: Array) -> Sums:
    has_loss, has_text = terms[:, 1].any(), terms[:, 4].any()

    def finish(sums: Array) -> dict[str, Array]:
        total, tokens, exact, rouge, texts = sums.T
        loss = quotient(total, tokens)
        found = {"loss": loss, "perplexity": np.exp(np.minimum(loss, _LARGEST))} if has_loss else {}
        return found | ({"exact_match": quotient(exact, texts), "rouge_l": quotient(rouge, texts)} if has_text else {})

    return Sums(terms, finish)


text_generation = Scoring(
    _terms,
    _statistic,
    main="loss",
    greater={"loss": False, "perplexity": False, "exact_match": True, "rouge_l": True},
    error=lambda terms: quotient(terms[:, 0], terms[:, 1]),
    measure="loss per token",
)
"""Loss per answer token, and e to its power: perplexity; where texts are there the share that are equal but for spaces, and the
mean ROUGE-L. `true` are reference texts, None where there is none; `predicted` are predictions with "loss", the negative log
likelihood summed over the answer's tokens, "tokens", their number, and "text", the generated text. Each may be missing: what
it makes is then measured on the others, and left out where no example has it."""
