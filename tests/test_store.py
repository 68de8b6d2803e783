"""The feature store: what is read is exactly what was written, or nothing, whatever happens to the files."""

import doctest
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stored import FACTS, check, fill, key, made, same
from thawline.memory import anonymous_bytes
from thawline.thaw.segment import told
from thawline.thaw.shelf import shelf_name
from thawline.thaw.store import Shelf, Store, StoreError, bandwidth

DTYPES = ["float32", "bfloat16", "float16"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "features", max_bytes=None)


def segments(store: Store) -> list[Path]:
    return sorted(store.folder.rglob("*.seg"))


# There and back


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 384), (25, 384), (3, 0, 2), (2, 1, 3, 1, 2, 1, 1, 1, 2)], ids=str)
def test_round_trip(store: Store, dtype: str, shape: tuple[int, ...]) -> None:
    shelf = store.shelf(FACTS | {"dtype": dtype})
    tensors = [torch.randn(shape).to(getattr(torch, dtype)) for _ in range(3)]
    shelf.add([key(i) for i in range(3)], tensors)
    for reader in (shelf, store.shelf(FACTS | {"dtype": dtype})):
        found = reader.read([key(2), key(9), key(0)])
        assert found[1] is None
        assert same(found[0], tensors[2])
        assert same(found[2], tensors[0])
        assert reader.missing([key(5), key(1), key(6)]) == [0, 2]


def test_every_bit_is_kept(store: Store) -> None:
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    for dtype in ("bfloat16", "float16"):
        every = bits.view(getattr(torch, dtype))
        shelf = store.shelf({"dtype": dtype})
        shelf.add([key(0)], [every])
        assert same(shelf.read([key(0)])[0], every)


def test_what_is_given_may_be_a_view_with_a_gradient(store: Store) -> None:
    shelf, weight = store.shelf(FACTS), torch.randn(6, 8, requires_grad=True)
    shelf.add([key(0), key(1)], [weight.T[2:5], weight.T[2:5]])
    found = shelf.read([key(0), key(1)])
    assert same(found[0], weight.T[2:5].detach())
    assert found[0] is not None
    found[0].zero_()  # a private view: neither the file nor what another process reads changes
    assert same(store.shelf(FACTS).read([key(0)])[0], weight.T[2:5].detach())


def test_keys_that_agree_in_half_are_told_apart(store: Store) -> None:
    shelf, keys = store.shelf(FACTS), [b"samehalf" + i.to_bytes(8, "little") for i in range(40)]
    shelf.add(keys, [torch.full((2,), float(i)) for i in range(40)])
    assert [float(t[0]) for t in shelf.read(keys[::-1]) if t is not None] == list(map(float, range(39, -1, -1)))
    assert shelf.missing([*keys, b"samehalf" + bytes(8)[:-1] + b"\xff"]) == [40]


def test_nothing_asked_and_nothing_given(store: Store) -> None:
    shelf = store.shelf(FACTS)
    shelf.add([], [])
    assert (shelf.read([]), shelf.missing([]), store.shelves(), segments(store)) == ([], [], [], [])


def test_many_calls_make_one_segment_and_a_large_one_is_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = store.shelf(FACTS)
    with shelf.writer(expected=10**6) as writer:
        for number in range(50):
            writer.add([key(number)], [made(number)])
    assert len(segments(store)) == 1
    assert check(shelf, range(50)) == 50
    monkeypatch.setattr("thawline.thaw.shelf._SEGMENT_BYTES", 4000)
    fill(shelf, range(50, 100))
    assert len(segments(store)) > 3
    assert check(store.shelf(FACTS), range(100)) == 100


def test_wrong_keys_and_dtypes_are_faults(store: Store) -> None:
    shelf = store.shelf(FACTS)
    with pytest.raises(ValueError, match="16"):
        shelf.read([b"short"])
    with pytest.raises(ValueError, match="5 bytes for a"):
        shelf.add([b"short"], [made(0)])
    with pytest.raises(ValueError, match="expected 16, float32"):
        shelf.add([key(0)], [made(0, "bfloat16")])
    with pytest.raises(ValueError, match="'int8'; expected one of float32"):
        store.shelf({"dtype": "int8"})
    assert store.shelf(FACTS).missing([key(0)]) == [0]


def test_what_was_computed_before_an_interruption_is_kept(store: Store) -> None:
    shelf = store.shelf(FACTS)

    def interrupted() -> None:
        with shelf.writer() as writer:
            writer.add([key(0)], [made(0)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert check(shelf, [0]) == 1


# Facts


def variants() -> Iterator[dict[str, Any]]:
    changes: dict[str, list[Any]] = {
        "weights": ["5f3b", None],
        "depth": [5, 4.0, "4"],
        "dtype": ["bfloat16"],
        "autocast": ["bfloat16", False],
        "lengths": [[16], [176, 16]],
    }
    yield from (FACTS | {name: value} for name, values in changes.items() for value in values)
    yield FACTS | {"more": 0}
    yield {name: value for name, value in FACTS.items() if name != "weights"}


def test_facts_that_differ_in_one_value_give_another_shelf(store: Store) -> None:
    fill(store.shelf(FACTS), [0])
    others = list(variants())
    assert len({shelf_name(facts) for facts in [FACTS, *others]}) == len(others) + 1
    assert all(store.shelf(facts).read([key(0)]) == [None] for facts in others)
    assert check(store.shelf(dict(reversed(FACTS.items()))), [0]) == 1


def test_shelves_are_listed_with_their_facts(store: Store) -> None:
    fill(store.shelf(FACTS), range(3))
    fill(store.shelf(FACTS), range(3, 5))
    fill(store.shelf(FACTS | {"depth": 2}), range(2))
    (store.folder / "notes").mkdir()
    age(store, FACTS, 60)
    new, old = store.shelves()
    assert (new.facts["depth"], old.facts, new.examples, old.examples) == (2, FACTS, 2, 5)
    assert new.size + old.size == store.size() == sum(path.stat().st_size for path in segments(store))
    (store.folder / old.name / "facts.json").write_text(json.dumps(FACTS | {"depth": 7}))
    segments(store)[0].write_bytes(b"")
    assert {bool(info.facts) for info in store.shelves()} == {True, False}


# Torn, flipped, foreign


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """One segment of eight tensors: its name and its bytes."""
    store = Store(tmp_path_factory.mktemp("original"), max_bytes=None)
    fill(store.shelf(FACTS), range(8))
    (path,) = segments(store)
    return path.name, path.read_bytes()


def broken(folder: Path, name: str, content: bytes) -> Shelf:
    """A shelf in a folder of its own whose only segment has this content."""
    store = Store(folder / os.urandom(4).hex(), max_bytes=None)
    place = store.folder / shelf_name(FACTS) / name
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    return store.shelf(FACTS)


def heals(shelf: Shelf) -> None:
    """What is not there is written again, and then all is there, for this process and for the next."""
    for reader in (shelf, Store(shelf.folder.parent, max_bytes=None).shelf(FACTS)):
        before = check(reader, range(8))
        lost = reader.missing([key(n) for n in range(8)])
        assert len(lost) == 8 - before
        fill(reader, lost)
        assert check(reader, range(8)) == 8
    assert check(Store(shelf.folder.parent, max_bytes=None).shelf(FACTS), range(8)) == 8


def test_cut_files(tmp_path: Path, original: tuple[str, bytes]) -> None:
    name, content = original
    for length in [0, 1, 8, 63, 64, 65, *range(100, len(content), 197), len(content) - 1]:
        shelf = broken(tmp_path, name, content[:length])
        assert check(shelf, range(8)) == 0
        assert not list(shelf.folder.glob("*.seg")), "what is torn is removed"
        heals(shelf)


def test_a_flipped_byte_anywhere(tmp_path: Path, original: tuple[str, bytes]) -> None:
    name, content = original
    index = len(content) - 8 * 40
    lost = []
    for place in [*range(72), *range(72, index, 29), *range(index, len(content), 3)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        shelf = broken(tmp_path, name, bytes(flipped))
        lost.append(8 - check(shelf, range(8)))
        assert lost[-1] == 8 if place < 64 or place >= index else lost[-1] <= 1
        if place % 20 == 0:
            heals(shelf)
    assert 1 in lost


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_change_of_an_open_file(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, original: tuple[str, bytes]
) -> None:
    name, content = original
    shelf = broken(tmp_path_factory.getbasetemp(), name, content)
    assert shelf.missing([key(n) for n in range(8)]) == []
    path = shelf.folder / name
    start = data.draw(st.integers(0, len(content) - 1))
    with path.open("rb+") as file:
        if data.draw(st.booleans()):
            file.truncate(start)
        else:
            file.seek(start)
            file.write(data.draw(st.binary(min_size=1, max_size=60) | st.just(bytes(600)))[: len(content) - start])
    check(shelf, range(8))
    heals(shelf)


@pytest.mark.parametrize("content", [b"", b"thawline", b"\0" * 500, b"PK\x03\x04" * 100, b"{}"], ids=repr)
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    shelf = broken(tmp_path, "0-0.seg", content)
    (shelf.folder / "1-0.seg").mkdir()
    (shelf.folder / "read.me").write_text("not ours")
    heals(shelf)
    assert (shelf.folder / "read.me").exists()


def test_segments_of_another_shelf_are_not_trusted(tmp_path: Path, original: tuple[str, bytes]) -> None:
    name, content = original
    store = Store(tmp_path, max_bytes=None)
    for facts in (FACTS | {"depth": 5}, FACTS | {"dtype": "bfloat16"}):
        place = store.folder / shelf_name(facts) / name
        place.parent.mkdir()
        place.write_bytes(content)
        assert store.shelf(facts).read([key(0)]) == [None]


def test_of_two_copies_the_whole_one_is_read(store: Store) -> None:
    for _ in range(3):
        fill(store.shelf(FACTS), range(4))
    for path in segments(store)[:2]:
        content = bytearray(path.read_bytes())
        content[64 + 64] ^= 1  # the first element of the first tensor
        path.write_bytes(content)
    shelf = store.shelf(FACTS)
    assert check(shelf, range(4)) == 4
    assert shelf.missing([key(n) for n in range(4)]) == []


def test_what_is_found_broken_stays_so_while_more_comes(store: Store, original: tuple[str, bytes]) -> None:
    name, content = original
    shelf = broken(store.folder, name, content[:128] + b"\xff\xff\xff\xff" + content[132:])
    assert check(shelf, range(8)) == 7
    fill(shelf, range(20, 25))
    assert shelf.missing([key(n) for n in range(8)]) == [0]
    heals(shelf)


# Several processes

CHILD = """
import sys
from pathlib import Path
from stored import FACTS, fill, key, made
from thawline.thaw.store import Store
shelf = Store(Path(sys.argv[1]), max_bytes=None).shelf(FACTS)
first, step = map(int, sys.argv[2:])
if step:
    print("writing", flush=True)
    for start in range(first, 120, step):
        fill(shelf, range(start, min(120, start + step)))
else:
    with shelf.writer() as writer:
        for number in range(10**9):
            writer.add([key(number % 120)], [made(number % 120)])
            if number == 10_000:
                print("writing", flush=True)
"""


def child(folder: Path, first: int, step: int) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(first), str(step)],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_write_at_once_and_one_is_killed(store: Store) -> None:
    other, killed = child(store.folder, 40, 17), child(store.folder, 0, 0)
    assert other.stdout is not None
    assert killed.stdout is not None
    assert other.stdout.readline() == "writing\n"
    shelf = store.shelf(FACTS)
    for start in range(0, 120, 13):
        fill(shelf, range(start, min(120, start + 13)))
        assert check(shelf, range(start + 13)) == min(120, start + 13)
    assert killed.stdout.readline() == "writing\n"
    killed.kill()
    killed.communicate()
    other.communicate()
    assert (other.returncode, killed.returncode) == (0, -signal.SIGKILL)
    assert check(store.shelf(FACTS), range(120)) == check(shelf, range(120)) == 120
    (left,) = store.folder.rglob("*.part")
    assert left.stat().st_size > 0
    fill(shelf, [120])
    assert left.exists(), "it might still be written to"
    os.utime(left, (0, 0))
    fill(shelf, [121])
    assert not left.exists()
    assert check(shelf, range(122)) == 122


def test_what_another_process_adds_is_seen(store: Store) -> None:
    mine, theirs = store.shelf(FACTS), store.shelf(FACTS)
    assert mine.missing([key(0)]) == [0]
    fill(theirs, [0])
    assert mine.missing([key(0)]) == []
    assert check(mine, [0]) == 1


# The cap


def age(store: Store, facts: dict[str, Any], seconds: float) -> None:
    """Let a shelf have been used so long ago."""
    then = time.time() - seconds
    for path in (store.folder / shelf_name(facts)).glob("*.seg"):
        os.utime(path, (then, then))


def capped(folder: Path, shelves: int = 3) -> tuple[Store, int]:
    """A store with a cap that its shelves of depth 0, 1, ... fill; the lower ones were used longer ago."""
    store = Store(folder, max_bytes=None)
    for depth in range(shelves):
        fill(store.shelf(FACTS | {"depth": depth}), range(10))
        age(store, FACTS | {"depth": depth}, 1000 - depth)
    return Store(folder, max_bytes=store.size()), store.size() // shelves


def depths(store: Store) -> list[int]:
    return sorted(info.facts["depth"] for info in store.shelves())


def test_the_shelf_used_least_recently_goes_first(tmp_path: Path) -> None:
    store, one = capped(tmp_path)
    assert check(store.shelf(FACTS | {"depth": 0}), [0]) == 1  # now the one used last
    for depth, left in [(7, [0, 2, 7]), (8, [0, 7, 8])]:
        fill(store.shelf(FACTS | {"depth": depth}), range(10))
        assert depths(store) == left
        assert store.size() <= 3 * one
    assert sorted(place.name for place in tmp_path.iterdir()) == sorted(info.name for info in store.shelves())


def test_what_is_open_stays_readable_when_it_is_evicted(tmp_path: Path) -> None:
    store, _ = capped(tmp_path)
    facts = FACTS | {"depth": 0}
    reader = store.shelf(facts)
    assert reader.missing([key(n) for n in range(10)]) == []
    age(store, facts, 5000)
    fill(store.shelf(FACTS | {"depth": 9}), range(10))
    assert depths(store) == [1, 2, 9]
    assert reader.missing([key(n) for n in range(10)]) == []
    assert check(reader, range(10)) == 10
    assert len(store.shelf(facts).missing([key(n) for n in range(10)])) == 10


def test_a_set_that_exceeds_the_cap_is_told(tmp_path: Path) -> None:
    store, one = capped(tmp_path)
    assert store.largest() == 3 * one
    shelf = store.shelf(FACTS | {"depth": 5})
    with pytest.raises(StoreError, match="do not fit"), shelf.writer(expected=3 * one + 1):
        pass
    assert depths(store) == [0, 1, 2], "nothing was removed in vain"
    with pytest.raises(StoreError, match=r"store\.max_gb.*store\.features=false"):
        fill(shelf, range(100))
    assert store.size() <= 3 * one
    assert check(shelf, range(100)) > 20, "what did fit stays"
    assert not list(tmp_path.rglob("*.part"))
    shelf = store.shelf(FACTS | {"depth": 6})
    fill(shelf, range(10))
    assert check(shelf, range(10)) == 10


def test_the_size_of_what_has_just_been_found(store: Store) -> None:
    fill(store.shelf(FACTS), range(8))
    whole = store.shelf(FACTS)
    assert whole.missing([key(0)]) == []
    assert store.shelf(FACTS).size([key(3), key(5), key(90)]) == whole.size([key(3), key(5)]) > 0
    other = store.shelf(FACTS)
    other.missing([key(0)])
    fill(store.shelf(FACTS), range(8, 12))
    assert other.missing([key(99)]) == [0]
    assert other.size([key(9), key(3)]) == store.shelf(FACTS).size([key(9), key(3)])


def test_two_writers_together_stay_below_the_cap(tmp_path: Path) -> None:
    store = Store(tmp_path, max_bytes=40_000)
    shelves = [store.shelf(FACTS | {"depth": depth}) for depth in range(2)]
    with ExitStack() as open_ones:
        writers = [open_ones.enter_context(shelf.writer()) for shelf in shelves]
        full = set[int]()
        for number in range(40):
            for place, writer in enumerate(writers):
                if place not in full:
                    try:
                        writer.add([key(number)], [torch.zeros(256)])
                    except StoreError:
                        full.add(place)
                assert store.size() <= 40_000
    assert store.size() <= 40_000 and full == {0, 1}
    # What one has published may make room for the other.
    assert sum(one is not None for shelf in shelves for one in shelf.read([key(n) for n in range(40)])) > 28


def test_a_shelf_takes_its_own_unused_segments_away(tmp_path: Path) -> None:
    store, one = capped(tmp_path, shelves=1)
    facts = FACTS | {"depth": 0}
    fill(store.shelf(facts), range(70, 80))  # tensors of the same sizes
    assert check(store.shelf(facts), range(80)) == 10
    shelf = store.shelf(facts)
    check(shelf, [70])
    with pytest.raises(StoreError):
        fill(shelf, range(140, 150))
    assert check(store.shelf(facts), range(70, 80)) == 10
    assert store.size() <= one


def test_prune(tmp_path: Path) -> None:
    store, one = capped(tmp_path)
    left = next(iter(segments(store))).parent / ".x.part"
    left.write_bytes(bytes(50))
    age(store, FACTS | {"depth": 1}, 10 * 86400)
    freed = store.prune(older_than=86400)
    assert (freed.segments, freed.size, depths(store)) == (1, one, [0, 2])
    assert store.prune().size == store.prune(max_bytes=3 * one).size == 0
    assert store.prune(max_bytes=one + 50).segments == 1
    assert depths(store) == [2]
    assert store.prune(everything=True).size in (one, one + 50)
    assert list(tmp_path.rglob("*.seg")) == list(tmp_path.rglob("*.part")) == []


# The disk


def test_a_full_disk_is_one_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    store = Store(tmp_path / "features", max_bytes=None)
    shelf = store.shelf(FACTS)
    fill(shelf, [0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # Python ignores the signal, so a write fails
    try:
        with pytest.raises(StoreError, match="Features cannot be kept"):
            shelf.add([key(number) for number in range(10_000)], [torch.zeros(1000)] * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.rglob("*.part"))
    assert check(shelf, [0]) == 1
    with pytest.raises(StoreError, match="disk is full"), told(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file")
    store = Store(tmp_path / "features", max_bytes=10**9)
    shelf = store.shelf(FACTS)
    assert (shelf.missing([key(0)]), store.shelves()) == ([0], [])
    with pytest.raises(StoreError, match="cannot be written to"):
        fill(shelf, [0])


def test_bandwidth_leaves_nothing(tmp_path: Path) -> None:
    found = bandwidth(tmp_path / "features", 10**6)
    assert min(found.write, found.read, found.cached) > 0
    assert list((tmp_path / "features").iterdir()) == []


# Cost, and the page about it


def test_the_page_runs() -> None:
    page = Path(__file__).parents[1] / "docs" / "methods" / "store.md"
    assert doctest.testfile(str(page), module_relative=False, encoding="utf-8").failed == 0


def test_cost_of_an_entry_and_of_reading(store: Store) -> None:
    shelf, n = store.shelf(FACTS | {"dtype": "bfloat16"}), 50_000
    keys, tensor = [key(i) for i in range(n)], torch.ones(2).bfloat16()
    shelf.add(keys, [tensor] * n)
    before = anonymous_bytes()
    assert shelf.missing(keys[:10]) == []
    assert (anonymous_bytes() - before) / n < 100
    shelf.add([b"x" * 15 + bytes([i]) for i in range(32)], [torch.ones(25, 384).bfloat16()] * 32)
    wanted = [b"x" * 15 + bytes([i]) for i in range(32)]
    shelf.read(wanted)
    start = time.perf_counter()
    for _ in range(10):
        shelf.read(wanted)
    assert (time.perf_counter() - start) / 10 < 0.01, "0.4 ms on a quiet machine"


def test_a_file_that_another_process_evicts_first_makes_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, one = capped(tmp_path)

    def beaten(paths: Any) -> int:
        for path in list(paths):
            path.unlink()
        return 0  # as where each was gone already

    monkeypatch.setattr("thawline.thaw.store.remove", beaten)
    assert store.make_room(one // 2) >= one // 2
