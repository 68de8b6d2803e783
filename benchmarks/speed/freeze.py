"""Embeddings and the lower three of six layers frozen, five epochs: sst2 with MiniLM.

usage: freeze.py [--table] [--examples N]    Appends one line a run to results/speed.jsonl.
"""

from side_by_side import Row, Target, main

ROW = Row("freeze(4), five epochs", "freeze(4)", 5, targets={"seconds": Target(4, 1.8)})

if __name__ == "__main__":
    main(ROW, __doc__)
