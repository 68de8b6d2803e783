"""Low-rank adapters beside the layers of a model, by peft; merged or taken out, the model is a plain one again."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thawline.errors import ModelError, UserError

CONFIG = "adapter_config.json"
_WEIGHTS, _BEFORE = "adapter_model.safetensors", "base_model.model."


def refuse_without_peft(what: str) -> None:
    """Raise UserError where peft is not installed; `what` begins the sentence."""
    if find_spec("peft") is None:
        raise UserError(f"{what} by peft, which is not installed; type: pip install peft")


def inject(model: Any, names: Iterable[str], *, r: int, alpha: float, dropout: float) -> None:
    """Put an adapter beside each layer named, in place: y = Wx + alpha/r · BAx, with A [r, in] drawn and B [out, r] zero.

    What could learn before still can. Raises UserError without peft, and ModelError for a layer that it cannot adapt.
    """
    refuse_without_peft("Adapters are made")
    import peft

    numbers: dict[str, Any] = {"r": r, "lora_alpha": alpha, "lora_dropout": dropout}
    base = getattr(model, "name_or_path", None)
    config = peft.LoraConfig(**numbers, target_modules=list(names), base_model_name_or_path=base)
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # which peft reads off the layers itself
        try:
            peft.inject_adapter_in_model(config, model)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ModelError(f"{type(model).__name__} cannot be given adapters: {' '.join(str(error).split())}") from error
    for parameter, learns in before:
        parameter.requires_grad_(learns)


def is_adapter(name: str) -> bool:
    """Tell whether a parameter's name is that of an adapter."""
    return ".lora_" in name


def has_adapters(model: Any) -> bool:
    """Tell whether a model has adapters."""
    return hasattr(model, "peft_config")


def take_out(model: Any, *, merge: bool) -> None:
    """Make a model plain again, in place; what the adapters add becomes part of the weights if `merge`, else it is gone."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if hasattr(module, "unload_and_optionally_merge_module"):  # a layer that was saved whole
            plain = module.unload_and_optionally_merge_module(merge=merge, safe_merge=False, adapter_names=None)
        elif isinstance(module, BaseTunerLayer):
            if merge:
                module.merge()
            plain = module.get_base_layer()
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)
    del model.peft_config
    if getattr(model, "_hf_peft_config_loaded", False):  # transformers put them in, and would save weights by their names
        model._hf_peft_config_loaded, model._weight_conversions = False, None


def save_adapters(model: Any, folder: Path, whole: Iterable[str] = ()) -> None:
    """Write the adapters in peft's own format, and with them the parameters `whole`, which learned without any."""
    import peft
    from safetensors.torch import save_file

    (config,) = model.peft_config.values()
    config.target_modules = sorted(config.target_modules)
    config.modules_to_save = sorted({name.rpartition(".")[0] for name in whole} - {""}) or None
    config.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    named = dict(model.named_parameters())
    kept = {**peft.get_peft_model_state_dict(model), **{name: named[name] for name in whole}}
    tensors = {_BEFORE + name: tensor.detach().contiguous() for name, tensor in kept.items()}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
