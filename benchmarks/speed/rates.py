"""Sixteen learning rates of a head over a frozen encoder beside one, from an empty and from a filled store: sst2 with MiniLM.

usage: rates.py [--table] [--examples N]    Appends one line a run to results/speed_rates.jsonl.
Ten epochs, an evaluation after each. `seconds` are those of training, all trials together; `whole` is all of `tl.finetune`:
reading, tokenising, loading, evaluating, saving and measuring too. A store is filled by a run of one rate before.
"""

from __future__ import annotations

from side_by_side import Rows, Target, arguments, conditions, markdown, measured, middle, shown, verdict, wanted_run

RATES = [round(1e-4 * 100 ** (place / 15), 6) for place in range(16)]
TARGET = Target(2, None, least=False)
STORES = ("empty", "filled")


def runs(repeats: int) -> Rows:
    """Return the runs in the order in which they alternate."""
    return [
        wanted_run("thawline", "sst2", seed, strategy="head", epochs=10)
        | {"model": "minilm", "store": store, "learning_rate": rate, "eval_strategy": "epoch"}
        for seed in range(repeats)
        for store in STORES
        for rate in (RATES[8], RATES)
    ]


def table(rows: Rows) -> str:
    """Return the table: time of one rate and of all, and their ratio."""
    lines = []
    for store in STORES:
        for key, title in (("seconds", "training"), ("whole_seconds", "whole")):
            one, many = (middle(key, rows, store=store, learning_rate=rate) for rate in (RATES[8], RATES))
            ratio = many / one if many and one else None
            lines.append([store, title, shown(one, ".1f"), shown(many, ".1f"), verdict(ratio, TARGET[0], TARGET)])
    return f"{markdown(['store', 'seconds', 'one rate', 'sixteen', 'ratio'], lines)}\n{conditions(rows)}"


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    print(table(measured(options, runs(options.repeats), name="speed_rates")))
