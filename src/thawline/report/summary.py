"""The summary in words: what was trained on what, how good it is, how sure that is, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from thawline.report.advice import next_steps
from thawline.report.blocks import Num, Sentence, Strong, Word
from thawline.report.facts import RunFacts, get
from thawline.report.words import (
    BASELINES,
    count,
    data_name,
    duration,
    greater,
    main_of,
    measured,
    metric_name,
    metrics_of,
    model_name,
    set_name,
    strategy_name,
)

FEW = 200
"""Below so many measured examples the report warns that they are few: an accuracy has an interval of some 10 points then."""


@final
@dataclass(frozen=True)
class Summary:
    """Sentences, each of words and numbers of the run's folder.

    `findings` are warnings about the data, which may quote it: they are for the run's owner, not for a public card.
    """

    trained: Sentence
    quality: tuple[Sentence, ...]
    warnings: tuple[Sentence, ...]
    findings: tuple[Sentence, ...]
    next: tuple[Sentence, ...]


def summarize(facts: RunFacts) -> Summary:
    """Say in words what the files say in numbers, and no more than they show."""
    return Summary(
        _trained(facts), tuple(_quality(facts)), tuple(_warnings(facts)), tuple(_findings(facts)), tuple(next_steps(facts))
    )


def _trained(facts: RunFacts) -> Sentence:
    train = facts.metrics.get("train", {})
    task = get(facts.recipe, "task", "name", default="a task")
    said: list[Word] = [Strong(model_name(facts)), f" was fine-tuned for {task} on "]
    said.append(Strong(data_name(facts)))
    if (size := get(facts.data, "splits", "train")) is not None:
        said += [", ", Num(size, ",.0f", "data.splits.train"), " training examples"]
    if labels := get(facts.data, "columns", "labels"):
        said.append(f" of {count(len(labels), 'class', 'classes')}")
    said.append(f". The strategy was {strategy_name(facts)}")
    if "steps" in train:
        said += [": ", Num(train["steps"], ",.0f", "metrics.train.steps"), " steps"]
        said += [", ", Num(train["epochs"], ".3g", "metrics.train.epochs"), f" epochs, {duration(train['seconds'])}"]
    if over := get(facts.metrics, "folds", "over_folds", "n"):
        said.append(f"; before it, {count(len(over), 'model')} were trained that each left one fold of the examples out")
    elif facts.trials:
        said.append(f"; it is the best by validation of {count(len(facts.trials['trials']), 'trial')}")
    return [*said, "."]


def _quality(facts: RunFacts) -> Iterator[Sentence]:
    main = main_of(facts)
    if main is None or facts.measured is None:
        return
    found, n = measured(facts, main), facts.section.get("n")
    others = [name for name in metrics_of(facts.section) if name != main][:1]
    said: list[Word] = ["On ", Num(n, ",.0f", f"metrics.{facts.measured}.n")]
    said += [f" {set_name(facts.measured)} examples its {metric_name(main)} is ", found.number]
    if found.ends:
        said += [" (95 % interval ", found.ends[0], " to ", found.ends[1], ")"]
    for other in others:
        said += [f"; its {metric_name(other)} is ", measured(facts, other).number]
    yield [*said, "."]
    yield from _repeated(facts, main)
    for name, entry in facts.section.get("baseline", {}).items():
        if shared := [metric for metric in (main, *others) if metric in entry]:
            yield _beside(facts, name, shared)


def _repeated(facts: RunFacts, main: str) -> Iterator[Sentence]:
    """How far the metric differs between seeds or folds."""
    split = next((name for name in ("test", "validation") if get(facts.metrics, "seeds", name)), "validation")
    for path, what in ((("folds", "over_folds", main), "folds"), (("seeds", split, main), f"seeds, on the {split} set")):
        one, key = get(facts.metrics, *path), f"metrics.{'.'.join(path)}"
        if one is not None and one["sd"] is not None:
            said: list[Word] = [f"Over {len(one['values'])} {what}, its {metric_name(main)} is "]
            said += [Num(one["mean"], key=f"{key}.mean"), " on average, with a standard deviation of "]
            yield [*said, Num(one["sd"], key=f"{key}.sd"), "."]


def _beside(facts: RunFacts, name: str, metrics: Sequence[str]) -> Sentence:
    """Compare with a baseline: what is said is what the intervals of the paired differences show."""
    entry, base = facts.section["baseline"][name], f"metrics.{facts.measured}.baseline.{name}"
    title = BASELINES.get(name, name)
    said: list[Word] = [f"{title[:1].upper()}{title[1:]} has "]
    for place, metric in enumerate(metrics):
        said += [" and " if place else "", f"{metric_name(metric)} ", Num(entry[metric], key=f"{base}.{metric}")]
    said.append(".")
    for metric in metrics:
        difference, ends = entry.get(f"{metric}_difference"), entry.get(f"{metric}_difference_ci95")
        if difference is None or ends is None:
            continue
        key = f"{base}.{metric}_difference"
        low, high = (Num(end, "+.3f", f"{key}_ci95.{place}") for place, end in enumerate(ends))
        said += [f" In {metric_name(metric)} the difference is ", Num(difference, "+.3f", key)]
        said += [" (95 % interval ", low, " to ", high, "): ", Strong(_verdict(name, metric, ends)), "."]
    return said


def _verdict(baseline: str, metric: str, ends: Sequence[float]) -> str:
    if ends[0] <= 0 <= ends[1]:
        return "these examples do not show which is better"
    if (ends[0] > 0) == greater(metric):
        return "the model is better"
    return "training has made it worse" if baseline == "before" else "the baseline is better, at a fraction of the cost"


def _warnings(facts: RunFacts) -> Iterator[Sentence]:
    main = main_of(facts)
    if facts.measured is None:
        yield ["Nothing was measured: the data has neither a test nor a validation split. How good the model is, nobody knows."]
    elif facts.measured == "validation":
        yield ["There is no test split: these numbers are of the validation split, which also chose the best checkpoint"
               f"{_thresholds(facts)}, so they are somewhat too good."]  # fmt: skip
    if facts.measured == "folds":
        yield ["There is no test split: these numbers are of models that were trained in the same way on fewer examples, each "
               "measured on those that it did not learn from; the model itself learned from them."]  # fmt: skip
    if "validation" not in facts.metrics and facts.measured == "test":
        yield ["There is no validation split: no checkpoint was chosen and over-fitting would not have been seen."]
    if 0 < facts.section.get("n", 0) < FEW:
        few = Num(facts.section["n"], ",.0f", f"metrics.{facts.measured}.n")
        yield ["Only ", few, " examples were measured: the intervals are wide, and small differences mean nothing."]
    if main is not None and not facts.section.get(f"{main}_ci95"):
        yield ["No intervals were computed (evaluate.bootstrap_samples=0), so nobody knows how sure these numbers are."]
    made = next((text for _, name, text in facts.findings if name == "split" and text.startswith(f"{facts.measured}:")), None)
    if made:
        yield [f"The {facts.measured} set was cut from the same data ({made}): on data from elsewhere the model may do worse."]


def _thresholds(facts: RunFacts) -> str:
    """What else the validation split chose: thresholds of labels that go together, where examples were held back beside it."""
    several = get(facts.data, "columns", "problem") == "multi_label_classification"
    return " and from which score on each label is given" if several and get(facts.data, "splits", "calibration") else ""


def _findings(facts: RunFacts) -> Iterator[Sentence]:
    for level, _, text in facts.findings:
        if level == "warning":
            yield [f"{text}."]
