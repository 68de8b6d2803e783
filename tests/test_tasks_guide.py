"""docs/guides/tasks.md: what it shows of each task is so."""

import doctest
import re
from pathlib import Path

import pytest

from thawline.recipe import load_recipe
from thawline.tasks.base import TASKS

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "tasks.md"
SECTIONS = {part.splitlines()[0]: part for part in GUIDE.read_text("utf-8").split("\n## ")[1:]}


def test_there_is_a_section_for_each_task() -> None:
    assert set(TASKS) - {"text-classification"} <= set(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_examples_say_what_happens(name: str) -> None:
    test = doctest.DocTestParser().get_doctest(SECTIONS[name], {}, "tasks.md", str(GUIDE), 0)
    assert doctest.DocTestRunner().run(test).failed == 0
    for block in re.findall(r"^```python\n(.*?)^```", SECTIONS[name], re.MULTILINE | re.DOTALL):
        assert ">>>" in block, "a block that nothing runs"


@pytest.mark.parametrize("name", SECTIONS)
def test_recipes_are_recipes(name: str, tmp_path: Path) -> None:
    for recipe in re.findall(r"^```yaml\n(.*?)^```", SECTIONS[name], re.MULTILINE | re.DOTALL):
        (tmp_path / "recipe.yaml").write_text(recipe)
        assert load_recipe(tmp_path / "recipe.yaml").task.name in (name, "auto")
