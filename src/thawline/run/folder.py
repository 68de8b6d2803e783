"""The folder of a run: what stands in it and where."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from thawline.data.cache import written_aside
from thawline.data.columns import Columns
from thawline.data.labels import Form
from thawline.errors import RecipeError, RunError
from thawline.recipe import Recipe, load_recipe, save_recipe


@final
class RunFolder:
    """Paths and JSON of one run.

    recipe.yaml, data.json, decisions.json, plan.json, history.jsonl, checkpoints/, model/, predictions/, and last of all
    metrics.json. Where the recipe varies keys, or has seeds or folds, the folder of each trial stands in trials/, what came of
    them in trials.json, and the recipe of the one whose model is in model/ in best.yaml.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def model(self) -> Path:
        """The saved model, an ordinary transformers folder."""
        return self.path / "model"

    @property
    def finished(self) -> bool:
        """Whether the run came to its end, metrics.json being the last thing that is written, and its model is there."""
        return (self.path / "metrics.json").is_file() and any(self.model.glob("*.safetensors"))

    def recipe(self) -> Recipe:
        """Read the run's recipe; raises RunError where this is no run's folder, or one of another version."""
        if not (self.path / "recipe.yaml").is_file():
            what = "is not a run's folder (it has no recipe.yaml)" if self.path.exists() else "does not exist"
            raise RunError(f"{self.path} {what}; expected the folder that thawline train printed, such as runs/reviews-1.")
        return self._load("recipe.yaml")

    def trained(self) -> Recipe:
        """Read the recipe that the model was trained by: the run's own, or that of its best trial. Raises as `recipe` does."""
        return self._load("best.yaml") if (self.path / "best.yaml").is_file() else self.recipe()

    def _load(self, name: str) -> Recipe:
        try:
            return load_recipe(self.path / name)
        except RecipeError as error:
            fault = error.faults[0].rstrip(".")
            more = f", and {len(error.faults) - 1} more" if len(error.faults) > 1 else ""
            raise RunError(
                f"{self.path / name} cannot be read ({fault}{more}); it was changed, or is of another version of Thawline; "
                "restore it, use that version, or train anew."
            ) from None

    def columns(self) -> Columns:
        """Read what each column of the run's data is for; raises RunError where another version of Thawline wrote it."""
        known = self.data().get("columns", {})
        if set(known) | {"names"} != set(Columns.__dataclass_fields__):  # names: runs of an earlier version have none
            raise RunError(f"{self.path} is of another version of Thawline than this one; train anew, or use that version.")
        return Columns(**{**known, "form": Form(*known["form"])})

    def data(self) -> dict[str, Any]:
        """Read what the run keeps of its data; raises RunError where that is gone."""
        known = self.read("data.json")
        if known is None:
            raise RunError(f"{self.path / 'data.json'} is missing; restore it, or train anew.")
        return known

    def refuse_backend(self, processor: Any) -> None:
        """Raise RunError where pictures would be brought to size by another library than when the run was begun."""
        known, here = self.data().get("backend"), backend_of(processor)
        if known not in (None, here):
            raise RunError(
                f"The pictures of {self.path} were brought to size by {known}, and here it would be {here}, whose pixels "
                f"differ a little, and so would the answers. Type: pip install {'pillow' if known == 'pil' else known}"
            )

    def trial(self, name: str) -> RunFolder:
        """Return the folder of a trial, "001" and so on."""
        return RunFolder(self.path / "trials" / name)

    def create(self, recipe: Recipe) -> None:
        """Make the folder with its recipe; raises RunError where it is there already, or cannot be made."""
        refuse_existing(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"The folder {self.path} cannot be made: {error.strerror}.") from None
        save_recipe(recipe, self.path / "recipe.yaml")

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file of the folder, or None where it is not there; raises RunError where it is none."""
        path = self.path / name
        try:
            found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        except ValueError as error:
            raise RunError(f"{path} is not the JSON that thawline wrote: {error}. Restore it, or train anew.") from None
        return found

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder, whole or not at all."""
        with written_aside(self.path / name) as aside:
            aside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def refuse_existing(path: Path) -> None:
    """Raise RunError where something stands at `path` that a run would write over."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        how = f"thawline resume {path}, or another --output" if (path / "recipe.yaml").is_file() else "another --output"
        raise RunError(f"{path} is there already, and nothing is written over; type {how}.")


def next_folder(name: str, base: Path = Path("runs")) -> Path:
    """Return the first free `runs/<name>-<n>`."""
    taken = set(os.listdir(base)) if base.is_dir() else set()
    return base / next(f"{name}-{n}" for n in range(1, len(taken) + 2) if f"{name}-{n}" not in taken)


@contextmanager
def resumable(folder: RunFolder) -> Iterator[None]:
    """Let an interruption of a run that has its folder say what was kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        kept = any(folder.path.glob("checkpoints/index.json")) or any(folder.path.glob("trials/*/checkpoints/index.json"))
        what = "the last checkpoint is kept" if kept else "there is no checkpoint yet, so training starts over"
        raise KeyboardInterrupt(f"Interrupted; {what}. To go on, type: thawline resume {folder.path}") from None


def backend_of(processor: Any) -> str | None:
    """Return the library by which a processor brings pictures to size, "torchvision" or "pil"; None of other processors.

    transformers takes what is installed: the first of these where it can.
    """
    found = getattr(processor, "backend", None)
    return str(found) if found in ("torchvision", "pil") else None
