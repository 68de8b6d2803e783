"""`thawline compare`: finished runs beside one another on the same test set."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from thawline.cli import show
from thawline.cli.runs import finished, folder_of
from thawline.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.data.examples import Examples
    from thawline.evaluate.answered import Answered
    from thawline.run.folder import RunFolder
    from thawline.types import Prediction

_FACTS = {"seconds": "{:,.0f}", "peak_memory_mb": "{:,.0f}", "model_mb": "{:,.1f}", "epochs": "{:.3g}"}
_LINES, _WIDE = 5, 80  # examples of each kind of change, and characters of a text


def compare(runs: Sequence[Path], as_json: bool = False, data: str | None = None) -> None:
    """Print how runs differ on the test set they share, or on labelled `data`; as JSON, all of it.

    Raises UserError where they cannot be compared, and says how their test sets differ.
    """
    from thawline.evaluate.compare import compare as compared

    names = [os.path.normpath(run) for run in runs]
    if len(set(names)) < 2:
        raise UserError("compare needs two runs or more; type: thawline compare RUN RUN")
    folders = {name: folder_of(Path(name)) for name in dict.fromkeys(names)}
    for folder in folders.values():
        finished(folder)  # raises where one is not, before any model answers
    read = {name: _read(folder, data) for name, folder in folders.items()}
    found = compared({name: one.answered for name, one in read.items()}, facts={name: one.facts for name, one in read.items()})
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    show.result(runs_table(found, title=next(iter(read.values())).measured_on))
    for pair in found["pairs"]:
        show.result("", *_changes(pair))
    show.result("", found["ranking"]["words"])


def runs_table(found: Mapping[str, Any], title: str = "test") -> Table:
    """Return what is known of each run as a table, best first; the metric that decides has its interval."""
    from rich.table import Table
    from rich.text import Text

    runs, main = {run["name"]: run for run in found["runs"]}, found["main"]
    metrics = sorted(next(iter(runs.values()))["metrics"], key=lambda metric: metric != main)
    facts = [name for name in _FACTS if any(name in run["facts"] for run in runs.values())]
    heading = Text(f"{title}, n = {found['n']:,}, [95 % intervals]")
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    for name in (*metrics, *facts):
        table.add_column(Text(name.replace("_mb", " MB").replace("_", " ") if name in facts else name), justify="right")
    for name in found["ranking"]["order"]:
        run = runs[name]
        cells = [f"{run['metrics'][metric]:.3f}" for metric in metrics]
        low, high = run["intervals"][main]
        cells[0] += f" [{low:.3f}, {high:.3f}]"
        cells += [_FACTS[fact].format(run["facts"][fact]) if fact in run["facts"] else "" for fact in facts]
        table.add_row(*map(Text, (name, *cells)))
    return table


def _changes(pair: Mapping[str, Any]) -> list[Any]:
    from rich.text import Text

    lines = [pair["words"]]
    counts = " and ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in pair["changed"].items())
    test = f"; McNemar's exact test: p = {pair['mcnemar']['p_holm']:.3g}" if "mcnemar" in pair else ""
    lines.append(f"From {pair['before']} to {pair['after']}: {counts}{test}.")
    for kind in pair["changed"]:
        for example in pair[kind][:_LINES]:
            true = f" is {_short(example['label'])}" if "label" in example else ""
            said = f"{_short(example['before'])} → {_short(example['after'])}"
            lines.append(f"  {kind.replace('_', ' ')}: {_short(example.get('text', example['id']))!r}{true}; {said}")
    return [Text(line) for line in lines]


def _short(value: object) -> str:
    text = (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"


class _Run(NamedTuple):
    """What a run was measured on, its answers beside the examples, and what it cost."""

    measured_on: str
    answered: Answered
    facts: dict[str, Any]


def _read(folder: RunFolder, data: str | None) -> _Run:
    from thawline.run.kept import answered_by, kept

    what, examples, predictions = kept(folder) if data is None else (Path(data).stem, *_anew(folder, data))
    train = finished(folder).get("train", {})
    facts = {key: train[key] for key in _FACTS if key in train}
    facts["model_mb"] = sum(file.stat().st_size for file in folder.model.glob("*.safetensors")) / 1e6
    return _Run(what, answered_by(folder, examples, predictions), facts)


def _anew(folder: RunFolder, data: str) -> tuple[Examples, Sequence[Prediction]]:
    """Return the examples of a file, and what the run's model says of them, which stays in the run's folder."""
    from thawline.evaluate.output import write_predictions
    from thawline.run.api import Run
    from thawline.run.kept import predictions_of, set_name

    run, name = Run(folder.path), set_name(data)
    examples = run.examples(data, labelled=True, say=show.say)
    with show.progress(f"predicting with {folder.path}", len(examples)) as told:
        write_predictions(run.stream(examples, told), folder.path / "predictions" / f"{name}.jsonl")
    return examples, predictions_of(folder, name)
