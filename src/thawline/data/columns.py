"""Which column is what: as told, else by its name, else by what it holds; and it says which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from thawline.data import labels as labelling
from thawline.data.labels import Form
from thawline.data.read import Source
from thawline.errors import DataError, did_you_mean

_PAIRS = (
    "sentence1 sentence2, sentence_1 sentence_2, sentence_a sentence_b, premise hypothesis, question1 question2, "
    "question sentence, question passage, question context, query passage, query document, text1 text2, text_1 text_2, "
    "text_a text_b, text text_pair, question answer"
)
_TEXTS = (
    "text sentence review content tweet comment body message document utterance post snippet article passage description "
    "question query review_body reviewtext review_text comment_text text_a sentence1 premise summary headline title "
    "文本 内容 评论 句子"
)
_LABELS = (
    "label labels target targets class category categories sentiment score rating y stars intent topic emotion emotions "
    "polarity gold_label gold airline_sentiment toxicity similarity coarse_label fine_label label_text answer 标签 类别"
)
_SAMPLE = 10_000
_SHORT = 4  # a text column found by content has at least this many characters on average
_UNREAD = Form(labelling.UNLABELLED)


@dataclass(frozen=True)
class Columns:
    """What each column is for.

    `text` one column, or two for pairs; `label` a column, several columns of 0 and 1, or None; `problem` transformers' name
    ("single_label_classification", …) or "unlabelled"; `labels` the class names in order; `form` how label values are read.
    """

    text: tuple[str, ...]
    label: str | tuple[str, ...] | None
    id: str | None
    weight: str | None
    problem: str
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    form: Form = _UNREAD


def infer(
    source: Source,
    *,
    text: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    id: str | None = None,  # noqa: A002 - the key of the recipe
    weight: str | None = None,
    problem: str | None = None,
) -> Columns:
    """Return what each column is for; raises DataError for a column that is not there or cannot be found."""
    table = source.splits.get("train", next(iter(source.splits.values())))
    asked = {"text": _listed(text), "label": _listed(label), "weight": _listed(weight)}
    for key, columns in asked.items():
        for name in columns:
            expect(name, table.column_names, f"data.{key}")
    id_column = _id_column(id, table.column_names)
    taken = {*asked["label"], weight, id_column}
    texts = asked["text"] or _find_texts(table, taken, labelled=label is not None)
    if len(texts) > 2:
        raise DataError(f"data.text names {len(texts)} columns ({', '.join(texts)}); expected one, or two for pairs of texts.")
    labels = asked["label"] or _find_label(table, {*taken, *texts})
    notes = []
    if not text:
        notes.append(f"text: {' and '.join(map(repr, texts))} (data.text sets it)")
    if not label:
        notes.append(
            f"label: {labels[0]!r} (data.label sets it)" if labels else "no column holds labels (data.label names one)"
        )
    if id_column and id is None:
        notes.append(f"id: {id_column!r} (data.id sets it)")
    if not label and labels and _is_value(labels[0], table):
        raise DataError(
            f"The column {labels[0]!r} holds its own name as a value, so the first line looks like data. "
            "Put a header above it, such as text,label (or name the column with data.label)."
        )
    form, names, how = _labels(source, labels, labelling.problem_name(problem))
    which = (labels[0] if len(labels) == 1 else labels) if labels else None
    return Columns(texts, which, id_column, weight, form.problem, names, tuple(filter(None, [*notes, how])), form)


def _listed(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def expect(name: str, names: Iterable[str], key: str) -> None:
    """Raise DataError where there is no column `name`; `key` is where it was named."""
    known = list(names)
    if name not in known:
        raise DataError(f"There is no column {name!r} ({key}){did_you_mean(name, known) or '.'} Columns: {', '.join(known)}.")


def _id_column(asked: str | None, names: Sequence[str]) -> str | None:
    if asked is None:
        return next((name for name in names if name.lower() == "id"), None)
    if asked.lower() == "none" and asked not in names:
        return None
    expect(asked, names, "data.id")
    return asked


def _find_texts(table: pa.Table, taken: set[str | None], *, labelled: bool) -> tuple[str, ...]:
    free = [name for name in table.column_names if name not in taken]
    by_name = {name.lower(): name for name in free if _is_text(table.schema.field(name).type)}
    for pair in _PAIRS.split(", "):
        one, other = pair.split(" ")
        if one in by_name and other in by_name and (other != "answer" or labelled or len(free) > 2):
            return by_name[one], by_name[other]
    if usual := next((by_name[name] for name in _TEXTS.split() if name in by_name), None):
        return (usual,)
    label = _named_label(free) if len(by_name) > 1 else None
    lengths = {name: _mean_length(table.column(name)) for name in by_name.values() if name != label}
    if lengths and max(lengths.values()) >= _SHORT:
        return (max(lengths, key=lambda name: lengths[name]),)
    raise DataError(
        f"No column holds texts (columns: {', '.join(table.column_names)}). "
        "Name it with data.text=…, and see whether the first line is a header."
    )


def _find_label(table: pa.Table, taken: set[str | None]) -> tuple[str, ...]:
    free = [name for name in table.column_names if name not in taken]
    if (usual := _named_label(free)) is not None:
        return (usual,)
    sample = table.slice(0, _SAMPLE)
    few = {
        name: pc.count_distinct(sample.column(name)).as_py()
        for name in free
        if not pa.types.is_nested(sample.schema.field(name).type)
    }
    classes = [name for name, count in few.items() if 1 < count <= max(2, min(labelling.MOST_CLASSES, sample.num_rows // 2))]
    return tuple(classes[-1:])


def _named_label(names: Sequence[str]) -> str | None:
    by_name = {name.lower(): name for name in names}
    return next((by_name[name] for name in _LABELS.split() if name in by_name), None)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_value(name: str, table: pa.Table) -> bool:
    column = table.column(name)
    return _is_text(column.type) and bool(pc.any(pc.equal(column, name)).as_py())


def _mean_length(column: pa.ChunkedArray) -> float:
    sample = column.slice(0, _SAMPLE).cast(pa.string())
    return float(pc.mean(pc.utf8_length(sample)).as_py() or 0.0)


def _labels(source: Source, found: Sequence[str], problem: str | None) -> tuple[Form, tuple[str, ...], str]:
    """Look at the label columns of all splits together: a class of the test split alone is a class too."""
    if not found:
        return Form(labelling.UNLABELLED), (), ""
    if len(found) > 1:
        if problem not in (None, labelling.MULTI):
            raise DataError(
                f"data.label names {len(found)} columns, which is for several labels at once; data.problem says {problem}."
            )
        return Form(labelling.MULTI), tuple(found), f"{len(found)} columns of 0 and 1: several labels at once"
    name = found[0]
    parts = {split: table.column(name) for split, table in source.splits.items() if name in table.column_names}
    train = parts.get("train", next(iter(parts.values())))
    same = {part.type for part in parts.values()} == {train.type}
    everything = pa.chunked_array([c for p in parts.values() for c in (p if same else p.cast(pa.string())).chunks])
    form, how = labelling.recognise(train if pa.types.is_nested(train.type) else everything, name, problem)
    if form.problem == labelling.REGRESSION:
        return form, (), how
    seen: set[str] = set()
    for split, part in parts.items():
        seen.update(labelling.names_in(labelling.canonical(part, form, name=name, split=split)))
    return form, labelling.sort_names(seen), how
