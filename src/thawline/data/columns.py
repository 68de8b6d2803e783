"""Which column is what: as told, else by its name, else by what it holds; and it says which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from thawline.data import labels as labelling
from thawline.data.inputs import INPUTS, TEXT, Inputs
from thawline.data.labels import Form
from thawline.data.read import Source
from thawline.data.texts import is_text, named_label
from thawline.errors import DataError, did_you_mean

_TRANSCRIPTS = "transcript transcription sentence normalized_text text"
_SAMPLE = 10_000
_UNREAD = Form(labelling.UNLABELLED)


@dataclass(frozen=True)
class Columns:
    """What each column is for.

    `inputs` one column, or two for pairs, of the kind `kind` (`thawline.data.inputs.INPUTS`); `label` a column,
    several columns of 0 and 1, or None; `problem` transformers' name
    ("single_label_classification", …) or "unlabelled"; `labels` the class names in order; `form` how label values are read;
    `target` what is learned, an entry of TARGETS; `before` the columns that the user named, by key of the recipe, where they
    were brought into another form; `names` what the user calls classes or tags that are given as numbers.
    """

    inputs: tuple[str, ...]
    label: str | tuple[str, ...] | None
    id: str | None
    weight: str | None
    problem: str
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    form: Form = _UNREAD
    kind: str = "text"
    target: str = "label"
    before: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()

    @property
    def plainly(self) -> bool:
        """Whether it is labels that are learned: classes or numbers."""
        return self.target == "label"

    @property
    def label_column(self) -> str | None:
        """The one column of labels as the user has it, None where it is not known by name."""
        found = dict(self.before).get("label") if INPUTS[self.kind].known else self.label
        return found if isinstance(found, str) else None


@dataclass(frozen=True)
class Asked:
    """What the user says of columns.

    `inputs` is what the examples are made of and `named` its columns, where the user names them; `target` is an entry of
    TARGETS, None what is usual of such inputs.
    """

    inputs: Inputs = TEXT
    target: str | None = None
    named: str | Sequence[str] | None = None
    label: str | Sequence[str] | None = None
    id: str | None = None
    weight: str | None = None
    problem: str | None = None


def infer(source: Source, asked: Asked | None = None) -> Columns:
    """Return what each column is for; raises DataError for a column that is not there or cannot be found."""
    asked = asked or Asked()
    table = source.splits.get("train", next(iter(source.splits.values())))
    inputs, named, label = asked.inputs, _listed(asked.named), _listed(asked.label)
    for key, columns in {inputs.name: named, "label": label, "weight": _listed(asked.weight)}.items():
        for name in columns:
            expect(name, table.column_names, f"data.{key}")
    id_column = _id_column(asked.id, table.column_names)
    taken = {*label, asked.weight, id_column}
    found = _inputs(table, named, taken, asked=asked)
    target = asked.target or (inputs.target if label else usual_target(table, inputs, {*taken, *found}))
    labels = label or TARGETS[target].find(table, {*taken, *found})
    notes = []
    if not named:
        notes.append(f"{inputs.name}: {' and '.join(map(repr, found))} (data.{inputs.name} sets it)")
    if not label and target != "answer":
        notes.append(
            f"label: {labels[0]!r} (data.label sets it)" if labels else "no column holds labels (data.label names one)"
        )
    if id_column and asked.id is None:
        notes.append(f"id: {id_column!r} (data.id sets it)")
    if not label and labels and target == "label":
        _refuse_data_as_header(labels[0], table)
    form, names, how = TARGETS[target].read(source, labels, asked.problem)
    which = (labels[0] if len(labels) == 1 else labels) if labels else None
    told = tuple(filter(None, [*notes, how]))
    return Columns(found, which, id_column, asked.weight, form.problem, names, told, form, inputs.name, target)


def _inputs(table: pa.Table, named: tuple[str, ...], taken: set[str | None], *, asked: Asked) -> tuple[str, ...]:
    inputs = asked.inputs
    found = named or inputs.find(table, taken, asked.label is not None)
    if not found:
        known = ", ".join(table.column_names)
        raise DataError(f"No column holds {inputs.noun} (columns: {known}). Name it with data.{inputs.name}=….")
    if len(found) > len(inputs.columns):
        pairs = ", or two for pairs of texts" if len(inputs.columns) > 1 else ""
        raise DataError(f"data.{inputs.name} names {len(found)} columns ({', '.join(found)}); expected one{pairs}.")
    return found


def _refuse_data_as_header(name: str, table: pa.Table) -> None:
    if _is_value(name, table):
        raise DataError(
            f"The column {name!r} holds its own name as a value, so the first line looks like data. "
            "Put a header above it, such as text,label (or name the column with data.label)."
        )


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


def _find_label(table: pa.Table, taken: set[str | None]) -> tuple[str, ...]:
    free = [name for name in table.column_names if name not in taken]
    if (usual := named_label(free)) is not None:
        return (usual,)
    sample = table.slice(0, _SAMPLE)
    few = {
        name: pc.count_distinct(sample.column(name)).as_py()
        for name in free
        if not pa.types.is_nested(sample.schema.field(name).type)
    }
    classes = [name for name, count in few.items() if 1 < count <= max(2, min(labelling.MOST_CLASSES, sample.num_rows // 2))]
    return tuple(classes[-1:])


def _is_value(name: str, table: pa.Table) -> bool:
    column = table.column(name)
    return is_text(column.type) and bool(pc.any(pc.equal(column, name)).as_py())


Read = tuple[Form, tuple[str, ...], str]


def _labels(source: Source, found: Sequence[str], asked: str | None) -> Read:
    """Look at the label columns of all splits together: a class of the test split alone is a class too."""
    problem = labelling.problem_name(asked)
    if not found:
        return Form(labelling.UNLABELLED), (), ""
    if len(found) > 1:
        if problem not in (None, labelling.MULTI):
            raise DataError(
                f"data.label names {len(found)} columns, which is for several labels at once; task.problem says {problem}."
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


def _tags(source: Source, found: Sequence[str], problem: str | None) -> Read:
    """A tag a token: the names are those of all splits."""
    del problem
    parts = [table.column(found[0]) for table in source.splits.values() if found and found[0] in table.column_names]
    names = {name for part in parts for name in labelling.names_in(part)}
    form = Form("token_classification" if parts else labelling.UNLABELLED)
    return form, labelling.sort_names(names), f"{found[0]!r} holds {len(names)} tags, one a token" if parts else ""


def _transcripts(source: Source, found: Sequence[str], problem: str | None) -> Read:
    del source, problem
    how = f"{found[0]!r} holds what is said" if found else ""
    return Form("speech_recognition" if found else labelling.UNLABELLED), (), how


def _answers(source: Source, found: Sequence[str], problem: str | None) -> Read:
    del found, problem
    filled = [table for table in source.splits.values() if table.num_rows and "messages" in table.column_names]
    first = [table.column("messages")[0].as_py() or [] for table in filled]
    if first and all([turn["role"] for turn in turns] == ["document"] for turns in first):
        return Form("text_generation", documents=True), (), "what is learned are the texts, all of them"
    return Form("text_generation"), (), "what is learned are the answers in the conversations"


def _find_tags(table: pa.Table, taken: set[str | None]) -> tuple[str, ...]:
    there = "label" in table.column_names and "label" not in taken
    return ("label",) if there and pa.types.is_list(table.schema.field("label").type) else ()


def _find_transcript(table: pa.Table, taken: set[str | None]) -> tuple[str, ...]:
    free = (name for name in table.column_names if name not in taken)
    # Spoken digits may stand there as numbers.
    by_name = {name.lower(): name for name in free if not pa.types.is_nested(table.schema.field(name).type)}
    return tuple(by_name[name] for name in _TRANSCRIPTS.split() if name in by_name)[:1]


def _find_none(table: pa.Table, taken: set[str | None]) -> tuple[str, ...]:
    del table, taken
    return ()


@dataclass(frozen=True)
class Target:
    """What can be learned of examples: how its columns are found where the user names none, and what their values mean."""

    find: Callable[[pa.Table, set[str | None]], tuple[str, ...]]
    read: Callable[[Source, Sequence[str], str | None], Read]


TARGETS: Mapping[str, Target] = {
    "label": Target(_find_label, _labels),
    "tags": Target(_find_tags, _tags),
    "transcript": Target(_find_transcript, _transcripts),
    "answer": Target(_find_none, _answers),
}
"""By name; the tasks of `thawline.tasks` name theirs."""


def usual_target(table: pa.Table, inputs: Inputs, taken: set[str | None]) -> str:
    """Return what is learned of inputs where nobody says so: of sounds what is said, where a column of texts is called so."""
    if inputs.name == "audio" and named_label(table.column_names) is None and _find_transcript(table, taken):
        return "transcript"
    return inputs.target
