"""A multilingual model of MiniLM's size, most of it word embeddings, full fine-tuning, one epoch: sst2.

usage: multilingual.py --model-folder FOLDER [--table] [--examples N]
FOLDER is multilingual-e5-small as a transformers folder; without the option it is $THAWLINE_ME5. Appends one line a run to
results/speed.jsonl.
"""

import os

from side_by_side import Row, Target, arguments, measured, table

TARGETS = {"seconds": Target(4, None), "peak_memory_mb": Target(0.5, None, least=False)}
ROW = Row("Multilingual model, full fine-tuning, one epoch", "full", 1, model="me5", targets=TARGETS)

if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--model-folder", default=os.environ.get("THAWLINE_ME5"), help="default: $THAWLINE_ME5")
    options = parser.parse_args()
    if options.model_folder:
        os.environ["THAWLINE_ME5"] = os.path.abspath(options.model_folder)
    elif not options.table:
        parser.error("where is the model? give --model-folder FOLDER, or set THAWLINE_ME5")
    print(table(ROW, measured(options, ROW.runs(options.repeats))))
