"""Every format gives the same rows; what cannot be read is named with its line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from thawline.data.read import read
from thawline.errors import DataError

ROWS = [{"text": 'a, "b"\nc', "label": "01"}, {"text": "很好", "label": "2"}, {"text": "d;e\tf", "label": "01"}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}
TEXT = "text,label\n好的酒店很喜欢,正面\n房间太小不满意,负面\n"


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS)


def saved(folder: Path) -> Path:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["2", "01"])})
    numbers = {"text": COLUMNS["text"], "label": [1, 0, 1]}
    datasets.Dataset.from_dict(numbers, features=features).save_to_disk(folder / "saved")
    return folder / "saved"


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: frame().to_csv(path, index=False),
    "semicolons.csv": lambda path: frame().to_csv(path, index=False, sep=";"),
    "tabs.csv": lambda path: frame().to_csv(path, index=False, sep="\t"),
    "a.tsv": lambda path: frame().to_csv(path, index=False, sep="\t"),
    "a.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n"),
    "array.json": lambda path: path.write_text(json.dumps(ROWS, indent=1)),
    "a.parquet": lambda path: pa.parquet.write_table(pa.table(COLUMNS), path),
    "categories.parquet": lambda path: frame().astype({"label": "category"}).to_parquet(path),
    "a.feather": lambda path: frame().to_feather(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats(name: str, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    source = read(path, cache=cache)
    assert source.splits["all"].to_pylist() == ROWS
    assert source.name == path.stem
    again = read(str(path), cache=cache)
    assert (again.splits["all"].to_pylist(), again.notes, again.fingerprint) == (ROWS, source.notes, source.fingerprint)
    assert len(list((cache / "data").iterdir())) == 1


def test_folder_saved_with_datasets(tmp_path: Path, cache: Path) -> None:
    import datasets

    folder = saved(tmp_path)
    assert read(folder, cache=cache).splits["all"].to_pylist() == ROWS
    one = datasets.load_from_disk(str(folder))
    both = datasets.DatasetDict({"train": one.select([2, 0]), "dev": one, "unsupervised": one})
    both.save_to_disk(tmp_path / "both")
    for data in (both, tmp_path / "both"):
        source = read(data, cache=cache)
        assert source.splits["train"].to_pylist() == [ROWS[2], ROWS[0]]
        assert source.splits["validation"].to_pylist() == ROWS
        assert source.notes == ("split 'unsupervised' is ignored",)


def test_class_names_in_lists_and_in_parquet(tmp_path: Path, cache: Path) -> None:
    import datasets

    one = datasets.ClassLabel(names=["x", "y"])
    features = datasets.Features({"text": datasets.Value("string"), "label": one, "tags": datasets.Sequence(one)})
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, -1], "tags": [[0, 1], []]}, features=features)
    data.to_parquet(tmp_path / "a.parquet")
    for given in (data, tmp_path / "a.parquet"):
        rows = read(given, cache=cache).splits["all"].to_pylist()
        assert rows == [{"text": "a", "label": "y", "tags": ["x", "y"]}, {"text": "b", "label": None, "tags": []}]


@pytest.mark.parametrize(
    "data",
    [frame(), ROWS, COLUMNS, (COLUMNS["text"], COLUMNS["label"]), tuple(frame()[c].to_numpy() for c in ("text", "label"))],
    ids=["frame", "dicts", "columns", "lists", "arrays"],
)
def test_in_memory(data: object, cache: Path) -> None:
    source = read(data, cache=cache)
    assert source.splits["all"].to_pylist() == ROWS
    assert source.fingerprint == read(data, cache=cache).fingerprint
    splits = read({"train": data, "val": data}, cache=cache).splits
    assert list(splits) == ["train", "validation"]


def test_in_memory_pairs_texts_and_mixed_values(cache: Path) -> None:
    assert read(["a", "b"], cache=cache).splits["all"].to_pylist() == [{"text": "a"}, {"text": "b"}]
    pairs = read(([("a", "b"), ("c", "d")], [1, 0]), cache=cache).splits["all"]
    assert pairs.to_pylist()[0] == {"text": "a", "text_pair": "b", "label": 1}
    mixed = read(pd.DataFrame({"text": ["a", "b", "c"], "label": [1, "x", None]}), cache=cache).splits["all"]
    assert mixed["label"].to_pylist() == ["1", "x", None]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((["a"], [1, 2]), "1 texts but 2 labels"),
        ({"text": ["a"], "label": []}, "differ in length"),
        ([], "empty"),
        ([1, 2], "A list of texts holds 1"),
        (3, "A int is not something"),
    ],
)
def test_in_memory_faults(data: object, message: str, cache: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(data, cache=cache)


ENCODINGS = {
    "utf-8": (),
    "utf-8-sig": ("a.csv: read as UTF-8 with a byte order mark (detected)",),
    "utf-16": ("a.csv: read as UTF-16 (detected)",),
    "utf-32": ("a.csv: read as UTF-32 (detected)",),
    "gb18030": ("a.csv: read as GB18030 (detected)",),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_encodings_are_detected(encoding: str, suffix: str, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    expected = [dict(zip(("text", "label"), line.split(","), strict=True)) for line in TEXT.splitlines()[1:]]
    text = TEXT if suffix == "csv" else "\n".join(json.dumps(row, ensure_ascii=False) for row in expected)
    path.write_bytes(text.encode(encoding))
    source = read(path, cache=cache)
    assert source.splits["all"].to_pylist() == expected
    assert source.notes == tuple(note.replace("a.csv", path.name) for note in ENCODINGS[encoding])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(encoding: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\ngood film,yes\nbad film,no\n".encode(encoding))
    assert read(tmp_path / "a.csv", cache=cache).splits["all"]["label"].to_pylist() == ["yes", "no"]


def test_encoding_as_told(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nété à la plage,oui\ncafé,non\n".encode("cp1252"))
    assert read(path, encoding="cp1252", cache=cache).splits["all"]["text"].to_pylist() == ["été à la plage", "café"]
    with pytest.raises(DataError, match=r"a\.csv, line 2: not UTF-8"):
        read(path, cache=cache)
    with pytest.raises(DataError, match=r"a\.csv, line 2: not utf8\."):
        read(path, encoding="utf8", cache=cache)
    with pytest.raises(DataError, match=r"'latin1x', did you mean 'latin-1'\?"):
        read(path, encoding="latin1x", cache=cache)


def test_undecodable_line_is_named_far_into_a_file(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"fine,1\n" * 1_000_000 + b"caf\xe9 ,1\n")
    with pytest.raises(DataError, match="line 1000002: not UTF-8"):
        read(path, cache=cache)


FAULTS = {
    "ragged.csv": ('text,label\n"a\nb",x\n\nc,y,z\n', r"ragged\.csv, line 5: 3 values, but the header has 2: 'c,y,z'"),
    "short.csv": ("text,label\na,x\nb\n", r"short\.csv, line 3: 1 values"),
    "empty.csv": ("", "empty"),
    "blank.jsonl": (" \n\n", "empty"),
    "header.csv": ("text,label\n", "no rows"),
    "none.json": ("[]", "no rows"),
    "twice.csv": ("text,text\na,b\n", "'text' twice"),
    "bad.jsonl": ('{"text": "a"}\n{"text": \n', r"bad\.jsonl, line 2: not JSON"),
    "list.jsonl": ('{"text": "a"}\n3\n', r"list\.jsonl, line 2: expected an object"),
    "open.json": ('[{"text": "a"},\n {"text": "b"}', r"open\.json, line 2: the array is broken"),
    "torn.parquet": ("no", "not a readable Parquet file"),
    "torn.arrow": ("no", "not a readable Arrow file"),
    "a.docx": ("no", "'.docx' are not read"),
    "reviews": ("text,label\na,b\n", "no ending that says what it is; expected .csv"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, tmp_path: Path, cache: Path) -> None:
    content, message = FAULTS[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, cache=cache)
    assert not list(cache.rglob("*.arrow"))
    assert not list(cache.rglob("*.part"))


def test_missing_file(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match=r"no file or folder .*reviws\.csv, did you mean 'reviews\.csv'"):
        read(tmp_path / "reviws.csv", cache=cache)
    with pytest.raises(DataError, match=r"load_dataset\('stanfordnlp/sst2'\)\.save_to_disk\('sst2'\)"):
        read("stanfordnlp/sst2", cache=cache)


def test_tsv_with_stray_quotes(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Hello there\tx\n"Bye"\ty\n')
    source = read(tmp_path / "a.tsv", cache=cache)
    assert source.splits["all"]["text"].to_pylist() == ['"Hello there', '"Bye"']
    assert source.notes == ("a.tsv: quotation marks are taken as they stand",)


def test_json_values_of_several_types(tmp_path: Path, cache: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "a", "n": 1}] * 20_000 + [
        {"text": "2024-01-01", "n": 0.5, "extra": ["x"]},
        {"text": None, "extra": []},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = read(tmp_path / "a.jsonl", cache=cache).splits["all"]
    assert table.slice(20_000).to_pylist() == [
        {"text": "2024-01-01", "n": 0.5, "extra": ["x"]},
        {"text": None, "n": None, "extra": []},
    ]
    (tmp_path / "b.jsonl").write_text('{"text": "a", "x": 1}\n{"text": "\\ud83d", "x": {"y": [1]}}')
    assert read(tmp_path / "b.jsonl", cache=cache).splits["all"].to_pylist() == [
        {"text": "a", "x": "1"},
        {"text": "?", "x": '{"y": [1]}'},
    ]


def test_folder_of_splits(tmp_path: Path, cache: Path) -> None:
    for name in ("train.csv", "dev.csv", "manifest.csv", "other.csv"):
        (tmp_path / name).write_text("text,label\na,x\nb,y\n")
    (tmp_path / "test.jsonl").write_text('{"text": "c", "label": "x"}\n')
    (tmp_path / "README.md").write_text("no table")
    source = read(tmp_path, cache=cache)
    assert {split: table.num_rows for split, table in source.splits.items()} == {"train": 2, "validation": 2, "test": 1}
    assert source.notes == ("README.md is ignored", "manifest.csv is ignored", "other.csv is ignored")
    assert source.name == tmp_path.name
    (tmp_path / "train.jsonl").write_text('{"text": "c", "label": "x"}\n')
    with pytest.raises(DataError, match=r"train\.csv, train\.jsonl are all the train split"):
        read(tmp_path, cache=cache)


def test_folder_of_shards_and_of_one_table(tmp_path: Path, cache: Path) -> None:
    for part in range(2):
        pa.parquet.write_table(pa.table({"text": [str(part)], "label": ["x"]}), tmp_path / f"train-0000{part}-of-00002.parquet")
    assert read(tmp_path, cache=cache).splits["train"]["text"].to_pylist() == ["0", "1"]
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(DataError, match="holds no table"):
        read(plain, cache=cache)
    (plain / "reviews.csv").write_text("text,label\na,x\n")
    assert list(read(plain, cache=cache).splits) == ["all"]
    (plain / "more.csv").write_text("text,label\na,x\n")
    with pytest.raises(DataError, match=r"holds more\.csv, reviews\.csv; expected train"):
        read(plain, cache=cache)


def test_torn_cache_is_made_anew(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,x\n")
    read(tmp_path / "a.csv", cache=cache)
    (kept,) = (cache / "data").iterdir()
    kept.write_bytes(kept.read_bytes()[:50])
    assert read(tmp_path / "a.csv", cache=cache).splits["all"].num_rows == 1


def test_ids_of_new_data_are_used_where_they_tell_rows_apart(tmp_path: Path) -> None:
    from thawline.data.columns import Columns
    from thawline.data.dataset import load_one

    columns = Columns(("text",), None, None, None, "unlabelled", ())
    for ids, expected in ((["x", "y"], ["x", "y"]), (["x", "x"], None)):
        rows, _ = load_one({"id": ids, "text": ["one", "two"]}, columns, cache=tmp_path)
        found = rows.column("id").to_pylist()
        assert found == expected if expected else len(set(found)) == 2
