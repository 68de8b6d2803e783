"""docs/guides/data.md runs, and names every finding there is."""

import doctest
import re
from pathlib import Path

import thawline.data.check as checking

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "guides" / "data.md"


def test_the_guide_runs() -> None:
    assert doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8").failed == 0


def test_the_guide_names_every_finding() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "thawline" / "data").glob("*.py"))
    names = set(re.findall(r'Finding\([^()]*?(?:"(?:note|warning|stop)"|[^,"]*)[^()]*?, "(\w+)"', code))
    assert {"class_balance", "shared_text", "truncation", "missing_label", "split"} <= names
    assert [name for name in sorted(names) if f"`{name}`" not in GUIDE.read_text("utf-8")] == []


def test_the_guide_has_the_thresholds() -> None:
    rows = {row.split("|")[1].strip(" `"): row for row in GUIDE.read_text("utf-8").splitlines() if row.startswith("| `")}
    assert f"{checking.IMBALANCE:.0f} times" in rows["class_balance"]
    assert f"{checking.DUPLICATES:.0%}".replace("%", " %") in rows["duplicate_text"]
    assert f"{checking.UNSEEN_STOP:.0%}".replace("%", " %") in rows["unseen_label"]
    assert f"{checking.TRUNCATED_TOKENS:.0%}".replace("%", " %") in rows["truncation"]
    assert checking.EMPTY_STOP == checking.SHARED_STOP == checking.SWAPPED_LABELS == 0.5
    assert (checking.SWAPPED_TEXTS, checking.SWAPPED_RATIO) == (0.05, 0.1)
