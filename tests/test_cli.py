"""The verbs of the command line, run in this process; what they print for programs, and for people."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import thawline as tl
from families import folder_of
from thawline.cli import main
from thawline.cli.stream import chunks
from thawline.errors import DataError
from thawline.version import __version__

WORDS = ["warm", "funny", "dull", "noisy", "quiet", "lovely", "awful", "film", "card", "coffee"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


Thawline = Callable[..., Done]


@pytest.fixture
def thawline(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Thawline:
    """Runs a command in an empty folder; `stdin` is what it reads there."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(list(map(str, words)))
        return Done(code, *capsys.readouterr())

    return run


def settings(**more: Any) -> list[str]:
    quick = {"model": folder_of("bert"), "train.bf16": "false", "train.lr": 1e-3, "train.batch_size": 8}
    quick |= {"evaluate.bootstrap_samples": 20, "train.seed": 3, **more}
    return [f"{key}={value}" for key, value in quick.items()]


def write_table(path: Path, n: int = 60, labels: Sequence[str] = ("good", "bad")) -> Path:
    """Texts that say their label."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "label"])
        for i in range(n):
            label = labels[i % len(labels)]
            writer.writerow([f"{label} {WORDS[i % 10]} {WORDS[i % 7]} number {i}", label])
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    """The folder of a finished run, made by the command."""
    folder = tmp_path_factory.mktemp("runs") / "reviews"
    assert main(["train", str(table), *settings(), "--output", str(folder)]) == 0
    return folder


def test_version_and_help(thawline: Thawline) -> None:
    assert thawline("--version") == (0, f"thawline {__version__}\n", "")
    code, out, _ = thawline()
    assert code == 0
    verbs = "plan train resume evaluate predict features store check init doctor quickstart"
    for verb in verbs.split():
        assert f" {verb} " in out
        assert thawline(verb, "--help").code == 0


def test_help_is_quick_and_light() -> None:
    """Twice 0.5 s, since other tests run beside; what it imports decides."""
    best = min(seconds_of([sys.executable, "-m", "thawline", "--help"]) for _ in range(3))
    assert best < 1.0
    script = (
        "import sys, thawline.cli as c; c.main(['--help']); sys.exit(bool({'torch', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=False).returncode == 0


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def test_train_says_what_came_of_it(thawline: Thawline, table: Path) -> None:
    code, out, err = thawline("train", table, *settings(max_steps=2))
    assert code == 0
    assert "f1_macro" in out and "tfidf" in out and "the model minus tfidf is" in out
    assert out.strip().startswith("test, n = 12")
    assert "thawline predict runs/reviews-1 FILE" in err
    assert "thawline predict runs/reviews-1 FILE" in Path("runs/reviews-1/report.html").read_text("utf-8")
    assert thawline("train", table, *settings(max_steps=1)).code == 0
    assert Path("runs/reviews-2/metrics.json").is_file()


def test_train_without_a_test_split_says_so(thawline: Thawline, tmp_path: Path) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    write_table(folder / "train.csv")
    code, out, err = thawline("train", folder, *settings(max_steps=1), "--output", "run")
    assert (code, out.strip().split(",")[0]) == (0, "validation")
    assert "there is no test split" in err
    found = json.loads(thawline("evaluate", "run", "--json").out)
    assert found["n"] > 0 and "tfidf" in found["baseline"] and "tfidf" in out


def test_train_with_neither_split(thawline: Thawline, tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    write_table(tmp_path / "split" / "train.csv")
    code, out, err = thawline("train", "split", *settings(max_steps=1), "data.validation_size=0")
    assert (code, out) == (0, "")
    assert "nothing was measured" in err


def test_evaluate(thawline: Thawline, finished: Path, table: Path) -> None:
    known = json.loads((finished / "metrics.json").read_text())["test"]
    found = json.loads(thawline("evaluate", finished, "--json").out)
    assert found.pop("analysis") == json.loads((finished / "analysis.json").read_text())["test"]
    assert found == known
    assert f"{known['accuracy']:.3f}" in thawline("evaluate", finished).out
    code, out, _ = thawline("evaluate", finished, "--data", table, "--json")
    found = json.loads(out)
    assert (code, found["n"], set(found["baseline"])) == (0, 60, {"majority", "tfidf"})
    assert {"mistakes", "slices"} <= set(found["analysis"]) and "metrics" not in found["analysis"]
    assert thawline("evaluate", finished, "--data", table).out.strip().startswith("reviews, n = 60")
    assert (finished / "predictions" / "on-reviews.jsonl").is_file()


def test_without_the_training_data_there_are_no_baselines(thawline: Thawline, tmp_path: Path) -> None:
    data = write_table(tmp_path / "mine.csv")
    assert thawline("train", data, *settings(max_steps=1), "--output", "run").code == 0
    other = write_table(tmp_path / "other.csv", 30)
    for change, said in ((lambda: write_table(data, 50), "changed since the model was trained"), (data.unlink, "mine.csv")):
        change()
        code, out, err = thawline("evaluate", "run", "--data", other, "--json")
        assert (code, "baseline" in json.loads(out)) == (0, False), err
        assert "note: there are no baselines, since" in err and said in err


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_predict_a_file(thawline: Thawline, finished: Path, table: Path, suffix: str) -> None:
    code, out, err = thawline("predict", finished, table, "--output", f"answers{suffix}")
    assert (code, out) == (0, "")
    assert f"60 predictions are in answers{suffix}" in err
    text = Path(f"answers{suffix}").read_text()
    assert len(text.splitlines()) == 60 + (suffix == ".csv")
    if suffix == ".jsonl":
        assert thawline("predict", finished, table).out == text


def test_predict_lines_and_objects_alike(thawline: Thawline, finished: Path) -> None:
    texts = ["good film", "bad coffee", "", "good film"]
    lines = thawline("predict", finished, "-", stdin="\n".join(texts).encode() + b"\n")
    objects = "".join(json.dumps({"review": text}) + "\n" for text in texts)
    assert thawline("predict", finished, "-", stdin=objects.encode()).out == lines.out
    found = [json.loads(line) for line in lines.out.splitlines()]
    assert [one["id"] for one in found] == [one["id"] for one in tl.load_run(finished).predict(texts)]
    assert len({one["id"] for one in found}) == 4
    assert "empty" in lines.err


def test_ids_of_the_lines_own_stay_as_they_are(thawline: Thawline, finished: Path) -> None:
    for ids in (["r1", "r2"], [7, 8], ["a1-0", "b2-3"]):
        lines = "".join(json.dumps({"review": text, "id": own}) + "\n" for text, own in zip(("good", "bad"), ids, strict=True))
        code, out, _ = thawline("predict", finished, "-", stdin=lines.encode())
        assert code == 0 and [json.loads(line)["id"] for line in out.splitlines()] == list(map(str, ids))


def test_a_file_that_is_not_there_is_told_though_answers_are(thawline: Thawline, finished: Path) -> None:
    Path("answers.csv").write_text("id\n")
    code, _, err = thawline("predict", finished, "revews.csv", "--output", "answers.csv")
    assert code == 2 and "There is no file or folder" in err


def test_chunks_number_the_lines_they_cannot_read() -> None:
    assert [len(part) for part in chunks([b"a\n"] * 5, ["text"], size=2)] == [2, 2, 1]
    for lines, names, said in [
        ([b'{"a": 1}\n', b"no\n"], ["text"], "Line 2"),
        ([b"fine\n", b"\xff\n"], ["text"], "Line 2"),
        ([b"one text\n"], ["premise", "hypothesis"], '"premise"'),
        ([], ["text"], "empty"),
    ]:
        with pytest.raises(DataError, match=said):
            list(chunks(lines, names))


def test_equal_texts_far_apart_have_ids_of_their_own(
    thawline: Thawline, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = b"good film\n" * 1500
    found = [json.loads(line)["id"] for line in thawline("predict", finished, "-", stdin=texts).out.splitlines()]
    assert len(set(found)) == 1500


def test_resume_of_a_finished_run(thawline: Thawline, finished: Path) -> None:
    code, out, err = thawline("resume", finished)
    assert (code, out) == (0, "")
    assert "is finished" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_says_how_to_go_on(thawline: Thawline, table: Path, number: signal.Signals) -> None:
    thread = threading.Thread(target=send_when_written, args=(Path("run/history.jsonl").absolute(), number))
    thread.start()
    code, out, err = thawline("train", table, *settings(epochs=400), "--output", "run")
    thread.join()
    assert (code, out) == (130, "")
    assert "the last checkpoint is kept" in err
    assert err.strip().endswith("thawline resume run")
    decisions = Path("run/decisions.json")
    decisions.write_text(json.dumps({**json.loads(decisions.read_text()), "steps": 20}))  # no need to wait for all of it
    code, out, err = thawline("resume", "run")
    assert (code, "resumed at step" in err, "f1_macro" in out) == (0, True, True)


def send_when_written(path: Path, number: signal.Signals) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and not (path.is_file() and path.stat().st_size):
        time.sleep(0.01)
    os.kill(os.getpid(), number)


def test_check(thawline: Thawline, table: Path) -> None:
    code, out, err = thawline("check", table, "data.drop_duplicates=true")
    assert code == 0
    assert "class_balance" in out and "good 21" in out
    assert "single_label_classification" in err and "test 12" in err
    assert not Path("runs").exists()


def test_check_is_light(table: Path) -> None:
    script = f"import sys, thawline.cli as c; c.main(['check', {str(table)!r}]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_init_writes_a_recipe_that_trains(thawline: Thawline, table: Path) -> None:
    code, _, err = thawline("init", table)
    assert (code, "thawline train recipe.yaml" in err) == (0, True)
    text = Path("recipe.yaml").read_text()
    assert "  text: review\n" in text and "problem: single_label_classification\n" in text and "# " in text
    again = thawline("init", table)
    assert (again.code, "nothing is written over" in again.err) == (2, True)
    assert Path("recipe.yaml").read_text() == text
    assert thawline("train", "recipe.yaml", *settings(max_steps=1)).code == 0


def test_doctor(thawline: Thawline) -> None:
    assert "torch" in thawline("doctor").out


def test_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "thawline", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"thawline {__version__}\n"


def test_a_link_to_nowhere_is_told(thawline: Thawline, tmp_path: Path) -> None:
    (tmp_path / "data.csv").symlink_to("gone.csv")
    code, _, err = thawline("check", tmp_path / "data.csv")
    assert code == 2 and "is a link to gone.csv, where there is nothing" in err


@pytest.mark.parametrize(
    ("file", "content", "asked", "told"),
    [
        ("data.json", None, ["predict", "evaluate"], "data.json is missing"),
        ("data.json", "{", ["predict", "evaluate"], "data.json is not the JSON that thawline wrote"),
        ("metrics.json", "", ["report", "evaluate"], "metrics.json is not the JSON that thawline wrote"),
    ],
)
def test_a_damaged_run_is_told_in_a_sentence(
    file: str, content: str | None, asked: list[str], told: str, thawline: Thawline, finished: Path, table: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / file).unlink() if content is None else (run / file).write_text(content)
    for command in asked:
        given = {"predict": [table], "evaluate": [], "report": ["--no-open"]}
        result = thawline(command, run, *given[command])
        assert result.code == 2 and told in result.err and "Traceback" not in result.err, command


def test_a_run_whose_model_is_gone_is_finished_again(thawline: Thawline, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    weights = (run / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "model")
    result = thawline("resume", run)
    assert result.code == 0 and "is missing: it is saved and measured again" in result.err
    assert (run / "model" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["store.path=FILE"], "The folder of caches FILE cannot be made"),
        (["report_to=[foo]"], "there is no tracker 'foo'"),
        (["output=FILE"], "is there already"),
        (["data.folds=1000"], "data.folds: makes 1,001 combinations"),
        (["train.seeds=100000"], "train.seeds: makes 100,000 combinations"),
        (["strategy=lora(lora)"], "lora(r=lora(r=16)) is out of range"),
        (["strategy=lora(r=100000)"], "lora(r=100000) asks for a rank that none of the layers has"),
        (["train.threads=999"], "train.threads: 999 was given; expected at most"),
    ],
)
def test_a_plan_refuses_what_training_would(
    arguments: list[str], told: str, thawline: Thawline, table: Path, tmp_path: Path
) -> None:
    file = str(tmp_path / "file")
    Path(file).write_text("")
    result = thawline("plan", table, f"model={folder_of('bert')}", *(text.replace("FILE", file) for text in arguments))
    assert result.code == 2 and told.replace("FILE", file) in " ".join(result.err.split())


def test_a_plan_of_more_steps_than_there_ever_are(thawline: Thawline, table: Path) -> None:
    code, out, err = thawline(
        "plan", table, f"model={folder_of('bert')}", "train.epochs=1e12", "strategy=gradual(full)", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["steps"] == pytest.approx(1e12 * json.loads(out)["steps_per_epoch"])
