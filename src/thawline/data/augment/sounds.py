"""Augmentation of one sound: of its waveform, before features are made, or of its log-mel features, after.

What changes a waveform makes features that were stored useless; what masks features does not.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from thawline.data.augment.draws import numpy_of, within
from thawline.errors import UserError
from thawline.table import Table

if TYPE_CHECKING:
    from thawline.data.augment import Augmentation, Random

Floats = np.ndarray[Any, np.dtype[np.float32]]


class Waveform(NamedTuple):
    """Samples of one channel, float32 [n], at `rate` a second."""

    samples: Floats
    rate: int


_HERE = "thawline.data.augment.sounds"
WAVEFORMS: Table[Callable[..., Augmentation]] = Table(
    "augmentation of sounds", {name: f"{_HERE}:{name}" for name in ("noise", "speed", "gain", "shift")}
)
"""They take and return a `Waveform`; only `speed` changes its length."""
FEATURES: Table[Callable[..., Augmentation]] = Table(
    "augmentation of features", {name: f"{_HERE}:{name}" for name in ("time_mask", "frequency_mask")}
)
"""They take and return log-mel features, float [bands, frames], without padding."""


def noise(snr: float | list[float] = 20, color: str = "white", p: float = 1.0) -> Augmentation:
    """Add noise with probability `p`: `snr` dB below the sound, or drawn evenly between two such numbers.

    `color` is "white" (equal power in each Hz) or "pink" (in each octave). Silence stays silent.

    >>> sound = Waveform(np.sin(np.arange(8000, dtype=np.float32)), 8000)
    >>> noisy = noise(snr=20)(sound, np.random.default_rng(0))
    >>> round(10 * np.log10(np.var(sound.samples) / np.var(noisy.samples - sound.samples)))
    20
    """
    ends = snr if isinstance(snr, list) else [snr, snr]
    if len(ends) != 2:
        raise UserError(f"noise(snr={snr}) is not understood; expected a number of decibels, or [least, most].")
    low, high = ends
    within("noise", -100, 200, snr=low)
    within("noise", low, 200, snr=high)
    within("noise", 0, 1, p=p)
    if color not in ("white", "pink"):
        raise UserError(f"noise(color={color!r}) is not known; expected white or pink.")

    def augment(sound: Waveform, generator: Random) -> Waveform:
        random = numpy_of(generator)
        if random.random() >= p:
            return sound
        decibels, drawn = random.uniform(low, high), random.standard_normal(len(sound.samples), np.float32)
        shaped = _pink(drawn) if color == "pink" else drawn
        power = float(np.mean(np.square(shaped))) or 1.0
        scale = math.sqrt(float(np.mean(np.square(sound.samples))) / power) * 10 ** (-decibels / 20)
        return sound._replace(samples=sound.samples + np.float32(scale) * shaped)

    return augment


def speed(slowest: float = 0.9, fastest: float = 1.1) -> Augmentation:
    """Play it faster or slower, pitch and all, by a factor between the two, in hundredths: n samples become n / factor.

    Source: Ko et al. 2015, "Audio Augmentation for Speech Recognition", section 2.

    >>> len(speed(2, 2)(Waveform(np.zeros(8000, np.float32), 8000), np.random.default_rng(0)).samples)
    4000
    """
    within("speed", 0.25, 4, slowest=slowest)
    within("speed", slowest, 4, fastest=fastest)
    try:
        soxr = importlib.import_module("soxr")
    except ImportError as error:
        raise UserError(f"speed needs soxr ({error}). Type: pip install soxr") from error

    def augment(sound: Waveform, generator: Random) -> Waveform:
        hundredths = round(100 * numpy_of(generator).uniform(slowest, fastest))
        faster = soxr.resample(sound.samples, hundredths, 100, quality="HQ") if hundredths != 100 else sound.samples
        return sound._replace(samples=faster) if len(faster) else sound

    return augment


def gain(db: float = 6) -> Augmentation:
    """Make it louder or softer, by up to `db` decibels either way. Features that are normalised by their peak do not see it."""
    within("gain", 0, 100, db=db)

    def augment(sound: Waveform, generator: Random) -> Waveform:
        return sound._replace(samples=sound.samples * np.float32(10 ** (numpy_of(generator).uniform(-db, db) / 20)))

    return augment


def shift(seconds: float = 0.1) -> Augmentation:
    """Move it in time by up to `seconds` either way; what leaves is lost, what comes in is silent.

    >>> sound = Waveform(np.arange(1, 5, dtype=np.float32), 1)
    >>> [shift(2)(sound, np.random.default_rng(seed)).samples.tolist() for seed in (0, 1)]
    [[0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]]
    """
    within("shift", 0, math.inf, seconds=seconds)

    def augment(sound: Waveform, generator: Random) -> Waveform:
        n = len(sound.samples)
        by = max(-n, min(n, round(numpy_of(generator).uniform(-seconds, seconds) * sound.rate)))
        moved = np.zeros_like(sound.samples)
        moved[max(by, 0) : n + min(by, 0)] = sound.samples[max(-by, 0) : n - max(by, 0)]
        return sound._replace(samples=moved)

    return augment


def time_mask(width: int = 40, count: int = 2, share: float = 0.2) -> Augmentation:
    """Mask `count` stretches of 0 to `width` frames, each at most the share `share` of all, by the mean of the features.

    T, m_T and p of Park et al. 2019, "SpecAugment", section 2. `share` matters for short sounds: one second has 100 frames.
    """
    within("time_mask", 0, 1, share=share)
    return _masking("time_mask", width, count, axis=1, share=share)


def frequency_mask(width: int = 27, count: int = 1) -> Augmentation:
    """Mask `count` stretches of 0 to `width` of the mel bands by the mean of the features: F and m_F of "SpecAugment".

    >>> masked = frequency_mask(4)(np.eye(8, dtype=np.float32), np.random.default_rng(2))
    >>> np.flatnonzero((masked == 0.125).all(1)).tolist()
    [1, 2, 3, 4]
    """
    return _masking("frequency_mask", width, count, axis=0, share=1.0)


def _masking(name: str, width: int, count: int, *, axis: int, share: float) -> Augmentation:
    within(name, 0, math.inf, width=width)
    within(name, 0, 1000, count=count)

    def augment(features: Floats, generator: Random) -> Floats:
        random = numpy_of(generator)
        masked, mean, length = features.copy(), features.mean(), features.shape[axis]
        for _ in range(int(count)):
            some = int(random.integers(0, min(int(width), int(share * length)) + 1))
            start = int(random.integers(0, length - some + 1))
            np.moveaxis(masked, axis, 0)[start : start + some] = mean
        return masked

    return augment


def _pink(white: Floats) -> Floats:
    """Divide the amplitude at each frequency f by √f, so that power falls as 1/f; what is constant goes."""
    spectrum = np.fft.rfft(white)
    frequencies = np.arange(len(spectrum))
    spectrum *= np.where(frequencies, 1 / np.sqrt(np.maximum(frequencies, 1)), 0)
    return np.fft.irfft(spectrum, len(white)).astype(np.float32)
