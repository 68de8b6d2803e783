"""Accuracy beside the Trainer at its best setting: paired differences over five seeds, with their standard errors.

usage: quality.py [--rows full gradual adaptive] [--untimed] [--table]
Takes what results/against_trainer.jsonl has and appends what is missing there. `--untimed` is for a machine that does other
work: one thread, low priority.
"""

from __future__ import annotations

import math
from statistics import mean, stdev
from typing import Any, NamedTuple

from side_by_side import Rows, arguments, conditions, markdown, measured, wanted_run

NAME, SEEDS = "against_trainer", 5


class Comparison(NamedTuple):
    """A strategy of Thawline beside full fine-tuning by `other`; `within` is in points, `both` ways or only downwards."""

    row: str
    strategy: str
    data: str
    epochs: int
    within: float
    both: bool = True
    other: str = "trainer-best"

    def sides(self, seeds: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the pairs of runs, one a seed."""
        return [(self._run("thawline", seed, self.strategy), self._run(self.other, seed, "full")) for seed in range(seeds)]

    def _run(self, tool: str, seed: int, strategy: str) -> dict[str, Any]:
        return wanted_run(tool, self.data, seed, epochs=self.epochs, strategy=strategy)


COMPARISONS = (
    Comparison("full", "full", "sst2", 3, 0.5),
    Comparison("full", "full", "banking77", 3, 0.5),
    Comparison("gradual", "gradual(full, until=0.5)", "sst2", 4, 1.0, both=False),
    Comparison("adaptive", "adaptive(full)", "sst2", 3, 0.5, both=False),
    Comparison("adaptive", "adaptive(full)", "sst2", 3, 0.5, both=False, other="thawline"),
)


def paired(comparison: Comparison, rows: Rows, seeds: int = SEEDS) -> list[tuple[float, float]]:
    """Return the accuracies of both sides, in points, for the seeds that both have."""
    found = []
    for sides in comparison.sides(seeds):
        done = [[row["accuracy"] for row in rows if all(row.get(k) == v for k, v in side.items())] for side in sides]
        if all(done):
            found.append((100 * done[0][-1], 100 * done[1][-1]))  # the newest, where a run was made again
    return found


def table(rows: Rows, comparisons: tuple[Comparison, ...] = COMPARISONS) -> str:
    """Return the table: both means, and the mean of the paired differences ± its standard error beside the target."""
    lines = []
    for one in comparisons:
        pairs = paired(one, rows)
        name = [one.strategy, one.data, str(one.epochs), one.other, str(len(pairs))]
        differences = [ours - other for ours, other in pairs]
        sign, target = ("±" if one.both else "≥ -"), f"{one.within:g}"
        if not pairs:
            lines.append([*name, "–", "–", f"– ({sign}{target})"])
            continue
        error = stdev(differences) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.nan
        kept = -mean(differences) <= one.within and (not one.both or mean(differences) <= one.within)
        told = f"{mean(differences):+.2f} ± {error:.2f} ({sign}{target}: {'yes' if kept else 'no'})"
        lines.append([*name, *(f"{mean(side):.2f}" for side in zip(*pairs, strict=True)), told])
    header = ["strategy", "data", "epochs", "full by", "seeds", "thawline", "other", "difference"]
    return f"{markdown(header, lines)}\n{conditions(rows)}"


if __name__ == "__main__":
    parser = arguments(__doc__, repeats=SEEDS)
    parser.add_argument("--rows", nargs="*", default=["full", "gradual", "adaptive"], help="which comparisons")
    parser.add_argument("--untimed", action="store_true", help="one thread, low priority; counts for quality only")
    options = parser.parse_args()
    chosen = tuple(one for one in COMPARISONS if one.row in options.rows)
    pairs = [one.sides(options.repeats) for one in chosen]
    runs = [run for seed in range(options.repeats) for sides in pairs for run in sides[seed]]
    runs = list({str(run): run for run in runs}.values())
    print(table(measured(options, runs, name=NAME, untimed=options.untimed, anywhere=True), chosen))
