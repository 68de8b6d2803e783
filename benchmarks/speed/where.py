"""Where the time of a full fine-tuning step goes: operators by their own time, for Thawline and for the Trainer at its best.

usage: where.py [--table] [--examples N]    Appends one line a tool to results/speed_where.jsonl; sst2 with MiniLM.
torch.profiler watches every fifth step of one mega-batch of the order by length (50 steps), after another one to warm up.
Shares are of wall time × threads that run operators: Thawline's workers, and one of the Trainer, whose products spread over
several.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

from side_by_side import Rows, arguments, conditions, is_one_run, markdown, measured, middle, shown, wanted_run

STEPS, EVERY = 100, 5
KINDS = {
    "dropout": ("dropout", "bernoulli", "mulbackward0"),  # nothing but dropout multiplies by a tensor in a BERT
    "embedding gradient": ("embedding_dense_backward", "embeddingbackward"),
    "optimiser": ("optimizer.", "_foreach", "_fused_adam", "clip_grad", "accumulategrad"),
    "casts and copies": ("aten::copy_", "aten::_to_copy", "aten::clone"),
    "attention": ("scaled_dot_product", "aten::bmm", "softmax"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::linear", "mkldnn"),
}
"""Kind -> what the name of an operator, or of one that called it, has in it; the first that fits counts."""
OTHER, NONE = "other operators", "outside operators"


def kind_of(names: list[str]) -> str:
    """Return the kind of an operator from its name and those of its callers.

    >>> kind_of(["aten::fill_", "aten::zeros", "aten::embedding_dense_backward"])
    'embedding gradient'
    """
    lower = [name.lower() for name in names]
    return next((kind for kind, parts in KINDS.items() if any(part in name for name in lower for part in parts)), OTHER)


def chain(event: Any) -> Iterator[str]:
    """Yield the name of an event and those of its callers."""
    while event is not None:
        yield event.name
        event = event.cpu_parent


@final
class Watch:
    """Profiles some of the steps: `after` is called with the number of steps done, in the thread that trains."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.seconds: Counter[str] = Counter()
        self.wall, self.steps, self.threads = 0.0, 0, 1
        self._profile: Any = None
        self._start = 0.0

    def after(self, done: int) -> None:
        """Take up the step that ended, and watch the next one if it is its turn."""
        from torch._C._profiler import _ExperimentalConfig
        from torch.profiler import ProfilerActivity, profile

        if self._profile is not None:
            self.wall += time.perf_counter() - self._start
            self._profile.__exit__(None, None, None)
            self._take(self._profile.events())
            self._profile = None
        if self.first <= done < self.last and (done - self.first) % EVERY == 0:
            everywhere = _ExperimentalConfig(profile_all_threads=True)
            self._profile = profile(activities=[ProfilerActivity.CPU], experimental_config=everywhere)
            self._profile.__enter__()
            self._start = time.perf_counter()

    def _take(self, events: Any) -> None:
        self.steps += 1
        for event in events:
            self.seconds[kind_of(list(chain(event)))] += event.self_cpu_time_total / 1e6

    def result(self) -> dict[str, Any]:
        """Return milliseconds a step, and the share of each kind in wall time × threads."""
        whole = self.wall * self.threads
        shares = {kind: self.seconds[kind] / whole for kind in [*KINDS, OTHER]}
        shares[NONE] = 1 - sum(shares.values())
        return {"step_ms": 1000 * self.wall / self.steps, "workers": self.threads, "shares": shares}


def thawline(run: dict[str, Any], model: str, *, data: Path, watch: Watch) -> None:
    """Train some steps with Thawline under watch."""
    import one_run
    from torch.profiler import record_function

    from thawline.train.draws import Draws
    from thawline.train.loop import Loop

    def named(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with record_function("dropout"):  # numpy draws, which the profiler does not see
                return function(*args, **kwargs)

        return call

    train = Loop.run

    def watched(loop: Loop) -> Any:
        watch.threads = loop.gradients.workers.count
        loop.observers = [*loop.observers, lambda moment: watch.after(moment.step) if moment.kind == "step" else None]
        return train(loop)

    Draws._dropout, Draws._kept, Loop.run = named(Draws._dropout), named(Draws._kept), watched  # type: ignore[method-assign]
    one_run.thawline(run, model, data)


def trainer(run: dict[str, Any], model: str, *, data: Path, watch: Watch) -> None:
    """Train some steps with the Trainer under watch."""
    import peer
    import transformers

    class Watching(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            watch.after(state.global_step)

    made, _ = peer.trainer_of(run, model, data)
    made.add_callback(Watching())
    made.train()


def measure(run: dict[str, Any]) -> dict[str, Any]:
    """Return what came of one tool's steps."""
    import one_run

    facts = one_run.facts()
    with tempfile.TemporaryDirectory() as folder:
        steps, data = run["max_steps"], one_run.data_of(run, Path(folder))
        watch, tool = Watch(steps // 2, steps), thawline if run["tool"] == "thawline" else trainer
        tool({**run, "max_steps": steps + 1}, one_run.model_of(run), data=data, watch=watch)
    return facts | watch.result()


def runs(steps: int) -> Rows:
    """Return one run a tool, so many steps long, the second half of which is watched."""
    beside = {"model": "minilm", "max_steps": steps}
    return [wanted_run(tool, "sst2", 0, strategy="full", epochs=1) | beside for tool in ("trainer-best", "thawline")]


def table(rows: Rows) -> str:
    """Return the table: the share of each kind and its milliseconds a step, by tool."""
    tools, lines = ("trainer-best", "thawline"), []
    for kind in [*KINDS, OTHER, NONE]:
        cells = list[str]()
        for tool in tools:
            own = [row | {"share": row["shares"][kind], "ms": row["shares"][kind] * row["step_ms"]} for row in rows]
            cells += [shown(middle("share", own, factor=100, tool=tool), ".0f"), shown(middle("ms", own, tool=tool), ".1f")]
        lines.append([kind, *cells])
    whole = [shown(middle("step_ms", rows, tool=tool), ".1f") for tool in tools]
    lines.append(["a step", "100", whole[0], "100", whole[1]])
    header = ["", "Trainer, best: %", "ms", "Thawline: %", "ms"]
    return f"{markdown(header, lines)}\n{conditions(rows)}"


if __name__ == "__main__":
    if not is_one_run(measure):
        parser = arguments(__doc__, repeats=1)
        parser.add_argument("--steps", type=int, default=STEPS, help="how many to train; the second half is watched")
        options = parser.parse_args()
        print(table(measured(options, runs(options.steps), name="speed_where", script=Path(__file__))))
