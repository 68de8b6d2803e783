"""`thawline plan`, and what a run keeps of it to stand beside what came of it."""

import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thawline as tl
from families import folder_of
from test_cli import write_table
from test_training import assembled, options, run, silent, table
from thawline.cli import main
from thawline.cli.plan import costs
from thawline.errors import RecipeError
from thawline.run.api import recipe_for
from thawline.run.assemble import assemble
from thawline.run.carry_out import Job, device_of
from thawline.run.folder import RunFolder
from thawline.run.foresight import passes
from thawline.run.prepare import prepare
from thawline.thaw.store import Store
from thawline.train.forecast import Seen, forecast
from thawline.train.loop import Moment
from thawline.train.observe import ProgressBar
from thawline.train.steps import Order, Shapes


def planned(**more: Any) -> dict[str, Any]:
    return tl.plan(table(), say=silent, **options(**more))


def job_of(tmp_path: Path, examples: Any = None, **more: Any) -> Job:
    prepared = prepare(recipe_for(examples or table(100), **more), silent)
    parts = assemble(prepared, silent)
    return Job(prepared, parts, RunFolder(tmp_path / "run"), device_of(parts.recipe), silent, progress=False, begun=0.0)


def test_what_learns_and_what_it_takes() -> None:
    plan = planned(strategy="freeze(3)", store={"features": True})
    assert [stage["stage"] for stage in plan["stages"]] == ["stem", *(f"block {i}" for i in range(4)), "head"]
    frozen, learning = plan["stages"][:3], plan["stages"][3:]
    assert all((stage["learning"], stage["since"], stage["learning_rates"]) == (0, None, []) for stage in frozen)
    assert all((stage["since"], stage["until"], stage["learning_rates"]) == (0, 1, [1e-3]) for stage in learning)
    assert all(stage["learning"] == stage["parameters"] > 0 for stage in learning)
    assert (plan["steps"], plan["steps_per_epoch"], plan["epochs"], plan["trials"]) == (10, 5, 2, 1)
    memory = plan["memory_mb"]
    assert memory["peak"] == pytest.approx(sum(value for name, value in memory.items() if name != "peak"), abs=1)
    seconds = plan["seconds"]
    assert seconds["total"] > seconds["train"] > seconds["fill"] > 0
    assert seconds["total"] > 2 * seconds["evaluation"] + seconds["ending"] + 10 * seconds["step"]
    (store,) = plan["store"]
    assert (store["depth"], store["stored"], store["seconds"]) == (3, True, store["seconds_with"])
    assert json.loads(json.dumps(plan)) == plan


def test_stages_that_open_later() -> None:
    plan = planned(strategy="gradual(layerwise(full, decay=0.5), until=0.5)", store={"features": False}, epochs=4)
    since = [stage["since"] for stage in plan["stages"]]
    assert since == sorted(since, reverse=True)
    assert (since[-1], since[0]) == (0, pytest.approx(0.5, abs=0.01))
    rates = [stage["learning_rates"][0] for stage in plan["stages"]]
    assert rates == [pytest.approx(1e-3 * 0.5**k) for k in range(5, -1, -1)]
    assert plan["store"] == []


def test_nothing_is_trained_and_the_store_stays_true(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured leaves no weights, and what it stored serves the run itself, to the same bytes as without."""
    monkeypatch.chdir(tmp_path)
    more = {"strategy": "gradual(full, until=0.8)", "epochs": 1}
    run(tmp_path / "off", store={"features": False}, **more)
    planned(store={"features": True}, **more)
    shelves = Store(cache / "features", max_bytes=None).shelves()
    assert len(shelves) >= 3
    run(tmp_path / "on", store={"features": True}, **more)
    assert {shelf.name for shelf in shelves} == {shelf.name for shelf in Store(cache / "features", max_bytes=None).shelves()}
    assert len({(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("off", "on")}) == 1
    assert not Path("runs").exists()


def test_budget_and_trials() -> None:
    plan = planned(strategy="head", max_minutes=1, epochs=1_000_000)
    assert 1 <= plan["steps"] < 5_000_000
    assert plan["seconds"]["total"] < 75
    assert planned(strategy="head", vary={"lr": [1e-3, 1e-4, 1e-5]})["trials"] == 3
    with pytest.raises(RecipeError, match="metric"):
        planned(metric_for_best_model="acuracy")


def test_plan_stands_beside_what_came_of_it(tmp_path: Path) -> None:
    made = run(tmp_path / "run", strategy="freeze(3)", store={"features": True}, epochs=1)
    plan, train = json.loads((tmp_path / "run" / "plan.json").read_text()), made.metrics["train"]
    assert train["predicted_peak_memory_mb"] == plan["memory_mb"]["peak"]
    assert train["peak_memory_mb"] == pytest.approx(train["predicted_peak_memory_mb"], rel=0.3)
    found = train["prefix"]
    assert (found["depths"], found["stored"]) == ([3], [3])
    assert found["examples_computed"] == sum(
        json.loads((tmp_path / "run" / "data.json").read_text())["splits"][name] for name in ("train", "validation")
    )  # train and validation, once
    assert found["predicted_seconds"] == plan["store"][0]["seconds_with"]
    assert 0 < found["seconds"] < train["seconds"] + train["evaluation_seconds"]
    assert found["size_mb"] == pytest.approx(found["predicted_size_mb"], rel=0.3) and found["size_mb"] > 0
    assert train["padding"] == pytest.approx(plan["padding"]["used"], abs=1e-6)  # of so few steps all were looked at
    assert train["seconds_per_epoch"] == pytest.approx(train["seconds"])
    full = run(tmp_path / "full", epochs=1).metrics["train"]
    assert "prefix" not in full


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "reviews.csv")
    words = ["reviews.csv", f"model={folder_of('bert')}", "strategy=freeze(2)", "train.bf16=false", "store.features=true"]
    assert main(["plan", *words]) == 0
    shown, said = capsys.readouterr()
    lines = shown.splitlines()
    assert len(lines) < 24
    assert [line.split("  ")[0] for line in lines[1:6]] == ["stage", "stem", "block 0", "block 1 to block 3", "head"]
    assert [line.split()[0] for line in lines[7:]] == ["parameters", "steps", "time", "memory", "padding", "store"]
    assert "Nothing was trained. To train, type: thawline train reviews.csv" in said
    assert main(["plan", *words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert dict(costs(plan))["store"].startswith("0.1 MB of outputs of the frozen part (depth 2) are stored")
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]
    assert main(["plan", "reviews.csv", "trian.epochs=3"]) == 2
    assert main(["train", *words, "train.max_steps=2"]) == 0
    said = capsys.readouterr().err
    assert "MB at the peak" in said
    assert "frozen part, stored" in said


def test_passes_count_padding() -> None:
    lengths = np.tile([10, 100], 64)
    seen = passes(Order(lengths, 32, seed=0), rows=32, workers=1)
    assert (seen.plain, seen.steps) == (128 * 100, 4)
    assert seen.tokens == lengths.sum() <= seen.used < seen.plain
    assert seen.widest <= 32 * 100
    assert passes(Order(np.full(64, 7), 32, seed=0), rows=16, workers=2).used == 64 * 7
    lengths = np.arange(4, 100)
    seen, left_out = (passes(Order(lengths, 32, seed=0, shapes=Shapes(real=way)), rows=32, workers=2) for way in (False, True))
    assert seen.tokens == left_out.tokens == lengths.sum() <= left_out.used < seen.used
    assert left_out.shares["plain"] == seen.shares["plain"] > seen.shares["used"] > left_out.shares["used"]


def test_forecast_counts_what_was_seen(tmp_path: Path) -> None:
    _, parts, _ = assembled(tmp_path)
    lengths = np.array([10, 20, 60] * 20)
    least, most = (forecast(parts.model, parts.groups, lengths, rows=8, seen=Seen(tokens, 3)) for tokens in (80, 480))
    assert most.activations == pytest.approx(6 * least.activations, rel=0.01)
    assert most.fixed == least.fixed
    assert forecast(parts.model, parts.groups, lengths, rows=8, moments=1).optimizer * 2 == least.optimizer
    assert forecast(parts.model, parts.groups, lengths, rows=8, workers=2).gradients > least.gradients


@pytest.mark.parametrize("strategy", ["head", "freeze(4)", "full"])  # what one leaves behind is small beside the next
def test_memory_is_foreseen_on_a_real_model(tmp_path: Path, minilm: Path, strategy: str) -> None:
    more = options(strategy=strategy, model=str(minilm), bf16=True, threads=1, batch_size=32, epochs=1, max_train_samples=64)
    job = job_of(tmp_path, **more)
    peak = job.train().peak_memory_mb
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["memory_mb"]["peak"] == pytest.approx(peak, rel=0.25)


def test_progress_tells_of_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    bar = ProgressBar("loss", console=Console(force_terminal=True, width=100))
    for done in (5, 10):
        bar(Moment("features", 0, 9, {"done": done, "total": 10}))
    bar(Moment("step", 1, 9, {"loss": 0.5}))
    bar(Moment("end", 1, 9, {}))
    assert "storing what the frozen part computes" in capsys.readouterr().out


def test_observers_are_told_while_the_store_is_filled(tmp_path: Path) -> None:
    job = job_of(tmp_path, **options(strategy="head", store={"features": True}, epochs=1))
    loop, told = job.loop(), list[Moment]()
    loop.observers = [told.append]
    loop.run()
    kinds = [moment.kind for moment in told]
    assert kinds.index("features") < kinds.index("step")
    last = [moment.record for moment in told if moment.kind == "features"][-1]
    assert last == {"done": len(job.prepared.sets["train"]), "total": len(job.prepared.sets["train"])}


def test_the_guide_runs(minilm: Path) -> None:
    guide = Path(__file__).parents[1] / "docs" / "guides" / "plan.md"
    assert doctest.testfile(str(guide), module_relative=False, encoding="utf-8").failed == 0
