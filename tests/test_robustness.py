"""Perturbed inputs: what each kind does, what decides about them, and the drop of a model whose weakness is known."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pytest

from thawline.errors import DataError, UserError
from thawline.evaluate.answered import Answered
from thawline.evaluate.perturb import PERTURBATIONS, USUAL, perturbation, perturbed
from thawline.evaluate.robustness import robustness, usual
from thawline.types import Example, Prediction

TEXT = "The Quick brown fox, jumped over it; and slept all day!"


def change(form: str, text: str = TEXT, own: str = "1") -> str:
    return str(perturbed({"id": own, "text": text}, perturbation(form, "text"), kind="text")["text"])


@pytest.mark.parametrize("kind", list(USUAL))
def test_usual_ones_are_in_the_tables(kind: str) -> None:
    assert all(callable(perturbation(form, "text" if kind == "unspaced" else kind)) for form in USUAL[kind])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("lower", TEXT.lower()),
        ("upper", TEXT.upper()),
        ("no_punctuation", "The Quick brown fox jumped over it and slept all day"),
        ("shorten(0.5)", "The Quick brown fox, jumped over"),
        ("typos(0)", TEXT),
        ("spaces(0)", TEXT),
        ("drop_characters(0)", TEXT),
    ],
)
def test_texts(form: str, expected: str) -> None:
    assert change(form) == expected


@pytest.mark.parametrize("form", list(PERTURBATIONS["text"]))
@pytest.mark.parametrize("text", ["", " ", "!", "ß", "房间", "🙂 x"])
def test_odd_texts(form: str, text: str) -> None:
    assert isinstance(change(form, text), str)


def test_typos_touch_their_share_of_words_and_nest() -> None:
    text = " ".join(["wonderful"] * 5000)
    few, many = (np.array(change(f"typos({share})", text).split()) != "wonderful" for share in (0.05, 0.1))
    assert few.mean() == pytest.approx(0.05, abs=0.015)
    assert many.mean() == pytest.approx(0.1, abs=0.02)
    assert not (few & ~many).any()
    kinds = {word for word in change("typos(0.1)", text).split() if word != "wonderful"}
    assert {len(kind) for kind in kinds} == {8, 9, 10}


def test_seed_and_id_alone_decide() -> None:
    one, again, other = (change("typos(0.9)", own=own) for own in "112")
    assert one == again != other
    example = {"id": "1", "text": TEXT}
    assert perturbed(example, perturbation("typos(0.9)", "text"), kind="text", seed=1)["text"] != one
    assert example == {"id": "1", "text": TEXT}


def test_chinese_loses_characters() -> None:
    text = "房间很大,服务也不错。" * 100
    assert 0.9 < len(change("drop_characters(0.1)", text)) / len(text) < 0.95  # a sixth is punctuation, which stays
    assert change("shorten(0.5)", text) == text[: len(text) // 2]
    assert usual([{"id": "1", "text": text}], "text") == list(USUAL["unspaced"])


def test_tokens_stay_as_many() -> None:
    example = {"id": "1", "tokens": ["New", "York", ".", "a"], "label": ["B", "I", "O", "O"]}
    found = perturbed(example, perturbation("typos(1)", "tokens"), kind="tokens")
    assert len(found["tokens"]) == 4 and all(found["tokens"]) and found["label"] == example["label"]


@pytest.mark.parametrize("form", USUAL["image"])
def test_pictures(form: str) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    image.fromarray(pixels).save(file, "PNG")
    stored = {"id": "1", "image": {"bytes": file.getvalue(), "path": None}}
    found, again = (perturbed(stored, perturbation(form, "image"), kind="image")["image"]["bytes"] for _ in range(2))
    assert found == again
    with image.open(io.BytesIO(found)) as picture:
        assert (picture.size, picture.mode, picture.format) == ((40, 30), "RGB", "PNG")
        assert 0.5 < np.abs(np.asarray(picture).astype(float) - pixels).mean() < 80
    held = perturbed({"id": "1", "image": pixels}, perturbation(form, "image"), kind="image")["image"]
    assert isinstance(held, np.ndarray)
    assert held.shape == pixels.shape


@pytest.mark.parametrize("form", USUAL["audio"])
def test_sounds(form: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    wave = 0.5 * np.sin(np.arange(8000) / 5, dtype=np.float32)
    file = io.BytesIO()
    soundfile.write(file, wave, 8000, format="WAV", subtype="FLOAT")
    asked = perturbation(form, "audio")
    stored = perturbed({"id": "1", "audio": {"bytes": file.getvalue(), "path": None}}, asked, kind="audio")["audio"]
    found, rate = soundfile.read(io.BytesIO(stored["bytes"]), dtype="float32")
    held = perturbed({"id": "1", "audio": {"array": wave, "sampling_rate": 8000}}, asked, kind="audio")["audio"]
    np.testing.assert_array_equal(found, held["array"])
    assert (rate, held["sampling_rate"]) == (8000, 8000)
    if form.startswith("speed"):
        assert len(found) == pytest.approx(8000 / float(form[6:-1]), abs=2)
    elif form.startswith("noise"):
        ratio = np.mean(wave**2) / np.mean((found - wave) ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(float(form[6:-1]), abs=0.01)
    else:
        np.testing.assert_allclose(found, wave * 10 ** (-12 / 20), atol=1e-6)


def cased(examples: Sequence[Example]) -> list[Prediction]:
    """A model that goes by the case of the first letter."""
    return [{"id": one["id"], "label": "up" if one["text"][:1].isupper() else "low"} for one in examples]


def test_a_known_weakness_is_measured() -> None:
    examples = [
        {"id": str(i), "text": ("A" if i % 2 else "a") + " word or two", "label": ("low", "up")[i % 2]} for i in range(400)
    ]
    said = cased(examples)
    answered = Answered(examples, said, "single_label_classification", ("low", "up"))
    found = robustness(answered, cased, ["lower", "no_punctuation"], main="accuracy")
    lower, same = found["perturbations"]
    assert json.loads(json.dumps(found)) == found
    assert (found["value"], lower["value"], lower["drop"], lower["changed"]) == (1.0, 0.5, 0.5, 0.5)
    assert 0.43 < lower["low"] < 0.5 < lower["high"] < 0.57
    assert (lower["to_wrong"], lower["examples"][0]["text"], lower["examples"][0]["after"]) == (200, "a word or two", "low")
    assert (same["drop"], same["low"], same["high"], same["decided"]) == (0.0, 0.0, 0.0, False)
    assert found["words"].startswith("1 of 2 perturbations lower accuracy; the worst, lower, by 0.500 (0.4")


def test_a_drop_is_worse_where_less_is_better() -> None:
    examples = [{"id": str(i), "text": "word " * i, "label": float(i)} for i in range(2, 42)]

    def count(given: Sequence[Example]) -> list[Prediction]:
        return [{"id": one["id"], "value": float(len(one["text"].split()))} for one in given]

    found = robustness(Answered(examples, count(examples), "regression", ()), count, ["shorten(0.5)"])
    assert found["metric"] == "rmse"
    assert found["perturbations"][0]["drop"] > 5
    assert found["words"].startswith("1 of 1 perturbations raise rmse")


def test_bad_input() -> None:
    answered = Answered(
        [{"id": "1", "text": "x", "label": "a"}], [{"id": "1", "label": "a"}], "single_label_classification", ("a",)
    )
    with pytest.raises(UserError, match="no perturbation of texts called 'typo', did you mean 'typos'"):
        robustness(answered, cased, ["typo(0.1)"])
    with pytest.raises(DataError, match="gave 0 answers to 1 examples"):
        robustness(answered, lambda examples: [], ["lower"])
    with pytest.raises(DataError, match="'1' can be perturbed"):
        robustness(Answered([{"id": "1", "label": "a"}], answered.predictions, answered.problem, ("a",)), cased)


def test_tags_are_measured_too() -> None:
    examples = [{"id": str(i), "tokens": ["Oslo", "is", "small"], "label": ["B-place", "O", "O"]} for i in range(30)]

    def cased_names(given: Sequence[Example]) -> list[Prediction]:
        return [
            {
                "id": one["id"],
                "tags": ["B-place" if word[0].isupper() and not word.isupper() else "O" for word in one["tokens"]],
            }
            for one in given
        ]

    found = robustness(
        Answered(examples, cased_names(examples), "token_classification", ()), cased_names, ["lower", "spaces(0)"]
    )
    assert [(one["drop"], one["changed"]) for one in found["perturbations"]] == [(1.0, 1.0), (0.0, 0.0)]
    assert found["metric"] == "f1"
