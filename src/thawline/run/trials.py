"""Many trainings over one preparation: each combination of `vary` is a trial, and the best by validation is the run's model.

A trial is the training of its recipe alone, to the byte. Its folder, RUN/trials/001 and so on, holds recipe.yaml, data.json,
decisions.json, history.jsonl, checkpoints/ with its weights, and metrics.json without what is measured at the end. RUN has the
best one's model/, predictions/ and metrics.json, as if it alone had been trained there, and what seeds or folds say together.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from thawline.errors import DataError, DivergedError, MachineError, RecipeError, UserError
from thawline.recipe import Recipe, Trial, combination, recipe_from, save_recipe, trials_of
from thawline.recipe.vary import FOLD, SEED, named
from thawline.run.abreast import alike, may_go_abreast, train_abreast
from thawline.run.assemble import assemble, judge_of, order_of, steps_of
from thawline.run.below import lines_of
from thawline.run.carry_out import Job, Trained, device_of, foresee, silent
from thawline.run.finish import evaluated, ready
from thawline.run.folder import RunFolder, next_folder, refuse_existing, resumable
from thawline.run.outcomes import all_diverged, fault, outcome, result
from thawline.run.prepare import Say, facts_of, refuse_changed
from thawline.run.repeats import HELD, Entry, Fold, best_of, group_of, is_last, own, pooled, seeds_section
from thawline.run.shared import Shared, below_of
from thawline.train.checkpoint import Checkpoints
from thawline.train.observe import refuse_trackers


class Checked(NamedTuple):
    """A trial that can be trained, with everything inferred: its recipe, data.json, entry, metric, and the data's name."""

    recipe: Recipe
    facts: dict[str, Any]
    entry: Entry
    metric: str
    validation: str | None
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
    chosen = any([*trial.varied] != [FOLD] for trial in trials)
    for trial in trials:
        try:
            checked.append(_checked(trial, shared, chosen=chosen))
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
    if len({one.validation for one in checked}) > 1 and FOLD not in trials[0].varied:
        why = ", ".join(key for key in trials[0].varied if key.startswith("data.") and key != "data.max_length")
        shared.say(
            f"warning: trials have validation sets of their own, because of {why}, so they differ by chance too; "
            "files for each split, or data.split=hash, keep it the same"
        )
    return checked


def _checked(trial: Trial, shared: Shared, *, chosen: bool) -> Checked:
    """`chosen`: which trial is kept is a matter of their metrics."""
    prepared = shared.prepared(trial.recipe)
    judge = judge_of(prepared.recipe, prepared.task)
    if chosen and "validation" not in prepared.sets:
        raise DataError(
            "There is no validation set, so the best trial cannot be told; "
            "expected data.validation_size above 0, or a file of that name."
        )
    assembled = shared.fitted(prepared)
    foresee(prepared, assembled)
    steps = steps_of(order_of(prepared.sets["train"], assembled.recipe), assembled.recipe)
    lines = sorted(lines_of(assembled, steps))
    entry = {"trial": trial.name, "varied": trial.varied, "steps": steps, "lines": lines, "state": "waiting"}
    dataset, validation = prepared.dataset, prepared.dataset.splits.get("validation")
    compared = validation.fingerprint if validation is not None else None
    return Checked(assembled.recipe, facts_of(prepared), entry, judge.metric, compared, dataset.name)


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
    """The trials of a folder, as far as they are done; `abreast`: those that can be are trained side by side."""

    folder: RunFolder
    shared: Shared
    say: Say
    progress: bool
    abreast: bool = True

    def run(self) -> RunFolder:
        """Train those that wait; then save and measure the best. Raises DivergedError where all diverged."""
        table = self.shared.device.of_main(self.folder.read("trials.json")) or {}
        entries: list[Entry] = table["trials"]
        self._recipes = {entry["trial"]: self._home(entry).recipe() for entry in entries}
        self._below = {name: below_of(recipe) for name, recipe in self._recipes.items()}
        self.shared.decide(self.folder, arithmetic=any(r.train.bf16 == "auto" for r in self._recipes.values()))
        for entry in (entry for entry in entries if not is_last(entry)):
            self._train(entry, table)
            self._train_abreast(entry, table)
        self.shared.device.wait()
        best = best_of(table)
        if best is not None and is_last(best):
            for other in (entry for entry in entries if is_last(entry) and own(entry) != own(best)):
                other["state"] = "left out"
            self._train(best, table)
        if best is None or best["state"] == "diverged":
            raise DivergedError(all_diverged(entries))
        table["best"] = best["trial"]
        sections = self._together(table, best)
        self._write(table)
        return self._end(self._home(best), sections)

    def _train(self, entry: Entry, table: dict[str, Any]) -> None:
        """Train one that waits, and write down what came of it."""
        entries, device, home = table["trials"], self.shared.device, self._home(entry)
        number, steps = entries.index(entry), [one["steps"] for one in entries]
        title = f"trial {number + 1} of {len(entries)}"
        self.shared.begin(title, sum(steps[:number]), sum(steps))
        self.shared.others = [
            one.get("lines", ())
            for one in entries
            if one is not entry and one["state"] == "waiting" and self._below[one["trial"]] == self._below[entry["trial"]]
        ]
        recipe = self._recipes[entry["trial"]]
        if entry["state"] == "waiting":
            self.say(f"note: {title}: {combination(entry['varied'])}")
            entry |= device.of_main(self._outcome(home, recipe))
            self.say(f"note: {title}: {outcome(entry, table['metric'])}")
            self._write(table)
        if device.is_main:
            Checkpoints(home.path / "checkpoints").settle(best=recipe.train.load_best_model_at_end)

    def _train_abreast(self, entry: Entry, table: dict[str, Any]) -> None:
        """Train those that wait and differ from a finished one in their optimiser alone, side by side where that can be."""
        entries, recipes, own = table["trials"], self._recipes, self._recipes[entry["trial"]]
        waiting = [one for one in entries if one["state"] == "waiting" and alike(recipes[one["trial"]], own)]
        if not self.abreast or entry["state"] != "finished" or len(waiting) < 2:
            return
        homes = [(self._home(one), recipes[one["trial"]]) for one in waiting]
        lead = self._job(*homes[0], silent)
        if HELD in lead.prepared.sets or not may_go_abreast(lead):
            return
        before = sum(one["steps"] for one in entries if one["state"] != "waiting")
        steps = sum(one["steps"] for one in entries)
        self.shared.begin(f"{len(waiting)} trials side by side", before, steps, abreast=len(waiting))
        try:
            found = train_abreast(lead, homes[1:])
        finally:
            self.shared.pause()
        self.abreast = found is not None
        if found:
            self.say(f"note: {len(waiting)} more trials were trained side by side: they differ in their optimiser alone")
        for one, came in zip(waiting, found or (), strict=found is not None):
            one |= self._kept(came.job, came.trained) if came.fault is None else fault(came.fault)
            self.say(f"note: {combination(one['varied'])}: {outcome(one, table['metric'])}")
        self._write(table)  # first, since what is settled cannot be resumed
        for came in found or ():
            Checkpoints(came.job.folder.path / "checkpoints").settle(best=own.train.load_best_model_at_end)

    def _outcome(self, home: RunFolder, recipe: Recipe) -> Entry:
        """Train one and return what came of it, having written its metrics.json."""
        job = self._job(home, recipe, self.shared.say)
        try:
            trained = job.train()
        except DivergedError as error:
            return fault(error)
        finally:
            self.shared.pause()
        return self._kept(job, trained) | (self._measured(job, trained, HELD) if HELD in job.prepared.sets else {})

    def _kept(self, job: Job, trained: Trained) -> Entry:
        """Write the metrics.json of a trial that came to its end, and return what came of it."""
        found: Entry = {"state": "finished"}
        if self.shared.device.is_main:
            step, validation = result(job.folder, trained, job.assembled.recipe)
            job.folder.write("metrics.json", {"validation": validation, "train": job.section(trained)})
            seconds = sum(trained.loop.state.seconds.values())
            found |= {"validation": validation, "best_step": step, "seconds": round(seconds, 3)}
        return found

    def _measured(self, job: Job, trained: Trained, split: str) -> Entry:
        """Measure the model of a trial on one split, as the best one's will be; its model/ is not kept."""
        home, device = job.folder, self.shared.device
        job.keep(home, trained.loop)
        found: Entry = {}
        if device.is_main:
            saved, _ = ready(job.prepared, home, device=str(device.device))
            rows = job.prepared.dataset.splits[split]
            section = evaluated(saved, rows, home, name=split, train=None, say=self.shared.say).summary.section
            shutil.rmtree(home.model)
            home.write("metrics.json", {**(home.read("metrics.json") or {}), split: section})
            found = {split: {name: value for name, value in section.items() if not name.endswith("_ci95")}}
        device.wait()
        return found

    def _together(self, table: dict[str, Any], best: Entry) -> dict[str, Any]:
        """Return what the seeds or the folds of the best combination say together, as sections of metrics.json."""
        group = group_of(table, best)
        if SEED in best["varied"]:
            for entry in (entry for entry in group if "test" not in entry):
                home = self._home(entry)
                if "test" in self.shared.prepared(home.recipe()).sets:
                    job = self._finished(home)
                    entry |= self.shared.device.of_main(self._measured(job, job.train(), "test"))
            table["seeds"] = seeds_section(group)
            return {"seeds": table["seeds"]}
        if FOLD in best["varied"] and self.shared.device.is_main:
            homes = [self._home(entry) for entry in group]
            self._settle(self._home(best))
            folds = [Fold(home, self.shared.prepared(home.recipe()).dataset) for home in homes]
            last = self.shared.prepared(self._home(best).recipe())
            table["folds"] = pooled(folds, self.folder, last, say=self.shared.say)
            return {"folds": table["folds"]}
        return {}

    def _job(self, home: RunFolder, recipe: Recipe, say: Say) -> Job:
        begun = time.monotonic()
        prepared = self.shared.prepared(recipe)
        refuse_changed(home, prepared)
        assembled = assemble(prepared, say)
        return Job(prepared, assembled, home, self.shared.device, say, self.progress, begun, self.shared)

    def _finished(self, home: RunFolder) -> Job:
        """Return a training that is finished, to be taken up at its end."""
        self.shared.begin("", 0, 1)
        job = self._job(home, home.recipe(), silent)
        job.progress = False
        return job

    def _settle(self, home: RunFolder) -> None:
        """Say in the run's folder which trial its model is of."""
        if self.shared.device.is_main:
            shutil.copyfile(home.path / "recipe.yaml", self.folder.path / "best.yaml")
            shutil.copyfile(home.path / "data.json", self.folder.path / "data.json")

    def _end(self, home: RunFolder, sections: dict[str, Any]) -> RunFolder:
        """Save and measure the best trial's model."""
        self._settle(home)
        job = self._finished(home)
        loop = job.train().loop
        job.say = self.say
        return job.end(self.folder, loop, {**sections, "train": (home.read("metrics.json") or {})["train"]})

    def _home(self, entry: Entry) -> RunFolder:
        return self.folder.trial(entry["trial"])

    def _write(self, table: dict[str, Any]) -> None:
        if self.shared.device.is_main:
            self.folder.write("trials.json", table)
