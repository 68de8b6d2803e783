"""Thawline fine-tunes pretrained models with labelled data, and pays only for what it trains.

import thawline as tl
run = tl.finetune("reviews.csv", strategy=tl.gradual(tl.full()))
run.metrics; run.predict(["what a film"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from thawline.version import __version__

if TYPE_CHECKING:
    from thawline.estimator import TextClassifier, TextRegressor
    from thawline.run.api import Run, evaluate, features, finetune, load_run, plan, resume
    from thawline.strategies.adaptive import adaptive
    from thawline.strategies.bitfit import bitfit
    from thawline.strategies.discriminative import discriminative
    from thawline.strategies.gradual import gradual
    from thawline.strategies.layerwise import layerwise
    from thawline.strategies.lora import lora
    from thawline.strategies.what import encoder, freeze, full, head

# Loaded when first asked for, so that `import thawline` and `thawline --help` wait for no library.
_PUBLIC = {
    "finetune": "thawline.run.api",
    "resume": "thawline.run.api",
    "evaluate": "thawline.run.api",
    "features": "thawline.run.api",
    "plan": "thawline.run.api",
    "load_run": "thawline.run.api",
    "Run": "thawline.run.api",
    "full": "thawline.strategies.what",
    "head": "thawline.strategies.what",
    "encoder": "thawline.strategies.what",
    "freeze": "thawline.strategies.what",
    "layerwise": "thawline.strategies.layerwise",
    "lora": "thawline.strategies.lora",
    "bitfit": "thawline.strategies.bitfit",
    "discriminative": "thawline.strategies.discriminative",
    "gradual": "thawline.strategies.gradual",
    "adaptive": "thawline.strategies.adaptive",
    "TextClassifier": "thawline.estimator",
    "TextRegressor": "thawline.estimator",
}

__all__ = [
    "Run",
    "TextClassifier",
    "TextRegressor",
    "__version__",
    "adaptive",
    "bitfit",
    "discriminative",
    "encoder",
    "evaluate",
    "features",
    "finetune",
    "freeze",
    "full",
    "gradual",
    "head",
    "layerwise",
    "load_run",
    "lora",
    "plan",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'thawline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *globals()])
