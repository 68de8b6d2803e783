"""`thawline doctor`: what this machine has, what is installed, and what would help, in words."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.memory import available_bytes
from thawline.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "scikit-learn", "numpy", "pyarrow")
_VARIABLES = ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES")
# What Linux calls the features that decide how fast a matrix product is, and what people call them (asimd is ARM's NEON).
_FEATURES = {
    name: name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8", "sve")
}
_FEATURES |= {"asimd": "neon", "bf16": "bf16", "i8mm": "i8mm"}


def doctor() -> None:
    """Print what `doctor_facts` finds as a table, with advice below it."""
    from rich.console import Console
    from rich.table import Table

    facts = doctor_facts()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, text in rows(facts):
        table.add_row(name, text)
    console = Console(highlight=False, markup=False)
    console.print(table)
    for line in advice(facts) or ["Nothing to advise: this machine is ready."]:
        console.print(f"\n{line}")


def doctor_facts() -> dict[str, Any]:
    """Return everything that `doctor` prints, as plain values that JSON can hold; sizes in bytes, speeds in GFLOP/s."""
    import psutil

    from thawline.data.cache import cache_folder

    cache, memory = cache_folder(), psutil.virtual_memory()
    return {
        "versions": {
            "thawline": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
        },
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "threads": _threads(),
        "matmul": measure_matmul(),
        "devices": _devices(),
        "built_for_cuda": _built_for_cuda(),
        "memory": {"available": available_bytes(), "machine_available": memory.available, "machine_total": memory.total},
        "disk": {"cache": shutil.disk_usage(_existing(cache)).free, "here": shutil.disk_usage(Path.cwd()).free},
        "cache": {"folder": str(cache), "bytes": _size(cache), "writable": os.access(_existing(cache), os.W_OK)},
        "extras": missing_by_extra(_requirements()),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts as pairs of a name and a text, in the order in which they are shown."""
    processor, threads, speed, memory = facts["processor"], facts["threads"], facts["matmul"], facts["memory"]
    features = ", ".join(processor["features"]) or "no feature that speeds up matrix products is known"
    extras = [f"{name} ({'missing: ' + ', '.join(lack) if lack else 'there'})" for name, lack in facts["extras"].items()]
    return [
        ("versions", ", ".join(f"{name} {version or 'missing'}" for name, version in facts["versions"].items())),
        ("system", facts["system"]),
        ("processor", f"{processor['name']}: {features}"),
        ("threads", f"torch uses {threads['used']} of {threads['usable']} processors"),
        ("matrix product", f"float32 {speed['float32']:.0f} GFLOP/s, bfloat16 {speed['bfloat16']:.0f} GFLOP/s"),
        ("devices", ", ".join(facts["devices"])),
        ("memory", f"{_gb(memory['available'])} available, {_gb(memory['machine_total'])} in the machine"),
        ("disk", f"{_gb(facts['disk']['cache'])} free at the cache, {_gb(facts['disk']['here'])} free here"),
        ("cache", f"{facts['cache']['folder']} ({_gb(facts['cache']['bytes'])}; THAWLINE_CACHE moves it)"),
        ("extras", ", ".join(extras) or "not known, since Thawline is not installed"),
        (
            "environment",
            ", ".join(f"{name}={value}" for name, value in facts["environment"].items()) or "nothing set that matters",
        ),
    ]


def advice(facts: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each thing worth knowing or changing, and none where all is as it should be."""
    threads, memory, cache, environment = facts["threads"], facts["memory"], facts["cache"], facts["environment"]
    times, free, lack = (
        facts["matmul"]["bfloat16"] / facts["matmul"]["float32"],
        facts["disk"]["cache"],
        facts["extras"].get("quickstart"),
    )
    offline = environment.get("HF_HUB_OFFLINE", "0").lower() in {"1", "true", "yes", "on"}
    held_back = threads["used"] < threads["usable"] and "OMP_NUM_THREADS" in environment
    known = [
        (lack, f"The quickstart lacks something: pip install {shlex.join(lack or [])}"),
        (times >= 1.2, f"bfloat16 is {times:.1f} times as fast as float32 here, so training in it pays."),
        (times <= 0.8, f"bfloat16 has {times:.2f} times the speed of float32 here, so float32 is the one to train in."),
        (
            facts["built_for_cuda"] and facts["devices"] == ["cpu"],
            "torch was built for CUDA and finds no GPU. That works; torch's build for the CPU takes several GB less of disk.",
        ),
        (
            held_back,
            f"OMP_NUM_THREADS holds torch to {threads['used']} of {threads['usable']} processors; unset it to use all.",
        ),
        (
            memory["available"] < 0.9 * memory["machine_available"],
            f"A container or control group leaves {_gb(memory['available'])} of memory to this process.",
        ),
        (
            memory["available"] < 2e9,
            f"{_gb(memory['available'])} of memory are little: close programs or lower train.batch_size.",
        ),
        (free < 5e9, f"{_gb(free)} of disk are little for features and checkpoints: point THAWLINE_CACHE to a larger disk."),
        (not cache["writable"], f"{cache['folder']} cannot be written to: point THAWLINE_CACHE to a folder that can."),
        (offline, "HF_HUB_OFFLINE is set: of the models on the hub, only those fetched before are found."),
    ]
    return [line for holds, line in known if holds]


def measure_matmul(size: int = 768, budget: float = 0.4) -> dict[str, float]:
    """Return GFLOP/s of a [size, size] product in float32 and in bfloat16: the best of what fits in `budget` seconds each.

    This is torch with its threads as they are now, and with nothing learned about other shapes.
    """
    import torch

    return {
        str(dtype).removeprefix("torch."): _speed(torch.ones(size, size, dtype=dtype), budget)
        for dtype in (torch.float32, torch.bfloat16)
    }


def _speed(matrix: Tensor, budget: float) -> float:
    matrix @ matrix  # the first product also chooses kernels and starts threads
    best, end = float("inf"), time.perf_counter() + budget
    while (start := time.perf_counter()) < end:
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * len(matrix) ** 3 / best / 1e9


def missing_by_extra(requirements: Iterable[str]) -> dict[str, list[str]]:
    """Return for each extra what it asks for and is not installed.

    >>> missing_by_extra(["rich>=13", 'pytest>=8; extra == "test"', 'no-such-thing==1; extra == "quick"'])
    {'test': [], 'quick': ['no-such-thing==1']}
    """
    extras: dict[str, list[str]] = {}
    for requirement in requirements:
        if found := re.match(r"(([\w.-]+)[^;]*?)\s*;.*\bextra == [\"']([\w-]+)", requirement):
            missing = extras.setdefault(found[3], [])
            missing += [found[1]] if _version(found[2]) is None else []
    return extras


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires("thawline") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source without being installed
        return []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    """Return its name and features as Linux lists them; elsewhere what torch found."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        import torch

        return {
            "name": platform.processor() or platform.machine(),
            "features": [torch.backends.cpu.get_cpu_capability().lower()],
        }
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return {
        "name": name[1] if name else platform.machine(),
        "features": [_FEATURES[flag] for flag in _FEATURES if flag in present],
    }


def _threads() -> dict[str, int]:
    import torch

    # What the scheduler grants this process may be less than what the machine has.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"used": torch.get_num_threads(), "usable": usable}


def _devices() -> list[str]:
    import torch

    cuda = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def _built_for_cuda() -> bool:
    import torch

    return torch.version.cuda is not None


def _existing(folder: Path) -> Path:
    """Return the folder or the nearest one above it that is there."""
    return next((place for place in (folder, *folder.parents) if place.is_dir()), Path.cwd())


def _size(folder: Path) -> int:
    sizes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                sizes += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # another process tidied up meanwhile
                continue
    return sizes


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
