"""Recipes as text: YAML 1.2 as recipes use it, read and written, and the table of all keys for the guide."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from thawline.recipe import names
from thawline.recipe.faults import expected, hint_of
from thawline.recipe.schema import Recipe

# YAML 1.2's plain values. PyYAML follows 1.1, where 1e-4 is text, no is false, 1:30 is 90 and 010 is 8.
_PLAIN = {
    "null": (re.compile(r"^(?:null|Null|NULL|~|)$"), ["n", "N", "~", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^[-+]?[0-9]{1,300}$"), list("-+0123456789")),
    "float": (
        re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
        list("-+.0123456789"),
    ),
}


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[tuple[int, str]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys are text as written, so that a class called 0 or no keeps its name."""
        found: dict[Any, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be one word", key.start_mark)
            if key.value in found:
                self.repeated.append((key.start_mark.line + 1, key.value))
            found[key.value] = self.construct_object(value, deep=deep)
        return found


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def parse_yaml(text: str) -> tuple[Any, list[tuple[int, str]]]:
    """Return the value of a YAML text and the keys that stand twice in one mapping, with their lines.

    Raises ValueError, whose message is "line N: what is wrong".

    >>> parse_yaml("train: {lr: 1e-4, eval_strategy: no}")
    ({'train': {'lr': 0.0001, 'eval_strategy': 'no'}}, [])
    """
    try:
        loader = _Loader(text)
        return loader.get_single_data(), loader.repeated
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"line {mark.line + 1 if mark else 1}: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"line {line}: the character {error.character!r} is not allowed") from None
    except RecursionError:
        raise ValueError("line 1: it is nested too deep") from None
    except (ValueError, KeyError, AttributeError):
        raise ValueError("line 1: a value does not suit the tag (!!) in front of it") from None


def parse_texts(text: str) -> Any:
    """Return the value of a YAML text in which every word is text. Raises ValueError.

    >>> parse_texts("[a, 1]")
    ['a', '1']
    """
    try:
        return yaml.BaseLoader(text).get_single_data()
    except (yaml.YAMLError, RecursionError):
        raise ValueError("line 1: a list has the form [a, b]") from None


def to_yaml(recipe: Recipe, comments: bool = False) -> str:
    """Return the recipe as YAML, every key with its canonical name; it loads back to the equal recipe.

    With `comments` each key's words and values stand above it.
    """
    blocks = [_section(name, getattr(recipe, name), comments) for name in names.SECTIONS]
    return ("\n" if comments else "").join(blocks)


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write the recipe as a file that says what it is in its first line. Raises OSError."""
    Path(path).write_text(f"# thawline recipe\n{to_yaml(recipe)}", encoding="utf-8")


def key_table() -> str:
    """Return a Markdown table of every key: its aliases, default, values and words."""
    rows = ["| key | default | values | what it is |", "|---|---|---|---|"]
    for section in names.SECTIONS:
        for key in names.fields(section) or [""]:
            field = names.fields(section).get(key) or Recipe.model_fields[section]
            also = [f"`{alias}`" for alias, name in names.ALIASES.get(section, {}).items() if name == key]
            path = f"`{section}{'.' if key else ''}{key}`" + (f" ({', '.join(also)})" if also else "")
            default = "required" if field.is_required() else f"`{_dump(field.default)}`"
            rows.append(f"| {path} | {default} | {expected(hint_of(section, key))} | {field.description} |")
    return "\n".join(rows) + "\n"


def _section(name: str, value: Any, comments: bool) -> str:
    head = _comment(Recipe.model_fields[name].description or "") if comments else ""
    if name in names.WHOLE:
        return f"{head}{_dump({name: value}, flow=False)}\n"
    body = ""
    for key, field in names.fields(name).items():
        words = _comment(f"{field.description} ({expected(hint_of(name, key))})") if comments else ""
        body += f"{words}{_dump({key: getattr(value, key)}, flow=False)}\n"
    return f"{head}{name}:\n{textwrap.indent(body, '  ')}"


def _comment(words: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(words, 100))


def _dump(value: Any, *, flow: bool = True) -> str:
    wide = float("inf")
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=flow, sort_keys=False, allow_unicode=True, width=wide)
    return text.removesuffix("...\n").strip("\n")
