"""Every combination of `vary` is a training of its own, to the byte; the best is the run's model."""

import doctest
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import thawline as tl
import thawline.run.shared as shared_module
from families import folder_of
from test_cli import Thawline, thawline
from test_readme import blocks, run
from test_resume import wait_for
from test_training import options, silent, table
from thawline.errors import DataError, DivergedError, RecipeError, UserError
from thawline.recipe import Recipe, combination, load_recipe, recipe_from, to_yaml, trials_of
from thawline.recipe.text import parse_yaml
from thawline.run.repeats import best_of
from thawline.run.shared import below_of

__all__ = ["thawline"]  # a fixture
GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "vary.md"
GRID: dict[str, Any] = {"lr": [1e-3, 3e-2], "strategy": ["head", "freeze(4)"]}
COMBINATIONS = [{"lr": lr, "strategy": strategy} for lr in GRID["lr"] for strategy in GRID["strategy"]]


def made(*overrides: str, **sections: Any) -> Recipe:
    return recipe_from({"data": "reviews.csv"}, overrides, **sections)


def told(*overrides: str, **sections: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        trials_of(made(*overrides, **sections))
    return str(caught.value)


def train(folder: Path, say: Callable[[str], None] = silent, **more: Any) -> tl.Run:
    return tl.finetune(table(), say=say, progress=False, output=str(folder), **options(**more))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def timeless(folder: Path) -> list[dict[str, Any]]:
    """A history without what is measured by the clock."""
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("per_second")} for line in lines]


def weights(folder: Path) -> bytes:
    """The weights that the best checkpoint holds."""
    index = read(folder / "checkpoints" / "index.json")
    return (folder / "checkpoints" / index["best"] / "model.safetensors").read_bytes()


def results(folder: Path) -> dict[str, Any]:
    """What a run came to, without what is measured by the clock."""
    metrics = read(folder / "metrics.json")
    found = {name: metrics[name] for name in ("test", "validation")}
    found |= {split: (folder / "predictions" / f"{split}.jsonl").read_bytes() for split in ("test", "validation")}
    return found | {"model": (folder / "model" / "model.safetensors").read_bytes(), "steps": metrics["train"]["steps"]}


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four trials."""
    folder = tmp_path_factory.mktemp("varied") / "run"
    train(folder, vary=GRID)
    return folder


# The recipe


def test_three_ways_to_say_it(tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text("data: reviews.csv\nvary: {train.lr: [1e-4, 3e-4], strategy: [head, freeze(4)]}\n")
    (tmp_path / "deep.yaml").write_text(
        "data: reviews.csv\nvary:\n  train: {lr: [1e-4, 3e-4]}\n  strategy: [head, freeze(4)]\n"
    )
    typed = made("vary.train.lr=[1e-4,3e-4]", "vary.strategy=[head,freeze(4)]")
    python = made(vary={"lr": np.array([1e-4, 3e-4]), "strategy": (tl.head(), tl.freeze(4))})
    assert typed == python == load_recipe(tmp_path / "flat.yaml") == load_recipe(tmp_path / "deep.yaml")
    assert recipe_from(parse_yaml(to_yaml(typed))[0]) == typed
    assert typed.vary == {"train.learning_rate": [1e-4, 3e-4], "strategy": ["head", "freeze(4)"]}


def test_the_grid_goes_in_the_order_written() -> None:
    trials = trials_of(made("vary.seed=[0,1]", "vary.lr=[1e-4,3e-4]", "epochs=2"))
    seen = [(trial.name, trial.recipe.train.seed, trial.recipe.train.learning_rate) for trial in trials]
    assert seen == [("001", 0, 1e-4), ("002", 0, 3e-4), ("003", 1, 1e-4), ("004", 1, 3e-4)]
    assert all(not trial.recipe.vary and trial.recipe.train.num_train_epochs == 2 for trial in trials)
    assert trials[0].recipe == made("seed=0", "lr=1e-4", "epochs=2", "data.seed=42")  # the data are those of the recipe's own
    assert trials_of(made()) == ()


@pytest.mark.parametrize(
    ("override", "values"),
    [
        (
            "strategy=[head, gradual(layerwise(full, decay=0.9), until=0.5)]",
            ["head", "gradual(layerwise(full, decay=0.9), until=0.5)"],
        ),
        ("regularize=[[l1(1e-5), dropout(0.1)], [], l2(1e-4)]", [["l1(1e-05)", "dropout(0.1)"], [], ["l2(0.0001)"]]),
        ("train.max_grad_norm=[1.0, null]", [1.0, None]),
        ("data.text=[0, [title, body]]", ["0", ["title", "body"]]),
        ("model=[a, 1e5]", ["a", "1e5"]),
        ("train.class_weights=[none, auto, {good: 2}]", ["none", "auto", {"good": 2.0}]),
        ("data.split=[hash, group(author)]", ["hash", "group(author)"]),
    ],
)
def test_values_are_read_as_those_of_the_key(override: str, values: list[Any]) -> None:
    path = override.partition("=")[0]
    section, _, key = {"model": "model.name"}.get(path, path).partition(".")
    recipes = [trial.recipe for trial in trials_of(made(f"vary.{override}"))]
    assert [getattr(getattr(recipe, section), key) if key else getattr(recipe, section) for recipe in recipes] == values


def test_a_list_wins_over_a_value_and_a_later_list_over_an_earlier() -> None:
    recipe = recipe_from({"data": "x.csv", "train": {"lr": 1.0}, "vary": {"lr": [1e-4]}}, ["vary.train.lr=[2e-4,3e-4]"])
    assert [trial.recipe.train.learning_rate for trial in trials_of(recipe)] == [2e-4, 3e-4]
    steps = trials_of(made("vary.max_steps=[5,10]", "epochs=2"))
    assert [trial.recipe.train.max_steps for trial in steps] == [5, 10]
    sizes = trials_of(made("vary.batch_size=[8,16]", "accumulation=4"))
    assert [trial.recipe.train.per_device_train_batch_size for trial in sizes] == [2, 4]
    assert [trial.recipe.train.warmup_steps for trial in trials_of(made("vary.warmup=[0.1,20]"))] == [None, 20]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("vary.train.epoch=[1,2]", "vary.train.epoch: there is no such key, did you mean 'train.epochs'?"),
        ("vary.trian.lr=[1]", "did you mean 'train.lr'?"),
        ("vary.lr=1e-4,3e-4", "1e-4,3e-4 was given; expected a list of values; for example vary.train.lr=[1e-4,3e-4]"),
        ("vary.lr=[]", "vary.train.lr: an empty list was given; expected at least one value in it."),
        ("vary.lr=", "null was given; expected a list"),
        ("vary.output=[a,b]", "vary.output.dir: cannot vary: all trials are kept in the run's one folder."),
        ("vary.data=[a.csv]", "vary.data.path: cannot vary: trials are compared"),
        ("vary.store.max_gb=[1]", "vary.store.max_gb: cannot vary"),
        ("vary.metric=[loss]", "cannot vary: trials are compared by one metric."),
        ("vary=3", "vary: 3 was given; expected keys with lists of values"),
        ("vary.vary.lr=[1]", "vary.vary.lr: there is no such key"),
        ("vary.eval_strategy=[epoch,no]", "the best trial cannot be told; expected epoch or steps"),
        ("vary.lr=[1e-4,0.0001]", "two combinations are the same"),
        ("vary.lr=[[1e-4]]", "train.learning_rate: [0.0001] was given; expected a number above 0"),
        (f"vary.seed={list(range(1000))}", "the lists make 1,000 combinations; expected at most 999"),
    ],
)
def test_faults_are_told_in_words(override: str, words: str) -> None:
    assert words in told(override)


@pytest.mark.parametrize("values", [tl.full(), {1e-4}, [object()], "auto", None, iter([1])])
def test_python_values_that_are_no_list(values: Any) -> None:
    assert re.search("expected a list of", told(vary={"lr": values}))


def test_all_combinations_are_faulted_at_once() -> None:
    found = told("vary.lr=[1e-4,-1]", "vary.strategy=[head,gradul(full)]", "vary.epochs=[0,1]").splitlines()
    assert len(found) == 3
    assert "train.learning_rate: -1 was given" in "".join(found)
    assert "did you mean 'gradual'? " in "".join(found)
    assert all("(vary: train.learning_rate=" in line and "more)" in line for line in found)
    assert "vary.train.lr: is given" not in told("vary.lr=[1]", "vary.train.learning_rate=[2]").splitlines()[0][:20]


# What comes of it


@pytest.mark.parametrize("number", [1, 2])
def test_a_trial_is_its_run_alone(varied: Path, tmp_path: Path, number: int) -> None:
    """The bytes of the weights, every evaluation, every step; and the best one's model, metrics and predictions."""
    trial = varied / "trials" / f"{number + 1:03}"
    alone = train(tmp_path / "alone", **COMBINATIONS[number]).folder
    assert timeless(trial) == timeless(alone)
    assert weights(trial) == weights(alone)
    assert load_recipe(trial / "recipe.yaml").train == load_recipe(alone / "recipe.yaml").train
    again = train_again(trial, tmp_path / "again") if number == 1 else alone
    assert weights(again) == weights(alone)


def train_again(trial: Path, folder: Path) -> Path:
    return tl.finetune(trial / "recipe.yaml", say=silent, progress=False, output=str(folder)).folder


def test_how_a_step_is_cut_does_not_vary() -> None:
    with pytest.raises(RecipeError, match=r"changes nothing that is learned; expected vary\.batch_size"):
        trials_of(recipe_from({"data": "x.csv", "train": {"batch_size": 32}, "vary": {"accumulation": [1, 2]}}))


def test_the_best_is_the_run(varied: Path, tmp_path: Path) -> None:
    found = read(varied / "trials.json")
    best = varied / "trials" / found["best"]
    merits = [entry["validation"][found["metric"]] for entry in found["trials"]]
    assert int(found["best"]) - 1 == merits.index(max(merits))
    alone = train(tmp_path / "alone", **COMBINATIONS[int(found["best"]) - 1]).folder
    assert results(varied) == results(alone)
    assert read(varied / "metrics.json")["train"] == read(best / "metrics.json")["train"]
    assert (varied / "best.yaml").read_text() == (best / "recipe.yaml").read_text()


def test_what_a_trials_folder_holds(varied: Path) -> None:
    found = read(varied / "trials.json")
    assert [entry["varied"] for entry in found["trials"]] == [
        {"train.learning_rate": one["lr"], "strategy": one["strategy"]} for one in COMBINATIONS
    ]
    for entry in found["trials"]:
        folder = varied / "trials" / entry["trial"]
        names = {path.name for path in folder.iterdir()}
        assert names >= {"recipe.yaml", "data.json", "decisions.json", "history.jsonl", "checkpoints", "metrics.json"}
        assert not names & {"model", "predictions"}
        (kept,) = (path for path in (folder / "checkpoints").iterdir() if path.is_dir())
        assert {path.name for path in kept.iterdir()} == {"model.safetensors", "state.json"}
        metrics = read(folder / "metrics.json")
        assert metrics.keys() == {"validation", "train"}
        judged = {line["step"]: line for line in timeless(folder) if line["kind"] == "evaluation"}
        assert metrics["validation"].items() <= judged[entry["best_step"]].items()
        assert entry["validation"] == metrics["validation"]
        assert kept.name == f"step-{entry['best_step']:08d}"
    done = tl.load_run(varied)
    assert [trial["best"] for trial in done.trials] == [entry["trial"] == found["best"] for entry in found["trials"]]
    assert done.recipe.vary
    assert len(done.predict(["good film"])) == 1


def test_data_are_read_once_and_vary_where_they_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds of data split them anew, so each has its own; what else varies shares them. Both equal their runs alone."""
    counted: list[str] = []
    original = shared_module.load_dataset
    monkeypatch.setattr(shared_module, "load_dataset", lambda *given: counted.append("read") or original(*given))
    notes: list[str] = []
    vary = {"data.seed": [0, 1], "label_smoothing": [0.0, 0.2], "max_length": [8]}
    done = train(tmp_path / "run", notes.append, vary=vary, epochs=1)
    assert len(counted) == 2
    assert sum("validation sets of their own, because of data.seed, so" in note for note in notes) == 1
    assert len(notes) == len(set(notes))
    assert len({trial["validation"]["loss"] for trial in done.trials}) == 4
    alone = train(tmp_path / "alone", data={"seed": 1, "max_length": 8}, label_smoothing=0.2, epochs=1).folder
    assert (timeless(tmp_path / "run" / "trials" / "004"), weights(tmp_path / "run" / "trials" / "004")) == (
        timeless(alone),
        weights(alone),
    )
    shutil.rmtree(tmp_path / "run" / "trials")
    assert tl.load_run(tmp_path / "run").model.task.max_length == 8  # what the best was trained with, not the default


def test_models_and_lists_of_data_vary(tmp_path: Path, varied: Path) -> None:
    """A model that is not the run's first has its own tokenizer, config and stages; the last weights may be what is kept."""
    vary = {"model": [str(varied / "model"), options()["model"]], "data.max_train_samples": [16]}
    given = {key: value for key, value in options(epochs=1).items() if key != "model"}
    done = tl.finetune(
        table(), say=silent, progress=False, output=str(tmp_path), vary=vary, load_best_model_at_end=False, **given
    )
    assert [trial["state"] for trial in done.trials] == ["finished", "finished"]
    assert all(trial["best_step"] == trial["steps"] == 2 for trial in done.trials)


def test_heads_vary(tmp_path: Path) -> None:
    """The head of another pooling is that of its training alone, and of the saved model."""
    name, mean = str(folder_of("modernbert")), {"classifier_pooling": "mean"}
    more = {"strategy": "head", "epochs": 1, "load_best_model_at_end": False}
    done = train(tmp_path / "run", vary={"model.config": [{"classifier_pooling": "cls"}, mean]}, model=name, **more)
    assert len({trial["validation"]["loss"] for trial in done.trials}) == 2
    alone = train(tmp_path / "alone", **{**more, "model": {"name": name, "config": mean}})
    trial = tmp_path / "run" / "trials" / "002"
    assert (timeless(trial), weights(trial)) == (timeless(alone.folder), weights(alone.folder))
    texts = ["a good film", "the worst of them all, and long"]
    plain = transformers.pipeline("text-classification", str(alone.folder / "model"))
    assert plain.model.config.classifier_pooling == "mean"
    for said, answer in zip(alone.predict(texts), plain(texts, top_k=None), strict=True):
        assert said["scores"] == pytest.approx({one["label"]: one["score"] for one in answer}, abs=1e-5)


# What goes wrong


def test_trials_that_compute_other_frozen_outputs_are_not_counted_as_readers() -> None:
    def same(*other: str, shared: tuple[str, ...] = ()) -> bool:
        return below_of(made("model=some", *shared)) == below_of(made("model=some", *shared, *other))

    assert same("train.lr=1e-3") and same("train.seed=7")
    assert not same("train.seed=7", shared=("model.add_tokens=[new]",))
    assert not same("train.seed=7", shared=("data.augment=[flip]",))
    assert not same("store.dtype=float32") and not same("train.bf16=true")


def test_a_trial_that_diverges_does_not_stop_the_others(tmp_path: Path) -> None:
    wild = {"optim": "sgd", "max_grad_norm": None, "epochs": 1}
    done = train(tmp_path / "run", vary={"lr": [1e30, 1e-3]}, **wild)
    assert [(trial["state"], trial["best"]) for trial in done.trials] == [("diverged", False), ("finished", True)]
    assert "The loss is" in done.trials[0]["why"]
    assert not (done.folder / "trials" / "001" / "metrics.json").exists()
    for attempt in (lambda: train(tmp_path / "all", vary={"lr": [1e30, 1e29]}, **wild), lambda: tl.resume(tmp_path / "all")):
        with pytest.raises(DivergedError, match="All 2 trials diverged"):
            attempt()
    assert not (tmp_path / "all" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"data.validation_size": 0}, DataError, "no validation set, so the best trial cannot be told"),
        ({"eval_strategy": "no"}, RecipeError, r"^train.eval_strategy: is no, so the best trial cannot be told[^(]*$"),
        ({"metric": "acuracy"}, RecipeError, "did you mean 'accuracy'"),
        (
            {"vary": {"strategy": ["head", "freeze(99)"], "regularize": [[], "dropout([0.1,0,0,0,0,0,0,0])"]}},
            RecipeError,
            "8 rates",
        ),
        ({"vary": {"data.text": ["text", "txt"]}}, RecipeError, r"no column 'txt'.*\(vary: data.text=txt\)"),
    ],
)
def test_nothing_is_written_where_something_is_at_fault(
    tmp_path: Path, more: dict[str, Any], error: type[UserError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        train(tmp_path / "run", **{"vary": GRID, **more})
    assert not (tmp_path / "run").exists()
    if words == "8 rates":
        assert "vary: strategy=freeze(99) regularize=[]" in str(caught.value)
        assert "(vary: strategy=head regularize=dropout(" in str(caught.value)


SCRIPT = """
import json, sys
import thawline as tl
from test_training import silent, table
tl.finetune(table(), say=silent, progress=False, output=sys.argv[1], **json.loads(sys.argv[2]))
"""


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, varied: Path) -> None:
    """Killed in its second trial, with a checkpoint at every step; the first is left alone."""
    folder = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    words = [str(folder), json.dumps(options(vary=GRID, checkpoint_minutes=1e-6))]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *words], env=environment, stderr=subprocess.PIPE)
    wait_for(folder / "trials" / "002" / "history.jsonl", 2, process)
    process.kill()
    process.communicate()
    assert [entry["state"] for entry in read(folder / "trials.json")["trials"]] == ["finished", *["waiting"] * 3]
    first = folder / "trials" / "001" / "history.jsonl"
    before = first.stat().st_mtime_ns
    notes: list[str] = []
    tl.resume(folder, say=notes.append, progress=False)
    assert any("resumed at step" in note for note in notes)
    assert first.stat().st_mtime_ns == before
    assert results(folder) == results(varied)
    for name in ("001", "002", "003", "004"):
        one, other = folder / "trials" / name, varied / "trials" / name
        assert (timeless(one), weights(one)) == (timeless(other), weights(other))


def test_interrupted_between_trials_it_says_how_to_go_on(tmp_path: Path) -> None:
    def say(text: str) -> None:
        if text.startswith("note: trial 2 of 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"the last checkpoint is kept.*thawline resume"):
        train(tmp_path / "run", say, vary={"lr": [1e-3, 1e-2]}, epochs=1)
    done = tl.resume(tmp_path / "run", say=silent, progress=False)
    assert [trial["state"] for trial in done.trials] == ["finished", "finished"]


def test_interrupted_before_the_first_trial_it_begins_anew(tmp_path: Path) -> None:
    """What a kill leaves where not all folders of trials were made: no trials.json."""
    train(tmp_path / "run", vary={"lr": [1e-3, 1e-2]}, epochs=1)
    before = results(tmp_path / "run")
    for name in ("trials/002", "model", "predictions"):
        shutil.rmtree(tmp_path / "run" / name)
    for name in ("trials.json", "metrics.json", "decisions.json", "best.yaml"):
        (tmp_path / "run" / name).unlink()
    tl.resume(tmp_path / "run", say=silent, progress=False)
    assert results(tmp_path / "run") == before


def test_changed_data_are_refused(tmp_path: Path) -> None:
    rows = [f"{text},{label}" for text, label in zip(*table(), strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]))

    def say(text: str) -> None:
        if text.startswith("note: trial 1 of 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tl.finetune(tmp_path / "data.csv", say=say, output=str(tmp_path / "run"), **options(vary={"lr": [1e-3, 1e-2]}))
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows[:-4]]))
    with pytest.raises(UserError, match="changed since"):
        tl.resume(tmp_path / "run", say=silent, progress=False)


def test_the_best_of_equals_and_of_no_numbers() -> None:
    def entry(name: str, value: float, state: str = "finished") -> dict[str, Any]:
        return {"trial": name, "varied": {"a": name}, "state": state, "validation": {"loss": value, "accuracy": value}}

    entries = [entry("001", math.nan), entry("002", 0.2), entry("003", 0.9), entry("004", 0.9), entry("005", 2, "diverged")]
    assert (best_of({"metric": "accuracy", "trials": entries}) or {})["trial"] == "003"
    assert (best_of({"metric": "loss", "trials": entries}) or {})["trial"] == "002"
    assert best_of({"metric": "loss", "trials": entries[4:]}) is None


# The command line and the guide


def test_the_table_in_the_terminal(thawline: Thawline, varied: Path, tmp_path: Path) -> None:
    done = thawline("evaluate", varied)
    assert done.code == 0
    best = read(varied / "trials.json")["best"]
    (line,) = (line for line in done.out.splitlines() if "the best" in line)
    assert line.startswith(best)
    assert all(word in done.out for word in ["train.learning_rate", "strategy", "f1_macro", "loss", "freeze(4)", "test, n ="])
    assert json.loads(thawline("evaluate", varied, "--json").out)["n"]
    wrong = thawline("train", "reviews.csv", "vary.lr=1e-4", "vary.sed=[1]", "--output", "run")
    assert (wrong.code, len(wrong.err.splitlines())) == (2, 3)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("minilm")
def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"a {('lovely', 'dull')[i % 2]} film number {i},{('good', 'bad')[i % 2]}\n" for i in range(40)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "".join(rows))
    monkeypatch.chdir(tmp_path)
    quick = [f"model={folder_of('bert')}", "train.max_steps=1", "evaluate.bootstrap_samples=20"]
    for line in "".join(blocks(GUIDE, "bash")).splitlines():
        done = run([*shlex.split(line)[1:], *quick])
        assert done.code == 0, done.err
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8", optionflags=flags).failed == 0
    (recipe,) = blocks(GUIDE, "yaml")
    first = trials_of(recipe_from(parse_yaml(recipe)[0]))[0]
    assert combination(first.varied) == "train.learning_rate=0.0001 strategy=head"
