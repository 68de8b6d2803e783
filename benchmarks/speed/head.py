"""Only the head learns, ten epochs, from an empty store: sst2 with MiniLM.

usage: head.py [--table] [--examples N]    Appends one line a run to results/speed.jsonl.
"""

from side_by_side import Row, Target, main

ROW = Row("Head only, ten epochs", "head", 10, targets={"seconds": Target(30, 15)})

if __name__ == "__main__":
    main(ROW, __doc__)
