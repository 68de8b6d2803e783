"""Results of benchmarks: one JSON line a finished run, so that tables fill over time and nothing is measured twice."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("THAWLINE_RESULTS", Path(__file__).parent / "results"))
SHARED = Path(os.environ.get("THAWLINE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def finished(name: str) -> list[dict[str, Any]]:
    """Return the runs that stand in a results file."""
    path = FOLDER / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def same(wanted: Mapping[str, Any], done: Mapping[str, Any]) -> bool:
    """Tell whether a finished run is the one that is wanted: a run is known by the keys it is wanted with."""
    return all(done.get(key) == value for key, value in wanted.items())


def missing(name: str, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs among those wanted that are not finished yet."""
    there = finished(name)
    return [run for run in wanted if not any(same(run, done) for done in there)]


def append(name: str, run: Mapping[str, Any]) -> None:
    """Write a finished run down, with versions and processor; what a run says of these itself stands."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps({**run, **{key: value for key, value in _facts().items() if key not in run}}) + "\n")


def processor() -> str:
    """Return the kind of this machine's processor: with matrix units (AMX) products in bfloat16 take a fraction of the time."""
    from thawline.memory import has_amx, has_bf16

    kind = platform.processor() or platform.machine()
    return f"{kind} amx" if has_amx() else kind if has_bf16() else f"{kind} avx2"


def _facts() -> dict[str, Any]:
    import torch
    import transformers

    import thawline

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "thawline": f"{thawline.__version__} {_commit()}".strip(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _commit() -> str:
    """Return the commit of this tree, with a + where files differ from it; nothing outside a repository."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return found.stdout.strip()
