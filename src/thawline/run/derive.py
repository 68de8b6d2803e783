"""Values that follow from others where the user leaves them to us, all in this one place, each with a line that says so."""

from __future__ import annotations

from typing import Any

_MOST = 5e-4
_CONVOLUTIONAL = 2e-4


def learning_rate(config: Any, *, head_only: bool, times: float = 1.0, convolutional: bool = False) -> float:
    """Return the peak learning rate for a model: 1e-3 for a head alone, else 3e-5·(768/width)^1.5, to one digit, at most 5e-4.

    A convolutional network has no one width, and takes 2e-4 (docs/log.md has what others came to).

    That is for all weights; where few learn in all of it, it is `times` as high.

    The anchor is what BERT-base (width 768) is tuned at, 2e-5 to 5e-5 (Devlin et al. 2019, appendix A.3); narrower models take
    and need more: 8e-5 at width 384, 2e-5 at 1024.
    """
    if head_only:
        return 1e-3
    if convolutional:
        return float(f"{times * _CONVOLUTIONAL:.0e}")
    width: int = getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or 768
    rate = min(3e-5 * (768 / width) ** 1.5, _MOST)
    return float(f"{times * rate:.0e}")
