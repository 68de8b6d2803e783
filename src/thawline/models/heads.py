"""The heads that transformers puts on a model."""

from __future__ import annotations

from torch import nn

from thawline.errors import ModelError


def output_layer(model: nn.Module, outputs: int) -> nn.Linear:
    """Return the linear layer that makes the logits, the last one with `outputs` rows; raises ModelError without one."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    if not layers:
        raise ModelError(f"{type(model).__name__} has no linear layer with {outputs} outputs, so its scale cannot be set.")
    return layers[-1]


def decays(name: str, dimensions: int) -> bool:
    """Tell whether weight decay, L1 and L2 apply to a parameter: not to norms and biases."""
    return dimensions > 1 and not name.endswith("bias")


def of_head(setting: str) -> bool:
    """Tell whether a setting of a config is of the head alone: its pooling, its dropout, its activation.

    >>> of_head("classifier_dropout"), of_head("hidden_dropout_prob")
    (True, False)
    """
    return setting.startswith(("classif", "seq_classif", "summary_"))
