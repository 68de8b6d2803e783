"""Pictures as cameras and networks also deliver them: blurred, noisy, compressed, dark, flat.

Each maker returns a function of a PIL picture and a generator. Kinds and strengths follow ImageNet-C about its third severity:
Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations".
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

Perturbation = Callable[[Any, np.random.Generator], Any]


def blur(radius: float = 2) -> Perturbation:
    """Blur with a Gaussian of `radius` pixels for a picture 224 pixels wide, less or more with its width."""

    def perturb(picture: Any, rng: np.random.Generator) -> Any:
        from PIL import ImageFilter

        return picture.filter(ImageFilter.GaussianBlur(radius * picture.width / 224))

    return perturb


def noise(deviation: float = 0.12) -> Perturbation:
    """Add Gaussian noise of this standard deviation, where white is 1, to each pixel and channel."""

    def perturb(picture: Any, rng: np.random.Generator) -> Any:
        from PIL import Image

        pixels = np.asarray(picture, dtype=np.float32)
        noisy = pixels + 255 * deviation * rng.standard_normal(pixels.shape, dtype=np.float32)
        return Image.fromarray(np.clip(noisy, 0, 255).round().astype(np.uint8))

    return perturb


def jpeg(quality: int = 15) -> Perturbation:
    """Compress as JPEG of this quality, 1 to 95."""

    def perturb(picture: Any, rng: np.random.Generator) -> Any:
        from PIL import Image

        file = BytesIO()
        picture.save(file, "JPEG", quality=quality)
        with Image.open(file) as again:
            return again.convert(picture.mode)

    return perturb


def brightness(factor: float = 0.5) -> Perturbation:
    """Multiply all values by `factor`, up to white."""

    def perturb(picture: Any, rng: np.random.Generator) -> Any:
        from PIL import ImageEnhance

        return ImageEnhance.Brightness(picture).enhance(factor)

    return perturb


def contrast(factor: float = 0.4) -> Perturbation:
    """Bring all values towards the picture's mean grey: 0 is grey, 1 as it was."""

    def perturb(picture: Any, rng: np.random.Generator) -> Any:
        from PIL import ImageEnhance

        return ImageEnhance.Contrast(picture).enhance(factor)

    return perturb
