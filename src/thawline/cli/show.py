"""What people see: lines on stderr, results as tables on stdout, and how far something has come."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from thawline.types import Finding, Prediction

STYLES = {"note": "dim", "warning": "yellow", "stop": "bold red", "error": "bold red"}
_WIDTH = 200  # of what is not a terminal: no table and no sentence is broken
_QUIET_SECONDS = 30.0
_SHOWN_SCORES = 3


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError  # for `main`; rich would end the process here


def say(text: str) -> None:
    """Print a line for people on stderr; the word before the colon (note, warning, error) gets its colour."""
    level, sign, rest = text.partition(": ")
    line = Text.assemble((f"{level}:", STYLES[level]), f" {rest}") if sign and level in STYLES else Text(text)
    _stderr().print(line, soft_wrap=True)


def error_line(text: str) -> None:
    """Print an error on stderr: one fault in one line, several below one another."""
    first, *more = text.splitlines() or [""]
    say(f"error: {first}" if not more else f"error: {len(more) + 1} faults, and nothing was done:")
    for line in text.splitlines() if more else ():
        _stderr().print(Text(f"  {line}"), soft_wrap=True)


def result(*parts: RenderableType) -> None:
    """Print results on stdout."""
    console = _Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(*(Text(part) if isinstance(part, str) else part for part in parts), sep="\n")


def metrics(found: Mapping[str, Any], name: str, *, problem: str, folder: Path) -> None:
    """Print one section of metrics as a table; say where there is none, and where it is only the validation split's."""
    from thawline.evaluate.metrics import main_metric
    from thawline.evaluate.tables import metrics_table

    if name not in found:
        say(f"note: there was neither a test nor a validation split, so nothing was measured; see {folder / 'history.jsonl'}")
        return
    if name == "validation" and "train" in found:  # the run's own, not data of that name
        say("note: there is no test split; these are the metrics of the validation split, which also chose the best checkpoint")
    if name == "folds":
        say("note: out of fold is every example, each by a model that did not learn from it; the kept model learned from them")
    title = "out of fold" if name == "folds" else name
    result("", metrics_table(found[name], main=main_metric(problem), title=title))


def measured(found: Mapping[str, Any]) -> str:
    """Return the section of `metrics.json` that says how good the model is: "test", else "folds", else "validation"."""
    return next((name for name in ("test", "folds", "validation") if name in found), "test")


def plan_beside(train: Mapping[str, Any]) -> None:
    """Say what came of what was predicted, in a line for memory and one for the frozen part."""
    if "predicted_peak_memory_mb" in train:
        said = f"{train['peak_memory_mb']:,.0f} MB at the peak, {train['predicted_peak_memory_mb']:,.0f} predicted"
        say(f"memory: {said}")
    found = train.get("prefix", {})
    if found.get("seconds") is not None and found["predicted_seconds"] is not None:
        kept = "stored" if found["stored"] else "not stored"
        seconds = f"{found['seconds']:.1f} s, {found['predicted_seconds']:.1f} predicted"
        say(f"frozen part, {kept}: {seconds}; {found['examples_computed']:,} examples computed")


def trials_table(found: Mapping[str, Any]) -> Table:
    """Return the content of `trials.json` as a table: what varied and what came of it, the best trial in bold."""
    metric, entries = found["metric"], found["trials"]
    shown = [name for name in dict.fromkeys([metric, "loss"]) if any(name in entry.get("validation", {}) for entry in entries)]
    others = [name for name in ("fold", "test") if any(metric in entry.get(name, {}) for entry in entries)]
    keys = list(entries[0]["varied"])
    table = Table(title=Text("trials, on the validation split"), title_justify="left", box=None, pad_edge=False)
    for name in ("trial", *keys, *shown, *(f"{metric}, {other}" for other in others), "best step", "seconds", "state"):
        table.add_column(Text(name, "bold"), justify="left" if name in ("trial", "state", *keys) else "right")
    for entry in entries:
        varied = [
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in entry["varied"].values()
        ]
        values = [entry.get("validation", {}).get(name) for name in shown] + [entry.get(o, {}).get(metric) for o in others]
        numbers = ["" if value is None else f"{value:.4f}" for value in values]
        end = [str(entry.get("best_step", "")), f"{entry['seconds']:.1f}" if "seconds" in entry else ""]
        best = entry["trial"] == found["best"]
        kept = "the model" if entry["varied"].get("data.fold") == 0 else "the best"
        cells = [entry["trial"], *varied, *numbers, *end, kept if best else entry["state"]]
        table.add_row(*(Text(cell, "bold" if best else "") for cell in cells))
    return table


def repeats_tables(found: Mapping[str, Any]) -> list[Table]:
    """Return what `trials.json` says of several seeds or folds as tables: mean and standard deviation of each metric."""
    seeds, folds = found.get("seeds", {}), found.get("folds", {}).get("over_folds", {})
    count = len(seeds.get("seeds", []))
    over = [(f"{count} seeds, {split}", seeds[split]) for split in ("test", "validation") if split in seeds]
    over += [(f"{len(folds['n'])} folds, held out", {k: v for k, v in folds.items() if k != "n"})] if folds else []
    return [_repeats_table(title, metrics) for title, metrics in over]


def _repeats_table(title: str, metrics: Mapping[str, Any]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("metric", "mean ± sd", "lowest", "highest"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, one in metrics.items():
        spread = "" if one["sd"] is None else f" ± {one['sd']:.3f}"
        table.add_row(Text(name), f"{one['mean']:.3f}{spread}", f"{min(one['values']):.3f}", f"{max(one['values']):.3f}")
    return table


def what_next(folder: Path) -> None:
    """Say where the run is and what can be done with it."""
    say(f"\nThe run is in {folder} (model/ loads with transformers; report.html, metrics.json, predictions/). Next:")
    say(f"  thawline report {folder}                  what came of it, as a page with pictures")
    say(f"  thawline predict {folder} FILE            answers for the texts in FILE, - for standard input")
    say(f"  thawline evaluate {folder} --data FILE    how good it is on other labelled data")


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return what a check found as a table, one line a finding."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("level", "what", "finding"):
        table.add_column(name, overflow="fold")
    for level, name, text in findings:
        table.add_row(Text(level, STYLES.get(level, "")), name, Text(text))
    return table


def answers_table(texts: Sequence[str], predictions: Sequence[Prediction]) -> Table:
    """Return texts beside what the model says of them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("text", "answer", "scores"):
        table.add_column(name)
    for text, prediction in zip(texts, predictions, strict=True):
        scores = sorted(prediction["scores"].items(), key=lambda pair: -pair[1])[:_SHOWN_SCORES]
        table.add_row(Text(text), Text(prediction["label"], "bold"), Text(", ".join(f"{label} {p:.2f}" for label, p in scores)))
    return table


@contextmanager
def progress(what: str, total: int | None, *, bar: bool = True) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many are done, and show it on stderr with the time left: a bar, or a line now and then.

    `total` None means that nobody knows; without `bar` a terminal shows nothing, since the answers themselves appear there.
    """
    console = _stderr()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    options: dict[str, Any] = {"console": console, "disable": not (bar and console.is_terminal), "transient": True}
    # rich would send what is printed on stdout to the bar's console, and a program waits for it on stdout.
    with Progress(*columns, **options, redirect_stdout=False) as shown:
        task, start, said = shown.add_task(what, total=total), time.monotonic(), time.monotonic()

        def told(done: int) -> None:
            nonlocal said
            shown.update(task, completed=done)
            now = time.monotonic()
            if not console.is_terminal and now - said > _QUIET_SECONDS:
                said = now
                left = f" of {total:,}, about {(now - start) / done * (total - done):.0f} s left" if total and done else ""
                say(f"{what}: {done:,}{left}")

        yield told


def _stderr() -> Console:
    return _Console(file=sys.stderr, highlight=False)
