"""Pretrained models from a folder, a package, or a hub: safetensors only, dtype always explicit, no foreign code unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from thawline.errors import MachineError, ModelError, did_you_mean
from thawline.memory import bound_kernels
from thawline.models import adapters
from thawline.models.catalog import package_model

_DECIDED = {
    **dict.fromkeys(("num_labels", "id2label", "label2id", "problem_type"), "the data decide it"),
    **dict.fromkeys(("model_type", "architectures", "auto_map", "transformers_version"), "it says what the checkpoint is"),
    **dict.fromkeys(("dtype", "torch_dtype"), "weights learn in float32; train.bf16 says how they are computed with"),
    "vocab_size": "it follows from the tokenizer; model.add_tokens adds words",
    "num_channels": "model.in_channels says it",
}
"""Settings of a config that are not the user's to choose, and why."""


class Loaded(NamedTuple):
    """A model with what there is to tell about its loading, and the names of the weights that were made anew."""

    model: Any
    notes: tuple[str, ...]
    anew: frozenset[str] = frozenset()


def locate(name: str) -> str:
    """Return a folder's path for a folder or `package:NAME`, and a hub name as it is.

    Raises ModelError for a folder without config.json, a package without a model, and a path that does not exist.
    """
    if name.startswith("package:"):
        return str(package_model(name.removeprefix("package:")))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{name} is a folder without config.json, so it is not a model; expected what `save_pretrained` writes."
            )
        return str(folder)
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"No model was found at {name}: expected a folder with config.json, package:NAME, or a hub name.")
    return name


def load_config(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Read a model's config; raises ModelError in plain words where it is not to be had."""
    options = _fetched(revision, trust_remote_code)
    return _plainly(name, lambda: transformers.AutoConfig.from_pretrained(locate(name), **options))


def configured(config: Any, settings: Mapping[str, Any]) -> Any:
    """Return a config with settings in place of its own, such as another pooling or dropout of the head.

    Raises ModelError for a setting that the config does not have, that is decided otherwise, or whose value it does not take.
    """
    kind = type(config).__name__
    known = config.to_dict().keys() | config.attribute_map.keys()
    for name, value in settings.items():
        if name in _DECIDED:
            raise ModelError(f"model.config.{name}: cannot be set, since {_DECIDED[name]}; leave it out.")
        if name not in known:
            hint = did_you_mean(name, known) or f"; expected one of {', '.join(sorted(known - _DECIDED.keys()))}."
            raise ModelError(f"model.config.{name}: {kind} has no such setting{hint}")
        try:
            setattr(config, name, value)
        except Exception as error:  # what libraries raise here differs from version to version
            reason = str(error).strip().splitlines()[-1].strip()
            raise ModelError(f"model.config.{name}: {json.dumps(value)} is not what {kind} takes: {reason}") from error
    return config


def load_processor(name: str, kind: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Read the tokenizer or processor that belongs to a model; `kind` is its transformers class, such as "AutoTokenizer".

    Raises ModelError in plain words where it is not to be had, or is a tokenizer without a vocabulary.
    """
    options = _fetched(revision, trust_remote_code)
    processor = _plainly(name, lambda: getattr(transformers, kind).from_pretrained(locate(name), **options))
    # Where the files are missing, transformers makes up a tokenizer of special tokens, to which all words are one.
    if hasattr(processor, "get_vocab") and len(set(processor.get_vocab()) - set(processor.all_special_tokens)) <= 1:
        raise ModelError(f"{name} has no vocabulary for its tokenizer; add the tokenizer.json of the model that it comes from.")
    return processor


def load_model(
    name: str,
    kind: str,
    config: Any,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """Load weights under a head of `kind`, in eval mode; what the checkpoint lacks is drawn from `seed`.

    The notes tell which weights were made anew, which were left over, and which had another shape. Raises ModelError where the
    model is not to be had, has no such head, or comes only as pickled weights.
    """
    auto = getattr(transformers, kind)
    if not trust_remote_code and type(config) not in auto._model_mapping:
        raise ModelError(f"A model of type {config.model_type!r} has no head for this task ({kind}); choose another model.")
    if (Path(locate(name)) / adapters.CONFIG).is_file():  # without peft, transformers passes over them in silence
        adapters.refuse_without_peft(f"The adapters of {name} are read")
    bound_kernels()
    torch.manual_seed(seed)
    model, info = _plainly(
        name,
        lambda: auto.from_pretrained(
            locate(name),
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **_fetched(revision, trust_remote_code),
        ),
    )
    anew = frozenset(name for key in ("missing_keys", "mismatched_keys") for name in _names(info, key))
    notes = _told(info)
    if adapters.has_adapters(model):
        adapters.take_out(model, merge=True)
        notes.append("the adapters that lie beside the weights were merged into them")
    return Loaded(model.eval(), tuple(notes), anew)


def _fetched(revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
    return {"trust_remote_code": trust_remote_code} | ({"revision": revision} if revision else {})


def _told(info: dict[str, Any]) -> list[str]:
    said = {
        "missing_keys": "made anew, not in the checkpoint",
        "mismatched_keys": "made anew, another shape in the checkpoint",
        "unexpected_keys": "left over from the checkpoint, not used",
    }
    notes = []
    for key, text in said.items():
        names = _names(info, key)
        if names:
            notes.append(f"{len(names)} weights {text}: {', '.join(names[:6])}{', …' if len(names) > 6 else ''}")
    return notes


def _names(info: dict[str, Any], key: str) -> list[str]:
    return sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in info.get(key) or ())


def _plainly(name: str, load: Callable[[], Any]) -> Any:
    """Call `load`, turning what libraries raise into one sentence."""
    try:
        with quiet():
            return load()
    except MemoryError as error:
        raise MachineError(f"There is not enough memory to load {name}.") from error
    except (OSError, ValueError, KeyError, ImportError, TypeError, SafetensorError, StrictDataclassError) as error:
        raise ModelError(_reason(name, error)) from error


def _reason(name: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error) or "custom code" in str(error):
        return f"{name} needs code from its own repository; read that code, then say model.trust_remote_code=true to run it."
    if Path(locate(name)).is_dir():
        if isinstance(error, SafetensorError):
            return f"{name} has weights that cannot be read ({first}); copy the model anew."
        if "safetensors" in str(error) or "no file named" in str(error):
            why = "pickled weights are not loaded, since they can run code; convert them first"
            return f"{name} has no weights in safetensors, and {why}."
        return f"{name} cannot be loaded: {first}"
    how = (
        "the hub is switched off (HF_HUB_OFFLINE)"
        if os.environ.get("HF_HUB_OFFLINE") == "1"
        else "the hub could not be reached or has no such model"
    )
    return f"No folder is called {name!r}, and {how}; give a folder with config.json, package:NAME, or a hub name while online."


class quiet:  # noqa: N801 - reads as a word in `with quiet():`
    """Silence transformers' own logging and progress bars; what matters of them is told in notes."""

    def __enter__(self) -> None:
        self._level = transformers.logging.get_verbosity()
        self._bar = transformers.logging.is_progress_bar_enabled()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers.logging.set_verbosity(self._level)
        if self._bar:
            transformers.logging.enable_progress_bar()
