"""docs/guides/evaluate.md: every command in it runs, on a tiny model, and its table of findings is that of the measurements."""

import json
import re
import shlex
from pathlib import Path
from statistics import mean

import pytest

from families import folder_of
from test_cli_labels import said
from test_cli_mistakes import write_rows
from test_readme import ROOT, blocks, run
from thawline.report.analyses import OF_EACH_SET

GUIDE = ROOT / "docs" / "guides" / "evaluate.md"
TINY = [f"model={folder_of('bert')}", "train.bf16=false"]
QUICK = [*TINY, "train.max_steps=3", "evaluate.bootstrap_samples=20", "evaluate.baselines=false"]


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "reviews.csv", [(said(i, ("good", "bad")[i % 2]), ("good", "bad")[i % 2]) for i in range(150)])
    for line in (line for block in blocks(GUIDE, "bash") for line in block.splitlines()):
        name, verb, first, *words = shlex.split(line)
        target = words[words.index(">") + 1] if ">" in words else None
        more = QUICK if verb == "train" else TINY if (verb, first) == ("check", "reviews.csv") else []
        done = run([verb, first, *more, *(word for word in words if word not in (">", target))])
        assert (name, done.code) == ("thawline", 0), f"{line}\n{done.err}"
        if target is not None:
            assert json.loads(done.out)
    assert set(json.loads(Path("runs/full/analysis.json").read_text())) == {
        *("test", "on-reviews", "label_errors", "near_duplicates", "learning_curve")
    }


def test_the_table_is_what_was_measured() -> None:
    rows = re.findall(r"^\| (\w+), \d+ classes \| (.*) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    lines = (ROOT / "benchmarks" / "results" / "label_errors.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 3
    for data, numbers in rows:
        runs = [one for one in map(json.loads, lines) if one["data"] == data]
        found = {
            key: mean(one[key] for one in runs) for key in ("flipped", "suspected", "recall", "precision", "precision_of_100")
        }
        shares = [f"{found[key]:.0%}".replace("%", " %") for key in ("recall", "precision", "precision_of_100")]
        assert numbers.split(" | ") == [f"{found['flipped']:.0f}", f"{found['suspected']:.0f}", *shares]


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", GUIDE.read_text("utf-8"))
    assert links and [link for link in links if not (GUIDE.parent / link).exists()] == []


def test_every_section_of_an_analysis_is_explained() -> None:
    assert [name for name in OF_EACH_SET if f"| `{name}` |" not in GUIDE.read_text("utf-8")] == []
