"""Tables that name pictures and sounds: which column, and where the files lie."""

import json
import time
from pathlib import Path

import pyarrow as pa
import pytest

from thawline.data.paths import MEDIA, Found, with_files
from thawline.errors import DataError


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"-")


def paths(found: Found, kind: str = "audio") -> list[str]:
    assert found.table.field(kind).type == MEDIA
    return [value["path"] for value in found.table.column(kind).to_pylist()]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["wavs/a.wav", "wavs/b.wav"], ["wavs/a.wav", "wavs/b.wav"]),
        (["clips/a.mp3", "clips/b.mp3"], ["a.mp3", " b.mp3"]),
        (["any/a.wav", "any/b.wav"], ["a.wav", "b.wav"]),
        (["train/x/a.wav", "train/x/b.wav"], ["x/a.wav", "x/b.wav"]),
        (["one/a.wav", "two/b.flac"], ["a.wav", "b.flac"]),
        (["wavs/a.wav", "wavs/b.wav"], ["wavs\\a.wav", "wavs\\b.wav"]),
        (["wavs/a.wav", "wavs/b.wav"], ["/home/ann/it/wavs/a.wav", "/home/ann/it/wavs/b.wav"]),
        (["a.wav", "b.wav"], ["../lists/a.wav", "./b.wav"]),
        (["../wavs/a.wav", "../wavs/b.wav"], ["a.wav", "b.wav"]),
    ],
)
def test_files_are_found(files: list[str], names: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    put(folder, *files)
    table = pa.table({"n": [1, 2], "path": names, "text": ["so it is", "and is not"]})
    found = with_files(table, folder)
    assert paths(found) == [str((folder / file).resolve()) for file in files]
    assert found.table.column_names == ["n", "audio", "text"] and found.missing is not None and not found.missing.any()
    again = with_files(found.table, folder)
    assert again.table.equals(found.table) and again.notes == ()


def test_absolute_paths_and_pictures(tmp_path: Path) -> None:
    put(tmp_path, "x/a.JPG", "x/b.png")
    found = with_files(pa.table({"file": [str(tmp_path / "x/a.JPG"), str(tmp_path / "x/b.png")]}), Path("/"))
    assert paths(found, "image") == [str(tmp_path / "x/a.JPG"), str(tmp_path / "x/b.png")]


def test_the_split_says_in_which_of_two_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "train/2.png", "valid/1.png")
    table = pa.table({"image": ["1.png"]})
    assert paths(with_files(table, tmp_path, split="validation"), "image") == [str(tmp_path / "valid/1.png")]
    with pytest.raises(DataError, match=r"'1.png' is in train/ and in valid/; write the folder in front"):
        with_files(table, tmp_path)
    with pytest.raises(DataError, match="not there"):  # that of another split is not taken for it
        with_files(pa.table({"image": ["2.png"]}), tmp_path, split="validation")


def test_a_table_without_files_comes_back(tmp_path: Path) -> None:
    table = pa.table({"text": ["see a.wav", "or not", None], "n": [1, 2, 3], "tags": [["a.png"], [], None]})
    found = with_files(table, tmp_path)
    assert found.table is table and found.missing is None and found.notes == ()


def test_a_long_table_without_files_costs_nothing(tmp_path: Path) -> None:
    text = pa.array(["a sentence"] * 1_000_000)
    table = pa.table({"text": text, "name": text})
    start = time.perf_counter()
    assert with_files(table, tmp_path).table is table
    assert time.perf_counter() - start < 0.5


def test_some_files_missing(tmp_path: Path) -> None:
    put(tmp_path, *[f"{n}.wav" for n in range(8)])
    found = with_files(pa.table({"path": [*[f"{n}.wav" for n in range(10)], None]}), tmp_path)
    assert found.missing is not None and found.missing.nonzero()[0].tolist() == [8, 9, 10]
    assert found.notes[-1] == (
        "3 of 11 files that 'path' names are not there (8.wav in row 9, 9.wav in row 10, no name in row 11)"
    )
    assert found.present().num_rows == 8


def test_most_files_missing(tmp_path: Path) -> None:
    names = [f"{n}.wav" for n in range(10)]
    with pytest.raises(
        DataError, match=r"10 of 10 files that 'path' names are not there \(0.wav in row 1, .*4.wav in row 5, …\)"
    ):
        with_files(pa.table({"path": names, "text": ["what is said"] * 10}), tmp_path)
    found = with_files(pa.table({"screenshot": names, "text": ["what is said"] * 10}), tmp_path)
    assert found.missing is None and found.table.column_names == ["screenshot", "text"]
    assert found.notes[0].endswith("the column stays as it is")


def test_addresses_are_not_fetched(tmp_path: Path) -> None:
    found = with_files(pa.table({"image": ["https://a.b/c.jpg?x=1"], "text": ["a cat"]}), tmp_path)
    assert found.missing is None and found.notes == ("'image' holds addresses, which are not fetched",)


def test_two_columns_of_a_kind(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "m.png", "a.wav")
    found = with_files(pa.table({"mask": ["m.png"], "path": ["a.png"], "sound": ["a.wav"]}), tmp_path)
    assert found.table.column_names == ["mask", "image", "audio"]
    assert found.notes == ("image: 'path'", "'mask' names files too, which are not read", "audio: 'sound'")


@pytest.mark.parametrize("declared", [True, False])
def test_columns_of_datasets(declared: bool, tmp_path: Path) -> None:
    put(tmp_path, "b.bin")
    values = [{"bytes": b"\x89PNG", "path": "a"}, {"bytes": None, "path": "b.bin"}, None]
    kind = pa.struct([("path", pa.string()), ("bytes", pa.large_binary())])
    table = pa.table({"img": pa.array(values, kind), "image": [1, 2, 3]})
    if declared:
        features = {"info": {"features": {"img": {"_type": "Image"}, "image": {"dtype": "int64", "_type": "Value"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    found = with_files(table, tmp_path)
    assert found.table.column_names == ["image", "image_column"]
    assert found.table.column("image").to_pylist() == [
        {"bytes": b"\x89PNG", "path": "a"},
        {"bytes": None, "path": str(tmp_path / "b.bin")},
        {"bytes": None, "path": None},
    ]
    assert found.missing is not None and found.missing.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("content", "kind"), [(b"\xff\xd8\xff\xe0", "image"), (b"RIFF\0\0\0\0WAVE", "audio"), (b"RIFF\0\0\0\0WEBP", "image")]
)
def test_bare_bytes(content: bytes, kind: str, tmp_path: Path) -> None:
    found = with_files(pa.table({"content": [content, content]}), tmp_path)
    assert found.table.column(kind).to_pylist()[0] == {"bytes": content, "path": None}


def test_what_datasets_saves(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"pic": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"pic": [{"bytes": b"\x89PNG", "path": None}], "label": [1]}
    table = datasets.Dataset.from_dict(rows, features=features).data.table
    assert with_files(table, tmp_path).table.column_names == ["image", "label"]
