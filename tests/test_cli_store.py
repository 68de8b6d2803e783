"""`thawline store`: what is listed, measured and pruned, and what is said about words it does not know."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stored import FACTS, fill
from thawline.cli import main
from thawline.errors import RecipeError
from thawline.recipe import Recipe, recipe_from
from thawline.thaw.store import Store


@pytest.fixture
def store(cache: Path) -> Store:
    """A store with two shelves; the one of depth 4 was not used for ten days."""
    store = Store(cache / "features", max_bytes=None)
    fill(store.shelf(FACTS | {"model": "some/model"}), range(1500))
    then = time.time() - 10 * 86400
    for path in store.folder.rglob("*.seg"):
        os.utime(path, (then, then))
    fill(store.shelf(FACTS | {"depth": 2, "dtype": "bfloat16"}), range(3))
    return store


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["store", *words]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_list(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys)
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["model", "depth", "dtype", "examples", "size", "last", "used"]
    assert [row[:4] for row in rows[1:3]] == [["?", "2", "bfloat16", "3"], ["some/model", "4", "float32", "1,500"]]
    assert f"of 10.0 GB (store.max_gb) in {store.folder}" in out


def test_nothing_is_there(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == f"total: 0.0 MB of 10.0 GB (store.max_gb) in {cache / 'features'}\n"
    assert said(capsys, "prune").startswith("freed 0.0 MB (0 files)")
    assert list(cache.iterdir()) == []


def test_measure(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = re.findall(r"([\d,]+) MB/s", said(capsys, "measure"))
    assert len(numbers) == 3
    assert min(int(number.replace(",", "")) for number in numbers) > 0
    assert not list((cache / "features").iterdir())


def test_prune(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert "(0 files)" in said(capsys, "prune")
    assert "(0 files)" in said(capsys, "prune", "--older-than", "11")
    assert "(1 files)" in said(capsys, "prune", "--older-than", "9.5")
    assert [info.facts["depth"] for info in store.shelves()] == [2]
    assert "(1 files); 0.0 MB are left" in said(capsys, "prune", "--max-gb", "0")
    fill(store.shelf(FACTS), range(3))
    assert "(1 files); 0.0 MB are left" in said(capsys, "prune", "--all")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mesure"], "did you mean 'measure'"),
        (["prune", "--max-gb", "ten"], "--max-gb"),
        (["prune", "--max-gb", "-1"], "--max-gb"),
        (["prune", "--max-gb", "inf"], "--max-gb is inf; expected a number of at least 0"),
        (["prune", "--older-than", "nan"], "--older-than"),
        (["prune", "everything"], "unexpected extra argument"),
    ],
    ids=str,
)
def test_mistakes(store: Store, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, *words, code=2)
    assert told in line.lower()
    assert line.count("\n") == 1
    assert len(store.shelves()) == 2


def test_a_folder_that_cannot_be_written_to(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / "features").write_text("a file")
    assert "Features cannot be kept in" in said(capsys, "measure", code=1)


def test_it_does_not_wait_for_torch(store: Store) -> None:
    script = (
        "import sys; from thawline.cli import main; main(['store']); main(['store', 'prune']); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


# The recipe's section


def made(*overrides: str) -> Recipe:
    return recipe_from({"data": "reviews.csv"}, overrides)


def test_settings_of_the_store() -> None:
    section = made().store
    assert (section.features, section.dtype, section.max_gb) == ("auto", "auto", 10.0)
    assert made("store.features=false", "store.max_gb=null").store.model_dump() == section.model_dump() | {
        "features": False,
        "max_gb": None,
    }
    assert made("features=true", "store.dtype=bfloat16", "max_gb=0.5").store.features is True
    for override in ("store.features=yes", "store.dtype=int8", "store.max_gb=0"):
        with pytest.raises(RecipeError, match="was given; expected"):
            made(override)
