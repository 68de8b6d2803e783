"""Folds measure every example by a model that did not learn from it; seeds repeat a training on the same data."""

import doctest
import json
import shlex
import shutil
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import thawline as tl
from families import folder_of
from test_cli import Thawline, thawline
from test_readme import blocks, run
from test_training import options, silent, table
from test_vary import read, results, timeless, told, weights
from thawline.data.dataset import Dataset, Options, load
from thawline.data.encoded import Encoded, encoded
from thawline.errors import DataError
from thawline.evaluate.answered import Answered
from thawline.evaluate.output import PredictionFile, read_predictions
from thawline.evaluate.summary import summarize
from thawline.recipe import recipe_from, trials_of
from thawline.run import repeats
from thawline.run.data import dataset_of
from thawline.run.folder import RunFolder
from thawline.run.plan import plan_of
from thawline.run.prepare import prepare
from thawline.run.repeats import best_of

__all__ = ["thawline"]  # a fixture
GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "folds.md"
METHODS = ["stratified", "random", "group(author)", "hash"]


def rows(n: int = 200) -> list[dict[str, Any]]:
    """Every fifth text stands there twice; 37 authors; classes 70 : 20 : 10."""
    texts = [i - 1 if i % 5 == 4 else i for i in range(n)]
    return [{"text": f"text {t}", "label": "aaaaaaabbc"[t * 7 % 10], "author": f"author {t * t % 37}"} for t in texts]


def dealt(data: Any, cache: Path, **given: Any) -> list[Dataset]:
    """The data with each fold held out."""
    folds = given.setdefault("folds", 5)
    return [load(data, Options(**given, fold=fold), cache=cache) for fold in range(1, folds + 1)]


def column(dataset: Dataset, split: str, name: str = "id") -> list[Any]:
    return dataset.splits[split].column(name).to_pylist()


# What is dealt


@pytest.mark.parametrize("method", METHODS)
def test_every_example_is_in_one_fold(method: str, cache: Path) -> None:
    found = dealt(rows(), cache, split=method)
    held = [column(one, "fold") for one in found]
    assert found[0].pool is not None
    assert sorted(chain(*held)) == sorted(found[0].pool.column("id").to_pylist())
    assert all(set(one.splits) == {"train", "validation", "fold"} for one in found)
    for one in found:
        parts = [set(column(one, split, "text")) for split in one.splits]
        assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])
        assert sum(map(len, one.splits.values())) == 200
    groups = [set(column(one, "fold", "author")) for one in found]
    if method == "group(author)":
        assert sum(map(len, groups)) == len(set.union(*groups))
    assert max(map(len, held)) - min(map(len, held)) <= {"hash": 30, "group(author)": 12}.get(method, 3)
    mixed = [rows()[i] for i in np.random.default_rng(1).permutation(200)]
    assert [Counter(column(one, "fold")) for one in dealt(mixed, cache, split=method)] == list(map(Counter, held))
    others = [column(one, "fold") for one in dealt(rows(), cache, split=method, seed=1)]
    assert (others == held) == (method == "hash")


def test_each_class_has_its_share(cache: Path) -> None:
    counts = [Counter(column(one, "fold", "label")) for one in dealt(rows(), cache)]
    assert all(max(c[name] for c in counts) - min(c[name] for c in counts) <= 2 for name in "abc")
    rare = [*rows(), *({"text": f"rare {i}", "label": name, "author": ""} for i, name in enumerate("ddeef"))]
    found = dealt(rare, cache)
    assert sum((Counter(column(one, "fold", "label")) for one in found), Counter()) >= Counter(d=2, e=2, f=1)
    assert {finding.level for one in found for finding in one.findings} == {"note", "warning"}


def test_given_splits(tmp_path: Path, cache: Path) -> None:
    """Train and validation are pooled, also where they share texts, ids and not all columns; the test split is not touched."""
    few = rows(60)
    (tmp_path / "data").mkdir()
    parts = {
        "train": few[:40],
        "validation": few[39:],
        "test": [{"text": f"test {i}", "label": "abc"[i % 3]} for i in range(9)],
    }
    for split, some in parts.items():
        numbered = [{**row, "id": i, **({"extra": i} if split == "train" else {})} for i, row in enumerate(some)]
        parquet.write_table(pa.Table.from_pylist(numbered), tmp_path / "data" / f"{split}.parquet")
    found = dealt(tmp_path / "data", cache, folds=4)
    plain, whole = load(tmp_path / "data", cache=cache), load(tmp_path / "data", Options(folds=4, fold=0), cache=cache)
    for one in [*found, whole]:
        assert one.splits["test"].fingerprint == plain.splits["test"].fingerprint
    assert [column(whole, split, "text") for split in plain.splits] == [column(plain, split, "text") for split in plain.splits]
    ids = list(chain(*(column(one, "fold") for one in found)))
    assert len(set(ids)) == len(ids) == 61
    assert {"0", "validation:0", "39", "validation:20"} <= set(ids)
    texts = [set(column(one, "fold", "text")) for one in found]
    assert sum(map(len, texts)) == len(set.union(*texts))
    assert any("ids of validation that train has too" in finding.text for finding in found[0].findings)
    sampled = load(tmp_path / "data", Options(folds=4, fold=1, max_train_samples=20, max_eval_samples=3), cache=cache)
    assert {split: len(examples) for split, examples in sampled.splits.items()} == {
        "train": 13, "validation": 2, "test": 3, "fold": 5
    }  # fmt: skip


def test_a_test_split_is_made_where_its_size_is_set(cache: Path) -> None:
    found = dealt(rows(), cache, test_size=0.2, folds=3)
    plain = load(rows(), Options(test_size=0.2), cache=cache)
    assert all(column(one, "test") == column(plain, "test") for one in found)
    assert sum(len(one.splits["fold"]) for one in found) == 200 - len(plain.splits["test"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"split": "time(author)"}, "there are no folds in time"),
        ({"split": "given"}, "makes no splits and no folds"),
        ({"folds": 200}, r"200 examples \(160 different texts\) are too few to be dealt into 200 folds by stratified"),
        ({"split": "group(author)", "folds": 50}, "are too few to be dealt"),
    ],
)
def test_folds_that_cannot_be(given: dict[str, Any], words: str, cache: Path) -> None:
    with pytest.raises(DataError, match=words):
        load(rows(), Options(**{"folds": 5, **given}, fold=1), cache=cache)


@pytest.mark.parametrize("several", [False, True])
def test_items_are_selected(several: bool, tmp_path: Path) -> None:
    """Of one file of items, also where an example has several."""

    def encode(examples: Any) -> list[Any]:
        made = [{"input_ids": [e["n"]] * (k + 1), "owner": i} for i, e in enumerate(examples) for k in range(e["n"] % 3 + 1)]
        return made if several else [{"input_ids": [e["n"]] * (e["n"] % 3 + 1)} for e in examples]

    examples = [{"n": n} for n in range(20)]
    whole = encoded([examples[:7], examples[7:]], encode, key="k", cache=tmp_path)  # type: ignore[arg-type]
    places = np.array([3, 19, 4, 8])
    some = whole.select(places).select(np.array([1, 2, 3]))
    alone = encoded([[examples[i] for i in (19, 4, 8)]], encode, key="alone", cache=tmp_path)  # type: ignore[arg-type]
    assert [item["input_ids"].tolist() for item in some] == [item["input_ids"].tolist() for item in alone]
    assert some.lengths.tolist() == alone.lengths.tolist()
    assert (some.owners is None) if not several else some.owners.tolist() == alone.owners.tolist()  # type: ignore[union-attr]


def test_a_torn_file_of_items_is_made_anew(tmp_path: Path) -> None:
    def made() -> list[list[int]]:
        given: Any = [[{"n": n} for n in range(20)]]
        found = encoded(given, lambda some: [{"input_ids": [e["n"]] * 3} for e in some], key="k", cache=tmp_path)
        return [item["input_ids"].tolist() for item in found]

    whole = made()
    (path,) = tmp_path.rglob("*.arrow")
    for torn in (path.read_bytes()[:-40], b"", b"something else"):
        path.write_bytes(torn)
        assert made() == whole


# The recipe


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["folds=1"], "data.folds: 1 was given; expected a whole number of at least 2"),
        (["folds=3", "fold=4"], "data.fold: is 4 while data.folds is 3; expected a number from 0 to data.folds"),
        (["fold=1"], "data.fold: is 1 while data.folds is null"),
        (["seeds=1"], "train.seeds: 1 was given"),
        (["folds=3", "seeds=2"], "train.seeds: stands beside data.folds; expected one of the two"),
        (["folds=3", "vary.seed=[1,2]"], "vary.train.seed: stands beside data.folds"),
        (["folds=3", "vary.data.text=[a,b]"], "vary.data.text: cannot vary beside data.folds: all share the same folds"),
        (["seeds=2", "vary.seed=[1,2]"], "train.seeds: stands beside vary.train.seed; expected one of the two"),
        (["vary.folds=[2,3]"], "vary.data.folds: cannot vary"),
        (["vary.fold=[1,2]"], "vary.data.fold: cannot vary: data.folds lets it go over all folds"),
        (["vary.seeds=[2,3]"], "vary.train.seeds: cannot vary"),
        (["seeds=2", "eval_strategy=no"], "the best trial cannot be told"),
    ],
)
def test_nonsense_is_told_in_words(overrides: list[str], words: str) -> None:
    assert words in told(*overrides)


def test_what_is_trained() -> None:
    trials = trials_of(recipe_from({"data": "x.csv"}, ["folds=2", "vary.lr=[1e-4,1e-3]", "eval_strategy=epoch"]))
    varied = [(trial.varied["train.learning_rate"], trial.varied["data.fold"]) for trial in trials]
    assert varied == [(1e-4, 1), (1e-4, 2), (1e-3, 1), (1e-3, 2), (1e-4, 0), (1e-3, 0)]
    seeds = [trial.recipe for trial in trials_of(recipe_from({"data": "x.csv"}, ["seeds=3", "seed=7"]))]
    assert [(recipe.train.seed, recipe.data.seed, recipe.train.seeds) for recipe in seeds] == [(s, 7, None) for s in (7, 8, 9)]
    assert trials_of(recipe_from({"data": "x.csv"}, ["folds=2", "fold=1"])) == ()
    assert len(trials_of(recipe_from({"data": "x.csv"}, ["folds=2", "eval_strategy=no"]))) == 3


def entry(trial: str, value: float | None, **varied: Any) -> dict[str, Any]:
    state = "finished" if value is not None else "diverged"
    return {"trial": trial, "varied": varied, "state": state, "validation": {"accuracy": value}}


def test_the_best_combination_is_that_of_the_best_mean() -> None:
    def best(*entries: dict[str, Any]) -> Any:
        return (best_of({"metric": "accuracy", "trials": list(entries)}) or {}).get("trial")

    seeds = [entry(str(i), v, lr=i // 2, **{"train.seed": i % 2}) for i, v in enumerate([0.9, 0.5, 0.8, 0.8, None, 0.7])]
    assert (best(*seeds), best(*seeds[:2]), best(*seeds[4:])) == ("2", "0", "5")
    folds = [entry(str(i), v, lr=i // 2, **{"data.fold": i % 2 + 1}) for i, v in enumerate([0.9, None, 0.7, 0.7, 0.6, 0.8])]
    last = [entry(f"last {lr}", 0.0, lr=lr, **{"data.fold": 0}) for lr in range(3)]
    assert (best(*folds, *last), best(*folds[:2], *last[:1])) == ("last 1", None)


# What comes of folds

OPTIONS: dict[str, Any] = {"strategy": "head", "store": {"features": True}}


def trained(folder: Path, say: Any = silent, **more: Any) -> tl.Run:
    return tl.finetune(table(45), say=say, progress=False, output=str(folder), **options(**{**OPTIONS, **more}))


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> tl.Run:
    """A finished run of three folds, with baselines and a store that was empty."""
    root = tmp_path_factory.mktemp("folded")
    store = {"features": True, "path": str(root / "cache")}
    return trained(root / "run", folds=3, store=store, evaluate={"bootstrap_samples": 20})


def test_every_example_is_predicted_by_another_model(folded: tl.Run) -> None:
    """Aligned by id, each by the model of its fold; the metrics are those of all, and the spread that over the folds."""
    examples = dataset_of(folded.recipe).pool
    assert examples is not None
    kept: list[Any] = list(read_predictions(folded.folder / "predictions" / "folds.jsonl"))
    assert [one["id"] for one in kept] == examples.column("id").to_pylist()
    fold_of = {one["id"]: one["fold"] for one in kept}
    for number in (1, 2, 3):
        trial = folded.folder / "trials" / f"{number:03}"
        own: list[Any] = list(read_predictions(trial / "predictions" / "fold.jsonl"))
        assert {one["id"] for one in own} == {name for name, fold in fold_of.items() if fold == number}
        assert {json.dumps({**one, "fold": number}) for one in own} <= {json.dumps(one) for one in kept}
        assert not (trial / "model").exists()
    found = folded.metrics["folds"]
    problem = "single_label_classification"
    section = summarize(Answered(examples, kept, problem, ("bad", "good")), samples=0).section
    assert {name: found[name] for name in section} == section
    assert {f"{name}_ci95" for name in section if name != "n"} <= found.keys()
    assert {"majority", "tfidf"} == found["baseline"].keys()
    over, each = found["over_folds"], [read(folded.folder / "trials" / f"{k:03}" / "metrics.json")["fold"] for k in (1, 2, 3)]
    assert over["n"] == [15, 15, 15]
    assert over["accuracy"]["values"] == [one["accuracy"] for one in each]
    assert over["accuracy"]["mean"] == pytest.approx(found["accuracy"])
    assert over["f1_macro"]["sd"] == pytest.approx(np.std([one["f1_macro"] for one in each], ddof=1))
    assert {"classes", "calibration", "mistakes", "slices"} <= read(folded.folder / "analysis.json")["folds"].keys()


def test_predictions_of_folds_stay_in_their_file(folded: tl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(repeats, "summarize", lambda given, **options: kept.append(given) or summarize(given, **options))
    trials = [RunFolder(folded.folder / "trials" / f"{k:03}") for k in (1, 2, 3)]
    last = prepare(recipe_from(RunFolder(folded.folder).trained()), silent)
    (tmp_path / "again").mkdir()
    shutil.copyfile(folded.folder / "recipe.yaml", tmp_path / "again" / "recipe.yaml")
    folds = [repeats.Fold(home, dataset_of(home.recipe())) for home in trials]
    section = repeats.pooled(folds, RunFolder(tmp_path / "again"), last, say=silent)
    assert isinstance(kept[0].predictions, PredictionFile)
    assert section == folded.metrics["folds"]
    written = (tmp_path / "again" / "predictions" / "folds.jsonl").read_bytes()
    assert written == (folded.folder / "predictions" / "folds.jsonl").read_bytes()


def test_the_prefix_computes_each_example_once(folded: tl.Run) -> None:
    (items,) = map(Encoded, (folded.folder.parent / "cache" / "encoded").iterdir())  # one file for all folds
    different = {item["input_ids"].tobytes() for item in items}
    found = [read(folded.folder / "trials" / f"00{k}" / "metrics.json")["train"]["prefix"] for k in (1, 2, 3, 4)]
    assert sum(one["examples_computed"] for one in found) == len(different) > 40
    assert all(one["stored"] for one in found)


def test_a_fold_is_its_run_alone_and_the_model_is_of_all(folded: tl.Run, tmp_path: Path) -> None:
    for number, name in ((2, "002"), (0, "004")):
        alone = trained(tmp_path / name, folds=3, fold=number).folder
        trial = folded.folder / "trials" / name
        assert (timeless(alone), weights(alone)) == (timeless(trial), weights(trial))
    plain = trained(tmp_path / "plain", data={"test_size": 0}).folder
    model = Path("model") / "model.safetensors"
    assert (plain / model).read_bytes() == (folded.folder / model).read_bytes()
    assert (folded.folder / "best.yaml").read_text() == (trial / "recipe.yaml").read_text()
    assert folded.metrics["validation"]["n"] == read(plain / "metrics.json")["validation"]["n"]


def test_interrupted_folds_go_on(folded: tl.Run, tmp_path: Path) -> None:
    def say(text: str) -> None:
        if text.startswith("note: trial 3 of 4: data.fold"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="thawline resume"):
        trained(tmp_path / "run", say, folds=3, evaluate={"bootstrap_samples": 20})
    done = tl.resume(tmp_path / "run", say=silent, progress=False)
    assert done.metrics["folds"] == folded.metrics["folds"]
    kept = Path("predictions") / "folds.jsonl"
    assert (done.folder / kept).read_bytes() == (folded.folder / kept).read_bytes()


def test_what_people_see(folded: tl.Run, thawline: Thawline) -> None:
    done = thawline("evaluate", folded.folder)
    assert done.code == 0
    over = folded.metrics["folds"]["over_folds"]["accuracy"]
    assert all(word in done.out for word in ["3 folds, held out", "mean ± sd", "out of fold, n = 45", "the model"])
    assert f"{over['mean']:.3f} ± {over['sd']:.3f}" in done.out
    page = (folded.folder / "report.html").read_text("utf-8")
    assert all(words in page for words in ("On each fold", "out-of-fold", "standard deviation", "fold 3"))
    assert "before it, 3 models were trained" in (folded.folder / "model" / "README.md").read_text("utf-8")


def test_folds_without_validation_and_the_best_combination(tmp_path: Path) -> None:
    """Without validation the last weights count, and there is nothing to choose by; with it, others are left out."""
    bare = {"validation_size": 0, "epochs": 1, "evaluate": {"bootstrap_samples": 0, "baselines": False}}
    done = trained(tmp_path / "bare", folds=2, **bare)
    assert (list(done.metrics), done.metrics["folds"]["n"]) == (["folds", "train"], 45)
    assert [trial["validation"] for trial in done.trials] == [{}] * 3
    with pytest.raises(DataError, match="no validation set, so the best trial cannot be told"):
        trained(tmp_path / "none", folds=2, vary={"lr": [1e-4, 0.1]}, **bare)
    del bare["validation_size"]
    done = trained(tmp_path / "varied", folds=2, vary={"lr": [1e-7, 0.1]}, test_size=0.2, **bare)
    states = [trial["state"] for trial in done.trials]
    assert Counter(states) == {"finished": 5, "left out": 1}
    assert (done.metrics["test"]["n"], done.metrics["folds"]["n"]) == (9, 36)


def test_a_plan_of_folds() -> None:
    recipe = recipe_from({"data": str(Path(__file__).parent / "no")}, **options(folds=3))
    with pytest.raises(DataError):
        plan_of(recipe, silent)
    plan = tl.plan(table(45), say=silent, **options(**OPTIONS, folds=3))
    assert (plan["trials"], plan["examples"]["fold"]) == (4, 15)


# What comes of seeds


def test_seeds_share_the_data_and_the_best_is_kept(tmp_path: Path, thawline: Thawline) -> None:
    notes: list[str] = []
    done = trained(tmp_path / "run", notes.append, seeds=3, lr=0.02, validation_size=0.3, epochs=1)
    assert not any("validation sets of their own" in note for note in notes)
    assert len({json.dumps(read(path)) for path in (tmp_path / "run" / "trials").glob("*/data.json")}) == 1
    found, entries = done.metrics["seeds"], done.trials
    assert (found["seeds"], found.keys()) == ([3, 4, 5], {"seeds", "test", "validation"})
    for split in ("test", "validation"):
        values = [trial[split]["accuracy"] for trial in entries]
        assert found[split]["accuracy"] == {
            "mean": pytest.approx(np.mean(values)), "sd": pytest.approx(np.std(values, ddof=1)), "values": values
        }  # fmt: skip
    best = next(trial for trial in entries if trial["best"])
    assert best["validation"]["f1_macro"] == max(trial["validation"]["f1_macro"] for trial in entries)
    assert done.metrics["test"]["accuracy"] == best["test"]["accuracy"]
    assert read(tmp_path / "run" / "trials.json")["seeds"] == found
    alone = trained(
        tmp_path / "alone", seed=best["varied"]["train.seed"], data={"seed": 3, "validation_size": 0.3}, lr=0.02, epochs=1
    )
    assert results(alone.folder) == results(done.folder)
    shown = thawline("evaluate", done.folder).out
    assert all(words in shown for words in ("3 seeds, test", "3 seeds, validation", "train.seed"))
    assert "On test" in (done.folder / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("minilm")
def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"a {('lovely', 'dull')[i % 2]} film number {i},{('good', 'bad')[i % 2]}\n" for i in range(40)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "".join(lines))
    monkeypatch.chdir(tmp_path)
    quick = [f"model={folder_of('bert')}", "train.max_steps=1", "evaluate.bootstrap_samples=20"]
    for line in "".join(blocks(GUIDE, "bash")).splitlines():
        done = run([*shlex.split(line.replace("=5", "=2").replace("=3", "=2"))[1:], *quick])
        assert done.code == 0, done.err
    assert doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8").failed == 0
