"""CoNLL columns: what is read, what is left out and told, and what is refused with its line."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from thawline.data.conll import looks_like, parse
from thawline.errors import DataError

ROWS = [{"tokens": ["Paris", "!"], "tags": ["B-loc", "O"]}, {"tokens": ["#"], "tags": ["O"]}]


def read(tmp_path: Path, text: str, name: str = "a.conll") -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    parsed = parse(path, None)
    return pa.Table.from_batches(list(parsed.batches), parsed.schema).to_pylist(), parsed.notes


@pytest.mark.parametrize(
    "text",
    [
        "Paris\tB-loc\n!\tO\n\n#\tO\n",
        "Paris B-loc\n!   O \n\n\n# O",
        "\nParis\tB-loc\r\n!\tO\r\n \t\r\n#\tO\r\n\r\n",
        "token tag\nParis B-loc\n! O\n\n# O\n",
        "# id 1 domain=en\nParis B-loc\n! O\n\n# text = # !\n# O\n",
        "-DOCSTART- -X-\n\nParis B-loc\n! O\n-DOCSTART- -X-\n# O\n",
    ],
)
def test_one_table_from_every_dress(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text)[0] == ROWS


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    rows, notes = read(tmp_path, "-DOCSTART- -X- O O\n\n# sent_id = 1\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n")
    assert rows == [
        {"tokens": ["EU", "rejects"], "column_2": ["NNP", "VBZ"], "column_3": ["I-NP", "I-VP"], "tags": ["B-ORG", "O"]}
    ]
    assert [note.split(":")[0] for note in notes] == [
        "4 columns",
        "1 -DOCSTART- lines are left out",
        "1 comment lines are left out",
    ]


def test_a_header_says_which_column_is_which(tmp_path: Path) -> None:
    rows, notes = read(tmp_path, "word\tner\tpos\nParis\tB-loc\tNNP\n")
    assert rows == [{"tokens": ["Paris"], "tags": ["B-loc"], "pos": ["NNP"]}]
    assert "tokens, tags, pos" in notes[0]


def test_a_token_may_hold_a_no_break_space(tmp_path: Path) -> None:
    assert read(tmp_path, "10\u00a0km B-q\n\u2028 O\n")[0] == [{"tokens": ["10\u00a0km", "\u2028"], "tags": ["B-q", "O"]}]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("a\tO\nb\tc\tO\nd\tO\n", "a.conll", "line 2: 3 columns, but the file has 2: 'b\\\\tc\\\\tO'"),
        ("a O\nb O\n\nword\n", "a.bio", "line 4: 1 column, "),
        ("a\tO\n\tO\n", "a.iob", "line 2: a column is empty"),
        ("word\nword\n", "a.conll", "1 column a line; expected 2 to 10"),
        ("1\tThe\t_\n", "a.conllu", "CoNLL-U treebank.*awk"),
        ("".join(f"{i}\tw\tl\tDET\t_\t_\t0\troot\t_\t_\n" for i in range(1, 9)), "a.conll", "CoNLL-U treebank"),
        ("a good film\nnot for me\n", "a.txt", "does not look like tagged tokens"),
        ("", "a.conll", "is empty"),
    ],
)
def test_faults_are_named(text: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, name)


def test_a_text_file_that_is_one(tmp_path: Path) -> None:
    assert read(tmp_path, "Paris B-loc\n! O\n\n# O\n", "a.txt")[0] == ROWS
    (tmp_path / "b.txt").write_text("good movie\nbad movie\n")
    assert not looks_like(tmp_path / "b.txt", "utf-8")


def test_missing_blank_lines_are_told(tmp_path: Path) -> None:
    assert "a blank line after each sentence is missing" in read(tmp_path, "a O\n" * 1001)[1][0]


def test_real_file(shared: Path) -> None:
    parsed = parse(shared / "data/wnut17/validation.conll", None)
    table = pa.Table.from_batches(list(parsed.batches), parsed.schema)
    assert (table.num_rows, sum(map(len, table["tokens"].to_pylist())), parsed.notes) == (1009, 15733, ())
