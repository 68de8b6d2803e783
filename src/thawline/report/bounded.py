"""How much of pictures and sounds a page holds: all of its sections together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import final

from thawline.report.blocks import Block, Case, Cases, Paragraph, Section
from thawline.report.draw import MAX_MEDIA

MOST_MEDIA = 2_500_000
"""Characters of all pictures and sounds of a page, and of what is drawn over them, so that it stays below 5 MB."""
_ELEMENT, _REGION = 300, 90  # characters of what stands around a picture, and of a region over it


def bounded(sections: Iterable[Section]) -> Iterator[Section]:
    """Yield sections in whose lists the first pictures and sounds of the page stay, up to MOST_MEDIA characters.

    Later ones are left out, and a sentence of their section says how many.
    """
    room = _Room(MOST_MEDIA)
    for section in sections:
        before = room.refused
        blocks: list[Block] = [
            replace(one, cases=[room(case) for case in one.cases]) if isinstance(one, Cases) else one for one in section.blocks
        ]
        if count := room.refused - before:
            said = f"{count:,} of the examples below are without their picture or sound, to keep the page below 5 MB."
            blocks.insert(0, Paragraph([said], "quiet"))
        yield replace(section, blocks=blocks)


@final
@dataclass
class _Room:
    """Characters that are left for pictures and sounds, and how many of them were refused."""

    left: int
    refused: int = 0

    def __call__(self, case: Case) -> Case:
        """Return an example, without its picture or sound where there is no room for it."""
        size = _size(case)
        if size <= self.left:
            self.left -= size
            return case
        self.refused += 1
        return replace(case, media=None, regions=())


def _size(case: Case) -> int:
    """Return about how many characters of a page the picture or sound of an example takes; 0 where none is shown."""
    if case.media is None or len(case.media) > MAX_MEDIA:
        return 0
    return len(case.media) + _ELEMENT + _REGION * sum(map(len, case.regions))
