"""What `thawline init` writes: a recipe for some data, with what was inferred filled in and every key explained."""

from __future__ import annotations

from pathlib import Path

from thawline.cli.show import say
from thawline.errors import DataError, UserError
from thawline.types import LISTED

_HEAD = """\
# thawline recipe for {data}
# To carry it out, type: thawline train {path}
# Every setting is here with its default; what is left out keeps it. The values that are allowed stand in brackets.

"""


def write_template(data: str, output: Path) -> None:
    """Write a commented recipe for `data` to `output`; raises UserError where a file is there, or the data has no labels."""
    if output.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(
            f"A recipe is a file that ends in .yaml, and {str(output)!r} does not; type --output {output.stem}.yaml"
        )
    if output.exists():
        raise UserError(f"{output} is there already, and nothing is written over; give another name with --output.")
    text = _HEAD.format(data=data, path=output) + template(data)
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileNotFoundError:
        raise UserError(f"There is no folder {output.parent} to write {output.name} into.") from None


def template(data: str) -> str:
    """Return the recipe as YAML with comments; findings that would stop the training are said, not raised."""
    from thawline.recipe import recipe_from, to_yaml
    from thawline.run.data import dataset_of
    from thawline.tasks.base import task_for

    recipe = recipe_from({"data": {"path": data}})
    dataset = dataset_of(recipe)
    for finding in dataset.findings:
        if finding.level not in ("note", LISTED):
            say(f"{finding.level}: {finding.text}")
    columns = dataset.columns
    if columns.problem == "unlabelled":
        raise DataError("No column holds labels, so there is nothing to learn. See: thawline check")
    inputs = columns.inputs[0] if len(columns.inputs) == 1 else list(columns.inputs)
    label = columns.label if columns.label is None or isinstance(columns.label, str) else list(columns.label)
    filled = {columns.kind: inputs, "label": label, "id": columns.id, "weight": columns.weight}
    known = {key: value for key, value in filled.items() if value is not None}
    task = {"name": task_for(columns.kind, columns.target), "problem": columns.problem if columns.plainly else "auto"}
    return to_yaml(recipe_from(recipe, task=task, data=known), comments=True)
