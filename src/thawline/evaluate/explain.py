"""What is put beside listed mistakes: what they look or sound like, and what the answers to the first of them rest on."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from thawline.errors import DataError, ThawlineError
from thawline.evaluate.answered import CLASSES, Answered
from thawline.evaluate.attribute import attribute
from thawline.evaluate.mistakes_listed import SHOWN
from thawline.evaluate.occlude import attribute_picture, attribute_sound
from thawline.evaluate.perturb import input_of
from thawline.tasks.base import Task
from thawline.types import Example

MOST_MEDIA = 2_500_000
"""Characters of all pictures and sounds of a set together, so that a report stays below 5 MB."""
EXPLAINED = (*CLASSES, "regression")
"""Problems whose answers are single outputs of the model."""
_SIDE = 160  # pixels of a thumbnail
_SECONDS, _RATE = 6, 16_000  # of a sound that is kept, and samples of a second
_LISTS = ("confident", "largest", "hardest", "uncertain")  # of which the first examples are explained, in this order
_DIGITS = 4


class Explainer(NamedTuple):
    """How a kind of input is shown, under which key, what an answer rests on, and how many passes of the model that takes."""

    key: str
    media: Callable[[Any], str] | None
    attribution: Callable[[Any, Task, Example], dict[str, Any]] | None
    passes: int = 0


def explain(found: dict[str, Any], answered: Answered, model: Any, *, task: Task | None, limit: int) -> None:
    """Write pictures and sounds into what `mistakes` found, as data URIs, and attributions of the first `limit` examples.

    `found` is changed in place: rows get "thumbnail" or "sound", and "attribution" with "method", "target", and "words" or
    "regions" (rows of numbers); notes are added to its notes. `task` is None where answers are of several models: then
    nothing is attributed. What is explained is the answer that the model gave, not the true one.
    """
    explainer = EXPLAINERS.get(_kind(answered), EXPLAINERS["tokens"])
    place = {own: i for i, own in enumerate(answered.ids)}
    if explainer.media is not None:
        _show(found, explainer, answered, place=place)
    if explainer.attribution is None or task is None or answered.problem not in EXPLAINED:
        return
    if find_spec("captum") is None:
        found["notes"].append(
            'What answers rest on is shown by captum, which is not installed; type: pip install "thawline[explain]"'
        )
        return
    done: dict[str, dict[str, Any]] = {}
    reasons = set[str]()
    for row in (row for name in _LISTS for row in found.get(name, [])):
        if row["id"] not in done and len(done) < limit:
            try:
                done[row["id"]] = explainer.attribution(model, task, answered.examples[place[row["id"]]])
            except (ThawlineError, ValueError, RuntimeError, AssertionError) as reason:  # no words, a sound of no length
                done[row["id"]] = {}
                reasons.add(str(reason))
        row |= done.get(row["id"], {})
    found["notes"] += [f"What some answers rest on is not known: {reason}" for reason in sorted(reasons)]


def _kind(answered: Answered) -> str:
    try:
        return input_of(answered.examples[0])
    except DataError:
        return ""


def _show(found: dict[str, Any], explainer: Explainer, answered: Answered, *, place: Mapping[str, int]) -> None:
    """Put a picture or a sound beside every listed example, until they are too much for one page."""
    assert explainer.media is not None, "there is a way"
    made: dict[str, str] = {}
    total, left = 0, 0
    for row in rows_of(found):
        if row["id"] not in made and total < MOST_MEDIA:
            value = answered.examples[place[row["id"]]]["image" if explainer.key == "thumbnail" else "audio"]
            try:
                made[row["id"]] = explainer.media(value)
            except DataError:  # of more bands than a screen has colours, or gone since
                continue
            total += len(made[row["id"]])
        if row["id"] in made:
            row[explainer.key] = made[row["id"]]
        else:
            left += 1
    if left:
        found["notes"].append(f"{left} of the listed examples are without their picture or sound, to keep the report small.")


def rows_of(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all examples in what was found, in the order in which they are shown."""
    if isinstance(value, dict) and "id" in value:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from rows_of(inner)


def _thumbnail(value: Any) -> str:
    from thawline.data.images import picture

    return _jpeg(picture(value))


def _jpeg(image: Any) -> str:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    file = BytesIO()
    small.convert("RGB").save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _recording(value: Any) -> str:
    import soundfile  # type: ignore[import-untyped]

    from thawline.data.sounds import sound

    file = BytesIO()
    soundfile.write(file, sound(value, _RATE)[: _SECONDS * _RATE], _RATE, format="MP3")
    return f"data:audio/mpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _of_text(model: Any, task: Any, example: Example) -> dict[str, Any]:
    pair = example.get("text_pair")
    texts = example["text"] if pair is None else (example["text"], pair)
    found = attribute(model, task.tokenizer, texts, max_length=task.max_length)
    words = [
        {**word, "contribution": round(word["contribution"], _DIGITS)}
        for word in found["words"]
        if word["end"] < SHOWN  # what is not shown cannot be marked
    ]
    return {"attribution": {**_said(found), "words": words}}


def _of_picture(model: Any, task: Task, example: Example) -> dict[str, Any]:
    inputs = task.collate(task.encode([example])).inputs
    found = attribute_picture(model, inputs)
    # As the model sees it, cut and resized, so that the regions lie where they belong.
    return {"attribution": {**_said(found), "regions": _rounded(found["contributions"])}, "thumbnail": _seen(inputs)}


def _seen(inputs: Mapping[str, Tensor]) -> str:
    from PIL import Image

    pixels = inputs["pixel_values"][0].float()
    pixels = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = pixels.amin(), pixels.amax()
    bytes_ = ((pixels - low) / (high - low).clamp(min=1e-6) * 255).permute(1, 2, 0).numpy().astype(np.uint8)
    return _jpeg(Image.fromarray(bytes_))


def _of_sound(model: Any, task: Any, example: Example) -> dict[str, Any]:
    from thawline.tasks.recordings import is_windowed

    inputs = task.collate(task.encode([example])[:1]).inputs
    found = attribute_sound(model, inputs, axis=-1 if is_windowed(task.hearing.extractor) else 1)
    return {"attribution": {**_said(found), "regions": _rounded([found["contributions"]])}}


def _said(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("method", "target", "notes") if found.get(name)}


def _rounded(rows: list[list[float]]) -> list[list[float]]:
    return [[round(value, _DIGITS) for value in row] for row in rows]


EXPLAINERS: Mapping[str, Explainer] = {
    "text": Explainer("text", None, _of_text, passes=200),
    "image": Explainer("thumbnail", _thumbnail, _of_picture, passes=52),
    "audio": Explainer("sound", _recording, _of_sound, passes=24),
    "tokens": Explainer("text", None, None),
}
"""What is done for each kind of input; for tokens and conversations nothing."""
