"""Mixing the examples of a batch with one another, targets with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from thawline.data.augment.draws import numpy_of, within

if TYPE_CHECKING:
    from thawline.data.augment import Mixing, Random


def mixup(alpha: float = 0.2) -> Mixing:
    """Mix each example with another: x' = λx + (1-λ)x_j, y' = λy + (1-λ)y_j, one λ ~ Beta(alpha, alpha) a batch; 0: off.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", section 2. Raises UserError for alpha below 0.

    >>> mix = mixup(1.0)
    >>> x, y = mix(torch.eye(2).view(2, 1, 1, 2), torch.eye(2), np.random.default_rng(1))
    >>> torch.equal(x.view(2, 2), y)
    True
    """
    within("mixup", 0, math.inf, alpha=alpha)

    def mix(pixels: Tensor, targets: Tensor, generator: Random) -> tuple[Tensor, Tensor]:
        if not alpha:
            return pixels, targets
        random = numpy_of(generator)
        share, mates = random.beta(alpha, alpha), _mates(pixels, random)
        return torch.lerp(pixels[mates], pixels, share), torch.lerp(targets[mates], targets, share)

    return mix


def cutmix(alpha: float = 1.0) -> Mixing:
    """Paste into each picture [C, H, W] a box of another, the same for the whole batch; targets are mixed by area; 0: off.

    The box has the share 1-λ of the area, λ ~ Beta(alpha, alpha), and a centre anywhere; λ is corrected for what lies outside.
    Source: Yun et al. 2019, "CutMix", section 3.1. Raises UserError for alpha below 0.

    >>> mix = cutmix()
    >>> x, y = mix(torch.eye(2).view(2, 2, 1, 1).expand(2, 2, 8, 8), torch.eye(2), np.random.default_rng(1))
    >>> torch.equal(x.mean((2, 3)), y)
    True
    """
    within("cutmix", 0, math.inf, alpha=alpha)

    def mix(pixels: Tensor, targets: Tensor, generator: Random) -> tuple[Tensor, Tensor]:
        if not alpha:
            return pixels, targets
        random = numpy_of(generator)
        height, width = pixels.shape[-2:]
        half = math.sqrt(1 - random.beta(alpha, alpha)) / 2
        middle = random.uniform(size=2)
        (top, left), (bottom, right) = (
            np.rint(np.clip(middle + way * half, 0, 1) * (height, width)).astype(int).tolist() for way in (-1, 1)
        )
        mates = _mates(pixels, random)
        mixed = pixels.clone()
        mixed[..., top:bottom, left:right] = pixels[mates][..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, torch.lerp(targets[mates], targets, share)

    return mix


def _mates(pixels: Tensor, random: np.random.Generator) -> Tensor:
    return torch.from_numpy(random.permutation(len(pixels))).to(pixels.device)
