"""How long a training will take, told by its own first steps: nothing is computed for it."""

from __future__ import annotations

from typing import final

from torch import nn

from thawline.run.assemble import Assembled
from thawline.run.below import lines_of
from thawline.run.folder import RunFolder
from thawline.train.loop import Loop, Moment

_STEPS, _PART, _SECONDS = 3, 20, 30.0


@final
class Ahead:
    """An observer that writes into plan.json how many seconds training will take, as soon as its first steps have shown it.

    Watched are the steps after the first, which makes kernels, while the same stages learn: one in _PART of all, and _STEPS at
    least; fewer where they take more than _SECONDS. The others are taken to cost as much by their tokens and by the weights
    that they go through, once forward and twice backward; below what is stored of the frozen part they go through none. A
    training that ends before that has no prediction.
    """

    def __init__(self, folder: RunFolder, loop: Loop, assembled: Assembled) -> None:
        self.folder, self.loop, self.assembled = folder, loop, assembled
        self._tokens, self._line, self._start = 0, 0, (0.0, 0)
        self._known = loop.state.step > 0  # what a run that is resumed has kept is left as it is

    def __call__(self, moment: Moment) -> None:
        """Watch a step."""
        if moment.kind != "step" or self._known:
            return
        state, line, tokens = self.loop.state, self.loop.learner.thaw_line, self._tokens
        self._tokens = state.tokens
        # The clock stands at the end of the step before this one, and `tokens` are those up to there.
        seconds, watched = state.seconds["train"], moment.step - 2
        if watched <= 0:
            self._line, self._start = line, (seconds, tokens)
            return
        spent = seconds - self._start[0]
        enough = watched >= max(_STEPS, moment.total // _PART) or (watched >= _STEPS and spent > _SECONDS)
        if enough or line != self._line:
            each = spent / max(1, tokens - self._start[1])
            self._known = True
            self._write(seconds + each * self._tokens_left(moment.step - 1), watched)

    def _write(self, seconds: float, watched: int) -> None:
        plan, depth = self.folder.read("plan.json") or {}, self.loop.gradients.prefix.depth(self._line)
        # A line that rises has the depths above it before it; one that sinks finds them filled, unless views change.
        rises, views = self.assembled.strategy.adaptation is not None, self.loop.gradients.data.views is not None
        coming = [one for one in plan.get("store", []) if (one["depth"] > depth if rises else views and one["depth"] < depth)]
        seconds += sum(one["seconds_to_fill"] for one in coming)
        self.folder.write("plan.json", {**plan, "seconds": {"train": round(seconds, 3)}, "watched": watched})

    def _tokens_left(self, done: int) -> float:
        """Return the tokens after so many steps, each counted as many times as it costs of one that was watched."""
        order, lines = self.loop.gradients.order, lines_of(self.assembled, self.loop.rhythm.total)
        watched = self._cost(self._line) or 1.0
        steps = sum(count * self._cost(line) / watched for line, count in lines.items()) - done
        return max(0.0, steps) * float(order.lengths.sum()) / order.steps_per_epoch

    def _cost(self, line: int) -> int:
        """Return the weights that a step goes through at a thaw line; rows of embeddings are only looked up."""
        prefix, model = self.loop.gradients.prefix, self.assembled.model
        tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        sizes = {name: one.numel() for name, one in model.named_parameters() if id(one) not in tables}
        stages: list[int] = [sum(sizes.get(name, 0) for name in stage.parameters) for stage in self.assembled.stages]
        depth = prefix.depth(line)
        return sum(stages[depth if depth in prefix.below.shelves else 0 :]) + 2 * sum(stages[line:])
