"""Sounds as microphones and speakers also deliver them: with noise behind them, faster, slower, quieter.

Each maker returns a function of a waveform, float32 [T], and a generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.errors import UserError

Wave = NDArray[Any]
Perturbation = Callable[[Wave, np.random.Generator], Wave]


def noise(snr: float = 10) -> Perturbation:
    """Add pink noise, as of rooms and streets, `snr` decibels below the sound's own power; silence stays silent."""

    def perturb(wave: Wave, rng: np.random.Generator) -> Wave:
        if not len(wave):
            return wave
        spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
        pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(wave))
        ratio = float(np.mean(np.square(wave, dtype=np.float64))) / max(float(np.mean(pink**2)), 1e-30)
        return np.asarray(wave + pink * (ratio * 10 ** (-snr / 10)) ** 0.5, dtype=np.float32)

    return perturb


def speed(factor: float = 1.1) -> Perturbation:
    """Play `factor` times as fast, which also raises the pitch: Ko et al. 2015, "Audio augmentation for speech recognition"."""

    def perturb(wave: Wave, rng: np.random.Generator) -> Wave:
        try:
            import soxr  # type: ignore[import-untyped]
        except ImportError:
            raise UserError("Sounds are resampled by soxr, which is not installed; type: pip install soxr") from None
        return np.asarray(soxr.resample(wave, factor * 16_000, 16_000), dtype=np.float32)

    return perturb


def gain(decibels: float = -12) -> Perturbation:
    """Make louder by so many decibels, or quieter below 0; what goes beyond full scale is clipped."""
    factor = 10 ** (decibels / 20)
    return lambda wave, rng: np.clip(wave * factor, -1, 1).astype(np.float32)
