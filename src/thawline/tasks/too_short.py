"""Recordings that are too short for a model to hear anything in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thawline.data.sounds import seconds, sound
from thawline.errors import DataError
from thawline.tasks.recordings import is_windowed
from thawline.types import Example

_FRAME, _HOP = 0.025, 0.01  # seconds that a frame of log-mel features spans, and from one to the next, as in Kaldi
_DOUBT = 2  # times the least length: below that samples are counted, and the header is not taken at its word


def least_samples(extractor: Any, config: Any) -> int:
    """Return how many samples a recording must have: those that one position of the model is made of.

    >>> from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor
    >>> least_samples(Wav2Vec2FeatureExtractor(), Wav2Vec2Config())
    400
    """
    if is_windowed(extractor):
        return 1
    if kernels := getattr(config, "conv_kernel", None):
        samples: int = getattr(config, "squeeze_factor", 1)  # frames that SEW takes together
        for kernel, stride in zip(reversed(kernels), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples
    frames = getattr(extractor, "stride", 1)  # that wav2vec2-BERT takes together
    rate: int = extractor.sampling_rate
    return round(rate * (_FRAME + (frames - 1) * _HOP))


def too_short(extractor: Any, config: Any, examples: Sequence[Example]) -> list[tuple[int, str]]:
    """Return the places of recordings that are too short for the model, each with a sentence that names the file."""
    rate, least = extractor.sampling_rate, least_samples(extractor, config)
    doubtful = [
        (place, example["audio"])
        for place, example in enumerate(examples)
        if seconds(example["audio"]) * rate < _DOUBT * (least + 1)
    ]
    return [(place, fault) for place, value in doubtful if (fault := _fault(value, rate, least))]


def _fault(value: Any, rate: int, least: int) -> str:
    try:
        sound(value, rate, least=least)
    except DataError as error:
        return str(error)
    return ""
