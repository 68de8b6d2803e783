"""Names of parts, the call form, and what is said when one is mistyped."""

import keyword
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawline import errors
from thawline.calls import Call, parse_call
from thawline.errors import RecipeError, ThawlineError, UserError, did_you_mean
from thawline.table import Table

PARTS: Table[object] = Table("codec", {"json": "json:dumps", "sqrt": "math:sqrt", "gone": "json:no_such_thing"})


def test_table_gives_the_object_and_imports_it_only_then() -> None:
    assert PARTS["sqrt"] is math.sqrt
    assert list(PARTS) == ["json", "sqrt", "gone"]
    assert "json" in PARTS
    assert "yaml" not in PARTS


def test_table_takes_parts_of_ones_own() -> None:
    assert PARTS["math:floor"] is math.floor


def test_table_says_what_it_knows_and_what_was_meant() -> None:
    with pytest.raises(
        UserError, match=r"no codec called 'jsom', did you mean 'json'\? Known: json, sqrt, gone;.*package\.module:object"
    ):
        PARTS["jsom"]
    with pytest.raises(UserError, match=r"no codec called 'qqqq'\. Known:"):
        PARTS["qqqq"]


@pytest.mark.parametrize("place", ["no.such.module:thing", "math:no_such_thing", "gone", "math:"])
def test_table_says_what_cannot_be_imported(place: str) -> None:
    with pytest.raises(UserError, match=r"cannot be imported .*expected package\.module:object"):
        PARTS[place]


@pytest.mark.parametrize("place", [":sqrt", ".sibling:thing"])
def test_table_says_so_too_of_an_odd_module_name(place: str) -> None:
    with pytest.raises(UserError, match="cannot be imported"):
        PARTS[place]


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("full", Call("full")),
        ("full()", Call("full")),
        (" freeze( 4 ) ", Call("freeze", (4,))),
        ("freeze(0.5)", Call("freeze", (0.5,))),
        ("layerwise(full, decay=.9)", Call("layerwise", (Call("full"),), (("decay", 0.9),))),
        ("d(full, rates=[1e-5, 2])", Call("d", (Call("full"),), (("rates", [1e-5, 2]),))),
        ("f(true, null, -1, 'a b')", Call("f", (True, None, -1, "a b"))),
        ("my.parts:thing(other:part)", Call("my.parts:thing", (Call("other:part"),))),
        ("f(pattern='a:b')", Call("f", (), (("pattern", "a:b"),))),
    ],
)
def test_call_form_is_read(text: str, call: Call) -> None:
    assert parse_call(text) == call


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "'full'",
        "full(",
        "f(1))",
        "f(1)(2)",
        "f(*x)",
        "f(**x)",
        "f(1 + 1)",
        "f({1: 2})",
        "f(b'')",
        "a; b",
        "a\nb",
        "x[0]",
    ],
)
def test_call_form_refuses_the_rest(text: str) -> None:
    with pytest.raises(UserError, match=r"(expected|is not) a name or a call"):
        parse_call(text)


@pytest.mark.parametrize(
    "text", ["f(lambda: 1)", "f(x for x in y)", "__import__('os').system('ls')", "\0", "C:\\full", "-full"]
)
def test_call_form_refuses_code(text: str) -> None:
    with pytest.raises(UserError, match="is not a name or a call"):
        parse_call(text)


def test_call_form_does_not_run_anything() -> None:
    assert parse_call("exit(1)") == Call("exit", (1,))


def test_colon_in_a_string_stays() -> None:
    assert parse_call("f('see a:b')") == Call("f", ("see a:b",))


def test_repeated_argument_is_refused() -> None:
    with pytest.raises(UserError, match="decay"):
        parse_call("layerwise(full, decay=0.9, decay=0.5)")


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True).filter(
    lambda n: not keyword.iskeyword(n) and n not in {"true", "false", "null", "none"}
)
PLACES = NAMES | st.builds(lambda a, b, c: f"{a}.{b}:{c}", NAMES, NAMES, NAMES)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text().filter(lambda t: ":" not in t)
)


def calls(inner: st.SearchStrategy[object]) -> st.SearchStrategy[Call]:
    keywords = st.dictionaries(NAMES, inner, max_size=2).map(lambda d: tuple(d.items()))
    return st.builds(Call, PLACES, st.lists(inner | st.lists(inner, max_size=2), max_size=2).map(tuple), keywords)


@given(calls(st.recursive(PLAIN, lambda inner: calls(inner), max_leaves=6)))
def test_canonical_form_is_read_back(call: Call) -> None:
    assert parse_call(str(call)) == call


def test_did_you_mean() -> None:
    assert did_you_mean("Epoch", ["seed", "epochs"]) == ", did you mean 'epochs'?"
    assert did_you_mean("LR", ["lr"]) == ", did you mean 'lr'?"
    assert did_you_mean("x", []) == ""


def test_recipe_error_keeps_every_fault() -> None:
    error = RecipeError(fault for fault in ("train.epochs: a", "data.text: b"))
    assert error.faults == ("train.epochs: a", "data.text: b")
    assert str(error) == "train.epochs: a\ndata.text: b"


def test_exit_codes_follow_the_tree() -> None:
    tree = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, ThawlineError)]
    assert {e.exit_code for e in tree if not issubclass(e, UserError)} == {1}
    assert {e.exit_code for e in tree if issubclass(e, UserError)} == {2}
    assert errors.__doc__ is not None
    assert [e.__name__ for e in tree if e.__name__ not in errors.__doc__] == []
