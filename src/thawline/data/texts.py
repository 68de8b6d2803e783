"""Which column holds texts: by its name, else by what it holds."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from thawline.errors import DataError

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


def find_texts(table: pa.Table, taken: set[str | None], *, labelled: bool) -> tuple[str, ...]:
    """Return the column with texts, or two for pairs; raises DataError where none is found."""
    free = [name for name in table.column_names if name not in taken]
    by_name = {name.lower(): name for name in free if is_text(table.schema.field(name).type)}
    for pair in _PAIRS.split(", "):
        one, other = pair.split(" ")
        if one in by_name and other in by_name and (other != "answer" or labelled or len(free) > 2):
            return by_name[one], by_name[other]
    if usual := next((by_name[name] for name in _TEXTS.split() if name in by_name), None):
        return (usual,)
    label = named_label(free) if len(by_name) > 1 else None
    lengths = {name: _mean_length(table.column(name)) for name in by_name.values() if name != label}
    if lengths and max(lengths.values()) >= _SHORT:
        return (max(lengths, key=lambda name: lengths[name]),)
    raise DataError(
        f"No column holds texts (columns: {', '.join(table.column_names)}). "
        "Name it with data.text=…, and see whether the first line is a header."
    )


def named_label(names: Sequence[str]) -> str | None:
    """Return the column that is called like labels, None where none is."""
    by_name = {name.lower(): name for name in names}
    return next((by_name[name] for name in _LABELS.split() if name in by_name), None)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _mean_length(column: pa.ChunkedArray) -> float:
    sample = column.slice(0, _SAMPLE).cast(pa.string())
    return float(pc.mean(pc.utf8_length(sample)).as_py() or 0.0)
