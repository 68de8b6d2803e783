"""What well-kept libraries say of whole data sets: the values that our metrics must have."""

from collections.abc import Sequence
from typing import Any

import jiwer
import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from scipy import stats
from seqeval import metrics as seqeval
from sklearn import metrics as sk

from thawline.evaluate.scores.words import normalize, words


def macro(true: Any, predicted: Any) -> dict[str, float]:
    found = sk.precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)
    return dict(zip(("precision_macro", "recall_macro", "f1_macro"), map(float, found[:3]), strict=True))


def classification(true: Any, predicted: Any) -> dict[str, float]:
    return {"accuracy": sk.accuracy_score(true, predicted), **macro(true, predicted)}


def multilabel(true: Any, predicted: Any) -> dict[str, float]:
    both = [np.pad(side, ((0, 0), (0, 1))) for side in (true, predicted)]  # scikit-learn takes one column for classes
    labels = range(true.shape[1])
    scores = {
        f"{name}_macro": score(*both, average="macro", labels=labels, zero_division=0)
        for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score))
    }
    micro = sk.f1_score(*both, average="micro", zero_division=0)
    return {"f1_micro": micro, "accuracy": sk.accuracy_score(true, predicted) if labels else 1.0, **scores}


def regression(true: Any, predicted: Any) -> dict[str, float]:
    """Beside the libraries' own: 0 where they have no value."""
    constant = np.ptp(true) == 0 or np.ptp(predicted) == 0
    return {
        "mse": sk.mean_squared_error(true, predicted),
        "rmse": sk.root_mean_squared_error(true, predicted),
        "mae": sk.mean_absolute_error(true, predicted),
        "r2": sk.r2_score(true, predicted) if np.ptp(true) else 0.0,
        "pearson": 0.0 if constant else float(stats.pearsonr(true, predicted).statistic),
        "spearman": 0.0 if constant else float(stats.spearmanr(true, predicted).statistic),
    }


def tagging(true: Any, predicted: Any) -> dict[str, float]:
    sides = [list(map(list, side)) for side in (true, predicted)]
    n_tags = sum(map(len, sides[0]))
    return {
        "precision": float(seqeval.precision_score(*sides, zero_division=0)),
        "recall": float(seqeval.recall_score(*sides, zero_division=0)),
        "f1": float(seqeval.f1_score(*sides, zero_division=0)),
        "token_accuracy": seqeval.accuracy_score(*sides) if n_tags else 0.0,
    }


def transcripts(true: Any, predicted: Any) -> dict[str, float]:
    sides = [list(map(normalize, side)) for side in (true, predicted)]
    raw = jiwer.wer(list(true), list(predicted))
    return {"wer": float(jiwer.wer(*sides)), "cer": float(jiwer.cer(*sides)), "wer_raw": float(raw)}


class Words:
    """Our words for rouge-score, whose own are of the letters a to z."""

    def tokenize(self, text: str) -> list[str]:
        return words(normalize(text))


def generated(true: Sequence[str], predicted: Any) -> dict[str, float]:
    loss = sum(one["loss"] for one in predicted) / sum(one["tokens"] for one in predicted)
    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    texts = [one["text"] for one in predicted]
    rouge = [scorer.score(reference, text)["rougeL"].fmeasure for reference, text in zip(true, texts, strict=True)]
    exact = [" ".join(reference.split()) == " ".join(text.split()) for reference, text in zip(true, texts, strict=True)]
    return {
        "loss": loss,
        "perplexity": float(np.exp(loss)),
        "exact_match": float(np.mean(exact)),
        "rouge_l": float(np.mean(rouge)),
    }


SAYS = {
    "single_label_classification": classification,
    "multi_label_classification": multilabel,
    "regression": regression,
    "token_classification": tagging,
    "speech_recognition": transcripts,
    "text_generation": generated,
}
