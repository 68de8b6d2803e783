"""An optimiser, a schedule and a task named as package.module:object, from the recipe to a finished run."""

from pathlib import Path

import pytest

import thawline as tl
from test_training import options, run, silent, table
from thawline.errors import UserError

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
