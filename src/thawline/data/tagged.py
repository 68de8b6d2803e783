"""Tables of tagged tokens, and of texts with spans of characters, in one form: tokens, label, offsets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from thawline.data import spans
from thawline.data.columnar import class_names, named
from thawline.data.tags import of_spans, recognise, repair
from thawline.data.texts import named_label
from thawline.errors import DataError
from thawline.types import Finding

# What these are rewritten as: neither seqeval nor pipelines read them, and one split of a corpus in IOB1 may look like IO.
_WRITTEN = {"IO": "BIO", "IOB1": "BIO", "BILOU": "BIOES"}
_TOKENS = ("tokens", "words", "token_list", "word_list", "词")
_TAGS = (
    "ner_tags",
    "tags",
    "labels",
    "label",
    "ner",
    "ner_labels",
    "iob_tags",
    "bio_tags",
    "upos",
    "pos_tags",
    "chunk_tags",
    "标签",
)
_LIST = pa.list_(pa.string())
_OFFSETS = pa.list_(pa.list_(pa.int32()))
_TOLD = {
    "widened": "{} spans cut a word and are taken as the whole of it",
    "overlapping": "{} spans overlap a longer one (or share a word with it) and are left out: a token has one tag",
    "empty": "{} spans hold no word and are left out",
    "utf-16": "{} spans count characters as JavaScript does (emoji twice) and are moved to where their text stands",
    "other_text": "{} spans say another text than stands at their place",
    "annotators": "{} rows have several annotations, of which the first is taken",
    "no_spans": "{} annotations are no spans (relations, choices) and are left out",
}


def tagged(table: pa.Table, names: Sequence[str] = ()) -> tuple[pa.Table, tuple[Finding, ...]] | None:
    """Return the table with "tokens" list<string> and "label" list<string> (their tags, null where there are none), and with
    "offsets" list<list<int32>> (begin and end of each token) where it was made from texts; None where it holds no tokens.

    Read are lists of tokens beside lists of tags (numbers by the names of `datasets` features in the schema, or by `names`),
    and texts beside spans of characters as doccano, spaCy, Prodigy and Label Studio write them. IOB1 becomes BIO, BILOU
    becomes BIOES, and ill-formed sequences are repaired (`thawline.data.tags.repair`); the findings tell it. Raises DataError
    by row.

    >>> made, findings = tagged(pa.table({"text": ["Paris!"], "entities": ['[[0, 5, "city"]]']}))
    >>> made.select(["tokens", "label", "offsets"]).to_pylist()
    [{'tokens': ['Paris', '!'], 'label': ['B-city', 'O'], 'offsets': [[0, 5], [5, 6]]}]
    """
    tokens = next((name for name in _TOKENS if _is_list(table, name, pa.types.is_string)), None)
    if tokens is not None:
        return _of_tags(table, tokens, names)
    marked = spans.find(table)
    return None if marked is None else _of_spans(table, marked)


def with_label_names(table: pa.Table, names: Sequence[str], label: str | None = None) -> pa.Table:
    """Return the table with names in the place of the numbers in the column `label`, else in the first one that is called like
    tags or labels; as it is without names, or where no such column holds whole numbers. A number without a name becomes null.

    >>> with_label_names(pa.table({"ner_tags": [[0, 1]]}), ["O", "B-city"]).to_pylist()
    [{'ner_tags': ['O', 'B-city']}]
    """
    usual = (label,) if label is not None else (*_TAGS, named_label(table.column_names))
    held = next((name for name in usual if name in table.column_names and _holds_numbers(table.field(name).type)), None)
    return table if held is None or not names else named(table, {held: names})


def _holds_numbers(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return bool(pa.types.is_integer(inner))


def _of_tags(table: pa.Table, tokens: str, names: Sequence[str]) -> tuple[pa.Table, tuple[Finding, ...]]:
    table = named(table, class_names(table.schema))
    held = [name for name in _TAGS if _is_list(table, name, lambda kind: pa.types.is_string(kind) or pa.types.is_integer(kind))]
    lists: list[Any] = table.column(tokens).to_pylist()
    if not held:
        made = _with(table, {"tokens": table.column(tokens).cast(_LIST)}, {tokens})
        return made, (*_empty(lists), Finding("note", "columns", f"tokens: {tokens!r}; no column holds their tags"))
    if _is_list(table, held[0], pa.types.is_integer):
        if not names:
            raise DataError(
                f"Column {held[0]!r} holds numbers without names; name them in order from 0, such as "
                "data.label_names=[O, B-person, I-person]."
            )
        table = named(table, {held[0]: names})
    tags = table.column(held[0]).to_pylist()
    for number, row in enumerate(zip(lists, tags, strict=True), 1):
        if fault := _fault(*row):
            raise DataError(f"Row {number}: {fault} (columns {tokens!r} and {held[0]!r}).")
    told = [Finding("note", "columns", f"tokens: {tokens!r}; tags: {held[0]!r}"), *_empty(lists)]
    if held[1:]:
        told.append(Finding("note", "other_tags", f"not used as tags: {', '.join(map(repr, held[1:]))}"))
    label, more = _well_formed(tags)
    made = _with(table, {"tokens": table.column(tokens).cast(_LIST), "label": label}, {tokens, held[0]})
    return made, (*told, *more)


def _of_spans(table: pa.Table, marked: spans.Marked) -> tuple[pa.Table, tuple[Finding, ...]]:
    counts: Counter[str] = Counter()
    rows = list(spans.rows(table, marked, counts))
    tags = [None if row.spans is None else of_spans(row.spans, len(row.tokens)) for row in rows]
    columns = {
        "tokens": pa.array([row.tokens for row in rows], _LIST),
        "label": pa.array(tags, _LIST),
        "offsets": pa.array([row.offsets for row in rows], _OFFSETS),
    }
    told = [
        Finding("note", "columns", f"texts: {marked.text!r}; spans of characters: {marked.spans!r}, made BIO tags of words")
    ]
    told += _empty([row.tokens for row in rows])
    told += [Finding("warning", name, _TOLD[name].format(count)) for name, count in counts.items() if count]
    return _with(table, columns, {marked.spans}), tuple(told)


def _well_formed(sequences: list[list[str] | None]) -> tuple[pa.Array, list[Finding]]:
    known = [tags for tags in sequences if tags is not None]
    scheme = recognise(known)
    if scheme is None:
        count = len({tag for tags in known for tag in tags})
        return pa.array(sequences, _LIST), [
            Finding("note", "scheme", f"{count} tags in no scheme of entities: one class a token")
        ]
    repaired = [None if tags is None else repair(tags, scheme) for tags in sequences]
    # BMES is BIOES with another letter, and not ill-formed.
    changed = [n for n, (old, new) in enumerate(zip(sequences, repaired, strict=True), 1) if old and _without_m(old) != new]
    told = [Finding("note", "scheme", f"the tags are {scheme}")]
    if changed:
        text = (
            f"ill-formed {scheme} tags in {_rows(changed)}: an entity begins wherever one cannot go on (as seqeval reads them)"
        )
        told.append(Finding("warning", "ill_formed_tags", text))
    if written := _WRITTEN.get(scheme):
        told.append(Finding("note", "rewritten", f"{scheme} is rewritten as {written}"))
        repaired = [None if tags is None else repair(tags, written) for tags in repaired]
    return pa.array(repaired, _LIST), told


def _fault(tokens: list[str | None] | None, tags: list[str | None] | None) -> str:
    if tokens is None or None in tokens:
        return "a token is missing"
    if tags is not None and len(tags) != len(tokens):
        return f"{len(tokens)} tokens, but {len(tags)} tags; expected one tag for each token"
    return "a tag is missing, or its number has no name" if tags is not None and None in tags else ""


def _empty(tokens: Sequence[Sequence[str]]) -> list[Finding]:
    bare = [number for number, each in enumerate(tokens, 1) if not each]
    return [Finding("warning", "no_tokens", f"no tokens in {_rows(bare)}")] if bare else []


def _rows(numbers: Sequence[int]) -> str:
    first = ", ".join(map(str, numbers[:5]))
    return f"{len(numbers)} row{'s' * (len(numbers) != 1)} ({first}{', …' * (len(numbers) > 5)})"


def _is_list(table: pa.Table, name: str, holds: Callable[[pa.DataType], bool]) -> bool:
    kind = table.field(name).type if name in table.column_names else pa.null()
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and holds(kind.value_type))


def _with(table: pa.Table, columns: dict[str, pa.Array], used: set[str]) -> pa.Table:
    """Put these columns first; a column of the user's own that has one of their names keeps its values as `NAME_original`."""
    rest = {name + "_original" * (name in columns): table.column(name) for name in table.column_names if name not in used}
    return pa.table({**columns, **rest})


def _without_m(tags: list[str]) -> list[str]:
    return ["I" + tag[1:] if tag[:1] == "M" else tag for tag in tags]
