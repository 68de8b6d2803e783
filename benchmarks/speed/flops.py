"""Useful FLOPs of full fine-tuning over the rate of a bfloat16 matrix product in the same process, from the runs of full.py.

usage: flops.py [--table] [--examples N]    Carries out what full.py would.
Useful are 6 × the parameters of the encoder's layers × real tokens: forward and backward, no padding, no attention, no
embeddings. The rate is that of 832 × 384 by 384 × 1536 on all threads, the best of many, before training.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from full import ROW
from side_by_side import TOOLS, Rows, Target, arguments, conditions, markdown, measured, middle, shown, verdict

TARGET = Target(None, 0.58)


def layer_parameters(config: dict[str, Any]) -> int:
    """Return the parameters of the layers of a BERT: attention, feed-forward and norms, without embeddings, pooler and head."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    return config["num_hidden_layers"] * (4 * width * (width + 1) + 2 * width * inner + inner + width + 4 * width)


def shares(rows: Rows, parameters: int) -> Rows:
    """Return the rows with `share`: useful FLOP/s over the measured rate."""
    return [row | {"share": 6 * parameters * row["tokens_per_second"] / (row["product_gflops"] * 1e9)} for row in rows]


def table(rows: Rows) -> str:
    """Return the table: tokens/s, the rate of a product, and the share of it that is useful."""
    lines = []
    for data in ROW.data:
        for tool in TOOLS:
            which = {"data": data, "tool": tool}
            share = middle("share", rows, **which)
            reached = verdict(share, TARGET.against_best, TARGET) if tool == "thawline" else shown(share, ".2f")
            cells = [shown(middle(key, rows, **which), ".0f") for key in ("tokens_per_second", "product_gflops")]
            lines.append([data, tool, *cells, reached])
    return f"{markdown(['data', 'tool', 'tokens/s', 'product GFLOP/s', 'useful share'], lines)}\n{conditions(rows)}"


def config_of() -> dict[str, Any]:
    """Return the configuration of MiniLM."""
    from one_run import model_of

    found: dict[str, Any] = json.loads(Path(model_of({}), "config.json").read_text())
    return found


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    print(table(shares(measured(options, ROW.runs(options.repeats)), layer_parameters(config_of()))))
