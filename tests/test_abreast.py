"""Trials of a head that differ in their optimiser alone go side by side, and each comes to the bytes of its run alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import thawline as tl
from families import folder_of
from test_resume import wait_for
from test_training import options
from test_vary import SCRIPT, read, results, timeless, train, weights
from thawline.errors import MachineError
from thawline.recipe import recipe_from
from thawline.run.abreast import alike
from thawline.thaw.replay import Replay
from thawline.train.checkpoint import Checkpoints
from thawline.train.stacked import Stacked
from thawline.train.together import Together
from thawline.train.workers import threads_inside

RATES = [1e-3, 3e-3, 1e-2, 3e-2]
SIDE = "trials were trained side by side"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))


def abreast(folder: Path, **more: Any) -> tuple[Path, list[str]]:
    told = list[str]()
    return train(folder, told.append, **{"strategy": "head", "vary": {"lr": RATES}, **more}).folder, told


def same(trial: Path, alone: Path) -> bool:
    return timeless(trial) == timeless(alone) and weights(trial) == weights(alone)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2"])
def test_each_is_its_run_alone(tmp_path: Path, name: str, bf16: bool) -> None:
    more: dict[str, Any] = {"model": str(folder_of(name)), "bf16": bf16, "gradient_accumulation_steps": 2, "batch_size": 4}
    folder, told = abreast(tmp_path / "run", **more)
    # GPT-2's head reads the last position, which the tokens tell: the model's own code is needed.
    assert any(f"3 more {SIDE}" in line for line in told) == (name != "gpt2")
    for place in (1, 3):
        alone = train(tmp_path / f"alone-{place}", strategy="head", lr=RATES[place], **more).folder
        assert same(folder / "trials" / f"{place + 1:03}", alone)
    best = int(read(folder / "trials.json")["best"]) - 1
    assert results(folder) == results(train(tmp_path / "best", strategy="head", lr=RATES[best], **more).folder)


def test_all_that_is_an_optimisers_own_may_differ(tmp_path: Path) -> None:
    grid = {
        "weight_decay": [0.0, 0.1],
        "optim": ["adamw", "sgd"],
        "lr_scheduler_type": ["linear", "cosine"],
        "warmup_steps": [3],
    }
    folder, told = abreast(tmp_path / "run", vary=grid, lr=1e-2, epochs=1, max_grad_norm=0.1, warmup_steps=3)
    assert any(f"7 more {SIDE}" in line for line in told)
    for place, own in ((4, (0.1, "adamw", "linear")), (7, (0.1, "sgd", "cosine"))):
        keys = dict(zip(("weight_decay", "optim", "lr_scheduler_type"), own, strict=True))
        alone = train(
            tmp_path / str(place), strategy="head", lr=1e-2, epochs=1, max_grad_norm=0.1, warmup_steps=3, **keys
        ).folder
        assert same(folder / "trials" / f"{place + 1:03}", alone)


def test_what_training_is_told_of_each(tmp_path: Path) -> None:
    folder, told = abreast(tmp_path / "run")
    assert any("train.learning_rate=0.03: " in line for line in told)
    for entry in read(folder / "trials.json")["trials"]:
        home = folder / "trials" / entry["trial"]
        assert {path.name for path in home.iterdir()} >= {"recipe.yaml", "decisions.json", "plan.json", "history.jsonl"}
        found = read(home / "metrics.json")
        assert found["train"]["seconds"] > 0 and found["validation"] == entry["validation"]
        assert entry["state"] == "finished"


def test_one_that_stops_early_or_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    more: dict[str, Any] = {"optim": "sgd", "max_grad_norm": None, "epochs": 4, "early_stopping_patience": 1}
    rates = [1e-3, 1e30, 1e-6, 1e-1]
    folder, _ = abreast(tmp_path / "run", vary={"lr": rates}, **more)
    assert [e["state"] for e in read(folder / "trials.json")["trials"]] == ["finished", "diverged", "finished", "finished"]
    steps = {len(timeless(folder / "trials" / name)) for name in ("003", "004")}
    for place in (2, 3):
        alone = train(tmp_path / str(place), strategy="head", lr=rates[place], **more).folder
        assert same(folder / "trials" / f"{place + 1:03}", alone)
    assert steps


def test_trials_that_are_killed_as_they_end_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = abreast(tmp_path / "whole")
    calls, settle = list[Path](), Checkpoints.settle

    def killed(self: Checkpoints, *, best: bool) -> None:
        calls.append(self.folder)
        if len(calls) == 3:  # in the middle of it, the first of those side by side being done
            index = self.index()
            (self.folder / index["last"] / "state.json").unlink()
            raise SystemExit
        settle(self, best=best)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "settle", killed)
        with pytest.raises(SystemExit):
            abreast(tmp_path / "run")
    assert all(entry["state"] == "finished" for entry in read(tmp_path / "run" / "trials.json")["trials"])
    assert results(tl.resume(tmp_path / "run", say=lambda text: None, progress=False).folder) == results(whole)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, how: signal.Signals) -> None:
    whole, _ = abreast(tmp_path / "whole", epochs=4)
    folder = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    recipe = options(strategy="head", vary={"lr": RATES}, checkpoint_minutes=1e-6, epochs=4)
    words = [sys.executable, "-c", SCRIPT, str(folder), json.dumps(recipe)]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)
    wait_for(folder / "trials" / "003" / "history.jsonl", 4, process)
    process.send_signal(how)
    process.communicate()
    assert [e["state"] for e in read(folder / "trials.json")["trials"]] == ["finished", *["waiting"] * 3]
    tl.resume(folder, say=lambda text: None, progress=False)
    assert results(folder) == results(whole)
    for name in ("002", "003", "004"):
        assert same(folder / "trials" / name, whole / "trials" / name)


def test_those_that_a_kill_left_behind_catch_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while checkpoints were kept: one trial has that of a later step than the others."""
    whole, _ = abreast(tmp_path / "whole", epochs=4)

    class Killed(BaseException):
        pass

    def save(self: Checkpoints, step: int, *given: Any, **more: Any) -> None:
        if step == 9 and "trials/004" in str(self.folder):
            raise Killed
        keep(self, step, *given, **more)

    keep = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(Killed):
        abreast(tmp_path / "run", epochs=4, checkpoint_minutes=1e-6)
    monkeypatch.undo()
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "run" / "trials"
    assert [read(home / name / "checkpoints" / "index.json")["last"] for name in ("003", "004")] == [
        "step-00000009",
        "step-00000008",
    ]
    tl.resume(tmp_path / "run", say=lambda text: None, progress=False)
    for name in ("002", "003", "004"):
        assert same(home / name, whole / "trials" / name)


def test_a_head_that_needs_its_own_code_goes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[int]()
    monkeypatch.setattr(Replay, "tape", lambda *given: tried.append(1))
    folder, told = abreast(tmp_path / "run", epochs=1)
    assert tried == [1] and not any(SIDE in line for line in told)
    alone = train(tmp_path / "alone", strategy="head", lr=RATES[2], epochs=1).folder
    assert same(folder / "trials" / "003", alone)


@pytest.mark.parametrize("wrong", [False, True])
def test_stacked_heads_are_gone_once_they_led_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    """And not where they did not: then nothing is taken from them."""
    gone, gradients = list[int](), Stacked.gradients

    def counted(self: Stacked, totals: Any, learning: Any) -> list[torch.Tensor | None]:
        gone.append(len(learning))
        found = gradients(self, totals, learning)
        return [None if each is None else each * 2 for each in found] if wrong else found

    monkeypatch.setattr(Stacked, "gradients", counted)
    folder, told = abreast(tmp_path / "run")
    assert any(SIDE in line for line in told)
    steps = len(timeless(folder / "trials" / "003"))
    assert set(gone) == {3} and (len(gone) < 5 if wrong else len(gone) > steps // 2)
    for place in (1, 3):
        alone = train(tmp_path / str(place), strategy="head", lr=RATES[place]).folder
        assert same(folder / "trials" / f"{place + 1:03}", alone)


def test_a_lack_of_memory_is_told_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Together._step

    def lacking(self: Together, active: Any) -> None:
        if active[0].state.step == 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        step(self, active)

    monkeypatch.setattr(Together, "_step", lacking)
    with pytest.raises(MachineError, match="There was no memory left to train with"):
        abreast(tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))
    tl.resume(tmp_path / "run", say=lambda text: None, progress=False)
    assert results(tmp_path / "run") == results(abreast(tmp_path / "whole")[0])


@pytest.mark.parametrize("more", [{"strategy": "freeze(3)"}, {"regularize": ["l2(0.1)"]}, {"max_minutes": 5}])
def test_others_are_trained_one_after_the_other(tmp_path: Path, more: dict[str, Any]) -> None:
    _, told = abreast(tmp_path / "run", vary={"lr": RATES[:3]}, epochs=1, **more)
    assert not any(SIDE in line for line in told)


def test_alike() -> None:
    plain = recipe_from({"data": "reviews.csv"})
    assert alike(plain, recipe_from({"data": "reviews.csv", "train": {"lr": 0.5, "weight_decay": 0.3}}))
    assert not alike(plain, recipe_from({"data": "reviews.csv", "train": {"seed": 7}}))
    assert not alike(plain, recipe_from({"data": "reviews.csv", "strategy": "head"}))
    assert not alike(plain, recipe_from({"data": "reviews.csv", "train": {"batch_size": 7}}))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_a_step_has_the_same_bits_whatever_the_threads_inside(kind: type[torch.optim.Optimizer]) -> None:
    more: dict[str, Any] = {"momentum": 0.9} if kind is torch.optim.SGD else {}

    def stepped(threads: int) -> list[torch.Tensor]:
        draw = torch.Generator().manual_seed(0)
        # More than torch leaves to one thread, and no multiples of what a processor takes at once.
        sizes = [(147_457,), (384, 385), (3, 50_021), (7,)]
        masters = [torch.nn.Parameter(torch.randn(size, generator=draw)) for size in sizes]
        optimizer, lower = kind(masters, lr=1e-2, weight_decay=0.1, fused=True, **more), list[torch.Tensor]()  # type: ignore[call-arg]
        for _ in range(3):
            given = [torch.randn(master.shape, generator=draw).bfloat16() for master in masters]
            with threads_inside(threads):
                for master in masters:
                    master.grad = torch.empty_like(master)
                sums = [master.grad for master in masters if master.grad is not None]
                torch._foreach_copy_(sums, given)
                torch._foreach_mul_(sums, [0.37, 1.9, 0.011, 3.3])
                optimizer.step()
                lower = [torch.empty_like(master, dtype=torch.bfloat16) for master in masters]
                torch._foreach_copy_(lower, [master.data for master in masters])
        return [*(master.data for master in masters), *lower]

    alone = stepped(1)
    assert all(torch.equal(one, other) for threads in (2, 3) for one, other in zip(alone, stepped(threads), strict=True))
