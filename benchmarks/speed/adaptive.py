"""Adaptive freezing, three epochs, against the Trainer training everything: sst2 with MiniLM.

usage: adaptive.py [--table] [--examples N]    Appends one line a run to results/speed.jsonl; quality.py has the accuracy.
"""

from side_by_side import Row, Target, main

STRATEGY = "adaptive(full)"
ROW = Row(f"{STRATEGY}, three epochs", STRATEGY, 3, peer="full", targets={"seconds": Target(5, 2)})

if __name__ == "__main__":
    main(ROW, __doc__)
