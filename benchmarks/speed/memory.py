"""Peak anonymous memory of full fine-tuning, from the runs of full.py.

usage: memory.py [--table] [--examples N]    Carries out what full.py would.
"""

from dataclasses import replace

from full import MEMORY, ROW
from side_by_side import main

if __name__ == "__main__":
    main(replace(ROW, title="Peak memory, full fine-tuning", targets=MEMORY), __doc__)
