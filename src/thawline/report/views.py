"""The sections that every run has: metrics beside baselines, the course of training, plan beside fact, the data, trials."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thawline.report.blocks import Block, Cell, Interval, Num, Paragraph, Section, Side, Table
from thawline.report.facts import Facts, RunFacts, get
from thawline.report.svg import Bars, Lines, Point, Series, thin
from thawline.report.words import BASELINES, brackets, duration, listed, main_of, metric_name, metrics_of, set_name


def metrics(facts: RunFacts) -> Section | None:
    """What was measured, split by split, with intervals and baselines."""
    splits = [name for name in ("test", "folds", "validation") if name in facts.metrics]
    blocks: list[Block] = [
        metrics_table(found := facts.metrics[split], f"metrics.{split}", f"{set_name(split)}, {found.get('n', 0):,} examples")
        for split in splits
    ]
    main, rivals = main_of(facts), facts.section.get("baseline", {})
    if main is not None and rivals:
        names = [name for name in rivals if main in rivals[name]]
        values = [facts.section[main], *(rivals[name][main] for name in names)]
        ends = facts.section.get(f"{main}_ci95")
        unit = (0.0, 1.0) if all(0 <= value <= 1 for value in values) else None
        title = f"{metric_name(main)}, on the {set_name(facts.measured)} set"
        intervals = [tuple(ends) if ends else None, *(None for _ in names)]
        blocks.insert(0, Bars(title, ["this model", *names], values, metric_name(main), intervals, unit))
    if blocks and (about := brackets(facts)):
        blocks.insert(0, Paragraph([f"{about}; a difference is decided where its interval leaves out 0."], "quiet"))
    return Section("metrics", "Metrics", blocks) if blocks else None


def metrics_table(found: Facts, base: str, caption: str) -> Table:
    """Return the metrics of a set beside those of baselines; `base` is where they stand in the run's folder."""
    rivals: Mapping[str, Facts] = found.get("baseline", {})
    compared = [name for name in rivals if any(key.endswith("_difference") for key in rivals[name])]
    rows = []
    for name in metrics_of(found):
        cells: list[Any] = [
            metric_name(name),
            Interval(Num(found[name], key=f"{base}.{name}"), *(found.get(f"{name}_ci95") or ())),
        ]
        cells += [Num(rivals[rival].get(name), key=f"{base}.baseline.{rival}.{name}") for rival in rivals]
        for rival in compared:
            entry, key = rivals[rival], f"{name}_difference"
            number = Num(entry.get(key), "+.3f", f"{base}.baseline.{rival}.{key}")
            cells.append(Interval(number, *(entry.get(f"{key}_ci95") or ())))
        rows.append(cells)
    columns = ["metric", "model", *(BASELINES.get(name, name) for name in rivals), *(f"model − {name}" for name in compared)]
    return Table(caption, columns, rows)


def training(facts: RunFacts) -> Section | None:
    """Losses, the metric that chose the checkpoint, the thaw line and the learning rates, all by step."""
    steps, evaluations, main = facts.steps, facts.evaluations, main_of(facts)
    if not steps:
        return None
    span = (0.0, float(steps[-1]["step"]))
    loss = _points(steps, "loss")
    series = [Series("each step", thin(loss), form="faint"), Series("training, smoothed", thin(_smoothed(loss)))]
    series.append(Series("validation", thin(_points(evaluations, "loss"))))
    charts: list[Block] = [Lines("Loss", [one for one in series if one.points], "step", "loss", span)]
    if main is not None and (points := _points(evaluations, main)):
        title = f"Validation: {metric_name(main)}"
        best = _best_step(facts, main)
        marks = [(float(best), "best")] if best is not None else []
        charts.append(Lines(title, [Series(metric_name(main), thin(points))], "step", metric_name(main), span, marks=marks))
    charts += _thaw_line(steps, span)
    charts.append(_rates(steps, span))
    rows = [[Num(row["step"], ",.0f"), *(Num(row.get(name)) for name in _judged(evaluations))] for row in evaluations]
    table = Table(
        "Every evaluation on the validation set", ["step", *map(metric_name, _judged(evaluations))], rows, folded=True
    )
    return Section("training", "Training", [Side(charts), *([table] if rows else [])])


def _thaw_line(steps: Sequence[Facts], span: tuple[float, float]) -> Iterator[Block]:
    points = _points(steps, "thaw_line")
    if not points:
        return
    top = 1 + max((int(name) for row in steps for name in row.get("learning_rates", {}) if name.isdigit()), default=0)
    # Only where it moves: a line of a hundred thousand equal points says no more.
    kept = [p for k, p in enumerate(points) if k in (0, len(points) - 1) or p[1] != points[k - 1][1]]
    said = "it never moved" if len({y for _, y in points}) == 1 else "it moved while training"
    stages = float(max(top, max(y for _, y in points)))
    yield Lines(
        f"The thaw line: stages above it learn (shaded), those below are frozen; {said}",
        [Series("thaw line", kept, [(y, stages) for _, y in kept], "steps")], "step", "stage", span, (0.0, stages),
    )  # fmt: skip


def _rates(steps: Sequence[Facts], span: tuple[float, float]) -> Block:
    first: dict[str, list[Point]] = {}
    for row in steps:
        for name, rate in row.get("learning_rates", {}).items():
            first.setdefault(name, []).append((row["step"], rate))
    different = dict[tuple[Point, ...], list[str]]()
    for name in sorted(first, key=lambda name: int(name) if name.isdigit() else -1):
        different.setdefault(tuple(thin(first[name])), []).append(name)
    shown = list(different.items())
    if len(shown) > 5:  # the lowest, the highest, and some between them
        shown = [shown[round(k * (len(shown) - 1) / 4)] for k in range(5)]
    series = [Series(_stages(names), points) for points, names in shown]
    return Lines("Learning rate by stage", series, "step", "learning rate", span)


def _stages(names: Sequence[str]) -> str:
    return f"stage {names[0]}" if len(names) == 1 else f"stages {names[0]} to {names[-1]}"


_PLANNED = (
    ("steps", ",.0f", "plan.steps", "metrics.train.steps"),
    ("seconds of training", ",.1f", "metrics.train.predicted_seconds", "metrics.train.seconds"),
    ("seconds an epoch", ",.1f", "metrics.train.predicted_seconds_per_epoch", "metrics.train.seconds_per_epoch"),
    ("memory at the peak, MB", ",.0f", "metrics.train.predicted_peak_memory_mb", "metrics.train.peak_memory_mb"),
    ("seconds of the frozen part", ".1f", "metrics.train.prefix.predicted_seconds", "metrics.train.prefix.seconds"),
    ("MB that are stored of it", ",.1f", "metrics.train.prefix.predicted_size_mb", "metrics.train.prefix.size_mb"),
    ("padding, share of what is computed", ".3f", "plan.padding.used", "metrics.train.padding"),
)
"""What is shown, how, and where the plan and the fact stand."""


def plan(facts: RunFacts) -> Section | None:
    """What was predicted before the first step beside what came of it."""
    train, blocks, known = facts.metrics.get("train", {}), list[Block](), {"plan": facts.plan, "metrics": facts.metrics}
    rows = list[list[Cell]]()
    for name, form, *places in _PLANNED:
        said, came = (Num(get(known, *key.split(".")), form, key) for key in places)
        if said.value is not None:
            rows.append([name, said, came, _off(said, came)])
    if rows:
        blocks.append(Table("Plan beside fact", ["what", "planned", "came", "off by"], rows))
    keys = [("seconds", "training"), ("evaluation_seconds", "evaluating"), ("saving_seconds", "saving checkpoints")]
    spent: list[list[Cell]] = [[said, Num(train[key], ",.1f", f"metrics.train.{key}")] for key, said in keys if key in train]
    speeds = [("examples_per_second", "examples a second"), ("tokens_per_second", "tokens a second")]
    spent += [[said, Num(train[key], ",.1f", f"metrics.train.{key}")] for key, said in speeds if key in train]
    if spent:
        blocks.append(Table("What it took: seconds, and speed", ["what", "measured"], spent))
    memory = {name: size for name, size in facts.plan.get("memory_mb", {}).items() if name != "peak"}
    if memory:
        blocks.append(Bars("Memory as planned, by part", list(memory), list(memory.values()), "MB"))
    return Section("plan", "Plan beside fact", [Side(blocks)]) if blocks else None


def _off(said: Num, came: Num) -> Num:
    if not said.value or came.value is None:
        return Num(None)
    return Num(came.value / said.value - 1, "+.0%")


def data(facts: RunFacts) -> Section | None:
    """What it was trained and measured on."""
    sizes, columns = facts.data.get("splits", {}), facts.data.get("columns", {})
    if not sizes:
        return None
    blocks: list[Block] = []
    rows = [[name, Num(size, ",.0f", f"data.splits.{name}")] for name, size in sizes.items()]
    blocks.append(Table("Sizes of the splits", ["split", "examples"], rows))
    inputs = columns.get("text") or []
    said = [f"The input is read from {listed([repr(name) for name in inputs])}" if inputs else "The input is the whole row"]
    said.append(f", the label from {columns['label']!r}." if isinstance(columns.get("label"), str) else ".")
    labels = columns.get("labels") or []
    said.append(f" Labels: {listed(list(labels[:40]))}{' …' if len(labels) > 40 else ''}." if labels else "")
    blocks.append(Paragraph(["".join(said)]))
    if facts.findings:
        blocks.append(Table("What was found in the data", ["level", "what", "finding"], [list(one) for one in facts.findings]))
    return Section("data", "Data", blocks)


def trials(facts: RunFacts) -> Section | None:
    """What varied, and what came of it."""
    entries = facts.trials.get("trials", [])
    if not entries:
        return None
    metric, keys = facts.trials.get("metric", "loss"), list(entries[0].get("varied", {}))
    rows = []
    for entry in entries:
        varied = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in entry["varied"].values()]
        kept = "the model" if entry["varied"].get("data.fold") == 0 else "the best"
        state = kept if entry["trial"] == facts.trials.get("best") else entry.get("state", "")
        value = Num(get(entry, "validation", metric), ".4f")
        rows.append([entry["trial"], *varied, value, Num(entry.get("seconds"), ",.1f"), state])
    columns = ["trial", *keys, metric_name(metric), "seconds", "state"]
    return Section("trials", "Trials", [Table("Trials, on the validation set", columns, rows)])


def repeats(facts: RunFacts) -> Section | None:
    """What several seeds, or the folds, came to: how far results differ by chance."""
    seeds, folds = facts.metrics.get("seeds", {}), get(facts.metrics, "folds", "over_folds", default={})
    over = [(split, f"metrics.seeds.{split}", seeds[split]) for split in ("test", "validation") if split in seeds]
    over += [("each fold", "metrics.folds.over_folds", folds)] if folds else []
    tables = []
    for title, base, found in over:
        rows: list[list[Cell]] = []
        for name, one in ((name, one) for name, one in found.items() if isinstance(one, Mapping)):
            values = [Num(value, key=f"{base}.{name}.values.{place}") for place, value in enumerate(one["values"])]
            mean, sd = (Num(one[key], key=f"{base}.{name}.{key}") for key in ("mean", "sd"))
            rows.append([metric_name(name), mean, sd, *values])
        names = [f"seed {seed}" for seed in seeds["seeds"]] if seeds else [f"fold {k}" for k in range(1, len(folds["n"]) + 1)]
        tables.append(Table(f"On {title}", ["metric", "mean", "standard deviation", *names], rows))
    about = (
        "The same training with other random numbers" if seeds else "The same training with another part of the data left out"
    )
    said = Paragraph([f"{about}: how far results differ by chance."], "quiet")
    return Section("repeats", "Seeds" if seeds else "Folds", [said, *tables]) if tables else None


def recipe(facts: RunFacts) -> Section:
    """Every key of the recipe, and what was measured once and kept."""
    rows = [[key, value] for key, value in _flat(facts.recipe)]
    decided = [[key, value] for key, value in _flat(facts.decisions)]
    blocks: list[Block] = [Table("Every key of the recipe", ["key", "value"], rows, folded=True)]
    if decided:
        blocks.append(Table("What was decided by measuring", ["what", "decision"], decided, folded=True))
    took = get(facts.metrics, "train", "seconds")
    about = "The same recipe and decisions on the same machine give the same model"
    return Section(
        "recipe", "Recipe", [Paragraph([f"{about}{f'; training takes {duration(took)}' if took else ''}."]), *blocks]
    )


def _flat(facts: Facts, before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _points(rows: Sequence[Facts], key: str) -> list[Point]:
    return [(row["step"], row[key]) for row in rows if isinstance(row.get(key), (int, float)) and math.isfinite(row[key])]


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """Return the exponential mean without bias towards the first point (as Adam's), over about a twentieth of the steps."""
    decay, mean, weight, found = 1 - 1 / max(2.0, len(points) / 20), 0.0, 0.0, []
    for x, y in points:
        mean, weight = decay * mean + (1 - decay) * y, decay * weight + 1 - decay
        found.append((x, mean / weight))
    return found


def _judged(evaluations: Sequence[Facts]) -> list[str]:
    return [name for name in (evaluations[0] if evaluations else {}) if name not in ("kind", "step", "epoch")]


def _best_step(facts: RunFacts, main: str) -> int | None:
    from thawline.report.words import greater

    points = _points(facts.evaluations, main)
    if len(points) < 2 or not get(facts.recipe, "train", "load_best_model_at_end", default=True):
        return None
    return int(max(points, key=lambda point: point[1] if greater(main) else -point[1])[0])
