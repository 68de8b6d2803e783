"""Folders of speech, as LJSpeech, NeMo, Kaldi and Common Voice lay them out."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from thawline.data.dataset import Options, understood
from thawline.data.delimited import parse
from thawline.data.paths import with_files
from thawline.data.prepare import canonical
from thawline.data.read import read
from thawline.data.sounds import seconds, sound, unreadable
from thawline.data.speech import layout
from thawline.data.tables import through_cache
from thawline.errors import DataError

TEXTS = ['He said "no"; then', "Dr. Who | 2".replace(" |", ","), "ein Weg über"]


def wavs(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(800, 0.1), 8000)


def lines(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("columns", [2, 3])
def test_ljspeech(columns: int, tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, *[f"wavs/LJ-{n}.wav" for n in range(3)])
    lines(tmp_path / "metadata.csv", *("|".join([f"LJ-{n}", text, text.lower()][:columns]) for n, text in enumerate(TEXTS)))
    for path in (tmp_path, tmp_path / "metadata.csv"):
        source = layout(path, cache)
        assert source is not None and list(source.splits) == ["all"]
        table = source.splits["all"]
        assert table.column_names == ["id", "audio", "text", "normalized_text"][: columns + 1]
        assert table.column("text").to_pylist() == TEXTS
        assert seconds(table.column("audio").to_pylist()[2]) == 0.1


def test_lists_of_paths_by_split(tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, "a/1.wav", "a/2.wav", "a/3.wav")
    lines(tmp_path / "train.txt", "a/1.wav|eins", "a/2.wav|zwei")
    lines(tmp_path / "filelist_val.txt", "a/3.wav|drei")
    source = layout(tmp_path, cache)
    assert source is not None
    assert {split: table.column("text").to_pylist() for split, table in source.splits.items()} == {
        "train": ["eins", "zwei"],
        "validation": ["drei"],
    }
    assert source.splits["train"].column_names == ["audio", "text"]


@pytest.mark.parametrize("layout_of", ["piped", "kaldi", "manifest"])
def test_lists_in_an_encoding_that_is_named(layout_of: str, tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, "a.wav", "b.wav")
    if layout_of == "piped":
        (tmp_path / "metadata.csv").write_bytes("a|Straße\nb|Köln\n".encode("cp1252"))
    elif layout_of == "kaldi":
        lines(tmp_path / "wav.scp", "a a.wav", "b b.wav")
        (tmp_path / "text").write_bytes("a Straße\nb Köln\n".encode("cp1252"))
    else:
        rows = '{"audio": "a.wav", "text": "Straße"}\n{"audio": "b.wav", "text": "Köln"}\n'
        (tmp_path / "manifest.jsonl").write_bytes(rows.encode("cp1252"))
    source = read(tmp_path, encoding="cp1252", cache=cache)
    (table,) = source.splits.values()
    assert table.column("text").to_pylist() == ["Straße", "Köln"]
    with pytest.raises(DataError, match="encoding"):
        read(tmp_path, encoding="cp1252x", cache=cache)


def test_transcripts_that_are_numbers(tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, "a.wav", "b.wav")
    lines(tmp_path / "train.jsonl", '{"audio": "a.wav", "text": 7}', '{"audio": "b.wav", "text": 12}')
    source, columns, _ = understood(read(tmp_path / "train.jsonl", cache=cache), Options())
    assert (columns.target, columns.label) == ("transcript", "text")
    (table,) = source.splits.values()
    assert canonical(table, columns, "train").examples.column("label").to_pylist() == ["7", "12"]


def test_a_line_that_does_not_fit(tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, "wavs/a.wav")
    rows = ["a|so"] * 2000
    lines(tmp_path / "metadata.csv", *rows, "b|such|as it", *rows)
    with pytest.raises(DataError, match=r"metadata.csv, line 2001: 3 values between \|, but the first line has 2"):
        layout(tmp_path, cache)


def test_missing_sounds_are_left_out(tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, "wavs/a.wav", "wavs/b.wav")
    lines(tmp_path / "metadata.csv", "a|one", "b|two", "c|three")
    source = layout(tmp_path, cache)
    assert source is not None and source.splits["all"].num_rows == 2
    assert any("1 of 3 files" in note and "c.wav in row 3" in note for note in source.notes)


@pytest.mark.parametrize("names", [("train_manifest.json", "test_manifest.json"), ("train_clean_100.json", "test_clean.json")])
def test_nemo(names: tuple[str, str], tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, "audio/1.wav", "audio/2.wav")
    for n, name in enumerate(names, 1):
        lines(
            tmp_path / name,
            json.dumps({"audio_filepath": f"/data/x/audio/{n}.wav", "duration": 0.1, "text": "yes", "offset": 0}),
        )
    source = layout(tmp_path, cache)
    assert source is not None and list(source.splits) == ["train", "test"]
    assert source.splits["test"].column("audio").to_pylist()[0]["path"] == str(tmp_path / "audio/2.wav")
    assert any("without the first 3 folders" in note for note in source.notes)
    alone = layout(tmp_path / names[0], cache)
    assert alone is not None and list(alone.splits) == ["all"]


def test_segments_are_refused(tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, "1.wav")
    lines(tmp_path / "manifest.json", json.dumps({"audio_filepath": "1.wav", "offset": 0.5, "duration": 0.1, "text": "yes"}))
    with pytest.raises(DataError, match=r"manifest.json names segments of longer recordings"):
        layout(tmp_path, cache)


def test_two_lists_of_one_split(tmp_path: Path, cache: Path) -> None:
    wavs(tmp_path, "1.wav")
    for name in ("dev_clean.json", "dev_other.json"):
        lines(tmp_path / name, json.dumps({"audio_filepath": "1.wav", "text": "yes"}))
    with pytest.raises(DataError, match=r"dev_clean.json and dev_other.json are both the validation split"):
        layout(tmp_path, cache)


def test_kaldi(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        wavs(tmp_path, f"wav/{split}-1.wav")
        lines(tmp_path / split / "wav.scp", f"u1 wav/{split}-1.wav", f"u2 wav/{split}-1.wav")
        lines(tmp_path / split / "text", "u1 so it is")
        lines(tmp_path / split / "utt2spk", "u1 ann", "u2 bob")
    source = layout(tmp_path, cache)
    assert source is not None and list(source.splits) == ["train", "test"]
    row = source.splits["test"].to_pylist()[0]
    assert row == {
        "id": "u1",
        "audio": {"bytes": None, "path": str(tmp_path / "wav/test-1.wav")},
        "text": "so it is",
        "speaker": "ann",
    }
    assert any("1 recordings have no text" in note for note in source.notes)
    lines(tmp_path / "test" / "wav.scp", "u1 sph2pipe -f wav x.sph |")
    with pytest.raises(DataError, match="holds commands"):
        layout(tmp_path, cache)


def test_common_voice(tmp_path: Path, cache: Path) -> None:
    tone = 0.1 * np.sin(np.arange(48000) / 9)
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "cv_1.mp3", tone, 48000)
    file = lines(tmp_path / "train.tsv", "client_id\tpath\tsentence", 'ab\tcv_1.mp3\tHe said "yes')
    assert layout(tmp_path, cache) is None  # a table like any other
    found = with_files(through_cache(file, parse, encoding=None, cache=cache).table, tmp_path, split="train")
    assert found.table.column_names == ["client_id", "audio", "sentence"]
    assert len(sound(found.table.column("audio").to_pylist()[0], 16000)) == 16000


def _none(folder: Path) -> None:
    lines(folder / "train.csv", "text,label", "good | bad,1", "fair | foul,0")


def _empty(folder: Path) -> None:
    lines(folder / "README.md", "nothing")


def _piped_texts(folder: Path) -> None:
    lines(folder / "notes.txt", "a|b", "c|d")


@pytest.mark.parametrize("make", [_none, _empty, _piped_texts])
def test_other_folders_are_left_to_others(make: Callable[[Path], None], tmp_path: Path, cache: Path) -> None:
    make(tmp_path)
    assert layout(tmp_path, cache) is None
    assert layout(tmp_path / "nowhere", cache) is None


@pytest.mark.parametrize(
    ("name", "file", "rows", "rate", "columns"),
    [
        ("an4", "test.csv", 130, 16000, ["audio", "text", "speaker", "seconds"]),
        ("fsdd", "test.csv", 300, 8000, ["audio", "label", "speaker", "seconds"]),
        ("ljspeech_32", "manifest.csv", 32, 22050, ["audio", "text", "normalized_text", "seconds", "rate"]),
    ],
)
def test_real_folders(shared: Path, cache: Path, name: str, file: str, rows: int, rate: int, columns: list[str]) -> None:
    folder = shared / "data" / name
    source = layout(folder, cache)
    assert (source is None) == (name != "ljspeech_32")
    table = (
        source.splits["all"]
        if source
        else with_files(through_cache(folder / file, parse, encoding=None, cache=cache).table, folder).table
    )
    assert (table.num_rows, table.column_names) == (rows, columns)
    values = table.column("audio").slice(0, 20).to_pylist()
    assert unreadable(values) == []
    assert soundfile.info(values[0]["path"]).samplerate == rate
    told = [float(value) for value in table.column("seconds").slice(0, 20).to_pylist()]
    assert [len(sound(value, 16000)) / 16000 for value in values] == pytest.approx(told, abs=0.06)
