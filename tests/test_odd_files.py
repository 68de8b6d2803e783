"""Files as people have them: broken downloads, other encodings, lists that tools write, layouts of the hub."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from thawline.data.dataset import Dataset, Options, load
from thawline.data.read import read
from thawline.errors import DataError

CHAT = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]


def loaded(path: Any, cache: Path, **options: Any) -> Dataset:
    return load(path, Options(**options), cache=cache)


def rows(dataset: Dataset, name: str = "train") -> int:
    return len(dataset.splits[name])


def test_large_strings_are_strings_wherever_they_stand(tmp_path: Path) -> None:
    """As pandas 3 and polars write them."""
    kind = pa.large_string()
    spans = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", kind)]))
    tables = {
        "pairs": {"prompt": pa.array([f"{i}?" for i in range(40)], kind), "completion": pa.array(["a", "b"] * 20, kind)},
        "documents": {"text": pa.array([f"text {i}" for i in range(40)], kind)},
        "spans": {
            "text": pa.array([f"Ann sings {i}" for i in range(40)], kind),
            "entities": pa.array([[{"start": 0, "end": 3, "label": "WHO"}]] * 40, spans),
        },
    }
    asked: dict[str, dict[str, Any]] = {"pairs": {}, "documents": {"inputs": "messages", "target": "answer"}, "spans": {}}
    problems = {"pairs": "text_generation", "documents": "text_generation", "spans": "token_classification"}
    for name, columns in tables.items():
        parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        found = loaded(tmp_path / f"{name}.parquet", tmp_path / "cache", **asked[name])
        assert found.columns.problem == problems[name], name


def test_a_frame_of_prompts_is_one_of_conversations(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt": [f"{i}?" for i in range(40)], "completion": ["a", "b"] * 20})
    assert loaded(frame, tmp_path).columns.problem == "text_generation"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp949", "안녕하세요 영화가 정말 재미있었습니다 다시 보고 싶어요"),
        ("euc_jp", "この映画はとても面白かったです。また見たいと思います"),
    ],
)
def test_korean_and_japanese_are_not_taken_for_chinese(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(("text,label\n" + "".join(f"{text} {i},{'ab'[i % 2]}\n" for i in range(40))).encode(encoding))
    with pytest.raises(DataError, match="Name the encoding"):
        read(path, cache=tmp_path / "cache")
    assert read(path, encoding=encoding, cache=tmp_path / "cache").splits["all"].column("text")[0].as_py() == f"{text} 0"


def test_chinese_is_still_found(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(("text,label\n" + "这部电影真的很好看，我还想再看一遍。,好\n" * 40).encode("gb18030"))
    assert "GB18030" in read(path, cache=tmp_path / "cache").notes[0]


def test_no_number_among_numbers_is_no_class(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{('1', '0', 'NA', '1')[i % 4]}\n" for i in range(80)))
    found = loaded(path, tmp_path / "cache")
    assert found.columns.labels == ("0", "1") and sum(rows(found, name) for name in found.splits) == 60
    assert any(finding.name == "missing_label" for finding in found.findings)


def test_a_sound_that_was_piped_is_whole(tmp_path: Path) -> None:
    from thawline.data.sounds import sound

    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1600, np.float32), 16000)
    content = bytearray(path.read_bytes())
    content[4:8], content[40:44] = (0x7FFFF024).to_bytes(4, "little"), (0x7FFFF000).to_bytes(4, "little")  # as SoX does
    assert len(sound({"bytes": bytes(content), "path": None}, 16000)) == 1600


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"] * 20, "label": ["x", "y"] * 20})
    parquet.write_table(table, tmp_path / "train-00000-of-00002.parquet")
    with pytest.raises(DataError, match="1 of 2 files of train; the others are missing"):
        read(tmp_path, cache=tmp_path / "cache")
    parquet.write_table(table, tmp_path / "train-00001-of-00002.parquet")
    assert read(tmp_path, cache=tmp_path / "cache").splits["train"].num_rows == 80


def test_two_arrays_in_one_file_are_refused_and_a_long_one_is_read(tmp_path: Path) -> None:
    one = json.dumps([{"text": f"text {i}\n", "label": "ab"[i % 2]} for i in range(30000)], indent=1)
    path = tmp_path / "reviews.json"
    path.write_text(one + "\n\n")
    assert read(path, cache=tmp_path / "cache").splits["all"].num_rows == 30000
    path.write_text(one + "\n" + one)
    with pytest.raises(DataError, match="line 120002: the array ends there, and more comes after it"):
        read(path, cache=tmp_path / "cache")
    path.write_text(one[:-20])
    with pytest.raises(DataError, match=r"line 119999: the array is broken or not closed"):
        read(path, cache=tmp_path / "cache")


def test_numbers_are_texts_of_instructions_and_lists_are_told(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"instruction": "Square it", "input": i, "output": i * i}) + "\n" for i in range(40)))
    assert loaded(path, tmp_path / "cache").columns.problem == "text_generation"
    broken = {"instruction": "Answer.", "context": ["passage 1", "passage 2"], "response": "Yes."}
    path.write_text((json.dumps(broken) + "\n") * 40)
    with pytest.raises(DataError, match=r"context is .*expected text"):
        loaded(path, tmp_path / "cache")


def test_lists_with_tabs_are_read_and_what_is_lost_is_told(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(1600, np.float32), 16000)
    (tmp_path / "wav.scp").write_text("".join(f"{name}\t{name}.wav\n" for name in "abc"))
    (tmp_path / "text").write_text("a\thello world\nb\tgood bye\nd\tnobody\n")
    found = read(tmp_path, cache=tmp_path / "cache")
    assert found.splits["all"].column("text").to_pylist() == ["hello world", "good bye"]
    assert {"1 recordings have no text and are left out", "1 texts no recording and are left out"} <= {
        note.rpartition(": ")[2] for note in found.notes
    }
    (tmp_path / "text").write_text("x hello\n")
    with pytest.raises(DataError, match="no utterance in common"):
        read(tmp_path, cache=tmp_path / "other")


def test_a_manifest_of_something_else_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\n" + "good,a\nbad,b\n" * 20)
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 1, "files": ["reviews.csv"]}, indent=1))
    assert read(tmp_path, cache=tmp_path / "cache").splits["all"].num_rows == 40


def test_a_table_beside_its_files_in_a_folder_a_split(tmp_path: Path) -> None:
    """As data sets of the hub have it."""
    for split, count in (("train", 40), ("test", 2)):
        (tmp_path / split).mkdir()
        for i in range(count):
            soundfile.write(tmp_path / split / f"{i}.wav", np.full(1600, (i + count) / 100, np.float32), 16000)
        lines = "".join(f"{i}.wav,said {i}\n" for i in range(count))
        (tmp_path / split / "metadata.csv").write_text(f"file_name,transcription\n{lines}")
    found = read(tmp_path, cache=tmp_path / "cache")
    assert {split: table.num_rows for split, table in found.splits.items()} == {"train": 40, "test": 2}
    assert loaded(tmp_path, tmp_path / "cache").columns.problem == "speech_recognition"


def test_an_answer_may_come_first() -> None:
    from test_text_generation import task_of

    task = task_of()
    (item,) = task.encode([{"id": "a", "messages": [{"role": "assistant", "content": "How can I help?"}, *CHAT]}])
    said = task.tokenizer.decode([token for token, own in zip(item["input_ids"], item["learned"], strict=True) if own])
    assert "How can I help?" in said and "Yes." in said and "Hello?" not in said


def test_splits_of_one_scheme_have_the_same_tags(tmp_path: Path) -> None:
    """Entities of IOB1 begin with B- only beside others of their kind, which one split has and another has not."""
    sentences = ["Ann I-WHO\nsings O\n\n", "Bob O\nmet O\nCy I-WHO\n\n"]
    (tmp_path / "train.conll").write_text("".join(sentences) * 10 + "Ann I-WHO\nBob B-WHO\n\n")
    (tmp_path / "test.conll").write_text("".join(sentences))
    found = read(tmp_path, cache=tmp_path / "cache")
    dataset = loaded(found, tmp_path / "cache")
    for split in ("train", "test"):
        tags = {tag for row in dataset.splits[split].column("label").to_pylist() for tag in row}
        assert tags == {"O", "B-WHO"}, split
