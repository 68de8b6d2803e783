"""Results of benchmarks: one JSON line a finished run, so that tables fill over time and nothing is measured twice."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
SHARED = Path(os.environ.get("THAWLINE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def finished(name: str) -> list[dict[str, Any]]:
    """Return the runs that stand in a results file."""
    path = FOLDER / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def missing(name: str, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs among those wanted that are not finished yet; a run is known by the keys it is wanted with."""
    there = finished(name)
    return [run for run in wanted if not any(all(done.get(k) == v for k, v in run.items()) for done in there)]


def append(name: str, run: Mapping[str, Any]) -> None:
    """Write a finished run down, with the versions and the processor it ran on."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps({**run, **_facts()}) + "\n")


def _facts() -> dict[str, Any]:
    import torch
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
    }
