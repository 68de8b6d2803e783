"""What to do next, each piece of advice derived from a fact of the run and saying which."""

from __future__ import annotations

import math
from collections.abc import Iterator

from thawline.report.blocks import Num, Sentence
from thawline.report.facts import RunFacts, get
from thawline.report.words import greater, listed, main_of, metric_name

MOST = 6
"""Pieces of advice; more would not be read."""
_LOW_RECALL, _ENOUGH = 0.5, 5
_GAP = 1.3  # validation loss over its least: the model has begun to fit its training set alone


def next_steps(facts: RunFacts) -> list[Sentence]:
    """Return what to do next, the most pressing first; where nothing presses, what can be done with the model."""
    found = [*_learning(facts), *_baseline(facts), *_classes(facts), *_data(facts), *_more_labels(facts), *_sureness(facts)][
        :MOST
    ]
    run = facts.path or facts.name
    use = [f"Use it: thawline predict {run} FILE answers for new examples; model/ loads with plain transformers."]
    return [*found, use] if len(found) < MOST else found


def _learning(facts: RunFacts) -> Iterator[Sentence]:
    """What the curves say: still better at the end, or best long before it."""
    main, rows = main_of(facts), facts.evaluations
    if main is None or len(rows) < 2 or main not in rows[-1]:
        return
    sign = 1 if greater(main) else -1
    values = [sign * row[main] for row in rows if math.isfinite(row.get(main, math.nan))]
    best = max(range(len(values)), key=values.__getitem__, default=0)
    losses = [row["loss"] for row in rows if math.isfinite(row.get("loss", math.nan))]
    width = _width(facts, main)
    if best == len(values) - 1 and values[-1] - values[-2] > max(0.25 * width, 1e-3 * abs(values[-1])):
        said = ["Train longer: at the last evaluation the validation ", f"{metric_name(main)} was still getting better ("]
        epochs = get(facts.recipe, "train", "num_train_epochs", default=3)
        again = f"{_short(2 * epochs)}" if isinstance(epochs, (int, float)) else "6"
        yield [*said, Num(rows[-2][main]), " to ", Num(rows[-1][main]), f"); try train.epochs={again}."]
    elif losses and losses[-1] > _GAP * min(losses) and best < len(values) - 1:
        at = rows[losses.index(min(losses))]["step"]
        yield [
            "It over-fits: the validation loss was least at step ", Num(at, ",.0f"), " (", Num(min(losses)), ") and ended at ",
            Num(losses[-1]), "; try fewer epochs, train.label_smoothing_factor=0.1 or strategy=gradual.",
        ]  # fmt: skip


def _baseline(facts: RunFacts) -> Iterator[Sentence]:
    main = main_of(facts)
    for name, entry in facts.section.get("baseline", {}).items():
        low, high = entry.get(f"{main}_difference_ci95") or (None, None)
        if low is None or high is None or main is None:
            continue
        worse = high < 0 if greater(main) else low > 0
        if name == "before":
            if low <= 0 <= high or worse:
                did = "has made the model worse" if worse else "may have changed nothing"
                yield [f"Training {did}: try another train.learning_rate, or more examples."]
        elif worse:
            yield ["Do not use it yet: the cheap baseline is better. Train longer or with a higher train.learning_rate, take "
                   "another model, or use the baseline."]  # fmt: skip
        elif low <= 0 <= high:
            yield ["The cheap baseline may be as good: measure on more examples, or give the model more training, before you "
                   "pay for it."]  # fmt: skip


def _classes(facts: RunFacts) -> Iterator[Sentence]:
    rows = [row for row in get(facts.looked_at, "classes", "classes", default=[]) if row.get("recall") is not None]
    low = sorted(
        (row for row in rows if row["recall"] < _LOW_RECALL and row["support"] >= _ENOUGH), key=lambda row: row["recall"]
    )
    if low:
        named = [f"{row['label']} ({round(row['recall'] * row['support']):,} of {row['support']:,} found)" for row in low[:3]]
        more = f" and {len(low) - 3} more" if len(low) > 3 else ""
        weighted = get(facts.recipe, "train", "class_weights", default="none") != "none"
        yield [f"Label more examples of the classes that it misses most: {listed(named)}{more}",
               "." if weighted else "; or set train.class_weights=auto."]  # fmt: skip
    rare = [row["label"] for row in rows if 0 < row["support"] < _ENOUGH]
    if rare:
        yield [f"Of {listed(rare[:3])}{' and others' if len(rare) > 3 else ''} there are fewer than {_ENOUGH} examples in the "
               "measured set: nothing can be said of them; measure on more."]  # fmt: skip


def _data(facts: RunFacts) -> Iterator[Sentence]:
    if slices := get(facts.looked_at, "slices", "slices"):
        yield ["Look at the groups of examples on which it is worse than on the rest (", Num(len(slices), ",.0f"),
               " found, below): often one cause explains many mistakes."]  # fmt: skip
    if many := get(facts.analysis, "label_errors", "suspected"):
        yield [
            "Look through the ",
            Num(many, ",.0f", "analysis.label_errors.suspected"),
            " labels that may be wrong (thawline check --labels writes them to a file).",
        ]


def _more_labels(facts: RunFacts) -> Iterator[Sentence]:
    found = get(facts.analysis, "learning_curve", default={})
    if found.get("sure") and get(found, "gain", "value", default=0) > 0:
        gain, base = found["gain"], "analysis.learning_curve.gain"
        yield [f"Label more: {found['times']:g} times as many labels would lower the error by about ",
               Num(gain["value"], key=f"{base}.value"), " (", Num(gain["low"], key=f"{base}.low"), " to ",
               Num(gain["high"], key=f"{base}.high"), ")."]  # fmt: skip


def _sureness(facts: RunFacts) -> Iterator[Sentence]:
    main, n = main_of(facts), facts.section.get("n")
    if main is None or not n or not (width := _width(facts, main)):
        return
    value = abs(facts.section[main])
    if width / 2 > 0.03 * max(value, 0.5):
        yield [f"To be surer, measure on more examples: the {metric_name(main)} is known to ±", Num(width / 2),
               " or so; about ", Num(4 * n, ",.0f"), " examples would halve that."]  # fmt: skip


def _width(facts: RunFacts, main: str) -> float:
    low, high = facts.section.get(f"{main}_ci95") or (0.0, 0.0)
    return float(high - low)


def _short(number: float) -> str:
    return f"{number:g}"
