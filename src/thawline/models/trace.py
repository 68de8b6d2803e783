"""What one forward pass does, as a list of module calls."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import nn


class Call(NamedTuple):
    """One call of a module by the clock of the trace; `nth` counts the calls of that module from 0."""

    module: str
    nth: int
    start: int
    end: int
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    output: Any = None


def trace(model: nn.Module, inputs: Mapping[str, Any], *, values: bool = False) -> list[Call]:
    """Run once in eval mode and record every module call in the order of their starts, with arguments and outputs if `values`.

    Whether gradients are computed is the caller's to say. The model's modes are put back, and no hooks stay.
    """
    clock, open_since, made, calls = 0, defaultdict[str, list[tuple[int, int]]](list), Counter[str](), list[Call]()

    def enter(name: str) -> None:
        nonlocal clock
        clock += 1
        open_since[name].append((made[name], clock))
        made[name] += 1

    def leave(name: str, *passed: Any) -> None:
        nonlocal clock
        clock += 1
        calls.append(Call(name, *open_since[name].pop(), clock, *(passed if values else ())))

    with ExitStack() as undo:
        undo.enter_context(evaluating(model))
        for name, module in model.named_modules():
            undo.callback(module.register_forward_pre_hook(lambda *_, name=name: enter(name)).remove)
            after = lambda _, *passed, name=name: leave(name, *passed)  # noqa: E731
            undo.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        model(**inputs)
    return sorted(calls, key=lambda call: call.start)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode, and each back into its own mode afterwards."""
    learning = [module for module in model.modules() if module.training]
    for module in learning:
        module.training = False
    try:
        yield
    finally:
        for module in learning:
            module.training = True
