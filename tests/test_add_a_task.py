"""docs/guides/add-a-task.md: its task holds to the contract, and trains by its name."""

import re
import sys
from pathlib import Path

import pytest

import thawline as tl

AMOUNTS = ("so little", "a good deal", "all")
GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "add-a-task.md"


def test_the_task_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minilm: Path) -> None:
    module, check = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "ratings.py").write_text(module, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ratings", raising=False)
    import ratings

    exec(compile(check, str(GUIDE), "exec"), {"OrdinalRating": ratings.OrdinalRating})  # noqa: S102 - the guide's own block
    rows = "".join(f"a film worth {AMOUNTS[i % 3]} of it {i},{i % 3 + 1}\n" for i in range(48))
    (tmp_path / "reviews.csv").write_text("text,label\n" + rows)
    train = {"num_train_epochs": 6, "learning_rate": 5e-4, "batch_size": 8, "threads": 1, "seed": 0}
    run = tl.finetune(
        str(tmp_path / "reviews.csv"),
        task="ratings:OrdinalRating",
        train=train,
        output={"dir": str(tmp_path / "run")},
        progress=False,
        say=lambda text: None,
    )
    assert run.metrics["test"]["accuracy"] > 0.6
    assert run.predict(["a film worth all of it"])[0]["label"] == "3"
