"""Texts as people also write them: mistyped, in other case, without punctuation, cut short.

Each maker returns a function of a text and a generator. A greater share touches what a smaller one does and more, for the same
generator, so that the drops of two shares can be compared.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from thawline.evaluate.baselines import unspaced

Perturbation = Callable[[str, np.random.Generator], str]

_WORD = re.compile(r"\w+")
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    """Return the keys beside each key, in its row and, half a key aside, in the next ones."""
    found: dict[str, str] = {}
    for row, keys in enumerate(_KEYBOARD):
        for place, key in enumerate(keys):
            beside = [(row, place - 1), (row, place + 1)]
            near = [*beside, (row - 1, place), (row - 1, place + 1), (row + 1, place - 1), (row + 1, place)]
            found[key] = "".join(_KEYBOARD[r][p] for r, p in near if 0 <= r < 3 and 0 <= p < len(_KEYBOARD[r]))
    return found


_NEAR = _neighbours()


def typos(share: float = 0.1) -> Perturbation:
    """Mistype each word with probability `share`: a key beside the right one, two letters swapped, one left out or doubled.

    The kinds are those of Pruthi, Dhingra, Lipton 2019, "Combating adversarial misspellings with robust word recognition".
    """

    def perturb(text: str, rng: np.random.Generator) -> str:
        words = list(_WORD.finditer(text))
        drawn = rng.random((len(words), 4))
        pieces, end = [], 0
        for word, (chance, *how) in zip(words, drawn.tolist(), strict=True):
            pieces.append(text[end : word.start()])
            pieces.append(_mistyped(word[0], how) if chance < share else word[0])
            end = word.end()
        return "".join([*pieces, text[end:]])

    return perturb


def drop_characters(share: float = 0.05) -> Perturbation:
    """Leave out each letter or digit with probability `share`: mistakes of scripts without spaces between words."""

    def perturb(text: str, rng: np.random.Generator) -> str:
        drawn = rng.random(len(text)).tolist()
        return "".join(c for c, chance in zip(text, drawn, strict=True) if chance >= share or not c.isalnum()) or text

    return perturb


def lower() -> Perturbation:
    """Write all in lower case."""
    return lambda text, rng: text.lower()


def upper() -> Perturbation:
    """Write all in upper case."""
    return lambda text, rng: text.upper()


def no_punctuation() -> Perturbation:
    """Leave out punctuation (Unicode categories P*); what is nothing else stays."""

    def perturb(text: str, rng: np.random.Generator) -> str:
        return "".join(c for c in text if not unicodedata.category(c).startswith("P")).strip() or text

    return perturb


def shorten(keep: float = 0.5) -> Perturbation:
    """Keep this share of the words from the beginning, rounded up; characters where words are not set apart by spaces."""

    def perturb(text: str, rng: np.random.Generator) -> str:
        if unspaced([text]):
            return text[: max(1, round(len(text) * keep))]
        words = list(re.finditer(r"\S+", text))
        return text[: words[max(1, math.ceil(len(words) * keep)) - 1].end()] if words else text

    return perturb


def spaces(share: float = 0.1) -> Perturbation:
    """Double, break or leave out each space with probability `share`, a third of them each."""

    def perturb(text: str, rng: np.random.Generator) -> str:
        drawn = rng.random((len(text), 2)).tolist()
        return "".join(
            ("  ", "\n", "")[int(3 * how)] if c == " " and chance < share else c
            for c, (chance, how) in zip(text, drawn, strict=True)
        )

    return perturb


def _mistyped(word: str, drawn: Sequence[float]) -> str:
    kind, place, which = drawn
    at = int(place * len(word))
    near = _NEAR.get(word[at].lower(), "")
    if kind < 0.25 and near:
        key = near[int(which * len(near))]
        return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]
    if kind < 0.5 and len(word) > 1:
        at = min(at, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind < 0.75 and len(word) > 1:
        return word[:at] + word[at + 1 :]
    return word[:at] + 2 * word[at] + word[at + 1 :]
