"""What a section consists of: values that say what is shown; `draw` turns them into HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from thawline.report.svg import Bars, Heat, Lines, short_number


@final
@dataclass(frozen=True)
class Num:
    """A number that is somewhere in the run's folder: `key` is its path there, such as "metrics.test.accuracy"."""

    value: float | None
    form: str = ".3f"
    key: str | None = None

    def __str__(self) -> str:
        """How it is written."""
        if self.value is None or not math.isfinite(self.value):
            return "–"
        if self.form == "":
            return short_number(self.value)
        large = "%" not in self.form and "f" in self.form and abs(self.value) >= 1000
        return f"{self.value:,.0f}" if large else f"{self.value:{self.form}}".replace("-", "−", 1)


@final
@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval, whose ends have `keys`; without them those of `<key of the number>_ci95`."""

    number: Num
    low: float | None = None
    high: float | None = None
    keys: tuple[str, str] | None = None

    @property
    def ends(self) -> tuple[Num, Num] | None:
        """The ends of the interval as numbers of the folder, None where there is none."""
        if self.low is None or self.high is None:
            return None
        key, form = self.number.key, self.number.form
        keys = self.keys or ((f"{key}_ci95.0", f"{key}_ci95.1") if key else (None, None))
        return Num(self.low, form, keys[0]), Num(self.high, form, keys[1])

    def __str__(self) -> str:
        """How it is written where there is no markup."""
        return f"{self.number} [{self.ends[0]}, {self.ends[1]}]" if self.ends else str(self.number)


Word: TypeAlias = "str | Num | Interval | Strong"
Sentence: TypeAlias = Sequence[Word]


@final
@dataclass(frozen=True)
class Strong:
    """Words that matter most in their sentence."""

    text: str

    def __str__(self) -> str:
        return self.text


@final
@dataclass(frozen=True)
class Paragraph:
    """Words and numbers."""

    words: Sentence
    kind: str = ""


@final
@dataclass(frozen=True)
class Points:
    """A list of sentences; `kind` is "warnings", "next" or ""."""

    title: str
    sentences: Sequence[Sentence]
    kind: str = ""


Cell: TypeAlias = "str | Num | Interval | None"


@final
@dataclass(frozen=True)
class Table:
    """Rows below named columns, which can be sorted by each; `folded` shows it only when it is asked for."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    total: int | None = None


@final
@dataclass(frozen=True)
class Marked:
    """A text in pieces, each with what it contributed, from -1 to 1, None where that is not known."""

    pieces: Sequence[tuple[str, float | None]]


@final
@dataclass(frozen=True)
class Case:
    """An example as it is listed: its id, words about it, its text, and its picture or sound as a data URI.

    `regions` are rows of what each part of the picture, or of the time of the sound, contributed, from -1 to 1.
    """

    id: str
    words: Sentence
    text: Marked
    media: str | None = None
    regions: Sequence[Sequence[float]] = ()


@final
@dataclass(frozen=True)
class Cases:
    """Examples below a heading."""

    title: str
    cases: Sequence[Case]
    folded: bool = False


@final
@dataclass(frozen=True)
class Side:
    """Blocks that stand beside one another where there is room."""

    blocks: Sequence[Block]


Block: TypeAlias = Paragraph | Points | Table | Cases | Lines | Bars | Heat | Side


@final
@dataclass(frozen=True)
class Section:
    """A heading with blocks below it; `name` is its place in the page's address."""

    name: str
    title: str
    blocks: Sequence[Block]


def plain(sentence: Sentence) -> str:
    """Return a sentence as text.

    >>> plain(["f1 is ", Interval(Num(0.5), 0.4, 0.6), "."])
    'f1 is 0.500 [0.400, 0.600].'
    """
    return "".join(map(str, sentence))
