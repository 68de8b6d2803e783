"""The call form in which recipes name parts with arguments: `gradual(layerwise(full, decay=0.9), until=0.5)`.

It is parsed and never evaluated: names, calls, numbers, strings, lists, true, false and null are all there is.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from thawline.errors import UserError, did_you_mean

T = TypeVar("T")

_WORDS = {"true": True, "false": False, "null": None, "none": None, "True": True, "False": False, "None": None}
# A string, or else the name of a part of the user's own.
_OWN = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([A-Za-z_][\w.]*):([A-Za-z_]\w*)""")
_MARK = "__of__"


@dataclass(frozen=True)
class Call:
    """A name with its arguments. `str(call)` is the canonical form, which parses to the same call again.

    >>> str(parse_call(" gradual( layerwise(full,decay = .9), until=0.5 ) "))
    'gradual(layerwise(full, decay=0.9), until=0.5)'
    >>> str(parse_call("my.parts:thing(2)"))
    'my.parts:thing(2)'
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        inside = [_text(value) for value in self.args] + [f"{key}={_text(value)}" for key, value in self.kwargs]
        return f"{self.name}({', '.join(inside)})" if inside else self.name


def parse_call(text: str) -> Call:
    """Parse a call form; raises UserError that shows what was read and what was expected."""
    source = _OWN.sub(lambda m: m[1] or f"{m[2]}.{_MARK}.{m[3]}", text.strip())
    try:
        value = _value(ast.parse(source, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{text[:200]!r} is not a name or a call such as layerwise(full, decay=0.9) ({error}).") from None
    if not isinstance(value, Call):
        raise UserError(f"{text[:200]!r} is a bare value; expected a name or a call such as layerwise(full, decay=0.9).")
    return value


def make(call: Call, maker: Callable[..., T], kind: str, *, argument: Callable[[Any], Any] = lambda value: value) -> T:
    """Call `maker` with the arguments of `call`, each turned by `argument`; raises UserError where they do not fit it.

    `kind` is what the maker must be declared to return: a recipe may come from anybody, and must not be able to call whatever
    function it names.

    >>> def power(base, *, exponent=2) -> Number:
    ...     return base**exponent
    >>> make(parse_call("power(3)"), power, "Number")
    9
    >>> make(parse_call("power(3, exponnt=3)"), power, "Number")
    Traceback (most recent call last):
    thawline.errors.UserError: power has no argument 'exponnt', did you mean 'exponent'? It is power(base, exponent=2).
    >>> make(parse_call("os:system('true')"), __import__("os").system, "Number")
    Traceback (most recent call last):
    thawline.errors.UserError: os:system is not declared to return a Number, so it is not called.
    """
    try:
        known = inspect.signature(maker)
    except (TypeError, ValueError):
        known = inspect.Signature()
    declared = known.return_annotation
    if not str(getattr(declared, "__name__", declared)).endswith(kind):
        raise UserError(f"{call.name} is not declared to return a {kind}, so it is not called.")
    bare = [p.replace(annotation=p.empty) for p in known.parameters.values()]
    form = call.name + str(inspect.Signature(bare)).replace("*, ", "")
    for key, _ in call.kwargs:
        if key not in known.parameters:
            hint = did_you_mean(key, known.parameters)
            raise UserError(f"{call.name} has no argument {key!r}{hint or '.'} It is {form}.")
    args, kwargs = [argument(value) for value in call.args], {key: argument(value) for key, value in call.kwargs}
    try:
        known.bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(f"{call} does not fit {form}: {error}.") from None
    return maker(*args, **kwargs)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=float(value)) if not math.isfinite(value):
            raise ValueError(f"{ast.unparse(node)} is too large a number")
        case ast.Constant(value=value) if value is None or isinstance(value, (bool, int, float, str)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(value, (int, float)):
            return -value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part) for part in parts]
        case ast.Name(id=name) if name in _WORDS:
            return _WORDS[name]
        case ast.Name() | ast.Attribute():
            return Call(_name(node))
        case ast.Call(func=function, args=args, keywords=keywords):
            names = [_key(keyword) for keyword in keywords]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{', '.join(sorted(twice))} is given twice")
            values = [_value(keyword.value) for keyword in keywords]
            return Call(_name(function), tuple(map(_value, args)), tuple(zip(names, values, strict=True)))
    raise ValueError(f"{ast.unparse(node)} is not allowed in it")


def _key(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError("** is not allowed in it")
    return keyword.arg


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=name):
            return f"{_name(inner)}.{name}".replace(f".{_MARK}.", ":")
    raise ValueError(f"{ast.unparse(node)} is not a name")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, (bool, type(None))):
        return {True: "true", False: "false", None: "null"}[value]
    return repr(value) if isinstance(value, str) else str(value)
