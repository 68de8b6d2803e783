"""HTML and SVG made so that nothing of the user's can become markup: whatever is not `Html` already is escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from html import escape
from typing import Any, TypeAlias, final


@final
class Html(str):
    """Text that is markup already."""


Child: TypeAlias = "str | float | Iterable[Child] | None"
"""What stands in an element: markup as it is, other text escaped, None left out, several one after the other."""

_EMPTY = {"meta", "link", "br", "img"}
# HTML has no way to write these, not even as a character reference, and half a surrogate pair cannot be encoded at all.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def element(tag: str, *children: Child, **attributes: Any) -> Html:
    """Return an element; `class_` stands for class, `data_value` for data-value; None and False leave an attribute out.

    >>> element("p", "a < b ", element("b", "c"), class_="note", hidden=True)
    '<p class="note" hidden>a &lt; b <b>c</b></p>'
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items() if value is not None and value is not False)
    opening = f"<{tag}{written}>"
    return Html(opening if tag in _EMPTY else f"{opening}{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Return children one after the other.

    >>> join("<", [Html("<br>"), None], 2)
    '&lt;<br>2'
    """
    return Html("".join(_written(child) for child in children))


def number(value: float, digits: int = 1) -> str:
    """Return a number as an SVG coordinate: short, never "nan".

    >>> number(12.04), number(3.0), number(-0.01), number(float("nan"))
    ('12', '3', '0', '0')
    """
    text = f"{value:.{digits}f}" if math.isfinite(value) else "0"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _attribute(name: str, value: Any) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_clean(number(value) if isinstance(value, float) else str(value))}"'


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, (str, int, float)):
        return _clean(str(child))
    return join(*child)


def _clean(text: str) -> str:
    return escape(_UNWRITABLE.sub("\ufffd", text))
