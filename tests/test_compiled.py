"""Compiled blocks: the numbers of the model's own code, tried in long trainings alone, and gone where they do not win."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from families import folder_of, inputs_of, model_of
from test_unpadded import job_over
from thawline.errors import MachineError
from thawline.run import compiling
from thawline.run.carry_out import Job
from thawline.train.compiled import Compiled

TEXTS = [f"film{n} " + " ".join(["good"] * (1 + 7 * n % 30)) for n in range(40)]
"""So unlike in length that blocks leave padding out."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Torch's compiler, which hands code back as it is; what it was given."""
    seen = list[Any]()

    def same(function: Any, **options: Any) -> Any:
        seen.append(function)
        return lambda *args, **kwargs: function(*args, **kwargs)

    monkeypatch.setattr(torch, "compile", same)
    return seen


def job_in(folder: Path, *, strategy: str = "full", **train: Any) -> tuple[Job, list[str]]:
    options = {"bf16": False, "threads": 2, "max_steps": 500, "eval_strategy": "no"}
    job, told = (
        job_over((TEXTS, ["a", "b"] * 20), folder_of("bert"), folder, train={**options, **train}, strategy=strategy),
        list[str](),
    )
    job.say = told.append
    return job, told


def gains(monkeypatch: pytest.MonkeyPatch, own: float, there: float) -> None:
    """Have a step take so many seconds, with compiled blocks others."""

    def seconds(trial: Any) -> float:
        blocks = [block for block in trial.learner.model.modules() if "compute" in vars(block)]
        return there if blocks else own

    monkeypatch.setattr(compiling, "_seconds_at_most", seconds)
    monkeypatch.setattr(compiling, "_seconds", seconds)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="torch compiles with a C++ compiler")
@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own code
def test_compiled_blocks_compute_what_the_models_own_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, in two workers that pad nothing, by torch's real compiler: it is found alike, and what is learned is."""
    gains(monkeypatch, 10_000.0, 1.0)
    monkeypatch.setattr(compiling, "_LEAST_STEPS", 1)
    learned, kept = list[list[torch.Tensor]](), list[bool]()
    for wanted in (False, "auto"):
        job, told = job_in(tmp_path / str(wanted), compile=wanted, max_steps=3)
        loop = job.loop()
        kept.append(any("compute" in vars(block) for block in loop.learner.model.modules()))
        loop.run()
        learned.append([master.detach().clone() for master in loop.learner.masters.named.values()])
        job.workers.close()
        assert any("blocks are compiled: 10000.00 times" in line for line in told) == bool(wanted)
    assert kept == [False, True]
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("steps", [200, 500])
def test_a_short_training_is_not_tried(steps: int, tmp_path: Path, uncompiled: list[Any]) -> None:
    """Of few steps, or of more that are predicted to take seconds."""
    job, told = job_in(tmp_path / "run", max_steps=steps)
    job.loop()
    job.workers.close()
    assert job.compiled is None and not uncompiled and not any("compiled" in line for line in told)
    assert json.loads((tmp_path / "run" / "decisions.json").read_text())["compile"] is False


@pytest.mark.parametrize(("there", "kept"), [(5.0, True), (9.9, False), (20.0, False)])
def test_a_long_training_keeps_what_is_faster(
    there: float, kept: bool, tmp_path: Path, uncompiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 steps of ten seconds; the second training of its kind knows the verdict, and a resumed one its own decision."""
    gains(monkeypatch, 10.0, there)
    for turn in ("first", "second", "second"):
        before = len(uncompiled)
        job, told = job_in(tmp_path / turn)
        job.loop()
        job.workers.close()
        assert (job.compiled is not None) == kept
        decided = json.loads((tmp_path / turn / "decisions.json").read_text())
        assert decided["compile"] is kept and decided["compile_gain"] == pytest.approx(10 / there, abs=1e-3)
        assert any("it is tried" in line for line in told) == (turn == "first")
        assert (len(uncompiled) > before) == (kept or turn == "first")
        blocks = [block for block in job.assembled.model.modules() if "compute" in vars(block)]
        assert bool(blocks) == kept
        if job.compiled is not None:
            job.compiled.restore()
        assert not any("compute" in vars(block) for block in job.assembled.model.modules())


def test_what_answers_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gains(monkeypatch, 10.0, 1.0)
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda *args: 1.1 * function(*args))
    job, told = job_in(tmp_path / "run")
    job.loop()
    job.workers.close()
    assert job.compiled is None and any("answer otherwise" in line for line in told)


def test_a_compiler_that_is_missing_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("no C++ compiler\nwas found")

    gains(monkeypatch, 10.0, 1.0)
    monkeypatch.setattr(torch, "compile", lambda function, **options: broken)
    job, told = job_in(tmp_path / "auto")
    job.loop()
    job.workers.close()
    assert job.compiled is None and any("cannot be compiled here: no C++ compiler was found." in line for line in told)
    job, told = job_in(tmp_path / "asked", compile=True)
    with pytest.raises(MachineError, match=r"cannot be compiled here: no C\+\+ compiler was found\. Leave out train\.compile"):
        job.loop()
    job.workers.close()


def test_blocks_that_do_not_learn_are_left_alone(tmp_path: Path, uncompiled: list[Any]) -> None:
    """Where only a head learns nothing is compiled, and where nothing does the model's own code runs."""
    job, told = job_in(tmp_path / "run", compile=True, strategy="head")
    job.loop()
    job.workers.close()
    assert job.compiled is None and not uncompiled and any("changes nothing" in line for line in told)


@pytest.mark.parametrize("name", ["gpt2", "deberta-v2", "xlnet", "modernbert", "qwen2"])
def test_models_of_other_kinds_are_compiled_where_they_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = list[Any]()
    monkeypatch.setattr(
        torch, "compile", lambda own, **options: lambda *args, **kwargs: ran.append(own) or own(*args, **kwargs)
    )
    model, inputs = model_of(name).train(), inputs_of(name)
    compiled = Compiled([model], by_length=False)
    with torch.no_grad():
        model(**inputs)
    assert not ran
    model(**inputs)
    assert len(ran) == len(compiled.blocks) > 1
    count = len(ran)
    compiled.restore()
    model(**inputs)
    assert len(ran) == count and all(block._compiled_call_impl is None for block in model.modules())
