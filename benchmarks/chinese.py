"""Chinese hotel reviews with a multilingual model, 1,000 training rows, head only and half frozen.

usage: chinese.py MODEL_FOLDER    (me5: multilingual-e5-small as a transformers folder)
Appends one line a run to results/chinese.jsonl; runs that stand there are skipped.
"""

from __future__ import annotations

import sys
import tempfile

from results import SHARED, append, missing


def main(model: str) -> None:
    """Carry out what is missing."""
    import thawline as tl

    wanted = [
        {"strategy": strategy, "epochs": epochs, "seed": seed}
        for seed in range(3)
        for strategy, epochs in (("freeze(0.5)", 3), ("head", 10))
    ]
    for run in missing("chinese", wanted):
        with tempfile.TemporaryDirectory() as folder:
            done = tl.finetune(
                str(SHARED / "data" / "chnsenticorp_hotel"),
                model=model,
                strategy=run["strategy"],
                train={"num_train_epochs": run["epochs"], "seed": run["seed"]},
                max_train_samples=1000,
                max_length=256,
                output=f"{folder}/run",
                progress=False,
            )
            test, train = done.metrics["test"], done.metrics["train"]
            keys = ("accuracy", "accuracy_ci95", "f1_macro")
            baseline = test["baseline"]["tfidf"]["accuracy"]
            facts = {key: test[key] for key in keys} | {
                "tfidf_accuracy": baseline,
                "learning_rate": done.recipe.train.learning_rate,
            }
            append("chinese", {**run, **facts, "seconds": train["seconds"], "peak_memory_mb": train["peak_memory_mb"]})
        print(run, facts, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
