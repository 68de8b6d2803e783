"""The seconds of a training, foretold by its first steps."""

import json
from pathlib import Path
from typing import Any

import pytest

import thawline as tl
from test_plan import job_of
from test_resume import begin
from test_training import options, run, silent
from thawline.run.ahead import Ahead
from thawline.train.loop import Moment

START, STEP = 5.0, 2.0


def foretold(tmp_path: Path, *, steps: int = 100, **more: Any) -> dict[str, Any]:
    """Return plan.json after as many steps of STEP seconds, and START before them, as were needed."""
    wanted = {key: value for key, value in options(max_steps=steps, **more).items() if key != "epochs"}
    job = job_of(tmp_path, **wanted)
    loop = job.loop()
    (ahead,) = (one for one in loop.observers if isinstance(one, Ahead))
    order, plan = loop.gradients.order, tmp_path / "run" / "plan.json"
    for step in range(1, steps + 1):
        loop.learner.open(step - 1)
        loop.state.tokens = round(step * order.lengths.sum() / order.steps_per_epoch)
        loop.state.seconds["train"] = START + STEP * (step - 1)
        ahead(Moment("step", step, steps, {}))
        found: dict[str, Any] = json.loads(plan.read_text())
        if "seconds" in found:
            return found
    return json.loads(plan.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize(("steps", "watched"), [(100, 5), (20, 3), (1000, 16)])  # a little over 30 s
def test_steps_alike(tmp_path: Path, steps: int, watched: int) -> None:
    found = foretold(tmp_path, steps=steps)
    assert found["watched"] == watched
    assert found["seconds"]["train"] == pytest.approx(START + STEP * steps, rel=0.02)


def test_stages_that_open_later_cost_more(tmp_path: Path) -> None:
    found = foretold(tmp_path, strategy="gradual(full, until=0.5)", store={"features": False})
    assert found["seconds"]["train"] > 1.1 * (START + STEP * 100)


def test_what_closes_is_not_told_from_what_was_open(tmp_path: Path) -> None:
    """The watch ends where other stages begin to learn."""
    found = foretold(tmp_path, strategy="gradual(full, until=0.1)", store={"features": False})
    assert found["watched"] < 5


@pytest.mark.parametrize(("strategy", "more"), [("gradual(full, until=0.5)", 0.0), ("adaptive(full)", 30.0)])
def test_filling_that_has_been_done_is_not_counted_again(tmp_path: Path, strategy: str, more: float) -> None:
    """A line that sinks finds the depths below it filled before the first step; one that rises has those above before it."""
    loop = job_of(tmp_path, **options(strategy=strategy)).loop()
    (ahead,) = (one for one in loop.observers if isinstance(one, Ahead))
    loop.learner.open(0)
    ahead._line = loop.learner.thaw_line
    ahead.folder.write("plan.json", {"store": [{"depth": depth, "seconds_to_fill": 10.0} for depth in (1, 2, 3)]})
    ahead._write(100.0, 5)
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["seconds"]["train"] == 100.0 + more


def test_too_short_to_be_foretold(tmp_path: Path) -> None:
    assert "seconds" not in foretold(tmp_path, steps=4)


def test_a_run_keeps_it(tmp_path: Path) -> None:
    made = run(tmp_path / "run", epochs=4)
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert made.metrics["train"]["predicted_seconds"] == plan["seconds"]["train"] > 0
    assert "metrics.train.predicted_seconds" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_a_run_that_is_resumed_keeps_what_was_foretold(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begin(folder, 12, checkpoint_minutes=1e-6, epochs=6)
    process.kill()
    process.communicate()
    before = json.loads((folder / "plan.json").read_text())
    assert before["seconds"]["train"] > 0
    resumed = tl.resume(folder, say=silent, progress=False)
    assert json.loads((folder / "plan.json").read_text()) == before
    assert resumed.metrics["train"]["predicted_seconds"] == before["seconds"]["train"]
