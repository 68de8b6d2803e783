"""What counts as the same words: one normalisation for references and hypotheses alike, in any language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import cast

from thawline.errors import UserError

# Scripts whose words are not separated by spaces: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED = f"[{_UNSPACED}\uf900-\ufaff\U00020000-\U0003ffff]"
_BETWEEN = re.compile(rf"(?<={_UNSPACED}) (?={_UNSPACED})")
_WORD = re.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})\S)+")


class _Unpunctuated(dict[int, str]):
    """What becomes of each code point, found when it is first met."""

    def __missing__(self, point: int) -> str:
        punctuation = unicodedata.category(chr(point)).startswith("P")
        return self.setdefault(point, " " if punctuation else chr(point))


_UNPUNCTUATED = _Unpunctuated(dict.fromkeys(map(ord, "'\u2018\u2019\u02bc"), ""))


def normalize(text: str) -> str:
    """Return a text without what speech does not tell: case, punctuation, and how much space there is.

    In this order: Unicode NFKC; lower case; apostrophes go ("don't" is "dont"), other punctuation (Unicode P) becomes a space
    ("twenty-one" is two words); spaces are collapsed, and go between characters of scripts that are written without them
    (Han, kana, Thai, Lao, Burmese, Khmer). Numbers and symbols such as $ and + stay as they are; % & @ # are punctuation.

    >>> normalize("  Don\u2019t say Twenty-One,   say $21 ... ")
    'dont say twenty one say $21'
    >>> normalize("\u4f60\u597d\uff0c \u4e16\u754c\u3002")
    '\u4f60\u597d\u4e16\u754c'
    """
    text = unicodedata.normalize("NFKC", text).lower().translate(_UNPUNCTUATED)
    return _BETWEEN.sub("", " ".join(unicodedata.normalize("NFKC", text).split()))


def words(text: str) -> list[str]:
    """Return the words of a text; a character of a script without spaces is one by itself, so that word errors of such
    languages are character errors, and ROUGE goes by characters.

    >>> words("pay 5 \u4f60\u597d ok"), words("\u4f60ok")
    (['pay', '5', '\u4f60', '\u597d', 'ok'], ['\u4f60', 'ok'])
    """
    return _WORD.findall(text)


def edits(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the least number of substitutions, insertions and deletions between two sequences (Levenshtein 1966).

    >>> edits("kitten", "sitting"), edits(["a", "cat"], ["cat"])
    (3, 1)
    """
    return _rapidfuzz()[0](one, other)


def common(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence.

    >>> common(["the", "cat", "sat"], ["the", "dog", "sat"])
    2
    """
    return _rapidfuzz()[1](one, other)


Measure = Callable[[Sequence[Hashable], Sequence[Hashable]], int]


@cache
def _rapidfuzz() -> tuple[Measure, Measure]:
    try:
        from rapidfuzz.distance import LCSseq, Levenshtein
    except ImportError:
        raise UserError("Comparing texts needs the package rapidfuzz. Install it with: pip install rapidfuzz") from None
    return cast(Measure, Levenshtein.distance), cast(Measure, LCSseq.similarity)
