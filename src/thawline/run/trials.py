"""Many trainings over one preparation: each combination of `vary` is a trial, and the best by validation is the run's model.

A trial is the training of its recipe alone, to the byte. Its folder, RUN/trials/001 and so on, holds recipe.yaml, data.json,
decisions.json, history.jsonl, checkpoints/ with its weights, and metrics.json without what is measured at the end. RUN has the
best one's model/, predictions/ and metrics.json, as if it alone had been trained there.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from thawline.errors import DataError, DivergedError, MachineError, RecipeError, UserError
from thawline.evaluate.metrics import GREATER
from thawline.recipe import Recipe, Trial, combination, recipe_from, save_recipe, trials_of
from thawline.recipe.vary import named
from thawline.regularize.base import regularized
from thawline.run.assemble import assemble, judge_of, order_of, steps_of
from thawline.run.carry_out import Job, Trained, device_of, facts_of, foresee, refuse_changed, silent
from thawline.run.folder import RunFolder, next_folder, refuse_existing, resumable
from thawline.run.prepare import Say
from thawline.run.shared import Shared
from thawline.tasks.base import plain_objective
from thawline.train.checkpoint import Checkpoints
from thawline.train.observe import refuse_trackers

Entry = dict[str, Any]
"""A trial in trials.json: trial, varied, steps, state ("waiting", "finished", "diverged"), and what came of it."""


class Checked(NamedTuple):
    """A trial that can be trained, with everything inferred: its recipe, data.json, entry, metric, and the data's name."""

    recipe: Recipe
    facts: dict[str, Any]
    entry: Entry
    metric: str
    validation: str
    data: str


def carry_out_trials(recipe: Recipe, say: Say, *, progress: bool = True) -> RunFolder:
    """Carry out every combination of a recipe in a new folder and return it; every fault of any is raised before the first."""
    if recipe.output.dir is not None:
        refuse_existing(Path(recipe.output.dir))
    refuse_trackers(recipe.train.report_to)
    trials, device = trials_of(recipe), device_of(recipe)
    main, say = device.is_main, say if device.is_main else silent
    shared = Shared(device, say)
    checked = check(trials, shared)
    folder = RunFolder(shared.device.of_main(recipe.output.dir or str(next_folder(checked[0].data))))
    if main:
        folder.create(recipe_from(recipe, data={"path": checked[0].recipe.data.path}))
        say(f"note: the run's folder is {folder.path}")
    with resumable(folder):
        begin(folder, checked) if main else None
        return Trials(folder, shared, say, progress).run()


def resume_trials(folder: RunFolder, say: Say, *, progress: bool = True) -> RunFolder:
    """Go on with the trial that was under way and with those after it; finished ones are left alone."""
    recipe = folder.recipe()
    device = device_of(recipe)
    shared = Shared(device, say if device.is_main else silent)
    with resumable(folder):
        if folder.read("trials.json") is None:
            checked = check(trials_of(recipe), shared)
            begin(folder, checked) if device.is_main else None
        return Trials(folder, shared, say if device.is_main else silent, progress).run()


def check(trials: tuple[Trial, ...], shared: Shared) -> list[Checked]:
    """Do for every trial all that can fail through the user's fault; raises RecipeError with the faults of all of them."""
    checked, faults = list[Checked](), list[tuple[UserError, str]]()
    for trial in trials:
        try:
            checked.append(_checked(trial, shared))
        except UserError as error:
            faults.append((error, combination(trial.varied)))
        except MachineError as error:
            raise MachineError(f"{combination(trial.varied)}: {error}") from None
    shared.forget_model()
    if len(faults) == len(trials) and len({str(error) for error, _ in faults}) == 1:
        raise faults[0][0]
    if faults:
        lines = [(line, where) for error, where in faults for line in str(error).splitlines()]
        raise RecipeError(named(lines, len(trials)))
    if len({one.validation for one in checked}) > 1:
        keys = [key for key in trials[0].varied if key.startswith("data.") or key == "train.seed"]
        why = ", ".join(key for key in keys if key != "data.max_length")
        shared.say(
            f"warning: trials have validation sets of their own, because of {why}, so they differ by chance too; "
            "files for each split, or data.split=hash, keep it the same"
        )
    return checked


def _checked(trial: Trial, shared: Shared) -> Checked:
    prepared = shared.prepared(trial.recipe)
    judge = judge_of(prepared.recipe, prepared.task.problem)
    if "validation" not in prepared.sets:
        raise DataError(
            "There is no validation set, so the best trial cannot be told; "
            "expected data.validation_size above 0, or a file of that name."
        )
    assembled = shared.fitted(prepared)
    regularized(plain_objective, assembled.recipe.regularize, assembled.model, stages=assembled.stages)
    foresee(prepared, assembled)
    steps = steps_of(order_of(prepared.sets["train"], assembled.recipe), assembled.recipe)
    entry = {"trial": trial.name, "varied": trial.varied, "steps": steps, "state": "waiting"}
    dataset = prepared.dataset
    validation = dataset.splits["validation"].fingerprint
    return Checked(assembled.recipe, facts_of(prepared), entry, judge.metric, validation, dataset.name)


def begin(folder: RunFolder, checked: list[Checked]) -> None:
    """Make the folders of all trials, and trials.json last of all."""
    for one in checked:
        home = folder.trial(one.entry["trial"])
        home.path.mkdir(parents=True, exist_ok=True)
        save_recipe(one.recipe, home.path / "recipe.yaml")
        home.write("data.json", one.facts)
    folder.write("trials.json", {"metric": checked[0].metric, "best": None, "trials": [one.entry for one in checked]})


@final
@dataclass
class Trials:
    """The trials of a folder, as far as they are done."""

    folder: RunFolder
    shared: Shared
    say: Say
    progress: bool

    def run(self) -> RunFolder:
        """Train those that wait; then save and measure the best. Raises DivergedError where all diverged."""
        device = self.shared.device
        table = device.of_main(self.folder.read("trials.json")) or {}
        entries: list[Entry] = table["trials"]
        recipes = [self.folder.trial(entry["trial"]).recipe() for entry in entries]
        self.shared.decide(self.folder, arithmetic=any(recipe.train.bf16 == "auto" for recipe in recipes))
        steps = [entry["steps"] for entry in entries]
        for number, (entry, recipe) in enumerate(zip(entries, recipes, strict=True)):
            title = f"trial {number + 1} of {len(entries)}"
            self.shared.begin(title, sum(steps[:number]), sum(steps))
            home = self.folder.trial(entry["trial"])
            if entry["state"] == "waiting":
                self.say(f"note: {title}: {combination(entry['varied'])}")
                entry |= device.of_main(self._outcome(home, recipe))
                self.say(f"note: {title}: {outcome(entry, table['metric'])}")
                self._write(table)
            if device.is_main:
                Checkpoints(home.path / "checkpoints").settle(best=recipe.train.load_best_model_at_end)
        device.wait()
        best = best_of(table)
        if best is None:
            raise DivergedError(f"All {len(entries)} trials diverged; try lower values of train.learning_rate.")
        table["best"] = best["trial"]
        self._write(table)
        return self._end(self.folder.trial(best["trial"]))

    def _outcome(self, home: RunFolder, recipe: Recipe) -> Entry:
        """Train one and return what came of it, having written its metrics.json."""
        job = self._job(home, recipe, self.shared.say)
        try:
            trained = job.train()
        except DivergedError as error:
            return {"state": "diverged", "why": str(error)}
        finally:
            self.shared.pause()
        if not self.shared.device.is_main:
            return {}
        step, validation = _result(home, trained, recipe)
        train = job.section(trained)
        home.write("metrics.json", {"validation": validation, "train": train})
        seconds = sum(trained.loop.state.seconds.values())
        return {"state": "finished", "validation": validation, "best_step": step, "seconds": round(seconds, 3)}

    def _job(self, home: RunFolder, recipe: Recipe, say: Say) -> Job:
        begun = time.monotonic()
        prepared = self.shared.prepared(recipe)
        refuse_changed(home, prepared)
        assembled = assemble(prepared, say)
        return Job(prepared, assembled, home, self.shared.device, say, self.progress, begun, self.shared)

    def _end(self, home: RunFolder) -> RunFolder:
        """Save and measure the best trial's model: a training that is finished is taken up at its end."""
        self.shared.begin("", 0, 1)
        if self.shared.device.is_main:
            shutil.copyfile(home.path / "recipe.yaml", self.folder.path / "best.yaml")
            shutil.copyfile(home.path / "data.json", self.folder.path / "data.json")
        job = self._job(home, home.recipe(), silent)
        job.progress = False
        loop = job.train().loop
        job.say = self.say
        return job.end(self.folder, loop, (home.read("metrics.json") or {})["train"])

    def _write(self, table: dict[str, Any]) -> None:
        if self.shared.device.is_main:
            self.folder.write("trials.json", table)


def _result(home: RunFolder, trained: Trained, recipe: Recipe) -> tuple[int, dict[str, float]]:
    """Return the step whose weights are the result, and what the evaluation there said."""
    lines = (json.loads(line) for line in (home.path / "history.jsonl").read_text().splitlines())
    found = {line.pop("step"): line for line in lines if line.pop("kind") == "evaluation"}
    step = trained.loop.state.standing.step if recipe.train.load_best_model_at_end else max(found)
    return step, found[step]


def best_of(table: dict[str, Any]) -> Entry | None:
    """Return the finished trial that is the best by the metric, the first of equals; None where all diverged."""
    metric: str = table["metric"]
    sign = 1 if GREATER.get(metric, False) else -1
    finished = [entry for entry in table["trials"] if entry["state"] == "finished"]

    def merit(entry: Entry) -> float:
        value = sign * entry["validation"][metric]
        return -math.inf if math.isnan(value) else value

    return max(finished, key=merit, default=None)


def outcome(entry: Entry, metric: str) -> str:
    """Return in words what came of a trial."""
    if entry["state"] == "diverged":
        return f"diverged. {entry['why']}"
    return f"{metric} {entry['validation'][metric]:.4f} at step {entry['best_step']}, {entry['seconds']:.0f} s"
