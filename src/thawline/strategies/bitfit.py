"""The biases learn, and the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.errors import UserError
from thawline.strategies.base import Groups, Strategy, spec_of
from thawline.strategies.lora import Head, beside_head, check_beside, unusual, upper
from thawline.strategies.what import all_stages

if TYPE_CHECKING:
    from thawline.models.stages import Stages

_RATE = 20.0
"""Times the learning rate of `full`: tried, see docs/methods/strategies.md."""


def bitfit(*, top: int | float = 1.0, head: Head = "auto") -> Strategy:
    """The biases of the blocks learn, those of norms among them; `top` and `head` are those of `lora`.

    Source: Ben Zaken, Goldberg & Ravfogel 2022, "BitFit", section 3.

    >>> bitfit().spec, bitfit(top=0.5).spec
    ('bitfit', 'bitfit(top=0.5)')

    Raises UserError for a value out of range, and for a model whose blocks have no biases.
    """
    check_beside("bitfit", top, head)

    def groups(stages: Stages) -> Groups:
        blocks = upper("bitfit", stages, top)
        if not any(name.endswith("bias") for stage in stages[-1 - blocks : -1] for name in stage.parameters):
            raise UserError("bitfit has nothing to learn: the blocks of this model have no biases; lora(r=16) may suit it.")
        return beside_head(stages, lambda name: name.endswith("bias"), head, blocks=blocks)

    spec = spec_of("bitfit", **unusual({"top": top, "head": head}, {"top": 1.0, "head": "auto"}))
    return Strategy(spec, groups, all_stages, rate=_RATE)
