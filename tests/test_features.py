"""`thawline features` and `tl.features`: the tensors of training as vectors, from the store where they are there."""

import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from pyarrow import parquet

import thawline as tl
from families import folder_of, tokenizer_of
from test_training import run, silent, table
from thawline.cli import main
from thawline.errors import UserError
from thawline.run import features as module

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "features.md"
PLAIN = {"bf16": False, "say": silent, "progress": False}
TEXTS = [" ".join(text.split()[: 1 + i % 6]) + f" {i}" for i, text in enumerate(table(20)[0])]


def vectors(found: pa.Table) -> np.ndarray:
    return np.stack(found["features"].to_pylist())


def told_of(model: Any, data: Any, **more: Any) -> tuple[int, pa.Table]:
    """How many examples were missing, and the features."""
    given = {"bf16": False, **{key: more.pop(key) for key in list(more) if key not in ("stage", "pool")}}
    found = module.features_of(model, data, given, wanted=module.Wanted(**more), say=silent)
    missing = found.missing
    found.fill()
    return missing, pa.Table.from_batches(found.batches())


def hidden_states(name: str, text: str) -> tuple[torch.Tensor, ...]:
    model = transformers.AutoModel.from_pretrained(folder_of(name), dtype=torch.float32).eval()
    with torch.no_grad():
        return tuple(
            state[0]
            for state in model(**tokenizer_of(name)(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        )


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "gpt2"])
def test_they_are_the_hidden_states_of_plain_transformers(name: str) -> None:
    pooled = {
        pool: tl.features(folder_of(name), TEXTS, stage=3, pool=pool, **PLAIN)["features"].to_pylist() for pool in module.POOLS
    }
    for row, text in enumerate(TEXTS):
        wanted = hidden_states(name, text)[2].numpy()  # 0 is what the stem gives
        expected = {"mean": wanted.mean(0), "first": wanted[0], "last": wanted[-1], "none": wanted}
        for pool, value in expected.items():
            np.testing.assert_allclose(pooled[pool][row], value, atol=1e-4)


def test_what_a_run_has_stored_is_not_computed_again(tmp_path: Path) -> None:
    made = run(tmp_path / "run", strategy="freeze(3)", store={"features": True}, epochs=1)
    unseen = made.metrics["test"]["n"]
    missing, of_model = told_of(folder_of("bert"), table(), stage=3)
    assert missing == unseen  # train and validation are there
    missing, of_run = told_of(made.folder, table(), stage="block 2")
    assert (missing, of_run) == (0, of_model)
    assert of_run.column_names == ["id", "label", "features"]
    assert of_run["label"].to_pylist() == table()[1]
    top = tl.features(made, table(), **PLAIN)
    assert not np.allclose(vectors(top), vectors(tl.features(folder_of("bert"), table(), **PLAIN)))  # these have learned


@pytest.mark.parametrize("store", [{"features": False}, {"max_gb": 1e-6}], ids=str)
def test_without_room_they_are_the_same(store: dict[str, Any]) -> None:
    _, kept = told_of(folder_of("bert"), TEXTS)
    missing, computed = told_of(folder_of("bert"), TEXTS, store={**store, "path": None})
    assert computed == kept
    assert missing == (len(TEXTS) if store.get("features") is False else 0)


def test_one_text_alone_and_all_splits(tmp_path: Path) -> None:
    whole = tl.features(folder_of("bert"), TEXTS, **PLAIN)
    alone = tl.features(folder_of("bert"), TEXTS[:1], **PLAIN)
    assert whole.column_names == ["id", "features"]
    assert alone["features"][0] == whole["features"][0]
    for split, texts in (("train", TEXTS[:12]), ("test", TEXTS[12:])):
        lines = [json.dumps({"text": text, "label": "ab"[i % 2]}) for i, text in enumerate(texts)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    found = tl.features(folder_of("bert"), tmp_path, **PLAIN)
    assert found["split"].to_pylist() == ["train"] * 12 + ["test"] * 8
    assert found["features"] == whole["features"]


def test_the_command_writes_row_groups_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt.csv").write_text("text,label\n" + "".join(f"{text},x\n" for text in TEXTS))
    words = ["features", str(folder_of("bert")), "texts.txt.csv", "--stage", "2", "train.bf16=false"]
    whole = tl.features(folder_of("bert"), TEXTS, stage=2, store={"features": False}, **PLAIN)
    monkeypatch.setattr(module, "_TOKENS", 16)
    for name, said in (("one", "20 computed, 0 from the store"), ("two", "0 computed, 20 from the store")):
        assert main([*words, "--output", f"{name}.parquet"]) == 0
        assert said in capsys.readouterr().err
    file = parquet.ParquetFile("two.parquet")
    assert file.num_row_groups > 2
    assert file.read()["features"].to_pylist() == whole["features"].to_pylist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.parquet", "texts.txt.csv", "two.parquet"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stage", "blok 2"], "did you mean 'block 2'? Stages: 1 (block 0), 2 (block 1), 3 (block 2), 4 (block 3), 5 (head)"),
        (["--stage", "0"], "There is no stage '0' with others below it"),
        (["--stage", "6"], "5 (head)"),
        (["--pool", "max"], "Known: mean, first, last, none"),
        (["--output", "f.csv"], "name it f.parquet"),
        (["--output", "there.parquet"], "there already"),
        (["epochs=no"], "epochs"),
    ],
    ids=str,
)
def test_mistakes(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.parquet").touch()
    Path("texts.csv").write_text("text\n" + "\n".join(TEXTS))
    output = [] if "--output" in words else ["--output", "f.parquet"]
    assert main(["features", str(folder_of("bert")), "texts.csv", *words, *output]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert told in line
    assert not Path("f.parquet").exists()


def test_mistakes_in_the_place_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "texts.csv"
    data.write_text("text\n" + "\n".join(TEXTS))
    assert main(["features", str(tmp_path / "no"), str(data), "-o", str(tmp_path / "f.parquet")]) == 2
    assert "No model was found" in capsys.readouterr().err
    made = tmp_path / "begun"
    made.mkdir()
    (made / "recipe.yaml").write_text(f"data: {data}\n")
    with pytest.raises(UserError, match="has no trained model yet; type thawline resume"):
        tl.features(made, str(data), **PLAIN)


def test_the_guide_runs(minilm: Path) -> None:
    assert doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8").failed == 0


def test_an_example_of_several_pieces_has_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = " ".join(TEXTS).split()
    rows = [
        {"tokens": some, "tags": ["O"] * len(some)} for i in range(6) for some in [words[i : i + (30 if i % 3 == 0 else 4)]]
    ]
    rows[0]["tags"][0] = "B-X"
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = dict[tuple[str, int], pa.Table]()
    for pool in ("mean", "none"):
        for tokens in (1 << 15, 16):  # all at once, and a piece or two
            monkeypatch.setattr(module, "_TOKENS", tokens)
            asked: dict[str, Any] = {"data": {"max_length": 16}, "pool": pool, "task": "token-classification", **PLAIN}
            found[pool, tokens] = tl.features(folder_of("bert"), str(tmp_path / "train.jsonl"), **asked)
    for pool in ("mean", "none"):
        assert found[pool, 16].num_rows == 6 and found[pool, 16].to_pylist() == found[pool, 1 << 15].to_pylist()
    assert len(found["none", 16]["features"][0]) >= 30
