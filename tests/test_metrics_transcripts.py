"""One normalisation for both sides, and error rates as jiwer has them."""

import random
import sys
import unicodedata

import jiwer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thawline.errors import UserError
from thawline.evaluate.scores.transcripts import speech_recognition
from thawline.evaluate.scores.words import _rapidfuzz, common, edits, normalize, words

TEXT = st.text(max_size=30)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("RUBOUT G M E F THREE NINE", "rubout g m e f three nine"),
        ("It’s 3.5 °C — isn't it?", "its 3 5 °c isnt it"),
        ("ﬁne\u00a0Ｗork\n\n", "fine work"),
        ("e\u0301te\u0301 ÉTÉ", "été été"),
        ("twenty-one, rock 'n' roll", "twenty one rock n roll"),
        ("¿Qué?", "qué"),
        ("你好，世界。 OK 吗？", "你好世界 ok 吗"),
        ("สวัสดี ครับ", "สวัสดีครับ"),
        ("오늘 날씨", "오늘 날씨"),  # Korean has spaces
        ("...", ""),
    ],
)
def test_normalize(text: str, normal: str) -> None:
    assert normalize(text) == normal


@settings(max_examples=300, deadline=None)
@given(TEXT)
@example("A\u0301'\u0323. ǅ İ")
@example("a'\u0301")
def test_a_normal_text_is_its_own(text: str) -> None:
    normal = normalize(text)
    assert normalize(normal) == normal
    assert not any(unicodedata.category(letter).startswith("P") for letter in normal)
    assert "  " not in normal and normal == normal.strip()


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_words_lose_nothing(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


def test_words_are_characters_where_a_script_has_no_spaces() -> None:
    assert words("我用 Python3写 code") == ["我", "用", "Python3", "写", "code"]
    found = speech_recognition(["今天天气很好"], ["今天天汽好"])
    assert found["wer"] == found["cer"] == pytest.approx(2 / 6)


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, min_size=3, max_size=3), st.lists(TEXT, min_size=3, max_size=3))
def test_any_text_has_jiwers_character_errors(true: list[str], predicted: list[str]) -> None:
    sides = [list(map(normalize, side)) for side in (true, predicted)]
    assert speech_recognition(true, predicted)["cer"] == pytest.approx(float(jiwer.cer(*sides)))


def test_case_and_punctuation_are_errors_before_it_only() -> None:
    found = speech_recognition(["GO HOME"], ["Go home."])
    assert found == {"wer": 0, "cer": 0, "wer_raw": 1}


@pytest.mark.parametrize(
    ("true", "predicted", "wer"), [([""], [""], 0), ([""], ["a b"], 2), (["a", ""], ["b", "c"], 2), (["a"], ["?"], 1)]
)
def test_empty_transcripts(true: list[str], predicted: list[str], wer: float) -> None:
    """Where nothing was said, each word of the answer is an error."""
    assert speech_recognition(true, predicted)["wer"] == wer


def test_real_transcripts_after_corruption() -> None:
    rng = random.Random(0)
    true = ["enter six two four", "rubout t g j w b seventy nine", "stop", "no, help!"] * 5
    predicted = [" ".join(word for word in text.split() if rng.random() < 0.8) for text in true]
    sides = [list(map(normalize, side)) for side in (true, predicted)]
    assert speech_recognition(true, predicted)["wer"] == pytest.approx(jiwer.wer(*sides))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_edits_and_what_is_common(one: list[str], other: list[str]) -> None:
    assert edits(one, other) == edits(other, one) <= max(len(one), len(other))
    assert len(one) + len(other) - 2 * common(one, other) >= edits(one, other)


def test_without_rapidfuzz_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    _rapidfuzz.cache_clear()
    with pytest.raises(UserError, match="pip install rapidfuzz"):
        speech_recognition(["a"], ["a"])
