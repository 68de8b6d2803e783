"""Examples, the cache, and ids."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from thawline.data import cache as caching
from thawline.data.examples import Examples
from thawline.data.ids import content_ids, content_keys, given_ids
from thawline.errors import DataError, MachineError


def table(rows: int = 100, chunk: int = 7) -> pa.Table:
    parts = [
        pa.table(
            {"id": [f"i{n}" for n in range(a, min(a + chunk, rows))], "text": [f"t{n}" for n in range(a, min(a + chunk, rows))]}
        )
        for a in range(0, rows, chunk)
    ]
    return pa.concat_tables(parts)


def test_rows_slices_and_selections() -> None:
    examples = Examples(table())
    assert len(examples) == 100
    assert examples[-1] == {"id": "i99", "text": "t99"}
    assert [e["id"] for e in examples[97:]] == ["i97", "i98", "i99"]
    order = np.random.default_rng(0).permutation(100)
    mixed = examples.select(order)
    assert mixed.column("text").to_pylist() == [f"t{n}" for n in order]
    assert [e["text"] for e in mixed] == [f"t{n}" for n in order]
    assert [len(batch) for batch in mixed.batches(30)] == [30, 30, 30, 10]
    assert [e["id"] for e in mixed.select(order == 3)] == ["i3"]
    assert [e["id"] for e in mixed.select([1, 1])] == [f"i{order[1]}"] * 2
    assert len(examples.select([])) == 0
    assert examples.select([]).column("id").to_pylist() == []
    with pytest.raises(IndexError):
        examples[100]


def test_fingerprint_is_of_the_content_alone() -> None:
    one, other = Examples(table(20_000, 7000)), Examples(table(20_000, 999))
    assert one.fingerprint == other.fingerprint
    rows = np.arange(20_000)[::-1]
    assert (
        one.select(rows).fingerprint == Examples(pa.table({k: v[::-1] for k, v in other.table.to_pydict().items()})).fingerprint
    )
    assert one.select(rows).fingerprint != one.fingerprint
    extra = Examples(one.table.append_column("mine", pa.array(range(20_000))))
    assert extra.fingerprint == one.fingerprint


def test_ids() -> None:
    plain, normalised = content_keys(pa.table({"text": ["a", " a", "b", "a", "e\u0301", "\u00e9"]}))
    names = content_ids(plain).to_pylist()
    assert len(set(names)) == 6
    assert [name[16:] for name in names] == ["-0", "-0", "-0", "-1", "-0", "-0"]
    assert names[0][:16] == names[3][:16] == __import__("hashlib").blake2b(b"a", digest_size=8).hexdigest()
    assert normalised[0] == normalised[1] == normalised[3]
    assert normalised[4] == normalised[5]
    pairs, _ = content_keys(pa.table({"text": ["ab", "a"], "text_pair": ["c", "bc"]}))
    assert pairs[0] != pairs[1]


def test_given_ids() -> None:
    assert given_ids(pa.chunked_array([[7, 8]]), name="id", split="train").to_pylist() == ["7", "8"]
    with pytest.raises(DataError, match="has the id '7' 2 times in train"):
        given_ids(pa.chunked_array([[7, 8, 7]]), name="id", split="train")
    with pytest.raises(DataError, match="no id in row 2 of train"):
        given_ids(pa.chunked_array([["a", None]]), name="id", split="train")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert caching.cache_folder().name.startswith("cache")
    monkeypatch.delenv("THAWLINE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert caching.cache_folder() == tmp_path / "thawline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert caching.cache_folder() == Path.home() / ".cache" / "thawline"
    monkeypatch.setattr("sys.platform", "darwin")
    assert caching.cache_folder() == Path.home() / "Library" / "Caches" / "thawline"


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with caching.written_aside(target) as aside:
        aside.write_text("one")
        assert not target.exists()
    for fault, raised, message in (
        (KeyError("x"), KeyError, "x"),
        (OSError(errno.ENOSPC, "No space left on device"), MachineError, r"disk is full.*THAWLINE_CACHE"),
    ):
        with pytest.raises(raised, match=message):
            write_half(target, fault)
    assert target.read_text() == "one"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path: Path) -> None:
    left = [".a.arrow.123-0123abcd.part", ".b.arrow.123-0123abcd.part", ".notes.part", "a.part"]
    for name in left:
        (tmp_path / name).write_text("half")
    for name in left[1:]:
        os.utime(tmp_path / name, (0, time.time() - 25 * 3600))
    with caching.written_aside(tmp_path / "new.txt") as aside:
        aside.write_text("whole")
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"new.txt", left[0], ".notes.part", "a.part"}, "that of a day ago is gone, what is not ours stays"


def write_half(target: Path, fault: Exception) -> None:
    with caching.written_aside(target) as aside:
        aside.write_text("two")
        raise fault


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert caching.hash_file(tmp_path / "a") == __import__("hashlib").blake2b(b"x" * 3_000_000, digest_size=16).hexdigest()
    assert caching.hash_bytes("a", b"b") == caching.hash_bytes(b"a", "b")
    nulls = pa.table({"a": pa.array([["x"], None, []])})
    assert caching.hash_table(nulls) == caching.hash_table(pa.concat_tables([nulls.slice(0, 1), nulls.slice(1)]))
    assert caching.hash_table(nulls) != caching.hash_table(pa.table({"a": pa.array([["x"], [], []])}))
