"""A time budget beside the store: filling in is counted, storing is decided for the steps that fit, and no fill runs over."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from test_plan import job_of
from test_training import options
from thawline.run import within as module
from thawline.run.carry_out import Job
from thawline.thaw.prefix import Prefix
from thawline.thaw.store import Bandwidth
from thawline.train.budget import Costs, steps_within
from thawline.train.loop import Moment


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that starts empty, on a disk that is always as fast."""
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("thawline.run.keeper._speed", lambda folder: Bandwidth(1000.0, 1000.0, 1000.0))
    monkeypatch.setattr("thawline.run.keeper._costs", {})
    monkeypatch.setattr("thawline.run.within.ending_seconds", lambda *given, **more: 1.0)


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make each stage of the frozen part take so long for each example, from what is stored on."""
    computed = Prefix._computed

    def slowly(self: Prefix, replica: Any, data: Any, group: Any, *, depth: int) -> Any:
        stages = depth - max((lower for lower in self.below.shelves if lower < depth), default=0)
        time.sleep(seconds * stages * len(group.indices))
        return computed(self, replica, data, group, depth=depth)

    monkeypatch.setattr(Prefix, "_computed", slowly)


def begun(tmp_path: Path, **more: Any) -> tuple[Job, list[str]]:
    """A job whose budget begins now, and what it says."""
    job, told = job_of(tmp_path, **options(epochs=10_000, threads=1, **more)), list[str]()
    job.begun, job.say = time.monotonic(), told.append
    return job, told


@pytest.mark.parametrize(("features", "why"), [("auto", "predicted"), (True, "the time budget has")])
def test_a_fill_that_does_not_fit_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features: Any, why: str
) -> None:
    """80 examples of five stages of 0.01 s are 4 s, as much as is left after measuring: over all epochs storing would win."""
    slow(monkeypatch, 0.01)
    job, told = begun(tmp_path, strategy="head", max_minutes=0.15, store={"features": features})
    loop = job.loop()
    decisions = json.loads((tmp_path / "run" / "decisions.json").read_text())
    assert decisions["stored"] == []
    assert any("not stored" in line and why in line for line in told)
    assert decisions["steps"] < 2 * loop.gradients.order.steps_per_epoch
    loop.run()
    # The budget, and a second that the last step may have spent on computing ahead: filling would have taken four.
    assert time.monotonic() - job.begun < 9 + 1


def test_what_fits_is_stored_and_filling_it_in_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Costs]()

    def within(costs: Costs, seconds: float, **more: Any) -> int:
        asked.append(costs)
        return steps_within(costs, seconds, **more)

    monkeypatch.setattr(module, "steps_within", within)
    slow(monkeypatch, 0.004)
    job, _ = begun(tmp_path, strategy="gradual(freeze(2), until=0.5)", max_minutes=0.3)
    loop = job.loop()
    decisions, plan = (json.loads((tmp_path / "run" / f"{name}.json").read_text()) for name in ("decisions", "plan"))
    assert decisions["stored"] == [2, 3, 4, 5]
    first, last = asked
    fills = sum(one["seconds_to_fill"] for one in plan["store"])
    assert fills > 3 * 80 * 0.004  # each stage's examples, though those of the validation set at the last line are there by now
    assert last.ending - 1.0 == pytest.approx(fills, rel=0.01)
    assert last.step < first.step / 2  # from the store, the frozen part is next to nothing
    assert decisions["ending_seconds"] == pytest.approx(1.0 + last.evaluation)
    assert decisions["steps"] == loop.rhythm.total > steps_within(first, 18.0, every=loop.rhythm.evaluate_every, most=10**6)


def test_a_fill_that_is_slower_than_predicted_ends_with_the_time(tmp_path: Path) -> None:
    job = job_of(tmp_path, **options(strategy="head", store={"features": True}, epochs=3, eval_strategy="no"))
    loop, told = job.loop(), list[Moment]()
    loop.observers, loop.deadline = [told.append], time.monotonic()
    state = loop.run()
    assert (state.step, state.ended) == (1, "the time budget is spent")
    first = next(moment.record for moment in told if moment.kind == "features")
    assert sum(moment.kind == "features" for moment in told) == 1
    assert first["done"] < first["total"]
    assert 0 < first["done"] <= job.frozen.prefix.computed < first["total"]
