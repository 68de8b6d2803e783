"""Full fine-tuning with MiniLM, one epoch: sst2 and banking77.

usage: full.py [--table] [--examples N]    Appends one line a run to results/speed.jsonl.
"""

from side_by_side import Row, Target, main

MEMORY = {"peak_memory_mb": Target(0.8, 0.9, least=False)}
ROW = Row("Full fine-tuning, one epoch", "full", 1, ("sst2", "banking77"), targets={"seconds": Target(4, 1.6), **MEMORY})

if __name__ == "__main__":
    main(ROW, __doc__)
