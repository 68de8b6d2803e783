"""The frozen prefix: apart from the rest, in a shape of its own, the same bits stored or not, cold or warm."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import thawline as tl
from families import FAMILIES, folder_of
from test_plan import job_of
from test_training import options, run, table
from thawline.memory import has_bf16
from thawline.thaw.canonical import canonical_length, cut_short, fixed, groups
from thawline.thaw.cost import Measured, outlook
from thawline.thaw.prefix import Below, Prefix
from thawline.thaw.replay import Replay
from thawline.thaw.replicas import Replicas
from thawline.thaw.store import Bandwidth, StoreError
from thawline.train.gradients import Gradients

STORED = {"features": True}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that starts empty."""
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def evaluations(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "evaluation"]


@pytest.mark.parametrize("strategy", ["head", "freeze(3)", "gradual(full, until=0.8)", "encoder"])
@pytest.mark.parametrize("bf16", [False, True])
def test_stored_is_computed_is_warm(tmp_path: Path, strategy: str, bf16: bool) -> None:
    """Bit for bit: the weights, and what the validation set says on the way."""
    plain = {"strategy": strategy, "bf16": bf16, "epochs": 2}
    run(tmp_path / "off", store={"features": False}, **plain)
    run(tmp_path / "cold", store=STORED, **plain)
    run(tmp_path / "warm", store=STORED, **plain)
    assert weights(tmp_path / "off") == weights(tmp_path / "cold") == weights(tmp_path / "warm")
    assert evaluations(tmp_path / "off") == evaluations(tmp_path / "cold") == evaluations(tmp_path / "warm")


@pytest.mark.parametrize("strategy", ["head", "freeze(3)", "gradual(full, until=0.8)", "adaptive(full, after=0.2, change=1)"])
def test_steps_ahead_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str) -> None:
    """What is not stored is computed for several steps at once, in fewer passes, and comes to the same bits."""
    plain, passes = {"strategy": strategy, "epochs": 3, "store": {"features": False}}, list[int]()
    groups_of = Prefix._groups
    monkeypatch.setattr(Prefix, "_groups", lambda *given, **more: passes.append(0) or groups_of(*given, **more))
    run(tmp_path / "ahead", **plain)
    few = len(passes)
    monkeypatch.setattr("thawline.run.assemble.Gradients", partial(Gradients, ahead=1))
    run(tmp_path / "each", **plain)
    assert weights(tmp_path / "ahead") == weights(tmp_path / "each")
    assert few < len(passes) - few


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_stored_dtype_holds_without_a_store_too(tmp_path: Path, dtype: str) -> None:
    for name, features in (("off", False), ("on", True)):
        run(tmp_path / name, strategy="freeze(2)", store={"features": features, "dtype": dtype}, epochs=1)
    assert weights(tmp_path / "off") == weights(tmp_path / "on")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_below(tmp_path: Path, workers: int) -> None:
    for name, features in (("off", False), ("on", True)):
        run(tmp_path / name, strategy="freeze(3)", store={"features": features}, epochs=1, threads=workers)
    assert weights(tmp_path / "off") == weights(tmp_path / "on")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_above_a_stored_prefix(tmp_path: Path, name: str) -> None:
    told: list[str] = []
    more = options(strategy="freeze(3)" if name != "albert" else "head", model=str(folder_of(name)), epochs=1)
    for folder, features in (("off", False), ("on", True)):
        where = {"output": str(tmp_path / folder), "store": {"features": features}}
        tl.finetune(table(32), say=told.append, progress=False, **where, **more)
    assert weights(tmp_path / "off") == weights(tmp_path / "on")
    assert any("are stored" in line for line in told)
    assert not any("anew each time" in line for line in told)


def test_frozen_stays_as_it_was(tmp_path: Path) -> None:
    run(tmp_path / "run", strategy="freeze(3)", store=STORED, bf16=True)
    before, after = (load_file(f / "model.safetensors") for f in (folder_of("bert"), tmp_path / "run" / "model"))
    below = ("embeddings.", "encoder.layer.0.", "encoder.layer.1.")
    frozen = {name: value for name, value in before.items() if name.startswith(below)}
    assert frozen
    assert all((after[f"bert.{name}"] == value).all() for name, value in frozen.items())
    assert not (after["bert.encoder.layer.2.output.dense.weight"] == before["encoder.layer.2.output.dense.weight"]).all()


def test_broken_files_of_the_store_are_computed_again(tmp_path: Path, own_cache: Path) -> None:
    wanted = {"strategy": "head", "store": STORED, "epochs": 1}
    run(tmp_path / "one", **wanted)
    segments = [path for path in (own_cache / "features").rglob("*") if path.is_file() and path.suffix != ".json"]
    assert segments
    for path in segments:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content[: -len(content) // 5])
    run(tmp_path / "two", **wanted)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


def test_no_room_is_told_and_not_fatal(tmp_path: Path) -> None:
    told: list[str] = []
    more = options(strategy="head", epochs=1, store={"features": True, "max_gb": 1e-6})
    tl.finetune(table(), say=told.append, progress=False, output=str(tmp_path / "run"), **more)
    assert any("not stored" in line and "room" in line for line in told)


def test_a_disk_that_cannot_be_measured_is_told_and_not_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> Bandwidth:
        raise StoreError("There is no room.")

    told: list[str] = []
    monkeypatch.setattr("thawline.run.keeper._speed", full)
    more = options(strategy="adaptive(full, after=0.2, change=1)", epochs=3, store={"features": "auto"})
    tl.finetune(table(), say=told.append, progress=False, output=str(tmp_path / "run"), **more)
    assert "warning: There is no room. Nothing of the frozen part is stored: it is computed anew each time." in told


def test_what_would_lose_is_not_stored(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch without validation on a slow disk: each example is needed once."""
    monkeypatch.setattr("thawline.run.keeper._speed", lambda folder: Bandwidth(write=1e-2, read=1e-2, cached=1e-2))
    told: list[str] = []
    more = options(strategy="head", epochs=1, eval_strategy="no", load_best_model_at_end=False)
    tl.finetune(table(), say=told.append, progress=False, output=str(tmp_path / "run"), **more)
    assert any("are not stored: predicted" in line for line in told)


GRIDS = {
    "rates": {"vary": {"lr": [1e-4, 1e-3, 3e-3]}, "strategy": "freeze(3)"},
    "rates of a head": {"vary": {"lr": [1e-4, 1e-3, 3e-3]}, "strategy": "head"},
    "heads": {"vary": {"model.config": [{"classifier_dropout": 0.0}, {"classifier_dropout": 0.5}]}, "strategy": "freeze(3)"},
    "seeds": {"seeds": 3, "strategy": "freeze(3)"},
    "strategies above one line": {"vary": {"strategy": ["freeze(3)", "layerwise(freeze(3), decay=0.9)"]}},
    "folds": {"data": {"folds": 3}, "strategy": "head"},
}


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each example below any cut, and a disk like others."""
    monkeypatch.setattr("thawline.run.keeper.measure", lambda prefix, data, depth: Measured(1.0, 100.0, 1.0))
    monkeypatch.setattr("thawline.run.keeper._costs", {})
    monkeypatch.setattr("thawline.run.keeper._speed", lambda folder: Bandwidth(write=400.0, read=2000.0, cached=2000.0))


@pytest.mark.parametrize("what", GRIDS)
def test_what_no_trial_alone_would_store_is_computed_once_for_all(what: str, tmp_path: Path, costly: None) -> None:
    """One epoch: a training alone reads each example once, several read what the first has stored."""
    del costly
    told = list[str]()
    once = {**options(**GRIDS[what]), "epochs": 1}
    alone = {key: value for key, value in once.items() if key not in ("vary", "seeds", "data")} | {"strategy": "freeze(3)"}
    tl.finetune(table(), say=told.append, progress=False, output=str(tmp_path / "alone"), **alone)
    assert any("are not stored: predicted" in line for line in told)
    run = tl.finetune(table(), say=told.append, progress=False, output=str(tmp_path / "run"), **once)
    assert any("are stored: predicted" in line and line.endswith("trainings") for line in told)
    homes = sorted((run.folder / "trials").glob("*/metrics.json"))
    found = [json.loads(home.read_text())["train"]["prefix"] for home in homes]
    assert len(found) > 1 and all(one["stored"] for one in found)
    sizes = [json.loads((home.parent / "data.json").read_text())["splits"] for home in homes]
    different = sizes[-1]["train"] + sizes[-1].get("validation", 0)
    assert sum(one["examples_computed"] for one in found) == different


def test_trials_above_other_lines_do_not_count(tmp_path: Path, costly: None) -> None:
    del costly
    told = list[str]()
    more = {**options(vary={"strategy": ["freeze(2)", "freeze(3)", "full"]}), "epochs": 1}
    tl.finetune(table(), say=told.append, progress=False, output=str(tmp_path / "run"), **more)
    assert len([line for line in told if "are not stored: predicted" in line]) == 2


@pytest.mark.parametrize("bf16", [False, True])
def test_a_line_that_moves_down_computes_no_stage_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, bf16: bool) -> None:
    """Each depth that will be read is stored from the one below it, so that the input goes through each stage once."""
    begun, run_to = dict[int, list[int]](), Replay.run

    def watched(replay: Replay, inputs: Any, depths: Any, **more: Any) -> Any:
        begun.setdefault(depths[0], []).append(more.get("start", 0))
        return run_to(replay, inputs, depths, **more)

    plain = {"strategy": "gradual(full, until=0.8)", "bf16": bf16, "epochs": 3}
    run(tmp_path / "off", store={"features": False}, **plain)
    monkeypatch.setattr(Replay, "run", watched)
    monkeypatch.setattr("thawline.run.keeper.measure", lambda prefix, data, depth: Measured(1.0, 100.0, 1.0))
    monkeypatch.setattr("thawline.run.below._kept", lambda path, lines: dict.fromkeys(map(str, lines)))  # verified before
    run(tmp_path / "on", store=STORED, **plain)
    assert weights(tmp_path / "off") == weights(tmp_path / "on")
    assert sorted(begun) == [1, 2, 3, 4, 5]
    # But for the dtype at each depth, which one example tells, all goes on from the depth below.
    for depth, starts in begun.items():
        assert [start for start in starts if start] == [depth - 1] * (len(starts) - 1 if depth > 1 else 0)


def test_depths_that_do_not_fit_together_are_not_stored_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is filled in last would push out what was filled in first, before anybody read it."""
    plain = {"strategy": "gradual(full, until=0.8)", "epochs": 3}
    run(tmp_path / "whole", store=STORED, **plain)
    sizes = [one["size_mb"] for one in json.loads((tmp_path / "whole" / "plan.json").read_text())["store"]]
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "another"))
    run(tmp_path / "some", store={**STORED, "max_gb": 1.02 * (sizes[0] + sizes[1]) / 1e3}, **plain)
    assert json.loads((tmp_path / "some" / "decisions.json").read_text())["stored"] == [1, 2]
    assert weights(tmp_path / "whole") == weights(tmp_path / "some")


def test_cost_of_a_depth_counts_from_what_is_stored_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawline.run.keeper.measure", lambda prefix, data, depth: Measured(0.1 * depth, 100.0, 0.1 * depth))
    monkeypatch.setattr("thawline.run.keeper._costs", {})
    run(tmp_path / "run", store=STORED, strategy="gradual(full, until=0.8)", epochs=3)
    store = json.loads((tmp_path / "run" / "plan.json").read_text())["store"]
    fill = [one["seconds_to_fill"] for one in store]
    assert [one["depth"] for one in store] == [1, 2, 3, 4, 5]
    assert fill == pytest.approx([fill[0]] * 5, rel=0.1)  # and not once, twice, three times as much


def test_outlook_weighs_both_ways() -> None:
    many = {"examples": 1000, "missing": 1000, "write": 4e8, "read": 2e9}
    assert outlook(Measured(1e-2, 2e4, 1e-2), reads=10_000, **many).pays
    assert not outlook(Measured(1e-2, 2e4, 1e-2), reads=1000, **many).pays  # one epoch
    assert not outlook(Measured(1e-5, 2e4, 1e-5), reads=10_000, **many).pays  # a prefix that is nothing to compute
    assert not outlook(Measured(1e-3, 2e6, 1e-3), reads=5000, **{**many, "write": 1e6, "read": 2e6}).pays  # a slow disk
    assert outlook(Measured(1e-2, 2e4, 1e-2), reads=1000, **{**many, "missing": 0}).pays  # all there from another run


def test_shape_depends_on_the_example_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    alone = {int(i): group.length for i in range(500) for group in groups(lengths, [i], most=300)}
    together = groups(lengths, np.arange(500), most=300)
    assert {int(i): group.length for group in together for i in group.indices} == alone
    assert sorted(int(i) for group in together for i in group.indices) == list(range(500))
    for group in together:
        assert len({bool(lengths[i] == group.length) for i in group.indices}) == 1
        assert all(lengths[i] <= group.length for i in group.indices)
    assert all(canonical_length(n, 512) % 16 == 0 for n in range(1, 512))
    assert [len(group.indices) for group in fixed(range(20))] == [16, 4]


def test_a_step_is_shared_by_all_workers() -> None:
    lengths = np.array([20, 25, 30] * 11)
    assert [len(group.indices) for group in groups(lengths, range(33), most=300)] == [33]
    shared = groups(lengths, range(33), most=300, workers=2)
    assert [(len(group.indices), group.length) for group in shared] == [(17, 32), (16, 32)]
    assert [len(group.indices) for group in groups(lengths, [0, 1], most=300, workers=2)] == [2]  # never less than two rows
    even = groups(lengths, range(33), most=300, workers=2, even=32)
    assert [len(group.indices) for group in even] == [32, 1]


@pytest.mark.parametrize("words", [2, 48])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_mates(tmp_path: Path, minilm: Path, words: int, threads: int, *, bf16: bool) -> None:
    """Of a real model, whose products are large enough for a processor to round them by the number of rows.

    A step of four rows has one worker, which has all threads inside an operation.
    """
    texts, labels = table(48 if bf16 and not has_bf16() else 120)  # where torch's own products in bfloat16 take a minute each
    data = [" ".join(f"{text} {text}".split()[:words]) for text in texts], labels
    given: dict[str, Any] = {"model": str(minilm), "strategy": "gradual(full)", "store": {"features": False}, "batch_size": 4}
    more = options(**given, bf16=bf16, epochs=1, threads=threads)
    job = job_of(tmp_path, data, **more)
    job.loop()
    train, prefix = job.prepared.sets["train"], job.frozen.prefix
    for depth in prefix.cuts:
        together = prefix.tensors(train, np.arange(len(train)), depth)
        for place in range(0, len(train), 24):
            (alone,) = prefix.tensors(train, np.array([place]), depth)
            assert torch.equal(alone, together[place]), (depth, place)


def test_a_shape_that_is_cut_short_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """A text of 19 tokens runs at 20 where data.max_length=20, and at 32 where it is not: neither is read for the other."""
    computed = {}
    for name, features, more in (("short", True, {"max_length": 20}), ("warm", True, {}), ("off", False, {})):
        made = run(tmp_path / name, strategy="freeze(3)", store={"features": features}, epochs=1, **more)
        computed[name] = made.metrics["train"]["prefix"]["examples_computed"]
    assert weights(tmp_path / "off") == weights(tmp_path / "warm")
    assert 0 < computed["warm"] < computed["short"]  # those that fit into 16 are the same in both


def test_keys_hold_the_longest_shape_only_where_it_matters() -> None:
    lengths = np.array([5, 96, 97, 99, 100])
    data: Any = SimpleNamespace(lengths=lengths, digests=[bytes([n]) * 16 for n in lengths])
    keys = {most: Prefix(Replicas(torch.nn.Linear(1, 1)), (), Below(most, {})).keys(data) for most in (100, 112, 128, 512)}
    assert keys[112] == keys[128] == keys[512] == data.digests
    assert keys[100][:2] == data.digests[:2]
    assert not {*keys[100][2:]} & {*data.digests}
    for most in (100, 176, 300, 512):
        cut = [canonical_length(n, most) != canonical_length(n, 10**6) for n in range(1, most + 1)]
        assert cut_short(np.arange(1, most + 1), most).tolist() == cut


def test_what_memory_cannot_hold_is_read_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = []
    monkeypatch.setattr("thawline.run.keeper._speed", lambda folder: Bandwidth(write=500.0, read=0.1, cached=1000.0))
    for name, available in (("cached", 10**9), ("read", 1000)):
        monkeypatch.setattr("thawline.run.keeper.available_bytes", lambda left=available: left)
        job = job_of(tmp_path / name, **options(strategy="head", store={"features": True}))
        loop = job.loop()
        (view,) = job.frozen.outlooks.values()
        assert view.size > 1000
        seconds.append((view.stored - view.filled, view.reads * view.size / 90, loop))
    (cached, size, _), (read, _, _) = seconds
    assert read - cached == pytest.approx(size / 1e5, rel=0.2)
