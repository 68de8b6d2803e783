"""Folders of class folders are recognised, and what they hold beside is told."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from thawline.data.digests import digests
from thawline.data.folders import media
from thawline.data.read import Source
from thawline.errors import DataError

CLASSES = ["cat/1.jpg", "cat/2.PNG", "dog/1.jpg"]
SPLIT = ["train/cat/1.jpg", "train/dog/2.jpg", "Val/cat/3.jpg", "Val/dog/4.jpg", "test/dog/5.jpg"]


def filled(root: Path, files: list[str], contents: str | None = None) -> Path:
    """Make these files, each holding its own path unless told otherwise; a name that ends in / is an empty folder."""
    for name in files:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name if contents is None else contents)
    return root


def rows(source: Source | None, root: Path) -> dict[str, list[tuple[str, str]]]:
    assert source is not None
    kind = source.splits[next(iter(source.splits))].column_names[0]
    return {
        split: [(Path(row[kind]["path"]).relative_to(root).as_posix(), row["label"]) for row in table.to_pylist()]
        for split, table in source.splits.items()
    }


def labelled(*files: str) -> list[tuple[str, str]]:
    return [(file, file.split("/")[-2]) for file in files]


def test_class_folders(tmp_path: Path, cache: Path) -> None:
    source = media(filled(tmp_path / "pets", CLASSES), cache)
    assert rows(source, tmp_path / "pets") == {"all": labelled(*CLASSES)}
    assert source is not None
    table = source.splits["all"]
    assert (source.name, source.notes, table.column_names) == ("pets", (), ["image", "label"])
    assert table.column("image")[0].as_py() == {"bytes": None, "path": str(tmp_path / "pets" / "cat" / "1.jpg")}


def test_splits(tmp_path: Path, cache: Path) -> None:
    source = media(filled(tmp_path, SPLIT), cache)
    assert list(rows(source, tmp_path)) == ["train", "validation", "test"]
    assert rows(source, tmp_path)["validation"] == labelled(*SPLIT[2:4])
    assert source is not None and source.notes == ()


def test_sounds(tmp_path: Path, cache: Path) -> None:
    source = media(filled(tmp_path, ["yes/1.wav", "no/1.flac", "no/2.mp3"]), cache)
    assert source is not None and source.splits["all"].column_names == ["audio", "label"]
    assert source.splits["all"].column("label").to_pylist() == ["no", "no", "yes"]


def test_relative_path(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "pets", CLASSES)
    monkeypatch.chdir(tmp_path)
    source = media(Path("pets"), cache)
    assert source is not None and source.splits["all"].column("image")[0].as_py()["path"].startswith(str(tmp_path))


TOLD: dict[str, tuple[list[str], list[str]]] = {
    "below": ([f"a/b/{name}" for name in CLASSES], ["read from a/b, where the class folders lie"]),
    "splits below": ([f"a/{name}" for name in SPLIT], ["read from a, where the class folders lie"]),
    "others": (
        [*CLASSES, *(f"{n}.txt" for n in "abcd"), "cat/x.wav", "README.md"],
        ["README.md is ignored", "4 .txt files (a.txt, b.txt, c.txt, …) are ignored", "cat/x.wav is ignored"],
    ),
    "not read": (
        [*CLASSES, "cat/3.heic", "dog/3.heic"],
        ["2 .heic files (cat/3.heic, dog/3.heic) are ignored: they cannot be read; convert them to JPEG or PNG"],
    ),
    "outside": (
        [*SPLIT[:4], "test/1.jpg", "test/2.jpg", "x.jpg"],
        ["3 .jpg files (test/1.jpg, test/2.jpg, x.jpg) are ignored: outside the class folders"],
    ),
    "beside splits": ([*SPLIT, "more/cat/7.jpg"], ["more/cat/7.jpg is ignored: outside the class folders"]),
    "empty": ([*CLASSES, "fish/", "bird/readme"], ["bird/readme is ignored", "without pictures, so no class: bird, fish"]),
    "deep": ([*CLASSES, "cat/indoor/9.jpg"], ["what lies deeper is of the class whose folder it is in: cat/indoor/9.jpg"]),
    "hidden": ([*CLASSES, ".DS_Store", "cat/Thumbs.db", "__MACOSX/cat/1.jpg", ".git/x/1.jpg", "cat/._1.jpg"], []),
    "stray table": ([*CLASSES, "counts.csv"], ["counts.csv is ignored"]),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_ignored_is_told(name: str, tmp_path: Path, cache: Path) -> None:
    files, notes = TOLD[name]
    source = media(filled(tmp_path, files), cache)
    assert source is not None and list(source.notes) == notes
    if name != "deep":
        assert {label for rows_of in rows(source, tmp_path).values() for _, label in rows_of} == {"cat", "dog"}


OTHERS: dict[str, list[str]] = {
    "tables": ["train.csv", "test.csv"],
    "one folder": ["photos/1.jpg", "photos/2.jpg"],
    "unlabelled splits": ["train/1.jpg", "test/2.jpg"],
    "masks": ["train/images/1.jpg", "train/masks/1.png", "test/images/2.jpg", "test/masks/2.png"],
    "voc": ["JPEGImages/1.jpg", "SegmentationClass/1.png", "Annotations/1.xml"],
    "segnet": ["train/1.png", "trainannot/1.png", "test/2.png", "testannot/2.png"],
    "yolo": ["train/images/1.jpg", "train/labels/1.txt"],
    "speech": ["wavs/1.wav", "metadata.csv"],
    "librispeech": ["84/1/84-1-0.flac", "84/1/84-1.trans.txt", "85/2/85-2-0.flac", "85/2/85-2.trans.txt"],
    "empty": [],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_folders_are_left_alone(name: str, tmp_path: Path, cache: Path) -> None:
    assert media(filled(tmp_path, OTHERS[name]), cache) is None


@pytest.mark.parametrize("table", ["labels.csv", "metadata.jsonl", "train/metadata.csv"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-16"])
def test_a_table_that_names_the_files_comes_first(table: str, codec: str, tmp_path: Path, cache: Path) -> None:
    root = filled(tmp_path, SPLIT)
    assert media(root, cache) is not None
    (root / table).write_text("file_name,label\ncat/1.JPG,cat\n", codec)
    assert media(root, cache) is None


def test_class_called_as_a_split(tmp_path: Path, cache: Path) -> None:
    files = ["bus/1.jpg", "car/2.jpg", "train/3.jpg"]
    assert rows(media(filled(tmp_path, files), cache), tmp_path) == {"all": labelled(*files)}


def test_a_folder_of_folders_of_classes(tmp_path: Path, cache: Path) -> None:
    """As Food-101 has it: the pictures in one folder, lists of their names in another."""
    files = ["images/pie/1.jpg", "images/soup/2.jpg"]
    source = media(filled(tmp_path, [*files, "meta/train.json", "meta/test.json"]), cache)
    assert rows(source, tmp_path) == {"all": labelled(*files)}
    assert source is not None and "2 .json files (meta/test.json, meta/train.json) are ignored" in source.notes


FAULTS: dict[str, tuple[list[str], str]] = {
    "twice": (["val/cat/1.jpg", "valid/cat/2.jpg", "val/dog/1.jpg"], "val and valid are both the validation split"),
    "m4a": (["yes/1.m4a", "no/1.m4a"], "there is nothing but 2 .m4a files .*: they cannot be read; .* ffmpeg -i IN OUT.flac"),
    "bytes": ([*CLASSES, os.fsdecode(b"dog/caf\xe9.jpg")], r"caf\\udce9.jpg' has a name that is not Unicode"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, tmp_path: Path, cache: Path) -> None:
    files, told = FAULTS[name]
    try:
        filled(tmp_path, files, "x")
    except (OSError, UnicodeError):
        pytest.skip("this file system has only Unicode names")
    with pytest.raises(DataError, match=told):
        media(tmp_path, cache)


def test_links(tmp_path: Path, cache: Path) -> None:
    """Links are followed, except one that leads to where it lies; a broken one stays, to be found unreadable."""
    kept = filled(tmp_path / "kept", CLASSES)
    root = filled(tmp_path / "linked", ["dog/1.jpg"])
    (root / "cat").symlink_to(kept / "cat")
    (root / "dog" / "2.jpg").symlink_to(kept / "dog" / "1.jpg")
    (root / "dog" / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    (root / "dog" / "again").symlink_to(root)
    source = media(root, cache)
    assert rows(source, root) == {"all": labelled("cat/1.jpg", "cat/2.PNG", "dog/1.jpg", "dog/2.jpg", "dog/gone.jpg")}


def test_one_name_written_in_two_ways(tmp_path: Path, cache: Path) -> None:
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    filled(tmp_path, [f"train/{names[0]}/1.jpg", "train/tea/2.jpg", f"test/{names[1]}/3.jpg"])
    assert [label for of in rows(media(tmp_path, cache), tmp_path).values() for _, label in of] == [names[0], "tea", names[0]]


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "content": (lambda root: (root / "cat/1.jpg").write_text("CAT/1.jpg"), True),
    "label": (lambda root: (root / "cat").rename(root / "kitten"), True),
    "one less": (lambda root: (root / "cat/1.jpg").unlink(), True),
    "name": (lambda root: (root / "cat/1.jpg").rename(root / "cat/0.jpg"), False),
    "time": (lambda root: os.utime(root / "cat/1.jpg", (1, 1)), False),
    "stray": (lambda root: (root / "notes.txt").write_text("x"), False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_is_of_the_content(change: str, tmp_path: Path, cache: Path) -> None:
    root = filled(tmp_path / "a", CLASSES)
    before = media(root, cache)
    alter, differs = CHANGES[change]
    alter(root)
    after, moved = media(root, cache), media(root.rename(tmp_path / "b"), cache / "other")
    assert before and after and moved
    assert (before.fingerprint != after.fingerprint) == differs
    assert moved.fingerprint == after.fingerprint


def test_digests_are_remembered(shared: Path, cache: Path) -> None:
    folder = shared / "data" / "trashnet" / "test" / "trash"
    values = [{"bytes": None, "path": str(path)} for path in sorted(folder.iterdir())]
    first = digests(values, cache)
    (memo,) = (cache / "digests").iterdir()
    kept = memo.stat().st_mtime_ns
    assert digests(values[::-1], cache) == first[::-1] and memo.stat().st_mtime_ns == kept
    memo.write_bytes(memo.read_bytes()[:100])
    assert digests(values, cache) == first
    assert digests([{"bytes": Path(values[0]["path"]).read_bytes(), "path": None}], cache) != digests([values[1]], cache)


def test_digests_see_a_change_at_once(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.jpg"
    seen = set()
    for content in "abcdefgh":
        path.write_text(content)
        seen.add(digests([{"bytes": None, "path": str(path)}], cache)[0])
    assert len(seen) == 8


def test_digest_is_of_the_bytes_wherever_they_are(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"same")
    of_file, of_bytes, of_none = digests(
        [{"bytes": None, "path": str(path)}, {"bytes": b"same", "path": "a.jpg"}, {"bytes": None, "path": "/gone.jpg"}], cache
    )
    assert of_file == of_bytes != of_none


def test_trashnet(shared: Path, cache: Path) -> None:
    source = media(shared / "data" / "trashnet", cache)
    assert source is not None
    assert {split: table.num_rows for split, table in source.splits.items()} == {"train": 1768, "validation": 328, "test": 431}
    assert set(source.notes) == {"LICENSE is ignored", "README.md is ignored"}
    values = [value for table in source.splits.values() for value in table.column("image").to_pylist()]
    assert len(values) - len(set(digests(values, cache))) == 3


@pytest.mark.parametrize("name", ["an4", "bccd", "camvid", "fsdd", "ljspeech_32", "sst2", "wnut17"])
def test_data_of_other_kinds(name: str, shared: Path, cache: Path) -> None:
    assert media(shared / "data" / name, cache) is None
