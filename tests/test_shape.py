"""The shape of the code: sizes, layers, words that must not occur, and what an import costs."""

import ast
import importlib
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_ARGUMENTS = 7
MAX_POSITIONAL = 3

# A layer imports itself and earlier rows; layers of one row do not know one another.
LAYERS = [
    {"version"},
    {"types"},
    {"errors"},
    {"calls"},
    {"table"},
    {"memory"},
    {"data", "models"},
    {"thaw"},
    {"tasks"},
    {"strategies", "regularize"},
    {"train"},
    {"evaluate"},
    {"report"},
    {"improve"},
    {"deploy"},
    {"recipe"},
    {"run"},
    {"cli", "estimator", "testing"},
    {"__init__", "__main__"},
]
RANK = {layer: rank for rank, layers in enumerate(LAYERS) for layer in layers}

UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "torch.save", "torch.load", "yaml.unsafe_load", "pandas.read_pickle"}

# Bases that document nothing about the methods of a class.
ROOTS = {"ABC", "Generic", "NamedTuple", "Protocol", "TypedDict", "BaseModel", "Enum", "StrEnum"}

SOURCE = Path(__file__).resolve().parents[1] / "src" / "thawline"
FILES = sorted(SOURCE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())


@each_file
def test_module_is_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_MODULE_LINES, "cut the module where its two jobs meet"


@each_file
def test_functions_are_small(path: Path) -> None:
    source = path.read_text("utf-8")
    code = code_lines(source)
    sizes = {f"{f.name} (line {f.lineno})": size(f, code) for f in functions(ast.parse(source))}
    assert {name: lines for name, lines in sizes.items() if lines > MAX_FUNCTION_LINES} == {}


@each_file
def test_functions_take_few_arguments(path: Path) -> None:
    faults = []
    for f in functions(ast.parse(path.read_text("utf-8"))):
        positional = [a for a in f.args.posonlyargs + f.args.args if a.arg not in {"self", "cls"}]
        if len(positional) > MAX_POSITIONAL and not f.name.startswith("__"):  # the form of those is Python's, or a library's
            faults.append(f"{f.name} (line {f.lineno}): {positional[MAX_POSITIONAL].arg} must be keyword-only")
        if len(positional) + len(f.args.kwonlyargs) > MAX_ARGUMENTS:
            faults.append(f"{f.name} (line {f.lineno}): more than {MAX_ARGUMENTS} arguments; bundle some")
    assert faults == []


@each_file
def test_imports_go_downwards(path: Path) -> None:
    own = layer_of(path.relative_to(SOURCE))
    assert own in RANK, f"{own} has no place in LAYERS"
    tree = ast.parse(path.read_text("utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level] == [], "relative import"
    upwards = {layer for layer in imported_layers(tree) if layer != own and RANK[layer] >= RANK[own]}
    assert upwards == set(), f"{own} comes before them"


@each_file
def test_public_things_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "the module has none"
    assert [node.name for node in public(tree.body) if not ast.get_docstring(node)] == []


@each_file
def test_nothing_runs_what_it_reads(path: Path) -> None:
    """No pickle in any of its clothes, no eval, no exec: a recipe, a data set or a checkpoint cannot bring code."""
    tree = ast.parse(path.read_text("utf-8"))
    modules = {name.partition(".")[0] for name in imported_names(tree)}
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = set(imported_names(tree))
    allowing = {k.arg for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords if is_true(k.value)} & {
        "allow_pickle"
    }
    assert (modules & UNSAFE_MODULES) | (calls & UNSAFE_CALLS) | (names & UNSAFE_CALLS) | allowing == set()


@each_file
def test_only_tasks_know_which_task_it_is(path: Path) -> None:
    """But for two texts: the hub's tags in a model card, and a hint."""
    if path.relative_to(SOURCE).parts[0] == "tasks" or path.relative_to(SOURCE).as_posix() in (
        "report/card.py",
        "data/check.py",
    ):
        return
    texts = {
        n.value
        for n in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    assert [text for text in texts if text in importlib.import_module("thawline.tasks.base").TASKS] == []


def test_public_names_resolve_and_are_documented() -> None:
    thawline = importlib.import_module("thawline")
    assert len(set(thawline.__all__)) == len(thawline.__all__)
    bare = [name for name in thawline.__all__ if callable(thing := getattr(thawline, name)) and not thing.__doc__]
    assert bare == []
    assert set(thawline.__all__) <= set(dir(thawline))


@pytest.mark.parametrize("module", ["thawline", "thawline.cli", "thawline.recipe"])
def test_import_is_light(module: str) -> None:
    script = f"import sys, {module}; print(*{{'torch', 'transformers', 'sklearn', 'pandas', 'datasets'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


SAMPLE = '''
from thawline.data import read
import thawline.train.loop as loop
from thawline import finetune

def outer(a, *, b):
    """Two lines
    of docstring."""

    # a comment
    def inner():
        """Doc."""
        return (
            a
        )
    return inner
'''


def test_the_measures_themselves() -> None:
    tree = ast.parse(SAMPLE)
    assert [size(f, code_lines(SAMPLE)) for f in functions(tree)] == [6, 4]
    assert set(imported_layers(tree)) == {"data", "train", "__init__"}


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Public functions and classes, and the public methods that a class does not inherit the meaning of."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef) and {ast.unparse(base).partition("[")[0] for base in node.bases} <= ROOTS:
                yield from public(node.body)


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that hold code: not blank, not only a comment."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {line for t in tokens if t.type not in silent for line in range(t.start[0], t.end[0] + 1)}


def size(function: Function, code: set[int]) -> int:
    """Lines of code from `def` to the end, without docstrings."""
    lines = code & set(range(function.lineno, (function.end_lineno or 0) + 1))
    for node in ast.walk(function):
        if isinstance(node, Function | ast.ClassDef) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def layer_of(path: Path) -> str:
    """`data/read.py` is of the layer data, `types.py` of the layer types."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imported_names(tree: ast.AST) -> Iterator[str]:
    """The dotted names of all that is imported anywhere in the module, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_layers(tree: ast.AST) -> Iterable[str]:
    """The layers of ours that a module imports; a name taken from the package itself is of the topmost one."""
    for name in imported_names(tree):
        first, _, rest = name.partition(".")
        if first == "thawline":
            layer = rest.partition(".")[0]
            yield layer if layer in RANK else "__init__"


def is_true(node: ast.expr) -> bool:
    """Whether the expression is the constant True."""
    return isinstance(node, ast.Constant) and node.value is True
