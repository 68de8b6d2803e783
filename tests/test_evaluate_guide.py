"""docs/guides/evaluate.md: every command in it runs, on a tiny model, and its tables are those of the measurements."""

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
SHARES = ("recall", "precision", "precision_of_100")
WAYS = ("before", "random", "margin", "margin_clusters", "badge")
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


def test_the_tables_are_what_was_measured() -> None:
    rows = re.findall(r"^\| (\w+), \d+ classes \| (.*) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == 6
    for (data, numbers), name in zip(rows, ["label_errors"] * 3 + ["what_to_label"] * 3, strict=True):
        lines = (ROOT / "benchmarks" / "results" / f"{name}.jsonl").read_text("utf-8").splitlines()
        runs = [one for one in map(json.loads, lines) if one["data"] == data]
        found = {key: mean(one[key] for one in runs) for key, value in runs[0].items() if isinstance(value, float | int)}
        counts = [f"{found[key]:.0f}" for key in ("flipped", "suspected") if key in found]
        shares = [f"{found[key]:.0%}".replace("%", " %") for key in SHARES if key in found]
        assert numbers.split(" | ") == [*counts, *shares, *(f"{found[key]:.3f}" for key in WAYS if key in found)]


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", GUIDE.read_text("utf-8"))
    assert links and [link for link in links if not (GUIDE.parent / link).exists()] == []


def test_every_section_of_an_analysis_is_explained() -> None:
    assert [name for name in OF_EACH_SET if f"| `{name}` |" not in GUIDE.read_text("utf-8")] == []
