"""Killed at any moment, a run resumes to the bytes of the run that was not killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import thawline as tl
from spoken import folder_of, wav2vec2
from test_training import options, run, table
from thawline.errors import RunError

BRAKE = """
import json, signal, sys
import thawline as tl
from thawline.run import carry_out
def braked(path, resumed_at, write=carry_out.history):
    observe, lines = write(path, resumed_at), [int(sys.argv[3])]
    def watched(moment):
        observe(moment)
        if lines and path.read_bytes().count(b"\\n") >= lines[0]:
            lines.clear()
            # A signal that comes before the pause would leave it without end.
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.alarm(30)
            signal.pause()
            signal.alarm(0)
    return watched
carry_out.history = braked
"""
SCRIPT = """
import json, sys
import thawline as tl
from test_training import silent, table
tl.finetune(table(), say=silent, progress=False, output=sys.argv[1], **json.loads(sys.argv[2]))
"""
OF_TWO_MINDS = """
import os
from thawline.run import assemble
def measured(*given, measure=assemble.measure, past=[], **options):
    past.append(measure(*given, **options))
    return past[-1] if os.environ["RANK"] == "0" else {**past[-1], "loss": -float(len(past))}
assemble.measure = measured
"""
HEARD = """
import json, sys
import thawline as tl
arguments = json.loads(sys.argv[2])
tl.finetune(arguments.pop("path"), say=lambda text: None, progress=False, output=sys.argv[1], **arguments)
"""
SLOW = {"epochs": 6, "strategy": "gradual(full, until=0.5)", "eval_strategy": "steps", "eval_steps": 7}


def begin(folder: Path, lines: int, **more: Any) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, and return it when it has come to so many lines of history."""
    process = started(SCRIPT, folder, options(**more), lines=lines)
    wait_for(folder / "history.jsonl", lines, process)
    return process


def started(script: str, folder: Path, arguments: dict[str, Any], *, lines: int) -> subprocess.Popen[bytes]:
    """Start a run that stands still a little past so many lines: on a busy machine it would end before it is killed."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", BRAKE + script, str(folder), json.dumps(arguments), str(lines + 2)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(path: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file has so many lines."""
    end = time.monotonic() + 60
    while not (path.is_file() and path.read_bytes().count(b"\n") >= lines):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < end, f"{path} did not come to {lines} lines"
        time.sleep(0.01)


def outcome(folder: Path) -> dict[str, Any]:
    """What must not depend on whether a run was interrupted: everything but measured time."""
    timeless = {"examples_per_second", "tokens_per_second"}
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        "model": (folder / "model" / "model.safetensors").read_bytes(),
        "predictions": (folder / "predictions" / "test.jsonl").read_bytes(),
        "history": [{key: value for key, value in line.items() if key not in timeless} for line in lines],
        "test": metrics["test"],
        "steps": metrics["train"]["steps"],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, **SLOW)
    return outcome(folder)


@pytest.mark.parametrize(("lines", "minutes"), [(12, 1e-6), (23, 5.0), (3, 5.0)])
def test_killed_run_resumes_to_the_same_bytes(tmp_path: Path, whole: dict[str, Any], lines: int, minutes: float) -> None:
    """With a checkpoint each step, with one at each evaluation, and killed before the first: then it starts over."""
    folder = tmp_path / "run"
    process = begin(folder, lines, checkpoint_minutes=minutes, **SLOW)
    process.kill()
    process.communicate()
    assert not (folder / "metrics.json").exists()
    resumed = tl.resume(folder, say=lambda text: None, progress=False)
    assert resumed.metrics["train"]["steps"] == whole["steps"]
    assert outcome(folder) == whole


@pytest.mark.parametrize("lines", [17, 25])
def test_killed_adaptive_run_decides_the_same(tmp_path: Path, lines: int) -> None:
    """Between two decisions, after the line has moved, and with a store that the killed run has filled."""
    wanted = SLOW | {"strategy": "adaptive(full, after=0.2, most=1.0, change=1)", "store": {"features": True}}
    run(tmp_path / "whole", **wanted)
    process = begin(tmp_path / "run", lines, checkpoint_minutes=1e-6, **wanted)
    process.kill()
    process.communicate()
    tl.resume(tmp_path / "run", say=lambda text: None, progress=False)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    came = [line["thaw_line"] for line in outcome(tmp_path / "run")["history"] if line["kind"] == "step"]
    assert came == sorted(came) and len(set(came)) > 1


def test_killed_run_on_recordings_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """With random changes of recordings, of which a part is stored."""
    train = {"epochs": 6, "batch_size": 8, "lr": 1e-3, "threads": 1, "seed": 0, "bf16": False, "checkpoint_minutes": 1e-6}
    heard = {
        "path": folder_of(tmp_path / "tones"),
        "data": {"augment": ["noise"]},
        "model": wav2vec2(tmp_path / "model"),
        "strategy": "freeze(0.5)",
        "store": {"features": True},
        "evaluate": {"bootstrap_samples": 10},
        "train": train,
    }
    process = started(HEARD, tmp_path / "whole", heard, lines=10**5)
    assert process.communicate() and process.returncode == 0
    process = started(HEARD, tmp_path / "run", heard, lines=9)
    wait_for(tmp_path / "run" / "history.jsonl", 9, process)
    process.kill()
    process.communicate()
    assert not (tmp_path / "run" / "metrics.json").exists()
    resumed = tl.resume(tmp_path / "run", say=lambda text: None, progress=False)
    assert resumed.recipe.task.name == "audio-classification" and resumed.metrics["train"]["prefix"]["stored"]
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_interrupted_run_keeps_a_checkpoint(tmp_path: Path, whole: dict[str, Any]) -> None:
    folder = tmp_path / "run"
    process = begin(folder, 4, **SLOW)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert json.loads((folder / "checkpoints" / "index.json").read_text())["last"] is not None
    tl.resume(folder, say=lambda text: None, progress=False)
    assert outcome(folder) == whole


def test_finished_run_says_so_and_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    told: list[str] = []
    tl.resume(tmp_path / "run", say=told.append)
    assert "is finished" in told[-1]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_torn_checkpoint_is_not_taken_for_one(tmp_path: Path, whole: dict[str, Any]) -> None:
    """What a kill leaves of a checkpoint that was being written aside is ignored and written over."""
    folder = tmp_path / "run"
    process = begin(folder, 8, checkpoint_minutes=1e-6, **SLOW)
    process.kill()
    process.communicate()
    torn = folder / "checkpoints" / ".step-00000099"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half of it")
    tl.resume(folder, say=lambda text: None, progress=False)
    assert outcome(folder) == whole
    assert not torn.exists()


def test_changed_data_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    texts, labels = table()
    rows = [f'"{text}",{label}' for text, label in zip(texts, labels, strict=True)]
    data.write_text("\n".join(["text,label", *rows]))
    tl.finetune(data, say=lambda text: None, progress=False, output=str(tmp_path / "run"), **options(epochs=1))
    (tmp_path / "run" / "metrics.json").unlink()
    data.write_text("\n".join(["text,label", *rows[:-4]]))
    with pytest.raises(RunError, match="changed since"):
        tl.resume(tmp_path / "run", say=lambda text: None)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Gradients are summed over processes, so that two of them take the steps of one, to rounding; and stop where one does."""
    from safetensors.torch import load_file

    # Masks of dropout depend on who shares a micro-batch.
    wanted = {"epochs": 3, "regularize": ["dropout(0.0)"], "early_stopping_patience": 1, "metric_for_best_model": "loss"}
    run(tmp_path / "one", **wanted)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    arguments = [str(tmp_path / "two"), json.dumps(options(**wanted))]
    script = tmp_path / "script.py"
    script.write_text(OF_TWO_MINDS + SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script), *arguments]
    subprocess.run(launch, env=environment, check=True, capture_output=True, timeout=300)
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    steps = [json.loads((tmp_path / name / "metrics.json").read_text())["train"]["steps"] for name in ("one", "two")]
    assert steps[0] == steps[1]
