"""`thawline compare`: finished runs beside one another on the same test set."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.cli import show
from thawline.errors import RunError, UserError

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.data.examples import Examples
    from thawline.evaluate.answered import Answered
    from thawline.run.folder import RunFolder
    from thawline.types import Prediction

_FACTS = {"seconds": "{:,.0f}", "peak_memory_mb": "{:,.0f}", "model_mb": "{:,.1f}", "epochs": "{:.3g}"}
_LINES = 5  # examples of each kind of change


def compare(runs: Sequence[Path], as_json: bool = False, data: str | None = None) -> None:
    """Print how runs differ on the test set they share, or on labelled `data`; as JSON, all of it.

    Raises UserError where they cannot be compared, and says how their test sets differ.
    """
    from thawline.evaluate.compare import compare as compared

    names = [os.path.normpath(run) for run in runs]
    if len(set(names)) < 2:
        raise UserError("compare needs two runs or more; type: thawline compare RUN RUN")
    read = {name: _read(name, data) for name in dict.fromkeys(names)}
    found = compared({name: one for name, (one, _) in read.items()}, facts={name: facts for name, (_, facts) in read.items()})
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    show.result(runs_table(found))
    for pair in found["pairs"]:
        show.result("", *_changes(pair))
    show.result("", found["ranking"]["words"])


def runs_table(found: Mapping[str, Any]) -> Table:
    """Return what is known of each run as a table, best first."""
    from rich.table import Table
    from rich.text import Text

    runs = {run["name"]: run for run in found["runs"]}
    metrics = list(next(iter(runs.values()))["metrics"])
    facts = [name for name in _FACTS if any(name in run["facts"] for run in runs.values())]
    table = Table(title=Text(f"test, n = {found['n']:,}"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    for name in (*metrics, *facts):
        table.add_column(Text(name.replace("_mb", " MB").replace("_", " ") if name in facts else name), justify="right")
    for name in found["ranking"]["order"]:
        run = runs[name]
        cells = [f"{run['metrics'][metric]:.3f}" for metric in metrics]
        cells += [_FACTS[fact].format(run["facts"][fact]) if fact in run["facts"] else "" for fact in facts]
        table.add_row(*map(Text, (name, *cells)))
    return table


def _changes(pair: Mapping[str, Any]) -> list[Any]:
    from rich.text import Text

    lines = [pair["words"]]
    counts = " and ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in pair["changed"].items())
    test = f"; McNemar's exact test: p = {pair['mcnemar']['p_holm']:.3g}" if "mcnemar" in pair else ""
    lines.append(f"From {pair['before']} to {pair['after']}: {counts}{test}")
    for kind in pair["changed"]:
        for example in pair[kind][:_LINES]:
            what = str(example.get("text", example["id"]))
            what = what if len(what) <= 80 else f"{what[:79]}…"
            lines.append(
                f"  {kind.replace('_', ' ')}: {what!r} is {example['label']}; {example['before']} → {example['after']}"
            )
    return [Text(line) for line in lines]


def _read(name: str, data: str | None) -> tuple[Answered, dict[str, Any]]:
    """Return what a run answered beside the examples, and what it cost."""
    from thawline.evaluate.answered import Answered
    from thawline.run.folder import RunFolder

    folder = RunFolder(name)
    problem, metrics = str(folder.trained().task.problem), folder.read("metrics.json")
    if metrics is None:
        raise RunError(f"{name} is not finished, so there is nothing to compare yet. Type: thawline resume {name}")
    examples, predictions = _kept(folder, show.measured(metrics)) if data is None else _anew(folder, data)
    train = metrics.get("train", {})
    facts = {key: train[key] for key in _FACTS if key in train}
    facts["model_mb"] = sum(file.stat().st_size for file in folder.model.glob("*.safetensors")) / 1e6
    return Answered(examples, predictions, problem, ()), facts


def _kept(folder: RunFolder, split: str) -> tuple[Examples, list[Prediction]]:
    """Return the split that a run was measured on, read again, and the predictions that it wrote."""
    from thawline.evaluate.output import read_predictions
    from thawline.run.data import dataset_of

    recipe, path = folder.trained(), folder.path / "predictions" / f"{split}.jsonl"
    if not path.is_file():
        raise RunError(f"{folder.path} was trained without a test or validation split; give a labelled file with --data FILE.")
    examples, predictions = dataset_of(recipe).splits.get(split), list(read_predictions(path))
    ids = examples.column("id").to_pylist() if examples is not None else []
    if examples is None or ids != [prediction["id"] for prediction in predictions]:
        what = f"The data of {folder.path} is another than when it was measured"
        raise RunError(f"{what}; bring {recipe.data.path} back, or give a labelled file with --data FILE.")
    return examples, predictions


def _anew(folder: RunFolder, data: str) -> tuple[Examples, list[Prediction]]:
    from thawline.run.api import Run

    run = Run(folder.path)
    examples = run.examples(data, labelled=True, say=show.say)
    with show.progress(f"predicting with {folder.path}", len(examples)) as told:
        return examples, list(run.stream(examples, told))
