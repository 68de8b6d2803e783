"""The table of optimisers. It stands apart from what builds them, so that a recipe can be read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.errors import UserError
from thawline.table import Table

if TYPE_CHECKING:
    import torch

OPTIMIZERS: Table[type[torch.optim.Optimizer]] = Table(
    "optimizer",
    {"adamw": "torch.optim:AdamW", "adam": "torch.optim:Adam", "sgd": "torch.optim:SGD"},
)


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Return the class of an optimiser, one of the table or `package.module:object`; raises UserError for anything else.

    >>> optimizer_class("os:system")
    Traceback (most recent call last):
    thawline.errors.UserError: os:system is not a subclass of torch.optim.Optimizer, so it is not called.
    """
    import torch

    found = OPTIMIZERS[name]
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise UserError(f"{name} is not a subclass of torch.optim.Optimizer, so it is not called.")
    return found
