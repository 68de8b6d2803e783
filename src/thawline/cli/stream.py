"""Answers for a file or for standard input, written as they come; memory stays flat however much there is."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.cli.show import progress, say
from thawline.errors import DataError, UserError

if TYPE_CHECKING:
    from thawline.run.api import Run
    from thawline.types import Prediction

_CHUNK = 1024  # lines answered together: enough for batches of like length, few enough to be answered soon
Row = dict[str, Any]
_MADE = re.compile(r"[0-9a-f]+-\d+")
"""An id that was made of a text's content."""


def write_answers(folder: Path, file: str, output: Path | None) -> None:
    """Write a run's predictions to `output` (.jsonl, .csv), or as JSON lines to stdout; raises UserError and MachineError."""
    from thawline.evaluate.output import write_jsonl, write_predictions

    if output is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")
        write_jsonl(sys.stdout, _answers(folder, file, bar=not sys.stdout.isatty()))
        return
    if file != "-" and output.exists() and Path(file).exists() and output.samefile(file):
        raise UserError(f"--output {output} is the file that is read, and it would be overwritten; give another name.")
    count = write_predictions(_answers(folder, file, bar=True), output)
    say(f"{count:,} predictions are in {output}.")


def _answers(folder: Path, file: str, *, bar: bool) -> Iterator[Prediction]:
    from thawline.run.api import Run

    run = Run(folder)
    model = run.model  # first, since it says where a run is not finished
    if file == "-":
        with progress("answering", None, bar=bar) as told:
            yield from _of_lines(run, sys.stdin.buffer, told)
    else:
        examples = run.examples(file, say=say)
        with progress("answering", len(examples), bar=bar) as told:
            yield from model.stream(iter(examples), told)


def _of_lines(run: Run, lines: Iterable[bytes], told: Callable[[int], None]) -> Iterator[Prediction]:
    data = run.recipe.data
    names = [data.text] if isinstance(data.text, str) else data.text or ["text"]
    say_once, number, done = _once(), _Numbers(), 0
    for rows in chunks(lines, names):
        own = {str(row[name]) for row in rows for name in (data.id, "id") if name in row}
        for prediction in run.stream(run.examples(rows, say=say_once)):
            made = prediction["id"] not in own and _MADE.fullmatch(prediction["id"])
            yield {**prediction, "id": number(prediction["id"])} if made else prediction
        done += len(rows)
        told(done)


def chunks(lines: Iterable[bytes], names: Sequence[str], size: int = _CHUNK) -> Iterator[list[Row]]:
    """Yield rows in lists of at most `size`: JSON objects where the first line is one, else texts, one a line.

    `names` are the text columns of the model. Raises DataError that names the line.

    >>> list(chunks([b"one\\n", b"two\\n", b"three"], ["text"], size=2))
    [[{'text': 'one'}, {'text': 'two'}], [{'text': 'three'}]]
    >>> list(chunks([b'{"text": "one", "id": 7}\\n'], ["text"]))
    [[{'text': 'one', 'id': 7}]]
    """
    rows = _rows(lines, names)
    while chunk := list(islice(rows, size)):
        yield chunk


def _rows(lines: Iterable[bytes], names: Sequence[str]) -> Iterator[Row]:
    objects: bool | None = None
    for number, line in enumerate(lines, 1):
        text = _decoded(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, number)
        if objects is None:
            objects = _object(text) is not None
            if not objects and len(names) > 1:
                raise DataError(
                    f"This model reads pairs, and line 1 of standard input is no JSON object; "
                    f"expected lines such as {json.dumps(dict.fromkeys(names, '…'), ensure_ascii=False)}"
                )
        if not objects:
            yield {names[0]: text}
        elif text.strip():
            if (row := _object(text)) is None:
                raise DataError(
                    f"Line {number} of standard input is no JSON object, as the lines before it were: {text[:60]!r}."
                )
            yield row
    if objects is None:
        raise DataError("Standard input is empty; expected a text a line, or a JSON object a line.")


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise DataError(f"Line {number} of standard input is not UTF-8; convert it first, for instance with iconv.") from None


def _object(text: str) -> Row | None:
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class _Numbers:
    """Makes ids of content, which number equal texts within a chunk, number them over all chunks: some 100 bytes a text."""

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()

    def __call__(self, name: str) -> str:
        content = name.partition("-")[0]
        key = int(content, 16)
        self._seen[key] += 1
        return f"{content}-{self._seen[key] - 1}"


def _once() -> Callable[[str], None]:
    """Return a `say` that says the same, but for its numbers, only once."""
    said: set[str] = set()

    def once(text: str) -> None:
        kind = re.sub(r"\d+|the id \S+", "", text)
        if kind not in said:
            said.add(kind)
            say(text)

    return once
