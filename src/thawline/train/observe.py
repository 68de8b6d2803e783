"""Observers: what is written down and shown while training. They read moments and change nothing."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers, get_available_trackers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from thawline.errors import MachineError, UserError, did_you_mean
from thawline.train.device import Device
from thawline.train.loop import Moment, Observer

_QUIET_SECONDS = 30.0
_LOOK_SECONDS = 0.5  # looking takes a third of a step of a head alone


def history(path: Path, resumed_at: int) -> Observer:
    """Write each step and evaluation as one JSON line; lines after the step that a run resumes at are taken back first."""
    kept = path.read_text().splitlines() if path.is_file() else []
    lines = [line for line in kept if _step_of(line) <= resumed_at] if resumed_at else []
    if lines != kept or not kept:
        path.write_text("".join(f"{line}\n" for line in lines))

    def observe(moment: Moment) -> None:
        if moment.kind in ("step", "evaluation"):
            with path.open("a") as file:
                file.write(json.dumps({"kind": moment.kind, "step": moment.step, **moment.record}) + "\n")

    return observe


def _step_of(line: str) -> float:
    """Return the step of a line; that of one torn off, as a full disk or a power cut leaves it, is past all others."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


_PARTS = {"features": ("storing what the frozen part computes", 0.0), "evaluating": ("evaluating", 2.0)}
"""What is told of moments within a step or an evaluation, and after how many seconds."""


@final
class ProgressBar:
    """Shows step, loss, the last evaluation and the time left: a bar on a terminal, else a line now and then."""

    def __init__(self, metric: str, *, console: Console | None = None) -> None:
        self.title = "training"
        self.metric, self.console, self._said, self._judged = metric, console or Console(stderr=True), 0.0, ""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[told]}"))
        self._bar = Progress(*columns, *left, console=self.console, disable=not self.console.is_terminal, transient=True)
        self._task = self._bar.add_task(self.title, total=None, told="")
        self._start: tuple[float, int] | None = None
        self._part: tuple[float, Any] | None = None

    def __call__(self, moment: Moment) -> None:
        if moment.kind == "end":
            self.close()
            return
        if moment.kind in _PARTS:
            self._go_through(*_PARTS[moment.kind], done=moment.record["done"], total=moment.record["total"])
            return
        self._start = self._start or (time.monotonic(), moment.step)
        if moment.kind == "evaluation" and self.metric in moment.record:
            self._judged = f"{self.metric} {moment.record[self.metric]:.4f}"
        loss = f"loss {moment.record['loss']:.4f}" if "loss" in moment.record else ""
        told = "  ".join(part for part in (loss, self._judged) if part)
        self._bar.start()
        self._bar.update(self._task, description=self.title, total=moment.total, completed=moment.step, told=told, visible=True)
        self._say(moment, told)

    def _go_through(self, what: str, after: float, *, done: int, total: int) -> None:
        """Show how far a part is that is not a step, once it takes longer than `after` seconds."""
        now = time.monotonic()
        start, task = self._part or (now, None)
        if task is None and now - start >= after:
            # A task of its own, so that the time left is not told from the speed of steps.
            task = self._bar.add_task(what, total=total, told="")
            self._bar.update(self._task, visible=False)
            self._bar.start()
        self._part = (start, task) if done < total else None
        if task is not None:
            self._bar.update(task, total=total, completed=done)
            if done >= total:
                self._bar.remove_task(task)
        if done < total and not self.console.is_terminal and now - max(self._said, start) > _QUIET_SECONDS:
            self._said = now
            left = (now - start) / done * (total - done)
            self.console.print(f"{what}: {done:,}/{total:,}  about {left:.0f} s left", highlight=False)

    def _say(self, moment: Moment, told: str) -> None:
        now = time.monotonic()
        due = moment.kind == "evaluation" or now - self._said > _QUIET_SECONDS
        if self.console.is_terminal or not due or self._start is None:
            return
        self._said = now
        start, first = self._start
        done = moment.step - first
        left = f"  about {(now - start) / done * (moment.total - moment.step):.0f} s left" if done else ""
        what = "" if self.title == "training" else f"{self.title}: "
        self.console.print(f"{what}step {moment.step}/{moment.total}  {told}{left}", highlight=False)

    def begin(self, title: str) -> None:
        """Go on to another training, of which nothing has been evaluated yet."""
        self.title, self._judged = title, ""

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


@contextmanager
def filling(shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Give a function that is told how many of how many examples are stored, and show it if `shown`."""
    bar = ProgressBar("")

    def told(done: int, total: int) -> None:
        if shown:
            bar(Moment("features", 0, 0, {"done": done, "total": total}))

    try:
        yield told
    finally:
        bar.close()


def refuse_trackers(names: Sequence[str]) -> None:
    """Raise UserError for a tracker that accelerate does not know, or whose package is not installed."""
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            hint = did_you_mean(name, LOGGER_TYPE_TO_CLASS)
            raise UserError(
                f"train.report_to: there is no tracker {name!r}{hint or '.'} Known: {', '.join(LOGGER_TYPE_TO_CLASS)}."
            )
        if name not in [str(kind) for kind in get_available_trackers()]:
            raise UserError(
                f"train.report_to: the package of {name} is not installed; type: pip install {name.replace('_', '-')}"
            )


def trackers(device: Device, names: Sequence[str], folder: Path, *, recipe: dict[str, Any]) -> Observer:
    """Report to trackers of accelerate; those that write files do it below `folder`."""
    # Set here and not when the accelerator is made: the run's folder is known only after its processes have agreed on it.
    accelerator, places = device.accelerator, device.accelerator.project_configuration
    accelerator.log_with = filter_trackers(list(names), folder)
    places.project_dir = places.logging_dir = str(folder)  # each training has one of its own
    plain = {key: value for key, value in recipe.items() if isinstance(value, (int, float, str, bool))}
    _finish(accelerator)  # where a training before this one ended with an error
    accelerator.init_trackers("thawline", config=plain)

    def observe(moment: Moment) -> None:
        if moment.kind == "end":
            _finish(accelerator)
        elif moment.kind in ("step", "evaluation"):
            numbers = {f"{moment.kind}/{k}": v for k, v in moment.record.items() if isinstance(v, (int, float))}
            accelerator.log(numbers, step=moment.step)

    return observe


def _finish(accelerator: Accelerator) -> None:
    """End what reports. Accelerate's own `end_training` would take the other processes away, too, which still work together."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers.clear()


def memory_watch(available: Callable[[], int], *, least: int, advice: str) -> Observer:
    """Stop with a sentence before the system does without one: less than `least` bytes are left."""
    looked = -math.inf

    def observe(moment: Moment) -> None:
        nonlocal looked
        if moment.kind != "step" or time.monotonic() - looked < _LOOK_SECONDS:
            return
        looked = time.monotonic()
        if (left := available()) < least:
            raise MachineError(f"Only {left >> 20} MB of memory are left at step {moment.step}, so training stopped. {advice}")

    return observe


def say(text: str) -> None:
    """Print one line for people, beside what a command prints for programs."""
    Console(file=sys.stderr, soft_wrap=True, highlight=False).print(text, markup=False)
