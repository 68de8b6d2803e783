"""What this process holds in memory, and what the machine still has to give."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psutil

KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_KEPT, _KEPT_OF_AMX = 64, 512
_ANONYMOUS = re.compile(rb"^RssAnon:\s*(\d+) kB", re.MULTILINE)


def bound_kernels(*, by_length: bool = True) -> None:
    """Bound how many compiled kernels oneDNN keeps; to be called before anything is computed, and of no effect afterwards.

    It makes up to a megabyte of code for a product of each new shape and keeps 1,024 of them, in two caches: more than all that
    a small model needs to learn. `by_length` batches of like length come one after the other, so that few are enough. In other
    orders an epoch of texts asks for about 500 in turn, and with AMX making one takes as long as four products.
    """
    most = _KEPT_OF_AMX if has_amx() and not by_length else _KEPT
    for name, kept in zip(KERNEL_CACHES, (most, _KEPT), strict=True):  # the second has been of no use in any case
        os.environ.setdefault(name, str(kept))


def has_amx() -> bool:
    """Tell whether this processor has matrix units."""
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_tile"))


def has_bf16() -> bool:
    """Tell whether oneDNN multiplies in bfloat16 on this processor: where it cannot, torch does, fifty times as slowly."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def anonymous_bytes(process: int | None = None) -> int:
    """Return the anonymous resident memory of a process by its number, None: of this one, in bytes; 0 where it has ended.

    On Linux it is RssAnon: what the process allocated, without the pages of memory-mapped files, which the system can
    drop at any time. Elsewhere it is the resident set size.
    """
    try:
        found = _ANONYMOUS.search(Path(f"/proc/{process or 'self'}/status").read_bytes())
    except OSError:
        found = None
    try:
        return int(found[1]) * 1024 if found else int(psutil.Process(process).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


class PeakMemory:
    """Samples `anonymous_bytes` in a daemon thread while the context is open.

    `interval` is in seconds; `process` is the number of another process to watch. `peak_mb` (10^6 bytes) can be read inside and
    after the context.

    >>> with PeakMemory() as memory:
    ...     numbers = list(range(10**6))
    >>> memory.peak_mb > 8
    True
    """

    def __init__(self, interval: float = 0.05, process: int | None = None) -> None:
        self.interval, self.process = interval, process
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    @property
    def peak_mb(self) -> float:
        """The largest sample so far, in 10^6 bytes."""
        return self.peak_bytes / 1e6

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, anonymous_bytes(self.process))

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self._sample()


def available_bytes(root: Path = Path("/")) -> int:
    """Return how many bytes can still be allocated: what the system has, and no more than the control groups allow.

    `root` is where `proc` and `sys` are found.
    """
    return min([int(psutil.virtual_memory().available), *_left_in_groups(root)])


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what each control group that holds this process has left (versions 1 and 2, each group and its parents)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _left_below(root / "sys/fs/cgroup", path, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _left_below(root / "sys/fs/cgroup/memory", path, names)


def _left_below(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    # In a container the path may be the host's and not exist here; its parents, down to the mount itself, still count.
    group = mount / path.strip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(mount):
            return
        limit, used = _number(folder / names[0]), _number(folder / names[1])
        if limit is not None and used is not None:
            yield max(0, limit - used + _reclaimable(folder / "memory.stat", names[2]))


def _number(file: Path) -> int | None:
    """Return the number in `file`; None where there is no such file or it says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(file: Path, key: str) -> int:
    """Return the bytes of file cache that the group counts as used and the kernel drops under pressure."""
    try:
        found = re.search(rf"^{key} (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) if found else 0
