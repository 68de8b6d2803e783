"""Spoken digits of a speaker who was not there in training: each of six is left out in turn, with a frozen and a whole model.

usage: speakers.py [--seeds 1] [--strategies head full …] [--untimed] [--table]; the model's folder is in $THAWLINE_WHISPER.
Each finished run appends a line to results/speakers.jsonl; what stands there is skipped. `--table` only prints the table.
`--untimed` is for a machine that does other work: one thread, low priority; such a run counts for quality, not for time.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from alternate import fill, rows_of
from results import SHARED

NAME, DATA = "speakers", "fsdd"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SETTINGS = {
    "head": {"learning_rate": 1e-3, "epochs": 30},
    "full": {"learning_rate": 1e-4, "epochs": 5},
    "gradual(full, until=0.5)": {"learning_rate": 1e-4, "epochs": 5},
}
"""What is trained, and how: a head alone takes higher rates, and an epoch of it costs next to nothing."""


def wanted(strategies: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """Return the runs that the table is made of, in the order in which they are carried out."""
    return [
        {"data": DATA, "speaker": speaker, "strategy": strategy, "seed": seed, "batch_size": 32, **SETTINGS[strategy]}
        for seed in range(seeds)
        for strategy in strategies
        for speaker in SPEAKERS
    ]


def split(folder: Path, speaker: str) -> Path:
    """Write tables with the recordings of one speaker as the test split and of the others as the training split."""
    source = SHARED / "data" / DATA
    with (source / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [{**row, "path": str(source / row["path"])} for row in csv.DictReader(file)]
    parts = {"test": [row for row in rows if row["speaker"] == speaker], "train": [r for r in rows if r["speaker"] != speaker]}
    for name, part in parts.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["path", "label", "speaker"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(part)
    return folder


def carry_out(run: dict[str, Any]) -> dict[str, Any]:
    """Carry out a run and return what came of it; the last model is tested."""
    from one_run import facts

    import thawline as tl

    known = facts()
    with tempfile.TemporaryDirectory() as folder:
        done = tl.finetune(
            str(split(Path(folder), run["speaker"])),
            model=os.environ["THAWLINE_WHISPER"],
            strategy=run["strategy"],
            data={"validation_size": 0},
            train={
                **{key: run[key] for key in ("learning_rate", "epochs", "batch_size", "seed")},
                "eval_strategy": "no",
                "load_best_model_at_end": False,
            },
            evaluate={"baselines": False, "bootstrap_samples": 20},
            output={"dir": f"{folder}/run"},
            progress=False,
        )
        test, train = done.metrics["test"], done.metrics["train"]
    kept = {key: train[key] for key in ("seconds", "examples_per_second", "peak_memory_mb")}
    return known | {key: test[key] for key in ("accuracy", "f1_macro")} | kept


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return accuracies in percent, a line for each speaker and their mean, and how the whole model stands to the head."""
    strategies = [strategy for strategy in SETTINGS if any(row["strategy"] == strategy for row in rows)]
    found = {key: 100 * mean(part) for key in _keys(rows) if (part := [r["accuracy"] for r in rows if _key(r) == key])}
    wide = {strategy: max(8, len(strategy) + 2) for strategy in strategies}
    lines = ["left out   " + "".join(f"{strategy:>{wide[strategy]}}" for strategy in strategies)]
    for speaker in SPEAKERS:
        cells = (f"{found[speaker, s]:{wide[s]}.2f}" if (speaker, s) in found else f"{'–':>{wide[s]}}" for s in strategies)
        lines.append(f"{speaker:11}" + "".join(cells))
    whole = [speaker for speaker in SPEAKERS if all((speaker, strategy) in found for strategy in strategies)]
    if not whole:
        return "\n".join(lines)
    means = {strategy: mean(found[speaker, strategy] for speaker in whole) for strategy in strategies}
    lines.append(f"mean of {len(whole):<3}" + "".join(f"{means[strategy]:{wide[strategy]}.2f}" for strategy in strategies))
    for strategy in strategies[1:] if "head" in means else ():
        difference = means[strategy] - means["head"]
        lines.append(f"{strategy} minus head: {difference:+.2f} (≥ 0: {'yes' if difference >= 0 else 'no'})")
    return "\n".join(lines)


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row["speaker"], row["strategy"]


def _keys(rows: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    return set(map(_key, rows))


def main() -> None:
    """Fill in what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--untimed", action="store_true", help="count for quality only: one thread, low priority")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    runs = wanted(options.strategies, options.seeds)
    if not options.table:
        fill(NAME, runs, timed=not options.untimed, script=Path(__file__))
    rows = rows_of(NAME, runs)
    print(table(rows) if rows else "nothing is measured yet")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("{"):  # one run, in the process that `fill` starts
        Path(sys.argv[2]).write_text(json.dumps(carry_out(json.loads(sys.argv[1]))))
    else:
        main()
