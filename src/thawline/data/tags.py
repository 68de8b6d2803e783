"""Tags of tokens: the schemes in which entities are written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from thawline.data.words import Span

SCHEMES = ("BIO", "BIOES", "BILOU", "IO", "IOB1")
_TAG = re.compile(r"O|([BIESLUM])(?:-(.+))?", re.DOTALL)
_READ = {"L": "E", "U": "S", "M": "I"}  # BILOU and BMES in the letters of BIOES


def spans(tags: Sequence[str]) -> list[Span]:
    """Return (type, begin, end) of each entity, the end exclusive, whatever the scheme and however ill-formed the tags.

    The rule is that of `conlleval` (Tjong Kim Sang and Buchholz 2000), which seqeval follows in its default mode: I-X and E-X
    go on where B-X or I-X of the same type stands before, and begin an entity elsewhere; B-X and S-X always begin one. A
    bare letter ("B") has the type "".

    >>> spans(["I-a", "I-a", "I-b", "O", "B-b", "B-b"])
    [('a', 0, 2), ('b', 2, 3), ('b', 4, 5), ('b', 5, 6)]
    """
    found: list[Span] = []
    before, kind = "O", ""
    for place, tag in enumerate(tags):
        letter, own = _parts(tag)
        if letter in "IE" and before in "BI" and own == kind:
            found[-1] = (kind, found[-1][1], place + 1)
        elif letter != "O":
            found.append((own, place, place + 1))
        before, kind = letter, own
    return found


def of_spans(entities: Iterable[Span], length: int, scheme: str = "BIO") -> list[str]:
    """Return the tags of `length` tokens with these disjoint entities, in one of SCHEMES; the inverse of `spans`.

    IO cannot tell two neighbours of one type apart.

    >>> of_spans([("a", 0, 3), ("a", 3, 4)], 5, "BIOES")
    ['B-a', 'I-a', 'E-a', 'S-a', 'O']
    """
    tags = ["O"] * length
    last = ("", -1)
    for kind, begin, end in sorted(entities, key=lambda span: span[1]):
        letters = _letters(end - begin, scheme, touching=last == (kind, begin))
        tags[begin:end] = [f"{letter}-{kind}" if kind else letter for letter in letters]
        last = (kind, end)
    return tags


def repair(tags: Sequence[str], scheme: str = "BIO") -> list[str]:
    """Return the legal tags of `scheme` for the entities that `spans` reads; also the way from one scheme to another.

    >>> repair(["I-a", "I-a", "O", "I-b"])
    ['B-a', 'I-a', 'O', 'B-b']
    >>> repair(["O", "B-a", "O", "E-b"], "BIOES")
    ['O', 'S-a', 'O', 'S-b']
    """
    return of_spans(spans(tags), len(tags), scheme)


def scheme_of(names: Iterable[str]) -> str | None:
    """Return the scheme that a set of tags is written in, as far as the set tells; None where each tag is a class of its own.

    >>> scheme_of(["O", "B-a", "I-a"]), scheme_of(["L-a", "O"]), scheme_of(["NOUN", "VERB"])
    ('BIO', 'BILOU', None)
    """
    known = set(names)
    found = [_TAG.fullmatch(name) for name in known]
    if not known or not all(found):
        return None
    entities = [match for match in found if match and match[1]]
    if any(match[2] is None for match in entities) and not {"O", "I"} & known:
        return None  # single letters that are no scheme, such as the parts of speech S and B
    letters = {match[1] for match in entities}
    for mark, scheme in (("LU", "BILOU"), ("ESM", "BIOES"), ("B", "BIO")):
        if letters & set(mark):
            return scheme
    return "IO" if letters else "BIO"


def recognise(sequences: Iterable[Sequence[str]]) -> str | None:
    """Return the scheme of whole sequences: beyond `scheme_of`, IOB1, where B-X only parts two neighbours of one type.

    >>> recognise([["I-a", "B-a", "O"], ["O", "I-a"]])
    'IOB1'
    """
    names: set[str] = set()
    begun: Counter[str] = Counter()
    for tags in sequences:
        names.update(tags)
        before = "O"
        for tag in tags:
            if tag[:1] == "I" and before[1:] != tag[1:]:
                begun["I"] += 1
            elif tag[:1] == "B":
                begun["B apart"] += before[1:] != tag[1:] or before == "O"
            before = tag
    scheme = scheme_of(names)
    return "IOB1" if scheme == "BIO" and begun["I"] and not begun["B apart"] else scheme


def _parts(tag: str) -> tuple[str, str]:
    match = _TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"{tag!r} is no tag of {', '.join(SCHEMES)}")
    letter = match[1] or "O"
    return _READ.get(letter, letter), match[2] or ""


def _letters(length: int, scheme: str, *, touching: bool) -> str:
    if scheme == "BIO":
        return "B" + "I" * (length - 1)
    if scheme in ("IO", "IOB1"):
        return ("B" if touching and scheme == "IOB1" else "I") + "I" * (length - 1)
    if scheme not in SCHEMES:
        raise ValueError(f"there is no scheme {scheme!r}; expected one of {', '.join(SCHEMES)}")
    one, last = "SE" if scheme == "BIOES" else "UL"
    return one if length == 1 else "B" + "I" * (length - 2) + last
