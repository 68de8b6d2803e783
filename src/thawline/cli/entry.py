"""`main`: runs one command and turns whatever goes wrong into a sentence on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from thawline.cli.app import app
from thawline.cli.show import error_line, say
from thawline.errors import ThawlineError, UserError, did_you_mean

INTERRUPTED, PIPE_CLOSED = 130, 141
_FULL = "The disk is full. Make room on it, or give another --output; THAWLINE_CACHE names another place for caches."
_MEMORY = (
    "There was not enough memory. Try train.per_device_train_batch_size=8 train.gradient_accumulation_steps=4: "
    "the same step in smaller parts."
)
# Older releases of typer keep this class in click, newer ones in themselves.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 the machine's fault, 2 the user's, 130 interrupted.

    `argv` are the words after `thawline`; None takes them from the command line.

    >>> main(["--version"])
    thawline 0.1.0
    0
    """
    try:
        with _terminated_as_interrupted():
            _run(sys.argv[1:] if argv is None else list(argv))
            sys.stdout.flush()
        return 0
    except typer.Exit as done:
        return done.exit_code
    except KeyboardInterrupt as interruption:
        return _fail(str(interruption) or "Interrupted.", INTERRUPTED)
    except Exception as error:
        return _told(error)


def _run(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and first not in command.commands:
        raise UserError(_no_such_verb(first, list(command.commands)))
    with command.make_context("thawline", words) as context:
        command.invoke(context)


def _no_such_verb(word: str, verbs: list[str]) -> str:
    if Path(word).exists():
        return f"{word!r} is not a command. To train on it, type: thawline train {word}"
    return f"There is no command {word!r}{did_you_mean(word, verbs) or '.'} Commands: {', '.join(verbs)}."


def _told(error: Exception) -> int:
    """Say what an error means and return its exit code."""
    if isinstance(error, ThawlineError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, _UsageError):
        return _fail(_usage(error), 2)
    if isinstance(error, BrokenPipeError):  # `thawline predict ... | head`: nobody reads on, and that is no fault
        _close_stdout()
        return PIPE_CLOSED
    if isinstance(error, MemoryError):
        return _fail(_MEMORY, 1)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error):  # 28: safetensors' way
        _close_stdout()
        return _fail(_FULL, 1)
    if isinstance(error, PermissionError):
        return _fail(f"{error.filename}: {error.strerror}.", 1)
    traceback.print_exception(error)
    return _fail("This is a fault of Thawline. Please report it, with the lines above and what `thawline doctor` says.", 1)


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "thawline"
    told = error.format_message().strip().rstrip(".")
    if "o such option" in told:
        told += "; settings of a recipe are given without dashes, as in train.epochs=3"
    return f"{told}. For what it takes, type: {path} --help"


def _fail(text: str, code: int) -> int:
    with suppress(BrokenPipeError):
        error_line(text) if code != INTERRUPTED else say(text)
    return code


def _close_stdout() -> None:
    """Let Python's own flush at exit go nowhere, since it would complain a second time."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
