"""Checkpoints: safetensors and JSON, written aside, synced, renamed. The best and the last are kept, nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = Mapping[str, Mapping[str, Tensor]]


@final
class Checkpoints:
    """The checkpoints of one run: a folder a step, and `index.json`, which names the last and the best."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def index(self) -> dict[str, str | None]:
        """Return the folder names of the last and the best checkpoint, None where there is none yet."""
        path = self.folder / "index.json"
        return json.loads(path.read_text()) if path.is_file() else {"last": None, "best": None}

    def save(self, step: int, tensors: Tensors, state: Mapping[str, Any], *, best: bool) -> None:
        """Keep a checkpoint as the last, and as the best if it is. Killed at any moment, the one before stays whole."""
        name = f"step-{step:08d}"
        if not (self.folder / name).is_dir():
            self._write(name, tensors, state)
        else:  # the same step again, with a new verdict: weights are equal, only the state is new
            self._write_json(self.folder / name / "state.json", state)
        index = {"last": name, "best": name if best else self.index()["best"]}
        self._write_json(self.folder / "index.json", index)
        for other in self.folder.iterdir():
            if other.is_dir() and other.name not in index.values():
                shutil.rmtree(other)

    def last(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """Return tensors and state of the last checkpoint, or None where there is none."""
        name = self.index()["last"]
        if name is None:
            return None
        folder = self.folder / name
        tensors = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
        return {"model": {}, "optimizer": {}, **tensors}, json.loads((folder / "state.json").read_text())

    def best_weights(self) -> dict[str, Tensor] | None:
        """Return the weights of the best checkpoint, or of the last where none was ever judged."""
        index = self.index()
        name = index["best"] or index["last"]
        return load_file(self.folder / name / "model.safetensors") if name else None

    def settle(self, *, best: bool) -> None:
        """Keep what a finished training came to and nothing to go on from: the best weights (or the last) and the last state.

        May be called again, whole or interrupted.
        """
        index = self.index()
        if index["last"] is None:
            return
        kept = (index["best"] if best else None) or index["last"]
        state = self.folder / index["last"] / "state.json"
        if kept != index["last"] and state.is_file():
            os.replace(state, self.folder / kept / "state.json")
        self._write_json(self.folder / "index.json", {"last": kept, "best": kept})
        (self.folder / kept / "optimizer.safetensors").unlink(missing_ok=True)
        for other in self.folder.iterdir():
            if other.is_dir() and other.name != kept:
                shutil.rmtree(other)

    def _write(self, name: str, tensors: Tensors, state: Mapping[str, Any]) -> None:
        aside = self.folder / f".{name}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for kind, named in tensors.items():
            # A tensor that shares memory with another is refused by safetensors, hence the copy of views.
            save_file({key: value.contiguous() for key, value in named.items()}, aside / f"{kind}.safetensors")
        self._write_json(aside / "state.json", state)
        for path in aside.iterdir():
            _sync(path)
        os.replace(aside, self.folder / name)
        _sync(self.folder)

    def _write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        aside = path.with_name(f".{path.name}")
        aside.write_text(json.dumps(value, indent=1, sort_keys=True))
        _sync(aside)
        os.replace(aside, path)
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
