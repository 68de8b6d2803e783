"""From files, `key=value` and Python arguments to one Recipe, with every fault told at once.

What is given comes in layers: the file or mapping, then Python arguments, then `key=value`. A layer holds canonical keys,
and the later layer wins; within one layer a key is given once, under one name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from thawline.errors import RecipeError, did_you_mean
from thawline.recipe import names
from thawline.recipe.faults import faults_of, hint_of, shown
from thawline.recipe.forms import whole
from thawline.recipe.lists import listed, why_fixed
from thawline.recipe.schema import REPLACED_BY, Recipe
from thawline.recipe.text import parse_texts, parse_yaml

_BATCH = ("train", "per_device_train_batch_size")


class _Given(NamedTuple):
    value: Any
    path: str  # as it was typed


_Layer = dict[tuple[str, str], _Given]


def load_recipe(path: str | Path, overrides: Sequence[str] = (), **sections: Any) -> Recipe:
    """Return the recipe in a YAML file, under Python arguments `sections`, under `key=value` texts `overrides`.

    Raises RecipeError with every fault of all three.
    """
    mapping, faults = _read(Path(path))
    return _build(mapping, overrides, sections, faults=faults)


def recipe_from(mapping: Mapping[str, Any] | Recipe, overrides: Sequence[str] = (), **sections: Any) -> Recipe:
    """Return the recipe of a mapping of sections (or another recipe), changed as in `load_recipe`. Raises RecipeError.

    >>> recipe = recipe_from({"data": "reviews.csv", "train": {"lr": 1e-4}}, ["epochs=5", "strategy=freeze(0.5)"], seed=1)
    >>> recipe.train.num_train_epochs, recipe.train.learning_rate, recipe.train.seed, recipe.strategy
    (5.0, 0.0001, 1, 'freeze(0.5)')
    """
    return _build(_mapping(mapping), overrides, sections, faults=[])


def python_arguments(**arguments: Any) -> dict[str, Any]:
    """Return arguments as a mapping for `recipe_from`: bare keys move to their section, aliases become canonical.

    Raises RecipeError for a name that no section has, or that several have.

    >>> python_arguments(model="bert-base-uncased", epochs=3, seed=0)
    {'model': {'name': 'bert-base-uncased'}, 'train': {'num_train_epochs': 3, 'seed': 0}}
    """
    faults: list[str] = []
    layer = _layer(arguments.items(), faults, bare=True)
    if faults:
        raise RecipeError(faults)
    # batch_size keeps its name: what it divides by may come from another layer.
    return _nested({(s, "batch_size" if g.path == "train.batch_size" else key): g for (s, key), g in layer.items()})


def _build(mapping: Mapping[str, Any], overrides: Sequence[str], sections: Mapping[str, Any], *, faults: list[str]) -> Recipe:
    layer: _Layer = {}
    pairs = [pair for text in overrides for pair in _override(text, faults)]
    for items, bare in ((mapping.items(), False), (sections.items(), True), (pairs, True)):
        layer = _under(layer, _layer(items, faults, bare=bare))
    _divide_batch(layer, faults)
    try:
        recipe = Recipe.model_validate({"data": {}, **_nested(layer)})
    except ValidationError as error:
        raise RecipeError([*faults, *faults_of(error, layer)]) from None
    if faults:
        raise RecipeError(faults)
    return recipe


def _read(path: Path) -> tuple[Mapping[str, Any], list[str]]:
    try:
        value, repeated = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        hint = did_you_mean(path.name, (near.name for near in path.parent.glob("*.y*ml"))) or "."
        raise _unreadable(f"{path}: there is no such file{hint} Expected a recipe; thawline init DATA writes one.") from None
    except OSError as error:
        raise _unreadable(f"{path}: cannot be read ({error.strerror}); expected a recipe, a YAML file.") from None
    except UnicodeDecodeError as error:
        raise _unreadable(f"{path}: byte {error.start} is not UTF-8; expected a recipe, a YAML file saved as UTF-8.") from None
    except ValueError as error:
        line, _, problem = str(error).partition(": ")
        wanted = "KEY: VALUE, with spaces in front, and quotes around values that hold brackets or colons"
        raise _unreadable(f"{path}, {line}: this is not YAML ({problem}); expected {wanted}.") from None
    faults = [f"{path}, line {line}: {key} stands twice; expected once; leave one out." for line, key in repeated]
    if value is not None and not isinstance(value, Mapping):
        raise _unreadable(f"{path}: {shown(value)} stands there; expected sections with keys: {', '.join(names.SECTIONS)}.")
    return value or {}, faults


def _unreadable(fault: str) -> RecipeError:
    return RecipeError([fault])


def _override(text: str, faults: list[str]) -> Iterator[tuple[str, Any]]:
    path, sign, value = (part.strip() for part in text.partition("="))
    if not sign or not path:
        faults.append(f"{text}: is not KEY=VALUE; expected for example train.epochs=3.")
        return
    if path in names.BARE and not value.startswith("{"):
        path = f"{path}.{names.BARE[path]}"
    try:
        yield path, _value(path, value)
    except ValueError as error:
        problem = str(error).partition(": ")[2]
        faults.append(f"{path}: {value!r} cannot be read ({problem}); expected one value, in quotes where it has brackets.")


def _value(path: str, text: str) -> Any:
    """Typed as YAML, but where a key takes text the text as it stands: a revision 1e5 or a column 0 is a name."""
    if path.startswith(f"{names.VARY}."):
        return _values(path.partition(".")[2], text)
    home, key = path.split(".", 1) if "." in path else (([*names.sections_of(path), ""])[0], path)
    if path in names.WHOLE and path != names.VARY:
        return text
    if home in names.SECTIONS and names.canonical(home, key) in names.fields(home):
        hint = hint_of(home, names.canonical(home, key))
        kinds = _kinds(hint)
        if str in kinds and not text.startswith("["):
            return None if type(None) in kinds and text in ("", "null", "~") else text
        if list[str] in kinds:
            return parse_texts(text)
    value, repeated = parse_yaml(text)
    if repeated:
        raise ValueError(f"line 1: {repeated[0][1]} stands twice")
    return value


def _values(path: str, text: str) -> Any:
    """Typed as the key's own values are: where it takes text, every word in the list is text."""
    path = f"{path}.{names.BARE[path]}" if path in names.BARE else path
    home, key = path.split(".", 1) if "." in path else (([*names.sections_of(path), ""])[0], path)
    known = path in names.WHOLE or names.canonical(home, key) in (names.fields(home) if home in names.SECTIONS else ())
    kinds = {str} if path in names.WHOLE else _kinds(hint_of(home, names.canonical(home, key))) if known else set()
    if text.startswith("[") and ({str, list[str]} & kinds):
        return [None if value == "null" and type(None) in kinds else value for value in parse_texts(text)]
    return parse_yaml(text)[0]


def _kinds(hint: Any) -> set[Any]:
    inner = () if get_origin(hint) in (list, dict) else get_args(hint)
    return {hint}.union(*map(_kinds, inner))


def _mapping(value: Any) -> Any:
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value


def _layer(items: Iterable[tuple[str, Any]], faults: list[str], *, bare: bool) -> _Layer:
    layer: _Layer = {}
    for name, value in items:
        for section, key, inner in _entries(str(name), _mapping(value), faults, bare=bare):
            path = f"{section}.{key}" if key else section
            place = section, _canonical(section, key, inner)
            if section not in names.WHOLE and place[1] not in names.fields(section):
                faults.append(names.unknown(path))
            elif place in layer:
                twice = "twice" if path == layer[place].path else f"as {layer[place].path} too"
                faults.append(f"{path}: is given {twice}; expected once; leave one out.")
            else:
                layer[place] = _Given(inner, path)
    return layer


def _entries(path: str, value: Any, faults: list[str], *, bare: bool) -> Iterator[tuple[str, str, Any]]:
    section, dot, key = path.partition(".")
    if section == names.VARY:
        yield from _varied({key: value} if dot else value, faults)
        return
    homes = names.sections_of(path) if bare else []
    if dot and section in names.SECTIONS and section not in names.WHOLE:
        yield section, key, value
    elif path in names.WHOLE:
        yield path, "", value
    elif path in names.SECTIONS and isinstance(value, Mapping):
        yield from ((path, str(key), inner) for key, inner in value.items())
    elif path in names.BARE and value is not None:
        yield path, names.BARE[path], value
    elif path in names.SECTIONS and value is not None:
        example = next(iter(names.fields(path)))
        faults.append(f"{path}: {shown(value)} was given; expected keys with values, for example {path}.{example}=...")
    elif len(homes) == 1:
        yield homes[0], path, value
    elif len(homes) > 1:
        faults.append(f"{path}: stands in several sections; type {' or '.join(f'{home}.{path}' for home in homes)}.")
    elif path not in names.SECTIONS:
        faults.append(names.unknown(path))


def _varied(value: Any, faults: list[str]) -> Iterator[tuple[str, str, Any]]:
    """Entries of `vary`: keys of other sections, each with a list of values."""
    if not isinstance(value, Mapping):
        example = "expected keys with lists of values, for example vary.train.lr=[1e-4, 3e-4]."
        faults += [f"vary: {shown(value)} was given; {example}"] if value is not None else []
        return
    own: list[str] = []
    for name, inner in value.items():
        if str(name).partition(".")[0] == names.VARY:
            own.append(
                f"{name}: there is no such key; expected vary.KEY=[VALUE, VALUE], for example vary.train.lr=[1e-4, 3e-4]."
            )
            continue
        for section, key, values in _entries(str(name), inner, own, bare=True):
            path = f"{section}.{key}" if key else section
            if section not in names.WHOLE and names.canonical(section, key) not in {*names.fields(section), "warmup"}:
                own.append(names.unknown(path))
            elif why := why_fixed(section, names.canonical(section, key)):
                own.append(f"{path}: cannot vary: {why}.")
            else:
                try:
                    yield names.VARY, path, listed(path, values)
                except ValueError as error:
                    own.append(f"{path}: {error}.")
    faults += [f"vary.{fault}" for fault in own]


def _canonical(section: str, key: str, value: Any) -> str:
    if section == names.VARY:
        home, _, name = key.rpartition(".")
        # What these two stand for depends on the value, and on other keys.
        return key if name in ("batch_size", "warmup") or not home else f"{home}.{names.canonical(home, name)}"
    if (section, key) == ("train", "warmup") and isinstance(value, int | float) and value >= 1:
        return "warmup_steps"
    return names.canonical(section, key)


def _under(old: _Layer, new: _Layer) -> _Layer:
    rivals = [pair for one, other in REPLACED_BY.items() for pair in ((one, other), (other, one))]
    gone = {("train", other) for one, other in rivals if ("train", one) in new}
    return {place: given for place, given in old.items() if place not in gone} | new


def _divide_batch(layer: _Layer, faults: list[str]) -> None:
    given, steps = layer.get(_BATCH), layer.get(("train", "gradient_accumulation_steps"))
    if given is None or given.path != "train.batch_size" or steps is None:
        return
    size, parts = whole(given.value), whole(steps.value)
    if type(size) is not int or type(parts) is not int or size < 1 or parts < 1:
        return  # the schema tells which
    if size % parts:
        faults.append(
            f"train.batch_size: {size} examples a step cannot be cut into {parts} equal parts ({steps.path});"
            f" expected a multiple; for example train.batch_size={-(-size // parts) * parts}."
        )
    layer[_BATCH] = _Given(max(1, size // parts), given.path)


def _nested(layer: _Layer) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for (section, key), given in layer.items():
        if key:
            nested.setdefault(section, {})[key] = given.value
        elif given.value is not None:
            nested[section] = given.value
    return nested
