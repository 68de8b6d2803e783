"""CoNLL columns: one token a line, its tag last, a blank line after each sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from thawline.data import encoding as encodings
from thawline.data.tables import Parsed
from thawline.errors import DataError

_SAMPLE = 1000
_ROWS = 4096
_WIDEST = 10
_LONG = 1000
_LISTS = pa.list_(pa.string())
_TOKEN, _TAG = {"token", "tokens", "word", "words", "form", "text"}, {"tag", "tags", "label", "labels", "ner", "ner_tags"}
# `# id 5f2a domain=en`, `# text = …`, `# newdoc`: what CoNLL-U and MultiCoNER write above a sentence.
_COMMENT = re.compile(r"#\s*(?:[\w.:-]+\s*=|id\s|newdoc\b|newpar\b)")


class _Form(NamedTuple):
    codec: str
    tabs: bool
    names: tuple[str, ...]
    header: bool


def parse(path: Path, encoding: str | None) -> Parsed:
    """Parse a file of 2 to 10 columns separated by tabs or by spaces: token first, tag last, unless a header names them.

    Gives the columns `tokens` and `tags`, list<string>, one row a sentence; columns between them keep their name, or are called
    `column_2` and so on. Lines of -DOCSTART- and comments above a sentence are left out and counted. Raises DataError for a
    line with too few or too many columns, naming it, and for CoNLL-U.
    """
    codec = encodings.detect(path, encoding)
    if path.suffix.lower() == ".conllu":
        raise DataError(_treebank(path))
    form = _form(path, codec)
    counts: Counter[str] = Counter()
    for sentence in _sentences(path, form, counts):
        counts["sentences"] += 1
        counts["longest"] = max(counts["longest"], len(sentence))
    schema = pa.schema([(name, _LISTS) for name in form.names])
    return Parsed(schema, _batches(path, form, schema), encodings.told(codec, encoding) + tuple(_told(form, counts)))


def looks_like(path: Path, codec: str) -> bool:
    """Whether a text file is CoNLL columns: for `.txt`, which may be anything.

    Most of its lines have the same few columns, no token has more than one word, and there are blank lines or tags such as B-x.
    """
    lines = _head(path, codec)
    rows = [_split(line, "\t" in line) for line in lines if line.strip() and not _is_comment(line)]
    if not rows:
        return False
    width, fitting = Counter(map(len, rows)).most_common(1)[0]
    tagged = sum(bool(re.fullmatch(r"O|[BIESLUM]-\S+", row[-1])) for row in rows)
    return 2 <= width <= _WIDEST and fitting >= 0.98 * len(rows) and tagged >= 0.9 * len(rows)


def _form(path: Path, codec: str) -> _Form:
    head = [line for line in _head(path, codec) if line.strip()]
    lines = [line for line in head if not line.startswith(("#", "-DOCSTART-"))] or head
    if path.suffix.lower() == ".txt" and not looks_like(path, codec):
        raise DataError(
            f"{path} does not look like tagged tokens; expected one token and its tag a line, such as 'Paris B-location', "
            "and a blank line after each sentence. Texts with labels: a .csv with a header, such as text,label."
        )
    tabs = sum("\t" in line for line in lines) > len(lines) / 2
    width = Counter(len(_split(line, tabs)) for line in lines).most_common(1)[0][0]
    if not 2 <= width <= _WIDEST:
        raise DataError(
            f"{path}: {width} column{'s' * (width != 1)} a line; expected 2 to {_WIDEST}: the token first, its tag last."
        )
    rows = [_split(line, tabs) for line in lines]
    if width >= 8 and sum(row[0].isdigit() for row in rows) > 0.8 * len(rows):
        raise DataError(_treebank(path))
    first = [name.strip().lower() for name in rows[0]]
    header = len(first) == width and first[0] in _TOKEN and bool(_TAG & set(first[1:]))
    return _Form(codec, tabs, _names(first, width) if header else _names([], width), header)


def _names(header: Sequence[str], width: int) -> tuple[str, ...]:
    if not header:
        return ("tokens", *(f"column_{place}" for place in range(2, width)), "tags")
    tag = max(place for place, name in enumerate(header) if name in _TAG)
    named = [name or f"column_{place}" for place, name in enumerate(header, 1)]
    named[0], named[tag] = "tokens", "tags"
    return tuple(name if name not in named[:place] else f"column_{place + 1}" for place, name in enumerate(named))


def _sentences(path: Path, form: _Form, counts: Counter[str]) -> Iterator[list[list[str]]]:
    """Yield the rows of each sentence; `counts` is told what was left out."""
    sentence: list[list[str]] = []
    skip = form.header
    with path.open(encoding=form.codec) as file:
        for number, raw in enumerate(file, 1):
            line = raw.rstrip("\n")
            document = line.startswith("-DOCSTART-")
            if document or not line.strip(" \t\r"):
                if sentence:
                    yield sentence
                sentence = []
                counts["documents"] += document
            elif not sentence and _is_comment(line, form):
                counts["comments"] += 1
            elif skip:
                skip = False
            else:
                sentence.append(_checked(_split(line, form.tabs), form, f"{path}, line {number}"))
    if sentence:
        yield sentence


def _checked(row: list[str], form: _Form, place: str) -> list[str]:
    shown = (("\t" if form.tabs else " ").join(row))[:80]
    if len(row) != len(form.names):
        apart = "tabs" if form.tabs else "spaces"
        raise DataError(
            f"{place}: {len(row)} column{'s' * (len(row) != 1)}, but the file has {len(form.names)}: {shown!r}. "
            f"Expected a token and its tag, separated by {apart}, and a blank line after each sentence."
        )
    if not all(row):
        raise DataError(f"{place}: a column is empty: {shown!r}. Expected a token and its tag; O for a token outside entities.")
    return row


def _batches(path: Path, form: _Form, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    sentences = _sentences(path, form, Counter())
    while block := list(islice(sentences, _ROWS)):
        columns = [pa.array([[row[place] for row in rows] for rows in block], _LISTS) for place in range(len(schema))]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _told(form: _Form, counts: Counter[str]) -> Iterator[str]:
    if form.header:
        yield f"the first line names the columns: {', '.join(form.names)}"
    elif len(form.names) > 2:
        yield f"{len(form.names)} columns: the first is the token, the last its tag (data.label names another)"
    if counts["documents"]:
        yield f"{counts['documents']} -DOCSTART- lines are left out"
    if counts["comments"]:
        yield f"{counts['comments']} comment lines are left out"
    if counts["sentences"] == 1 and counts["longest"] > _LONG:
        yield f"one sentence of {counts['longest']} tokens: a blank line after each sentence is missing"


def _is_comment(line: str, form: _Form | None = None) -> bool:
    """A `#` may be a token, so a line of the right width is a comment only where it is written like one."""
    if not line.startswith("#"):
        return False
    return bool(_COMMENT.match(line)) or (form is not None and len(_split(line, form.tabs)) != len(form.names))


def _split(line: str, tabs: bool) -> list[str]:
    # Only these separate columns: a no-break space is part of a token.
    return line.rstrip("\r\n").split("\t") if tabs else [part for part in re.split(r"[ \t\r\n]+", line) if part]


def _head(path: Path, codec: str) -> list[str]:
    with path.open(encoding=codec) as file:
        return list(islice(file, _SAMPLE))


def _treebank(path: Path) -> str:
    return (
        f"{path} is a CoNLL-U treebank, which is not read: which of its ten columns is the tag cannot be known. Write the one "
        f"you want as token and tag: awk -F'\\t' '/^$/ {{print; next}} $1 ~ /^[0-9]+$/ {{print $2 \"\\t\" $4}}' "
        f"{path.name} > {path.stem}.conll"
    )
