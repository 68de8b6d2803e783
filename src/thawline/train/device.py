"""Where training runs: device and processes through accelerate, the dtype of the arithmetic, and signals."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any, TypeVar, final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from thawline.errors import RecipeError
from thawline.memory import has_amx
from thawline.train.draws import Draws
from thawline.train.masters import Masters
from thawline.train.steps import PLAIN, Shapes

T = TypeVar("T")
_ROWS_OF_AMX, _ROWS_OF_SEVERAL = 32, 8  # many for its tiles, few where only steps of few rows have several threads inside
_GRID_OF_AMX = 8
_GAIN = 1.2  # bfloat16 costs casts around every product, so it must win clearly
_HOPELESS = 0.2  # so far behind with a few rows, it does not win with many
_FEW_ROWS, _ROWS = 16, 832  # 832 is what an encoder's step comes to


@final
class Device:
    """The processor that trains, with its processes.

    `name` is "auto" (cuda, then mps, then cpu) or a torch device; with `bf16` matrix products run in bfloat16: under autocast,
    or, with `lower`, because the weights that the model computes with are. What the optimiser keeps is float32 either way.
    Raises RecipeError for a device that this machine does not have.
    """

    def __init__(self, name: str = "auto", *, bf16: bool = False) -> None:
        named = present(name) if name not in ("auto", "cpu") else None
        # Said outright, since accelerate joins processes on the CPU only where it is asked to use it.
        cpu = name == "cpu" or (name == "auto" and not torch.accelerator.is_available())
        # Accelerate's own accumulation stays at 1: its `backward` would divide by it, and the loop divides by the weight.
        self.accelerator = Accelerator(cpu=cpu)
        self.device = named or self.accelerator.device
        self.bf16, self.lower = bf16, False

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return bool(self.accelerator.is_main_process)

    def even_rows(self, inside: int) -> int:
        """Return how many rows batches are to have where a product rounds a row by how many others there are; 0: any number.

        That is so on a processor in bfloat16 with AMX, and where several threads are `inside` an operation: they share out
        sums of few rows, and rows of many.
        """
        if self.device.type != "cpu":
            return 0
        return _ROWS_OF_AMX if self._tiles else _ROWS_OF_SEVERAL if inside > 1 else 0

    def shapes(self, *, real: bool, by_length: bool) -> Shapes:
        """Return how micro-batches are computed: with AMX a kernel of a new shape costs as much as three or four products.

        In an order `by_length` it serves many steps.
        """
        return Shapes(_GRID_OF_AMX if self._tiles and not by_length else PLAIN.grid, real)

    @property
    def _tiles(self) -> bool:
        return self.device.type == "cpu" and self.bf16 and has_amx()

    def autocast(self) -> AbstractContextManager[Any]:
        """The arithmetic's dtype, as a context."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16 and not self.lower)

    def taken(self, value: Tensor) -> Tensor:
        """Return an input on the device, in the dtype of the weights if it is a number."""
        return value.to(self.device, torch.bfloat16 if self.lower and value.is_floating_point() else None)

    def draws(self, *key: int) -> AbstractContextManager[Any]:
        """Everything that is drawn at random within this context, in this thread, follows from the key."""
        if self.device.type == "cpu":
            return Draws(key)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return nullcontext()

    @property
    def processes(self) -> int:
        """How many processes share each step."""
        return int(self.accelerator.num_processes)

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """Return the parts of a step that this process computes."""
        return parts[self.accelerator.process_index :: self.accelerator.num_processes]

    def summed(self, masters: Masters, sums: dict[str, float]) -> dict[str, float]:
        """Add up gradients and counts over the processes: sums, so the step is that of one process with all the examples."""
        if self.accelerator.num_processes == 1:
            return sums
        there = torch.tensor([float(master.grad is not None) for master in masters.now], device=self.device)
        for master, some in zip(masters.now, self.accelerator.reduce(there, "sum").tolist(), strict=True):
            if some:  # what no process has a gradient of stays as it is: weight decay would move it
                gradient = master.grad if master.grad is not None else torch.zeros_like(master)
                master.grad = self.accelerator.reduce(gradient, "sum")
        counts = torch.tensor(list(sums.values()), dtype=torch.float64, device=self.device)
        return dict(zip(sums, self.accelerator.reduce(counts, "sum").tolist(), strict=True))

    def agreed(self, flag: bool) -> bool:
        """Return True in every process where it is True in one: clocks and signals differ, and all must stop at one step."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device), "sum") > 0)

    def of_main(self, value: T) -> T:
        """Return the main process's value in every process."""
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()

    @cached_property
    def bf16_gain(self) -> float:
        """How many times faster a matrix product of an encoder's shape is in bfloat16 than in float32, measured here.

        On a processor without bfloat16 nine such products take seven seconds, and a few rows show it.
        """
        gain = _gain(self.device, _FEW_ROWS)
        return gain if gain < _HOPELESS else _gain(self.device, _ROWS)


def present(name: str) -> torch.device:
    """Return the device of this name; raises RecipeError where this machine has none.

    >>> present("cpu")
    device(type='cpu')
    """
    try:
        torch.zeros(1, device=name).item()  # torch knows names of devices that are not there, and some that compute nothing
    except (RuntimeError, AssertionError, ImportError):
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        here = "auto or cpu" if found is None else f"auto, cpu or {found.type}"
        raise RecipeError([f"train.device: there is no device {name!r} on this machine; expected {here}."]) from None
    return torch.device(name)


def bf16_wins(gain: float) -> bool:
    """Tell whether a measured gain is worth the casts."""
    return gain > _GAIN


def _gain(device: torch.device, rows: int) -> float:
    return _seconds(device, torch.float32, rows) / _seconds(device, torch.bfloat16, rows)


def _seconds(device: torch.device, dtype: torch.dtype, rows: int) -> float:
    """Median seconds of one product, `rows` × 384 by 384 × 1536."""
    left, right = torch.randn(rows, 384, device=device, dtype=dtype), torch.randn(384, 1536, device=device, dtype=dtype)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        (left @ right).sum().item()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of raising in the middle of a step; a second SIGINT raises at once."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield seen
        return

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        if seen.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
