"""Everything that Thawline raises on purpose.

    ThawlineError
    ├── UserError             what was typed or given cannot be used; exit code 2, nothing was written
    │   ├── RecipeError       the recipe has faults: all of them, each with its path
    │   ├── DataError         the data cannot be read or cannot be trained on
    │   ├── ModelError        the model cannot be found, loaded, or used for this task
    │   └── RunError          the run's folder is missing, there already, or of another kind
    ├── DivergedError         the loss is no longer a number; exit code 1
    └── MachineError          the machine gave out (disk, memory); exit code 1

Each message says what happened, what was expected and what to type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ThawlineError(Exception):
    """Base of all errors that Thawline raises on purpose."""

    exit_code = 1


class UserError(ThawlineError):
    """What was typed or given cannot be used."""

    exit_code = 2


class RecipeError(UserError):
    """The recipe has faults; `faults` holds one sentence for each, with its path in front."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class DataError(UserError):
    """The data cannot be read or cannot be trained on."""


class ModelError(UserError):
    """The model cannot be found, loaded, or used for this task."""


class RunError(UserError):
    """The run's folder is missing, there already, or of another kind."""


class DivergedError(ThawlineError):
    """The loss is no longer a number."""


class MachineError(ThawlineError):
    """The machine gave out: no room on the disk, no memory."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'x'?" for the known word nearest to `word`, or "" where none is near.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    ", did you mean 'epochs'?"
    >>> did_you_mean("zzz", ["epochs", "seed"])
    ''
    """
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f", did you mean {by_lower[near[0]]!r}?" if near else ""
