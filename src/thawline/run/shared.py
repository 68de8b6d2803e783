"""What the trials of one run have in common: made once, handed to each."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, final

import torch

from thawline.data.dataset import Dataset
from thawline.models.heads import of_head
from thawline.models.stages import Stages
from thawline.recipe import Recipe, seed_of_data
from thawline.run.assemble import Assembled, fitted, loaded
from thawline.run.folder import RunFolder
from thawline.run.prepare import Prepared, Say, check_parts, load_dataset, prepare
from thawline.thaw.replicas import sharing
from thawline.train.device import Device
from thawline.train.loop import Observer
from thawline.train.observe import ProgressBar

_KEPT = 8
"""Preparations in memory at a time, each under two names; another is made from the caches of what was read and encoded."""


@final
class Shared:
    """Data that are read and encoded once, decisions that are measured once, and one progress bar over all trials.

    `others` are the thaw lines of each trial to come that can read what the frozen part of the one under way computes.
    """

    def __init__(self, device: Device, say: Say) -> None:
        self.device, self.say = device, once(say)
        self.others: Sequence[Collection[int]] = ()
        self._threads: int | None = None
        self._datasets: dict[str, Dataset] = {}
        self._prepared: dict[str, Prepared] = {}
        self._loaded: tuple[str, Any, Stages] | None = None
        self._bar: ProgressBar | None = None
        self._title, self._before, self._steps, self._abreast = "", 0, 0, 1

    def prepared(self, recipe: Recipe) -> Prepared:
        """Return what a trial starts from; trials whose recipes say the same of it share it. Raises UserError."""
        check_parts(recipe)
        dataset = self._dataset(recipe)
        known = self._prepared.get(_basis(recipe, dataset))
        if known is None:
            known = prepare(recipe, self.say, dataset=dataset)
            for one in (recipe, known.recipe):  # which says what this one leaves to be inferred, and is asked for later
                _keep(self._prepared, _basis(one, dataset), known)
                _keep(self._datasets, _source(one, dataset), dataset)
        own = {section: getattr(known.recipe, section) for section in ("task", "model", "data")}
        # A model may write into its config, as one does whose vocabulary grows.
        return replace(known, recipe=recipe.model_copy(update=own), config=copy.deepcopy(known.config))

    def _dataset(self, recipe: Recipe) -> Dataset:
        found = (self._datasets.get(_source(recipe, seed=seed)) for seed in (None, seed_of_data(recipe)))
        return next(filter(None, found), None) or load_dataset(recipe, self.say)

    def fitted(self, prepared: Prepared) -> Assembled:
        """Return a trial's strategy on a model that is there for looking at, not for training: it is loaded once for many."""
        key = f"{prepared.recipe.model} {prepared.task.problem} {prepared.task.labels}"
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, *loaded(prepared, self.say))
        _, model, stages = self._loaded
        return fitted(prepared, sharing(model), stages, say=self.say)  # a copy, since a strategy may put modules into it

    def forget_model(self) -> None:
        """Let the model of `fitted` go."""
        self._loaded = None

    def decide(self, folder: RunFolder, *, arithmetic: bool) -> None:
        """Measure what all trials decide by, unless the run's decisions.json has it; `arithmetic`: the gain of bfloat16 too."""
        known = folder.read("decisions.json")
        if known is None:
            known = {"threads": torch.get_num_threads(), **({"bf16_gain": self.device.bf16_gain} if arithmetic else {})}
        known = self.device.of_main(known)
        self._threads = known["threads"]
        if "bf16_gain" in known:
            self.device.bf16_gain = known["bf16_gain"]
        if self.device.is_main:
            folder.write("decisions.json", known)

    def begin(self, title: str, before: int, steps: int, *, abreast: int = 1) -> None:
        """Make ready for the next trial: `before` of all `steps` steps were those of the trials before it.

        `abreast` is how many are trained at once.
        """
        self._title, self._before, self._steps, self._abreast = title, before, steps, abreast
        if self._threads is not None:  # a trial before may have shared the threads out among workers
            torch.set_num_threads(self._threads)

    def bar(self, metric: str) -> Observer:
        """Return an observer that shows how far all trials have come, and the time left over all."""
        bar = self._bar = self._bar or ProgressBar(metric)
        before, steps, abreast = self._before, self._steps, self._abreast
        bar.begin(self._title)
        return lambda moment: bar(moment._replace(step=before + abreast * moment.step, total=steps))

    def pause(self) -> None:
        """Take the bar away until the next trial is under way."""
        if self._bar is not None:
            self._bar.close()


def once(say: Say) -> Say:
    """Return a `say` that says the same thing only once."""
    said = set[str]()

    def told(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    return told


def below_of(recipe: Recipe) -> str:
    """Return all of a recipe that what a frozen part computes of an example may depend on."""
    drawn = recipe.data.augment or recipe.model.add_tokens
    arithmetic = {"bf16", "threads", "device", *(["seed"] if drawn else [])}
    read = set(type(recipe.data).model_fields) - {"fold", "seed"}
    include: Any = {"task": True, "model": True, "data": read, "train": arithmetic, "store": {"dtype"}}
    return recipe.model_dump_json(include=include, exclude={"model": {"config": set(filter(of_head, recipe.model.config))}})


def _source(recipe: Recipe, dataset: Dataset | None = None, *, seed: int | None = None) -> str:
    """Return all that a data set depends on; of the seed only what is made or drawn does, and of that there is a finding."""
    drawn = dataset is not None and any(finding.name in ("split", "sample", "folds") for finding in dataset.findings)
    read = set(type(recipe.data).model_fields) - {"max_length", "seed"}
    include: Any = {"task": {"problem"}, "data": read, "store": {"path"}}
    return f"{recipe.model_dump_json(include=include)} {seed_of_data(recipe) if drawn else seed}"


def _basis(recipe: Recipe, dataset: Dataset) -> str:
    """Return all that a preparation depends on."""
    learned = {"class_weights", "label_smoothing_factor", *(["seed"] if recipe.data.augment else [])}
    include: Any = {"task": True, "model": True, "data": True, "train": learned}
    return recipe.model_dump_json(include=include) + dataset.fingerprint


def _keep(known: dict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    if len(known) > _KEPT:
        del known[next(iter(known))]
