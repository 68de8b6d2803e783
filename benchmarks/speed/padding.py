"""What a step takes where blocks leave padding out and where they do not: order by chance, both ways in turn in one process.

usage: padding.py [--table] [--steps N]    Appends one line a data set to results/speed_padding.jsonl; MiniLM, full.
Two steps are taken one way, then two the other; the medians are of the gradients of a step, without its optimiser.
"""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from side_by_side import Rows, arguments, conditions, is_one_run, markdown, measured, middle, shown, wanted_run

STEPS, WARM = 120, 12


def runs(steps: int) -> Rows:
    """Return one run a data set, so many steps long."""
    beside = {"model": "minilm", "max_steps": steps, "sampling": "random"}
    return [wanted_run("thawline", data, 0, strategy="full", epochs=1) | beside for data in ("sst2", "banking77")]


def measure(run: dict[str, Any]) -> dict[str, Any]:
    """Return milliseconds a step, both ways."""
    import one_run

    from thawline.models.unpadded import Real
    from thawline.train.gradients import Gradients

    times: dict[bool, list[float]] = {True: [], False: []}
    compute, few = Gradients.__call__, Real.few

    def timed(self: Gradients, learner: Any, step: int, progress: float) -> dict[str, float]:
        leaves_out = step // 2 % 2 == 0
        Real.few = few if leaves_out else property(lambda real: False)  # type: ignore[method-assign]
        start = time.perf_counter()
        order = copy.copy(self.order)
        order.shapes = order.shapes._replace(real=leaves_out)
        sums = compute(replace(self, order=order), learner, step, progress)
        times[leaves_out].append(time.perf_counter() - start)
        return sums

    Gradients.__call__ = timed  # type: ignore[method-assign]
    facts = one_run.facts()
    with tempfile.TemporaryDirectory() as folder:
        one_run.thawline(run, one_run.model_of(run), one_run.data_of(run, Path(folder)))
    padded, left_out = (1000 * median(times[way][WARM:]) for way in (False, True))
    return facts | {"padded_ms": padded, "left_out_ms": left_out}


def table(rows: Rows) -> str:
    """Return the table: milliseconds of a step's gradients by data set."""
    lines = list[list[str]]()
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        ways = [middle(key, own, tool="thawline") for key in ("padded_ms", "left_out_ms")]
        lines.append([data, *(shown(way, ".0f") for way in ways)])
    return f"{markdown(['data', 'padding computed, ms', 'left out, ms'], lines)}\n{conditions(rows)}"


if __name__ == "__main__":
    if not is_one_run(measure):
        parser = arguments(__doc__, repeats=1)
        parser.add_argument("--steps", type=int, default=STEPS, help="how many to train")
        options = parser.parse_args()
        print(table(measured(options, runs(options.steps), name="speed_padding", script=Path(__file__))))
