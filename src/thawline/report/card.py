"""The model card: what the report says, in short, as the README that model hubs show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

import yaml

from thawline.report.blocks import Interval, Num, plain
from thawline.report.facts import Facts, RunFacts, get
from thawline.report.summary import summarize
from thawline.report.words import (
    BASELINES,
    brackets,
    data_name,
    main_of,
    measured,
    metric_name,
    metrics_of,
    model_name,
    set_name,
)
from thawline.version import __version__

_TAGS = {
    "audio-classification",
    "automatic-speech-recognition",
    "fill-mask",
    "image-classification",
    "image-segmentation",
    "image-to-text",
    "object-detection",
    "question-answering",
    "sentence-similarity",
    "summarization",
    "text-classification",
    "text-generation",
    "text-to-speech",
    "token-classification",
    "translation",
}
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_HUB_METRICS = {
    "f1_macro": "f1",
    "f1_micro": "f1",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "r2": "r_squared",
}


def card(facts: RunFacts) -> str:
    """Return the model card of a run, Markdown with hub front matter: text for `model/README.md`."""
    front = yaml.safe_dump(_front(facts), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n\n" + "\n\n".join(_body(facts)) + "\n"


def _front(facts: RunFacts) -> dict[str, Any]:
    task, model = str(get(facts.recipe, "task", "name", default="")), get(facts.recipe, "model", "name")
    front: dict[str, Any] = {"library_name": "transformers", "tags": ["thawline"]}
    if task in _TAGS:
        front["pipeline_tag"] = task
    if isinstance(model, str) and _HUB_NAME.fullmatch(model):
        front["base_model"] = model
    names = metrics_of(facts.section)
    if names:
        front["metrics"] = list(dict.fromkeys(_HUB_METRICS.get(name, name) for name in names))
        found = [{"type": _HUB_METRICS.get(n, n), "value": facts.section[n], "name": metric_name(n)} for n in names]
        data = {"name": data_name(facts), "type": data_name(facts), "split": facts.measured}
        result = {"task": {"type": task or "other"}, "dataset": data, "metrics": found}
        front["model-index"] = [{"name": facts.name, "results": [result]}]
    return front


def _body(facts: RunFacts) -> Iterator[str]:
    said = summarize(facts)
    yield f"# {_text(model_name(facts))} on {_text(data_name(facts))}"
    yield _text(plain(said.trained))
    for sentence in said.quality:
        yield _text(plain(sentence))
    if table := _table(facts):
        yield f"## Metrics on the {set_name(facts.measured)} set"
        yield table
        if about := brackets(facts):
            yield f"{_text(about)}. The report of the run has more."
    if use := _use(facts):
        yield "## Use"
        yield use
    if labels := get(facts.data, "columns", "labels"):
        yield "Its labels: " + ", ".join(_text(label) for label in labels) + "."
    if said.warnings:
        yield "## Mind"
        yield "\n".join(f"- {_text(plain(sentence))}" for sentence in said.warnings)
    yield "## Training"
    yield _training(facts)
    yield f"Trained with Thawline {__version__}."


def _table(facts: RunFacts) -> str:
    rivals: Facts = facts.section.get("baseline", {})
    main = main_of(facts)
    rows = [["metric", "model", *(BASELINES.get(name, name) for name in rivals)]]
    rows.append(["---", *("---:" for _ in rows[0][1:])])
    for name in metrics_of(facts.section):
        shown: Interval = measured(facts, name)
        title = f"**{_text(metric_name(name))}**" if name == main else _text(metric_name(name))
        rows.append([title, str(shown), *(str(Num(entry.get(name))) for entry in rivals.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) if len(rows) > 2 else ""


def _use(facts: RunFacts) -> str:
    task = str(get(facts.recipe, "task", "name", default=""))
    if task not in _TAGS:
        return ""
    files = get(facts.data, "columns", "kind", default="text") in ("image", "audio")
    given = '"file"' if files else '"what a film"'
    call = f'pipeline("{task}", model="path/to/this/folder")({given})'
    return f"```python\nfrom transformers import pipeline\n\n{call}\n```"


def _training(facts: RunFacts) -> str:
    recipe = facts.recipe
    keys = [
        ("strategy", recipe.get("strategy")),
        ("learning rate", get(recipe, "train", "learning_rate")),
        ("batch size", get(recipe, "train", "per_device_train_batch_size")),
        ("epochs", get(facts.metrics, "train", "epochs", default=get(recipe, "train", "num_train_epochs"))),
        ("optimiser", get(recipe, "train", "optim")),
        ("schedule", get(recipe, "train", "lr_scheduler_type")),
        ("seed", get(recipe, "train", "seed")),
        ("training examples", get(facts.data, "splits", "train")),
    ]
    return "\n".join(f"- {name}: {_text(_value(value))}" for name, value in keys if value is not None)


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _text(text: str) -> str:
    """Return text that Markdown shows as it is, on one line; labels and texts may hold anything."""
    clean = escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*\[\]|#~]|(?<!\w)_|_(?!\w))", r"\\\1", clean)
