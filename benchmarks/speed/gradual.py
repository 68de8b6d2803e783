"""Gradual unfreezing, four epochs, against the Trainer training everything: sst2 with MiniLM.

usage: gradual.py [--table] [--examples N]    Appends one line a run to results/speed.jsonl; quality.py has the accuracy.
"""

from side_by_side import Row, Target, main

STRATEGY = "gradual(full, until=0.5)"
ROW = Row(f"{STRATEGY}, four epochs", STRATEGY, 4, peer="full", targets={"seconds": Target(4.5, 1.8)})

if __name__ == "__main__":
    main(ROW, __doc__)
