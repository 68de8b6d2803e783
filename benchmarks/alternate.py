"""Runs of Thawline and of the transformers Trainer that alternate, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from results import append, finished, missing, same

SCRIPT = Path(__file__).parent / "one_run.py"
LEARNING_RATE = {"sst2": 1e-4, "trec6": 1e-4, "banking77": 2e-4}
HEAD_RATE = 1e-3


def wanted_run(tool: str, data: str, seed: int, *, strategy: str, epochs: float) -> dict[str, Any]:
    """Return one run as it is written down; learning rate and examples a step are the same for all tools."""
    learning_rate = HEAD_RATE if strategy == "head" else LEARNING_RATE[data]
    run = {"tool": tool, "data": data, "seed": seed, "learning_rate": learning_rate}
    return {**run, "epochs": epochs, "batch_size": 32, "strategy": strategy}


def carry_out(run: dict[str, Any], *, timed: bool = True, script: Path = SCRIPT) -> dict[str, Any]:
    """Carry out one run and return its row; caches and store are empty, unless `store` of the run is "filled".

    A run that is not timed has one thread and low priority.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = (
            os.environ | {"THAWLINE_CACHE": cache, "HF_HUB_OFFLINE": "1"} | ({} if timed else {"OMP_NUM_THREADS": "1"})
        )
        nice = [] if timed else ["nice", "-n", "19"]
        if run.get("store") == "filled":
            rate = run["learning_rate"][0] if isinstance(run["learning_rate"], list) else run["learning_rate"]
            _process([*nice, sys.executable, str(script)], run | {"learning_rate": rate}, environment)
        return run | _process([*nice, sys.executable, str(script)], run, environment)


def _process(command: list[str], run: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "result.json"
        # Temporary files of the run go with it.
        subprocess.run(
            [*command, json.dumps(run), str(place)],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment | {"TMPDIR": folder},
        )
        found: dict[str, Any] = json.loads(place.read_text())
    return found


def fill(name: str, wanted: list[dict[str, Any]], *, timed: bool = True, script: Path = SCRIPT) -> None:
    """Carry out those of the wanted runs that are missing, in their order, and write each down as it is done."""
    for run in missing(name, wanted):
        row = carry_out(run, timed=timed, script=script) | {"timed": timed}
        append(name, row)
        print(json.dumps(row), file=sys.stderr, flush=True)


def rows_of(name: str, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is written down of the wanted runs."""
    return [done for done in finished(name) if any(same(run, done) for run in wanted)]
