"""An optimiser, a schedule and a task named as package.module:object, from the recipe to a finished run."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import thawline as tl
from test_training import assembled, options, run, silent, table
from thawline.errors import UserError
from thawline.run import below
from thawline.run.api import recipe_for
from thawline.run.prepare import prepare
from thawline.strategies.base import Strategy, strategy
from thawline.table import code_of
from thawline.train.optimize import load_state, state_tensors

OWN = {
    "task": "thawline.tasks.text_classification:TextClassification",
    "optim": "torch.optim:NAdam",  # takes no `fused`
    "schedule": "thawline.train.schedule:cosine",
}


def test_ones_own_parts_train(tmp_path: Path) -> None:
    finished = run(tmp_path / "run", **OWN, lr_scheduler_kwargs={"num_cycles": 1.5}, epochs=1)
    assert finished.metrics["test"]["n"] > 0
    recipe = (tmp_path / "run" / "recipe.yaml").read_text("utf-8")
    assert all(place in recipe for place in OWN.values())
    assert len(list(tl.load_run(tmp_path / "run").predict(["a good film"]))) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"schedule": OWN["schedule"], "lr_scheduler_kwargs": {"cycles": 1}},
            r"no argument 'cycles', did you mean 'num_cycles'",
        ),
        ({"optim": "torch.optim:NAdan"}, "The optimizer 'torch.optim:NAdan' cannot be imported"),
        ({"task": "thawline.types:Finding"}, "thawline.types:Finding is not a subclass"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(tmp_path: Path, more: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        tl.finetune(table(), say=silent, progress=False, output=str(tmp_path / "run"), **options(**more))
    assert not (tmp_path / "run").exists()


class Counting(torch.optim.Optimizer):
    """Keeps something beside its groups, and counts in them, as many optimisers do."""

    def __init__(self, params: Any, lr: float = 1e-3, decay: float = 0.5) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "k": 0})
        self.most = 3

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["k"] = min(self.most, group["k"] + 1)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=-group["lr"] * group["decay"] ** group["k"])


def test_an_optimiser_keeps_what_it_counts_in_its_groups_and_over_a_resume(tmp_path: Path) -> None:
    def learner() -> Any:
        return assembled(tmp_path, optim="test_own_parts:Counting")[2].learner

    one = learner()
    one.open(0)
    for step in range(2):
        for master in one.masters.now:
            master.grad = torch.ones_like(master)
        one.step(step, 1.0)
    assert {group["k"] for group in one.optimizer.param_groups} == {2}
    other = learner()
    load_state(other.optimizer, state_tensors(one.optimizer))
    assert {(group["k"], type(group["k"])) for group in other.optimizer.param_groups} == {(2, int)}


def headward(groups: Any, progress: float) -> frozenset[int]:
    """All of it at first, then the head alone: the line moves up again."""
    stages = [group.stage for group in groups]
    return frozenset(stages if 0.2 <= progress < 0.6 else [max(stages)])


def headward_again() -> Strategy:
    """Train the head, then everything, then the head."""
    return strategy("full")._replace(spec="test_own_parts:headward_again", active=headward)


@pytest.mark.parametrize("stored", [True, False])
def test_what_has_learned_and_is_frozen_again_is_computed_anew(tmp_path: Path, stored: bool, monkeypatch: Any) -> None:
    """Nothing that is of earlier weights is read, and nothing that later runs read is of other weights than theirs."""
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))
    plain: dict[str, Any] = {"strategy": "test_own_parts:headward_again", "epochs": 5, "lr": 3e-3}
    plain |= {"regularize": ["dropout(0.0)"], "load_best_model_at_end": False}
    run(tmp_path / "run", store={"features": stored}, **plain)
    monkeypatch.setattr("thawline.run.carry_out.cuts_of", lambda *given, **more: ())
    run(tmp_path / "in place", store={"features": False}, **plain)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("run", "in place"))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-4
    monkeypatch.undo()
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))
    run(tmp_path / "after", strategy="head", store={"features": stored}, epochs=1)
    run(tmp_path / "fresh", strategy="head", store={"features": False}, epochs=1)
    first, second = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("after", "fresh"))
    assert first == second


OWN_TASK = """
from thawline.tasks.text_classification import TextClassification

class Mine(TextClassification):
    def encode(self, examples):
        return super().encode([{**example, "text": example["text"] + " WORD"} for example in examples])
"""


def test_what_code_of_ones_own_made_is_not_taken_when_the_code_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)

    def keys(word: str) -> tuple[object, object]:
        (tmp_path / "task_of_mine.py").write_text(OWN_TASK.replace("WORD", word))
        monkeypatch.delitem(sys.modules, "task_of_mine", raising=False)
        importlib.invalidate_caches()
        made = prepare(recipe_for(table(), **options(task="task_of_mine:Mine", strategy="freeze(2)")), silent)
        return made.sets["train"].digests, below._collated(made)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    one, same, other = keys("good"), keys("good"), keys("bad film")
    assert one == same and one[0] != other[0] and one[1] != other[1]


def test_an_augmentation_of_ones_own_makes_other_views_when_its_code_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    made = list[str]()
    for content in ("def change(): ...\n", "def change(): ...  # otherwise\n"):
        (tmp_path / "change_of_mine.py").write_text(content)
        monkeypatch.delitem(sys.modules, "change_of_mine", raising=False)
        importlib.invalidate_caches()
        made.append(code_of(importlib.import_module("change_of_mine").change))
    assert made[0] != made[1] and all(made)
