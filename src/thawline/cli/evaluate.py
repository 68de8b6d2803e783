"""`thawline evaluate`: the metrics of a run, or of its model on other data, and how they fall when inputs are perturbed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from thawline.cli import show
from thawline.cli.runs import finished, folder_of, show_trials
from thawline.errors import RunError

if TYPE_CHECKING:
    from thawline.run.folder import RunFolder


def evaluate(run: Path, data: str | None, *, robustness: bool, as_json: bool) -> None:
    """Print the metrics of a run, or measure its model on other labelled data; raises UserError for a mistake.

    With `robustness` the same set is measured again under perturbations; all of it goes to the run's report too.
    """
    folder = folder_of(run)
    if data is None:
        found = finished(folder)
        name = show.measured(found)
        if not as_json:
            show_trials(folder)
    else:
        from thawline.run.api import Run

        name = Path(data).stem
        found = {name: Run(run).evaluate(data, say=show.say).section}
    perturbed = _robustness(folder, data) if robustness else None
    if as_json:
        more = {"robustness": perturbed} if perturbed else {}
        print(json.dumps({**found.get(name, {}), **more, **_analysis(folder, name, data)}, indent=1, ensure_ascii=False))
        return
    show.metrics(found, name, problem=folder.columns().problem, folder=folder.path)
    if perturbed:
        show.result("", robustness_table(perturbed), perturbed["words"])
    if perturbed or data is not None:
        show.say(f"The report shows it too: thawline report {run}")


def _analysis(folder: RunFolder, name: str, data: str | None) -> dict[str, Any]:
    """Return what analysis.json has of a set, under "analysis", without pictures and sounds; nothing where it has nothing."""
    from thawline.run.kept import set_name

    found = (folder.read("analysis.json") or {}).get(name if data is None else set_name(data), {})
    kept = {part: _without_media(value) for part, value in found.items() if part != "metrics"}
    return {"analysis": kept} if kept else {}


def _without_media(value: Any) -> Any:
    if isinstance(value, Mapping):
        media = [key for key in ("thumbnail", "sound") if isinstance(value.get(key), str)]
        return {key: _without_media(one) for key, one in value.items() if key not in media}
    return [_without_media(one) for one in value] if isinstance(value, list) else value


def _robustness(folder: RunFolder, data: str | None) -> dict[str, Any]:
    """Measure the model under perturbations of its own test set, or of other data."""
    from thawline.run.api import Run
    from thawline.run.finish import write_report
    from thawline.run.kept import Kept, kept, predictions_of, set_name
    from thawline.run.robust import passes, robust

    run = Run(folder.path)
    if data is None:
        measured = kept(folder)
        if measured.name == "folds":
            what = "was measured by folds, each by a model of its own"
            raise RunError(f"{folder.path} {what}; give labelled data with --data FILE to measure the robustness of its model.")
    else:
        name = set_name(data)
        measured = Kept(name, run.examples(data, labelled=True, say=lambda text: None), predictions_of(folder, name))
    with show.progress("answering for perturbed examples", passes(measured.examples)) as told:
        found = robust(run.model, measured, folder, told=told)
    write_report(folder)
    return found


def robustness_table(found: Mapping[str, Any]) -> Table:
    """Return the drop under each perturbation with its interval, and how many answers became wrong."""
    metric = found["metric"]
    heading = Text(f"{metric} {found['value']:.3f} under perturbations, n = {found['n']:,}, [95 % intervals]")
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, header_style="bold")
    wrong = any("to_wrong" in one for one in found["perturbations"])
    for name in ("perturbation", metric, "drop", "answers changed", *(("became wrong", "became right") if wrong else ())):
        table.add_column(Text(name), justify="left" if name == "perturbation" else "right")
    for one in found["perturbations"]:
        drop = f"{one['drop']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"
        counts = [f"{one[name]:,}" for name in ("to_wrong", "to_right") if name in one]
        table.add_row(*map(Text, (one["name"], f"{one['value']:.3f}", drop, f"{one['changed']:.1%}", *counts)))
    return table
