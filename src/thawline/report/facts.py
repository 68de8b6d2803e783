"""What a report is made of: the contents of a run's folder, and nothing else."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import yaml

from thawline.errors import RunError

Facts = Mapping[str, Any]


@final
@dataclass(frozen=True)
class RunFacts:
    """What stands in a run's folder, by file; what is not there is empty, and its section is left out.

    `name` is the folder's, `path` what is typed to name it, `history` the rows of history.jsonl. Of a run that varies keys,
    `history`, `plan` and `data` are those of the best trial, and `trials` is trials.json.
    """

    name: str
    recipe: Facts = field(default_factory=dict)
    metrics: Facts = field(default_factory=dict)
    history: Sequence[Facts] = ()
    plan: Facts = field(default_factory=dict)
    data: Facts = field(default_factory=dict)
    decisions: Facts = field(default_factory=dict)
    analysis: Facts = field(default_factory=dict)
    trials: Facts = field(default_factory=dict)
    path: str = ""

    @property
    def measured(self) -> str | None:
        """The section of metrics.json that says how good the model is: "test", else "folds", else "validation", else None."""
        return next((name for name in ("test", "folds", "validation") if name in self.metrics), None)

    @property
    def section(self) -> Facts:
        """What was measured there."""
        return self.metrics[self.measured] if self.measured else {}

    @property
    def looked_at(self) -> Facts:
        """The analysis of the set that was measured."""
        found: Facts = get(self.analysis, self.measured or "test", default={})
        return found

    @property
    def evaluations(self) -> list[Facts]:
        """The rows of the history in which the validation set was measured."""
        return [row for row in self.history if row.get("kind") == "evaluation"]

    @property
    def steps(self) -> list[Facts]:
        """The rows of the history that are steps."""
        return [row for row in self.history if row.get("kind") == "step"]

    @property
    def findings(self) -> list[tuple[str, str, str]]:
        """What was found in the data: level, name, text."""
        found = self.data.get("findings", [])
        return [
            (one["level"], one["name"], one["text"]) if isinstance(one, Mapping) else (one[0], one[1], one[2]) for one in found
        ]


def facts_of(folder: Path) -> RunFacts:
    """Read a run's folder; raises RunError where it is none, or is not finished."""
    if not (folder / "recipe.yaml").is_file():
        raise RunError(f"{folder} is not a run's folder (it has no recipe.yaml); expected one that thawline train printed.")
    if not (folder / "metrics.json").is_file():
        raise RunError(f"{folder} is not finished, so there is nothing to report; type: thawline resume {folder}")
    trials = _json(folder / "trials.json")
    best = folder / "trials" / str(trials["best"]) if trials.get("best") else folder
    recipe = folder / "best.yaml" if (folder / "best.yaml").is_file() else folder / "recipe.yaml"
    return RunFacts(
        name=folder.resolve().name,
        recipe=yaml.safe_load(recipe.read_text("utf-8")) or {},
        metrics=_json(folder / "metrics.json"),
        history=list(_rows(best / "history.jsonl")),
        plan=_json(best / "plan.json") or _json(folder / "plan.json"),
        data=_json(folder / "data.json") or _json(best / "data.json"),
        decisions=_json(best / "decisions.json") or _json(folder / "decisions.json"),
        analysis=_json(folder / "analysis.json"),
        trials=trials,
        path=typed(folder),
    )


def typed(folder: Path) -> str:
    """Return what is typed to name a folder: its path from where the command was given, if it lies below, else its whole path.

    >>> typed(Path("runs/my run"))
    "'runs/my run'"
    """
    below, here = os.path.abspath(folder), os.path.abspath(os.curdir)
    inside = below.startswith(here.rstrip(os.sep) + os.sep)
    return shlex.quote(os.path.relpath(below, here) if inside else below)


def get(facts: Any, *path: str, default: Any = None) -> Any:
    """Return what stands at a path of nested mappings, or `default` where it ends before.

    >>> get({"a": {"b": 1}}, "a", "b"), get({"a": {}}, "a", "b", default=2)
    (1, 2)
    """
    for name in path:
        if not isinstance(facts, Mapping) or facts.get(name) is None:
            return default
        facts = facts[name]
    return facts


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not the JSON that thawline wrote: {error}. Restore it, or train anew.") from None
    return found if isinstance(found, dict) else {}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                return  # the last line of a run that was cut off
