"""Augmentation of one picture, a PIL image or a tensor uint8 [C, H, W], by torchvision's transforms (version 2)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from thawline.data.augment.draws import Drawn, numpy_of, within
from thawline.errors import UserError

if TYPE_CHECKING:
    from thawline.data.augment import Augmentation, Random


def flip(p: float = 0.5) -> Augmentation:
    """Mirror left and right with probability `p`.

    >>> import numpy as np
    >>> import torch
    >>> flip(1)(torch.tensor([[[1, 2, 3]]], dtype=torch.uint8), np.random.default_rng(0)).tolist()
    [[[3, 2, 1]]]
    """
    within("flip", 0, 1, p=p)
    return _applied(_v2().RandomHorizontalFlip(p))


def vertical_flip(p: float = 0.5) -> Augmentation:
    """Mirror top and bottom with probability `p`."""
    within("vertical_flip", 0, 1, p=p)
    return _applied(_v2().RandomVerticalFlip(p))


def crop(scale: float = 0.6, size: int | list[int] | None = None) -> Augmentation:
    """Cut out a part with a share of the area from `scale` to 1 and bring it to `size` (side, or [height, width]).

    Without `size` the picture keeps its own. Sides are stretched against one another by at most a third.
    Source: Szegedy et al. 2015, "Going Deeper with Convolutions", section 6, with a larger least share.
    """
    within("crop", 1e-4, 1, scale=scale)
    sides = [size, size] if isinstance(size, int) else size
    if sides is not None and (len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides)):
        raise UserError(f"crop(size={size}) is not a size; expected a side in pixels, or [height, width].")
    v2 = _v2()
    if scale == 1 and sides is None:
        return _same

    def augment(picture: Any, generator: Random) -> Any:
        height, width = sides or _size(picture)
        ratio = (width / height * 3 / 4, width / height * 4 / 3)
        with Drawn(generator):
            return v2.RandomResizedCrop((height, width), scale=(scale, 1.0), ratio=ratio)(picture)

    return augment


def rotate(degrees: float = 15) -> Augmentation:
    """Turn by up to `degrees` either way; corners that come from outside are black."""
    within("rotate", 0, 180, degrees=degrees)
    v2 = _v2()
    return _applied(v2.RandomRotation(degrees, interpolation=v2.InterpolationMode.BILINEAR)) if degrees else _same


def color(brightness: float = 0.3, contrast: float = 0.3, saturation: float = 0.3, *, hue: float = 0.05) -> Augmentation:
    """Change brightness, contrast and saturation by factors from 1-x to 1+x, the hue by up to `hue` of a turn."""
    within("color", 0, 1, brightness=brightness, contrast=contrast, saturation=saturation)
    within("color", 0, 0.5, hue=hue)
    return _applied(_v2().ColorJitter(brightness, contrast, saturation, hue=hue))


def grayscale(p: float = 0.1) -> Augmentation:
    """Take the colours away with probability `p`; the picture keeps its channels."""
    within("grayscale", 0, 1, p=p)
    return _applied(_v2().RandomGrayscale(p))


def blur(sigma: float = 2.0, p: float = 0.5) -> Augmentation:
    """Blur with probability `p`, by a Gaussian whose standard deviation is from 0.1 to `sigma` pixels."""
    within("blur", 0.1, 100, sigma=sigma)
    within("blur", 0, 1, p=p)
    v2 = _v2()

    def augment(picture: Any, generator: Random) -> Any:
        random = numpy_of(generator)
        if random.uniform() >= p:
            return picture
        deviation = random.uniform(0.1, sigma)
        if not isinstance(picture, Tensor):
            return picture.filter(importlib.import_module("PIL.ImageFilter").GaussianBlur(deviation))  # cheaper by far
        reach = min(math.ceil(3 * deviation), min(_size(picture)) - 1)  # beyond it there is nothing to reflect
        return v2.functional.gaussian_blur(picture, 2 * reach + 1, deviation)

    return augment


def erase(p: float = 0.25, area: float = 0.33) -> Augmentation:
    """Blacken a rectangle of 2 % of the picture up to the share `area`, with probability `p`.

    Source: Zhong et al. 2020, "Random Erasing Data Augmentation".
    """
    within("erase", 0, 1, p=p)
    within("erase", 0.02, 1, area=area)
    v2 = _v2()
    random_erasing = _applied(v2.RandomErasing(p, scale=(0.02, area)))

    def augment(picture: Any, generator: Random) -> Any:
        if isinstance(picture, Tensor):
            return random_erasing(picture, generator)
        erased = random_erasing(v2.functional.pil_to_tensor(picture), generator)
        return v2.functional.to_pil_image(erased, picture.mode)

    return augment


def randaugment(n: int = 2, m: int = 9) -> Augmentation:
    """Apply `n` changes out of fourteen, each of strength `m` (0 … 30).

    Source: Cubuk et al. 2020, "RandAugment".
    """
    within("randaugment", 0, 20, n=n)
    within("randaugment", 0, 30, m=m)
    return _applied(_v2().RandAugment(int(n), int(m))) if n else _same


def trivialaugment() -> Augmentation:
    """Apply one change out of fourteen, of a strength that is drawn too: nothing to tune.

    Source: Müller and Hutter 2021, "TrivialAugment", the wide space.
    """
    return _applied(_v2().TrivialAugmentWide())


def _applied(transform: Callable[[Any], Any]) -> Augmentation:
    def augment(picture: Any, generator: Random) -> Any:
        with Drawn(generator):
            return transform(picture)

    return augment


def _same(picture: Any, generator: Random) -> Any:
    del generator
    return picture


def _size(picture: Any) -> tuple[int, int]:
    """Return height and width."""
    if isinstance(picture, Tensor):
        return picture.shape[-2], picture.shape[-1]
    return picture.height, picture.width


def _v2() -> Any:
    try:
        return importlib.import_module("torchvision.transforms.v2")
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        raise UserError(
            f"Augmentation of pictures needs torchvision ({error}). Type: pip install --upgrade torch torchvision"
        ) from error
