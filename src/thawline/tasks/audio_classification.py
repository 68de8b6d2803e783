"""Audio classification: recordings with a label, several labels, or a number each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import BaseModel
from torch import nn

from thawline.tasks import recordings
from thawline.tasks.base import Fitting
from thawline.tasks.classification import Classification
from thawline.tasks.too_short import least_samples, too_short
from thawline.types import Batch, Example, Item, Prediction


class AudioOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """What `task.options` may say of audio classification: the window, in seconds, of a model that has one."""

    window: int | None = None


class AudioClassification(Classification):
    """Recordings with a label, several labels, or a number each.

    `extractor` is a feature extractor of transformers: Whisper's, with its window, or one that reads waveforms. A recording
    that is longer than the window is heard in pieces, whose scores are averaged.
    """

    auto_class = "AutoModelForAudioClassification"
    processor_class = "AutoFeatureExtractor"
    inputs = "audio"
    at_once = 64
    Options = AudioOptions

    @classmethod
    def fit(cls, processor: Any, config: Any, wanted: Fitting) -> tuple[int | None, str | None]:
        return None, "; ".join(recordings.fit(processor, config, wanted, whole=False)) or None

    @classmethod
    def unfit(cls, processor: Any, config: Any, examples: Sequence[Example]) -> list[tuple[int, str]]:
        return too_short(processor, config, examples)

    def __init__(
        self, extractor: Any, *, max_length: int | None = None, options: AudioOptions | None = None, **labelling: Any
    ) -> None:
        super().__init__(**labelling)
        del max_length, options  # recordings are not cut off, and `fit` has set the window
        self.hearing = recordings.Hearing(extractor)

    def configure(self, config: Any) -> None:
        super().configure(config)
        recordings.configure(config)
        self.hearing.least = least_samples(self.hearing.extractor, config)

    def start(self, model: nn.Module, targets: np.ndarray | None) -> None:
        super().start(model, targets)
        recordings.settle(model, self.hearing.extractor)

    def encoding_key(self) -> str:
        return self.hearing.key()

    def collating_key(self) -> str:
        return self.hearing.key()  # an item may be samples, and what stands behind features is the extractor's

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        return self.hearing.encode(examples)

    def augment(self, specs: Sequence[str]) -> None:
        self.hearing.augment(specs)

    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        del length  # a window has one length, and waveforms share a canonical shape with none
        heard = self.hearing.heard(items)
        return self.batched(self.hearing.inputs(heard), heard)

    def hollow(self, items: Sequence[Item], length: int | None = None) -> Batch:
        inputs = self.hearing.hollow(items)
        return self.collate(items, length) if inputs is None else self.batched(inputs, items)

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        return self.hearing.forward(model, batch)

    def combine(self, predictions: Sequence[Prediction]) -> Prediction:
        """Average what is said of the pieces of a recording."""
        first = predictions[0]
        if len(predictions) == 1:
            return first
        if "value" in first:
            return Prediction(id=first["id"], value=fmean(prediction["value"] for prediction in predictions))
        scores = {name: fmean(prediction["scores"][name] for prediction in predictions) for name in first["scores"]}
        return self._prediction(first["id"], scores, "label" in first)

    def save(self, folder: Path) -> None:
        self.hearing.extractor.save_pretrained(folder)
