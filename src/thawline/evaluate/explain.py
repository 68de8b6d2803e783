"""What is put beside listed mistakes: what they look or sound like, and what the answers to the first of them rest on."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from io import BytesIO
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from torch import Tensor

from thawline.errors import DataError, ThawlineError, UserError
from thawline.evaluate.answered import CLASSES, Answered
from thawline.evaluate.attribute import attribute
from thawline.evaluate.mistakes_listed import SHOWN, rows_of
from thawline.evaluate.occlude import attribute_picture, attribute_sound
from thawline.evaluate.perturb import input_of
from thawline.tasks.base import Task
from thawline.types import Example

MOST_MEDIA = 2_500_000
"""Characters of all pictures and sounds of a set together, each as often as it stands there."""
EXPLAINED = (*CLASSES, "regression")
"""Problems whose answers are single outputs of the model."""
_SIDE = 160  # pixels of a thumbnail
_SECONDS, _RATE = 6, 16_000  # of a sound that is kept, and samples of a second
_PARTS = 20  # of it that are told apart
_LISTS = ("confident", "largest", "hardest", "uncertain")  # of which the first examples are explained, in this order
_DIGITS = 4
Asked: TypeAlias = tuple[dict[str, Any], int | None]
"""A listed example, and the number of the output that is to be explained, None for the highest."""


class Attribution(Protocol):
    """Says what the answer of a model, by its task, to an example rests on; `target` is an output, None for the highest."""

    def __call__(self, model: Any, task: Any, example: Example, *, target: int | None = None) -> dict[str, Any]:
        """Return what is to be put beside the example: "attribution", and perhaps what it looks like."""


class Explainer(NamedTuple):
    """How a kind of input is shown, under which key, what an answer rests on, and how many passes of the model that takes."""

    key: str
    media: Callable[[Any], str] | None
    attribution: Attribution | None
    passes: int = 0


def explain(found: dict[str, Any], answered: Answered, model: Any, *, task: Task | None, limit: int) -> None:
    """Write pictures and sounds into what `mistakes` found, as data URIs, and attributions of the first `limit` answers.

    `found` is changed in place: rows get "thumbnail" or "sound", and "attribution" with "method", "target", and "words" or
    "regions" (rows of numbers); notes are added to its notes. `task` is None where answers are of several models: then
    nothing is attributed. What is explained is the answer that the model gave, not the true one; with several labels the surest
    of those that it gave, and in the lists of a label that label.
    """
    explainer = EXPLAINERS.get(_kind(answered), EXPLAINERS["tokens"])
    place, how = {own: i for i, own in enumerate(answered.ids)}, explainer.attribution
    if how is not None and task is not None and answered.problem in EXPLAINED:

        def attribution(own: str, target: int | None) -> dict[str, Any]:
            return how(model, task, answered.examples[place[own]], target=target)

        _attribute(found, _asked(found, answered, place), attribution, limit=limit)
    if explainer.media is not None:
        _show(found, explainer, answered, place=place)


def _attribute(
    found: dict[str, Any], asked: Iterable[Asked], attribution: Callable[[str, int | None], dict[str, Any]], *, limit: int
) -> None:
    """Put beside rows what their answer rests on, until `limit` answers have been explained."""
    if find_spec("captum") is None:
        found["notes"].append(
            'What answers rest on is shown by captum, which is not installed; type: pip install "thawline[explain]"'
        )
        return
    done: dict[tuple[str, int | None], dict[str, Any]] = {}
    reasons = set[str]()
    for row, target in asked:
        key = row["id"], target
        if key not in done and len(done) < limit:
            try:
                done[key] = attribution(*key)
            except (ThawlineError, ValueError, RuntimeError) as reason:  # no words, a sound of no length
                done[key] = {}
                reasons.add(str(reason))
        row |= _markable(done.get(key, {}))
    found["notes"] += [f"What some answers rest on is not known: {reason}" for reason in sorted(reasons)]


def _markable(said: dict[str, Any]) -> dict[str, Any]:
    """Leave out the words that a row does not show: they cannot be marked."""
    attribution = said.get("attribution", {})
    if "words" not in attribution:
        return said
    return {**said, "attribution": {**attribution, "words": [word for word in attribution["words"] if word["end"] < SHOWN]}}


def _asked(found: dict[str, Any], answered: Answered, place: Mapping[str, int]) -> Iterable[Asked]:
    """Return the rows to explain, the first ones first, each with the output that it is about, None for the highest."""
    rows = [row for name in _LISTS for row in found.get(name, [])]
    if not answered.several:
        return [(row, None) for row in rows]
    number = {label: i for i, label in enumerate(answered.labels)}

    def surest(row: dict[str, Any]) -> int | None:
        given = [number[label] for label in row["answer"]]
        return max(given, key=lambda i: answered.scores[place[row["id"]], i]) if given else None

    own = ((row, surest(row)) for row in rows)
    of_labels = [
        [(row, number[one["label"]]) for name in _LISTS for row in one.get(name, [])] for one in found.get("labels", [])
    ]
    return _in_turn(own, _in_turn(*of_labels))


def _in_turn(*lists: Iterable[Asked]) -> Iterator[Asked]:
    """Yield the first of each list, then the second of each, and so on."""
    for some in zip_longest(*lists):
        yield from (one for one in some if one is not None)


def _kind(answered: Answered) -> str:
    try:
        return input_of(answered.examples[0])
    except DataError:
        return ""


def _show(found: dict[str, Any], explainer: Explainer, answered: Answered, *, place: Mapping[str, int]) -> None:
    """Put a picture or a sound beside every listed example, until they are too much for one file."""
    assert explainer.media is not None, "there is a way"
    made: dict[str, str | None] = {}
    total, left = 0, 0
    for row in rows_of(found):
        own = row["id"]
        if explainer.key not in row and total >= MOST_MEDIA:
            left += 1
            continue
        if explainer.key not in row and own not in made:
            value = answered.examples[place[own]]["image" if explainer.key == "thumbnail" else "audio"]
            try:
                made[own] = explainer.media(value)
            except DataError:  # of more bands than a screen has colours, or gone since
                made[own] = None
            except UserError as reason:
                found["notes"].append(str(reason))
                return
        if media := row.get(explainer.key) or made[own]:
            row[explainer.key] = media
            total += len(media)
    if left:
        found["notes"].append(f"{left} of the listed examples are without their picture or sound, to keep the files small.")


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

    file, samples = BytesIO(), sound(value, _RATE)[: _SECONDS * _RATE]
    try:
        soundfile.write(file, samples, _RATE, format="MP3")
    except (RuntimeError, ValueError) as error:  # what soundfile raises where its libsndfile, or itself, knows no MP3
        raise UserError(
            f"Sounds cannot be played here, since the installed libsndfile writes no MP3 ({error}); "
            "type: pip install --upgrade soundfile"
        ) from None
    return f"data:audio/mpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _of_text(model: Any, task: Any, example: Example, *, target: int | None = None) -> dict[str, Any]:
    pair = example.get("text_pair")
    texts = example["text"] if pair is None else (example["text"], pair)
    found = attribute(model, task.tokenizer, texts, target=target, max_length=task.max_length)
    words = [{**word, "contribution": round(word["contribution"], _DIGITS)} for word in found["words"]]
    return {"attribution": {**_said(found), "words": words}}


def _of_picture(model: Any, task: Task, example: Example, *, target: int | None = None) -> dict[str, Any]:
    inputs = task.collate(task.encode([example])).inputs
    found = attribute_picture(model, inputs, target=target)
    # As the model sees it, cut and resized, so that the regions lie where they belong.
    return {"attribution": {**_said(found), "regions": _rounded(found["contributions"])}, "thumbnail": _seen(inputs)}


def _seen(inputs: Mapping[str, Tensor]) -> str:
    from PIL import Image

    pixels = inputs["pixel_values"][0].float()
    pixels = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = pixels.amin(), pixels.amax()
    bytes_ = ((pixels - low) / (high - low).clamp(min=1e-6) * 255).permute(1, 2, 0).numpy().astype(np.uint8)
    return _jpeg(Image.fromarray(bytes_))


def _of_sound(model: Any, task: Any, example: Example, *, target: int | None = None) -> dict[str, Any]:
    """Explain what is kept to play, as far as it is in the first piece: later ones are answered by themselves."""
    from thawline.data.sounds import seconds
    from thawline.tasks.recordings import is_windowed

    pieces, whole = task.encode([example]), seconds(example["audio"])
    first = float(pieces[1]["start"][0]) if len(pieces) > 1 else whole
    played = min(whole, _SECONDS)
    heard = min(played, first)
    parts = max(1, round(_PARTS * heard / played))
    axis, share = -1 if is_windowed(task.hearing.extractor) else 1, heard / task.hearing.span(first)
    inputs = task.collate(pieces[:1]).inputs
    found = attribute_sound(model, inputs, target=target, parts=parts, axis=axis, share=share)
    regions = [*found["contributions"], *[0.0] * (_PARTS - parts)]
    if heard < whole:
        found["notes"] = [f"Of {whole:.1f} s the first {heard:.1f} s are explained."]
    return {"attribution": {**_said(found), "seconds": round(played, _DIGITS), "regions": _rounded([regions])}}


def _said(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("method", "target", "notes") if found.get(name)}


def _rounded(rows: list[list[float]]) -> list[list[float]]:
    """Round to figures, not to decimals: logits have any scale."""
    return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in rows]


EXPLAINERS: Mapping[str, Explainer] = {
    "text": Explainer("text", None, _of_text, passes=200),
    "image": Explainer("thumbnail", _thumbnail, _of_picture, passes=52),
    "audio": Explainer("sound", _recording, _of_sound, passes=24),
    "tokens": Explainer("text", None, None),
}
"""What is done for each kind of input; for tokens and conversations nothing."""
