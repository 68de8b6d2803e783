"""The sections of the analyses that a run has: each only where its part of analysis.json is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from thawline.report import classification, examples, trust, views
from thawline.report.blocks import Block, Cell, Interval, Num, Paragraph, Section, Strong, Table
from thawline.report.facts import Facts, RunFacts
from thawline.report.plainly import plainly, told
from thawline.report.svg import Bars, Lines, Point, Range, Series

View = Callable[[Facts, str], Sequence[Block]]
"""From one analysis and its path in analysis.json to what is shown of it."""

_OF_A_SET: Mapping[str, tuple[str, View]] = {
    "classes": ("Classes", classification.classes),
    "curves": ("ROC and precision–recall", classification.curves),
    "calibration": ("Calibration", trust.calibration),
    "abstention": ("Abstention", trust.abstention),
    "conformal": ("Conformal label sets", trust.conformal),
    "mistakes": ("Mistakes", examples.mistakes),
    "slices": ("Slices", examples.slices),
}


def robustness(found: Facts, path: str) -> Sequence[Block]:
    """The drop under each perturbation, with intervals."""
    rows = found.get("perturbations", [])
    metric = found.get("metric", "metric")
    names, ends = [row["name"] for row in rows], [(row["low"], row["high"]) for row in rows]
    table = [
        [
            row["name"],
            Num(row["value"], key=f"{path}.perturbations.{place}.value"),
            Interval(
                Num(row["drop"], "+.3f", f"{path}.perturbations.{place}.drop"),
                row["low"],
                row["high"],
                examples.low_high(f"{path}.perturbations.{place}"),
            ),
            "yes" if row["decided"] else "no",
            Num(row.get("changed"), ".1%", f"{path}.perturbations.{place}.changed"),
            Num(row.get("to_wrong"), ",.0f"),
            Num(row.get("to_right"), ",.0f"),
        ]
        for place, row in enumerate(rows)
    ]
    columns = ["perturbation", metric, "drop", "decided", "answers changed", "became wrong", "became right"]
    about = "A drop above 0 is worse. It is decided where its interval leaves out 0."
    chart = Bars(f"Drop of {metric}", names, [row["drop"] for row in rows], f"drop of {metric}", ends)
    lost = [examples.changed(row) for row in rows if row.get("examples")]
    return [*told(found), Paragraph([about], "quiet"), chart, Table("Every perturbation", columns, table), *lost]


def label_errors(found: Facts, path: str) -> Sequence[Block]:
    """Labels that look wrong: how many, of which classes, and the first of them."""
    rows = [
        [one.get("id", ""), one.get("label", ""), one.get("suggested", ""), Num(one.get("quality")), examples.text_of(one)]
        for one in found.get("examples", [])
    ]
    pairs = [[one["label"], one["suggested"], Num(one["n"], ",.0f")] for one in found.get("pairs", [])]
    blocks = list(told(found))
    if pairs:
        blocks.append(Table("Which labels look as if they should be others", ["label", "suggested", "examples"], pairs))
    if rows:
        columns = ["id", "label", "suggested", "quality", "text"]
        blocks.append(Table("Suspected labels, the most doubtful first", columns, rows, total=found.get("suspected")))
    return blocks


def learning_curve(found: Facts, path: str) -> Sequence[Block]:
    """The error by the number of labels, and the law that was fitted to it."""
    fitted, measured = ([_point(one) for one in found.get(name, [])] for name in ("curve", "points"))
    series = [
        Series("fitted", [point for point, _ in fitted], [ends for _, ends in fitted], "curve"),
        Series("measured", [point for point, _ in measured], [ends for _, ends in measured], "dots"),
    ]
    rows: list[list[Cell]] = []
    for place, ((size, error), (low, high)) in enumerate(measured):
        key = f"{path}.points.{place}"
        interval = Interval(Num(error, key=f"{key}.error"), low, high, (f"{key}.interval.0", f"{key}.interval.1"))
        rows.append([Num(size, ",.0f", f"{key}.size"), interval])
    chart = Lines("What more labels would bring", series, "labels", "error")
    return [*told(found), chart, Table("Error by number of labels", ["labels", "error"], rows)]


def _point(one: Facts) -> tuple[Point, Range]:
    low, high = one["interval"]
    return (one["size"], one["error"]), (low, high)


def near_duplicates(found: Facts, path: str) -> Sequence[Block]:
    """Examples of other splits that all but stand in the training data."""
    rows = []
    for place, one in enumerate(found.get("examples", [])):
        like, near = one["like"], Num(one["similarity"], key=f"{path}.examples.{place}.similarity")
        rows.append([one["split"], one["id"], near, *_labelled(one), like["id"], *_labelled(like)])
    columns = ["split", "id", "similarity", "label", "example", "id in train", "label in train", "example in train"]
    table = Table("Near duplicates of training examples", columns, rows, total=found.get("found"))
    return [*told(found), table] if rows else told(found)


def _labelled(one: Facts) -> tuple[str, str]:
    label = one.get("label", "")
    return ", ".join(label) if isinstance(label, list) else str(label), examples.text_of(one)


def metrics(found: Facts, path: str) -> Sequence[Block]:
    """The metrics of a set that is not the run's own."""
    return [views.metrics_table(found, path, f"Metrics, {found.get('n', 0):,} examples")]


_OF_THE_RUN: Mapping[str, tuple[str, View]] = {
    "label_errors": ("Suspected label errors", label_errors),
    "near_duplicates": ("Near duplicates", near_duplicates),
    "learning_curve": ("Learning curve", learning_curve),
}
OF_EACH_SET: Mapping[str, tuple[str, View]] = {**_OF_A_SET, "robustness": ("Robustness", robustness)}
"""The analyses of a labelled set by their names in analysis.json: title and view."""
_OTHER = "on-"
"""What names of sets that are not the run's own begin with."""
MOST_SETS = 3
"""Sets that are not the run's own, the last ones measured; more would make the page too large."""


def sections(facts: RunFacts) -> list[Section]:
    """Return a section for each analysis, those without a view of their own as plain tables, and one for each other set."""
    split = facts.measured or "test"
    found = [*_sections(facts.looked_at, OF_EACH_SET, f"analysis.{split}")]
    found += _sections(_of_the_run(facts.analysis), _OF_THE_RUN, "analysis")
    others = [name for name in facts.analysis if name.startswith(_OTHER)]
    for number, name in enumerate(others[-MOST_SETS:], 1):
        blocks = list[Block]()
        for part in _sections(facts.analysis[name], {"metrics": ("Metrics", metrics), **OF_EACH_SET}, f"analysis.{name}"):
            blocks += [Paragraph([Strong(part.title)]), *part.blocks]
        if len(others) > MOST_SETS and number == 1:
            blocks.insert(0, Paragraph([f"Of {len(others)} other sets the last {MOST_SETS} are shown."], "quiet"))
        found.append(Section(f"other-{number}", f"On other data: {name.removeprefix(_OTHER)}", blocks))
    return found


def _sections(analysis: Facts, known: Mapping[str, tuple[str, View]], path: str) -> Iterator[Section]:
    for name in [*(name for name in known if name in analysis), *(name for name in analysis if name not in known)]:
        title, view = known.get(name, (name.replace("_", " ").capitalize(), plainly))
        blocks = view(analysis[name], f"{path}.{name}") if isinstance(analysis[name], Mapping) else ()
        if blocks:
            yield Section(name.replace("_", "-"), title, list(blocks))


def _of_the_run(analysis: Facts) -> Facts:
    sets = ("test", "folds", "validation", "train")
    return {name: value for name, value in analysis.items() if name not in sets and not name.startswith(_OTHER)}
