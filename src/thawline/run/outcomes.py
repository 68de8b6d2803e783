"""What came of a trial: as an entry of trials.json, and in words."""

from __future__ import annotations

import json

from thawline.errors import DivergedError
from thawline.recipe import Recipe
from thawline.run.carry_out import Trained
from thawline.run.folder import RunFolder
from thawline.run.repeats import HELD, Entry


def fault(error: DivergedError) -> Entry:
    """Return what an entry says of a trial that diverged."""
    return {"state": "diverged", "why": str(error)}


def all_diverged(entries: list[Entry]) -> str:
    """Return in words that no trial came to its end."""
    count = sum(entry["state"] == "diverged" for entry in entries)
    what = f"All {count} trials" if count == len(entries) else f"{count} of {len(entries)} trials"
    return f"{what} diverged; try lower values of train.learning_rate."


def result(home: RunFolder, trained: Trained, recipe: Recipe) -> tuple[int, dict[str, float]]:
    """Return the step whose weights are the result, and what the evaluation there said, nothing where there was none."""
    lines = (json.loads(line) for line in (home.path / "history.jsonl").read_text().splitlines())
    found = {line.pop("step"): line for line in lines if line.pop("kind") == "evaluation"}
    if not found:
        return trained.loop.state.step, {}
    step = trained.loop.state.standing.step if recipe.train.load_best_model_at_end else max(found)
    return step, found[step]


def outcome(entry: Entry, metric: str) -> str:
    """Return in words what came of a trial."""
    if entry["state"] == "diverged":
        return f"diverged. {entry['why']}"
    said = [f"{metric} {entry['validation'][metric]:.4f} at step {entry['best_step']}"] if entry["validation"] else []
    said += [f"{entry[HELD][metric]:.4f} on the fold"] if metric in entry.get(HELD, {}) else []
    return ", ".join([*said, f"{entry['seconds']:.0f} s"])
