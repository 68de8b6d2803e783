"""Examples with their input perturbed: which ways there are for each kind of input, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from io import BytesIO
from typing import Any

import numpy as np

from thawline.calls import make, parse_call
from thawline.errors import DataError
from thawline.table import Table
from thawline.types import Example

Perturbation = Callable[[Any, np.random.Generator], Any]

PERTURBATIONS: Mapping[str, Table[Callable[..., Perturbation]]] = {
    "text": Table(
        "perturbation of texts",
        {
            "typos": "thawline.evaluate.perturb_text:typos",
            "lower": "thawline.evaluate.perturb_text:lower",
            "upper": "thawline.evaluate.perturb_text:upper",
            "no_punctuation": "thawline.evaluate.perturb_text:no_punctuation",
            "shorten": "thawline.evaluate.perturb_text:shorten",
            "spaces": "thawline.evaluate.perturb_text:spaces",
            "drop_characters": "thawline.evaluate.perturb_text:drop_characters",
        },
    ),
    "image": Table(
        "perturbation of pictures",
        {
            "blur": "thawline.evaluate.perturb_image:blur",
            "noise": "thawline.evaluate.perturb_image:noise",
            "jpeg": "thawline.evaluate.perturb_image:jpeg",
            "brightness": "thawline.evaluate.perturb_image:brightness",
            "contrast": "thawline.evaluate.perturb_image:contrast",
        },
    ),
    "audio": Table(
        "perturbation of sounds",
        {
            "noise": "thawline.evaluate.perturb_audio:noise",
            "speed": "thawline.evaluate.perturb_audio:speed",
            "gain": "thawline.evaluate.perturb_audio:gain",
        },
    ),
}
"""Makers of perturbations by kind of input and by name."""

USUAL: Mapping[str, tuple[str, ...]] = {
    "text": ("typos(0.05)", "typos(0.1)", "lower", "upper", "no_punctuation", "shorten(0.5)", "spaces(0.1)"),
    "unspaced": ("drop_characters(0.05)", "drop_characters(0.1)", "no_punctuation", "shorten(0.5)"),
    "tokens": ("typos(0.05)", "typos(0.1)", "lower", "upper"),
    "image": ("blur(2)", "noise(0.12)", "jpeg(15)", "brightness(0.5)", "brightness(1.5)", "contrast(0.4)"),
    "audio": ("noise(20)", "noise(10)", "speed(0.9)", "speed(1.1)", "gain(-12)"),
}
"""What is tried where nothing is asked for."""


def input_of(example: Example) -> str:
    """Return the kind of input, "text", "tokens", "image" or "audio"; raises DataError where it has none of these."""
    kind = next((kind for kind in ("image", "audio", "tokens", "text") if example.get(kind) is not None), None)
    if kind is None:
        raise DataError(f"Nothing in the example {example.get('id')!r} can be perturbed; expected a text, picture or sound.")
    return kind


def perturbation(text: str, kind: str) -> Perturbation:
    """Return the perturbation that a call form such as `typos(0.1)` names; raises UserError where it names none."""
    call = parse_call(text)
    table = PERTURBATIONS["text" if kind == "tokens" else kind]
    return make(call, table[call.name], "Perturbation")


def perturbed(example: Example, change: Perturbation, *, kind: str, seed: int = 0) -> Example:
    """Return a copy with the input changed, in the form it had; what is drawn depends on `seed` and the example's id alone.

    A picture or sound that was a file comes back as {"bytes": PNG or WAV, "path": None}, one that was held in memory as that.

    >>> change = perturbation("upper", "text")
    >>> perturbed({"id": "1", "text": "hello", "label": "a"}, change, kind="text")
    {'id': '1', 'text': 'HELLO', 'label': 'a'}
    """
    number = int.from_bytes(blake2b(str(example["id"]).encode(), digest_size=8).digest(), "big")
    rng = np.random.default_rng([seed, number])
    columns = ("text", "text_pair") if kind == "text" else (kind,)
    return {**example, **{name: _CHANGE[kind](example[name], change, rng) for name in columns if example.get(name) is not None}}


def _tokens(tokens: Any, change: Perturbation, rng: np.random.Generator) -> list[str]:
    # One by one, so that as many come out, each with its tag.
    return [change(token, rng) or token for token in tokens]


def _image(value: Any, change: Perturbation, rng: np.random.Generator) -> Any:
    from thawline.data.images import picture

    found = change(picture(value), rng)
    if isinstance(value, np.ndarray):
        return np.asarray(found)
    if hasattr(value, "getbands"):
        return found
    file = BytesIO()
    found.save(file, "PNG", compress_level=1)
    return {"bytes": file.getvalue(), "path": None}


def _audio(value: Any, change: Perturbation, rng: np.random.Generator) -> Any:
    import soundfile  # type: ignore[import-untyped]

    from thawline.data.sounds import sound

    if isinstance(value, Mapping) and value.get("array") is not None:
        rate = int(value["sampling_rate"])
        return {**value, "array": change(sound(value, rate), rng)}
    content = value.get("bytes") if isinstance(value, Mapping) else None
    source = value.get("path") if isinstance(value, Mapping) else value
    rate = soundfile.info(source if content is None else BytesIO(content)).samplerate
    file = BytesIO()
    soundfile.write(file, change(sound(value, rate), rng), rate, format="WAV", subtype="FLOAT")
    return {"bytes": file.getvalue(), "path": None}


_CHANGE: Mapping[str, Callable[[Any, Perturbation, np.random.Generator], Any]] = {
    "text": lambda text, change, rng: change(text, rng),
    "tokens": _tokens,
    "image": _image,
    "audio": _audio,
}
