"""README.md and the guide to the command line: every block runs, and the outputs shown have the shape of real ones."""

import contextlib
import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from thawline.cli import main

ROOT = Path(__file__).parents[1]
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "guides" / "command-line.md"
SMALL = ["train.max_steps=2", "data.max_train_samples=64", "data.max_eval_samples=64", "evaluate.bootstrap_samples=20"]
WORDS = ["lovely", "dull", "warm", "noisy"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run(words: list[str], stdin: bytes = b"") -> Done:
    """Run a command in this process, which is many times quicker than in one of its own."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        sys.stdin = before
    return Done(code, out.getvalue(), err.getvalue())


def shell(line: str) -> None:
    """Run a line of a block: `make TARGET`, or `[COMMAND |] thawline ... [> FILE] [2>> FILE]`, training for a step only."""
    if line.startswith("make "):
        assert f"\n{line.removeprefix('make ')}: setup" in (ROOT / "Makefile").read_text("utf-8")
        return
    before, _, command = line.rpartition(" | ")
    stdin = subprocess.run(["bash", "-c", before], capture_output=True, check=True).stdout if before else b""
    name, *words = shlex.split(command)
    assert name == "thawline", line
    end = next((place for place, word in enumerate(words) if word in {">", "2>>"}), len(words))
    quick = ["evaluate.bootstrap_samples=20"] if words[0] == "train" else []
    quick += ["train.max_steps=1"] if quick and not re.search("epochs|max_steps", line) else []
    done = run([*words[:end], *quick], stdin)
    assert done.code == 0, f"{line}\n{done.err}"
    for sign, file in zip(words[end::2], words[end + 1 :: 2], strict=True):
        Path(file).write_text({">": done.out, "2>>": done.err}[sign])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minilm: Path) -> Path:
    """A folder with reviews.csv in it, to work in."""
    rows = [f"a {WORDS[i % 4]} film number {i},{('good', 'bad')[i % 2]}\n" for i in range(40)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "".join(rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", [README, GUIDE], ids=["README", "command-line"])
def test_commands(place: Path, path: Path) -> None:
    lines = [line for block in blocks(path, "bash") for line in block.splitlines()]
    assert len(lines) >= 6
    for line in lines:
        shell(line)


@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_python(place: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    script = place / "block.py"
    script.write_text(blocks(README, "python")[number])
    runpy.run_path(str(script))
    assert capsys.readouterr().out


def test_quickstart_says_what_the_readme_shows(place: Path) -> None:
    screen = io.StringIO()  # both streams in the order in which a terminal shows them
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        code = main(["quickstart", *SMALL])
    seen = screen.getvalue()
    assert code == 0, seen
    (shown,) = blocks(README, "text")
    assert shape(shown) == shape(seen[seen.index("test, n = ") :])
    assert (place / "runs" / "quickstart-1" / "metrics.json").is_file()


def shape(text: str) -> list[str]:
    """Lines without what differs from run to run: numbers, labels, verdicts, and how wide columns are."""
    kinds = [("positive|negative|neutral", "LABEL"), (r"(?<!\w)[+-]?\d+([,.]\d+)*", "#"), (r"; .*", ""), (r"\s+", " ")]
    lines = text.strip().splitlines()
    for pattern, kind in kinds:
        lines = [re.sub(pattern, kind, line).strip() for line in lines]
    return [line for line in lines if line]


def test_the_shape_of_text() -> None:
    one, other = "f1   0.71 [0.70,  0.72]\n\nit is +0.1; better", "f1 1.00 [1.0, 1.0]\nit is -0.3; worse"
    assert shape(one) == shape(other) == ["f1 # [#, #]", "it is #"]


def test_faults_look_as_the_guide_shows(place: Path) -> None:
    command, _, shown = blocks(GUIDE, "text")[0].partition("\n")
    done = run(shlex.split(command.removeprefix("$ thawline")))
    assert (done.code, done.out, done.err) == (2, "", shown)


def test_links_lead_somewhere() -> None:
    for path in (README, GUIDE):
        links = re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8"))
        assert links
        assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_guide_has_every_verb(place: Path) -> None:
    verbs = re.findall(r"^\| `thawline (\w+)", GUIDE.read_text("utf-8"), re.MULTILINE)
    shown = run([]).out
    assert len(verbs) == 14
    assert all(f" {verb} " in shown for verb in verbs)


def test_the_two_commands_are_on_the_first_screen() -> None:
    first = README.read_text("utf-8").splitlines()[:24]
    assert {"make quickstart", "make test"} <= set(first)
    assert (
        shutil.which("make") is None
        or subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, check=False).returncode == 0
    )
