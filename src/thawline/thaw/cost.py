"""Does storing pay? Predicted from a short measurement, so that it is decided and not guessed."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from thawline.thaw.canonical import canonical_length
from thawline.thaw.prefix import Data, Prefix

_EXAMPLES = 16  # measured, of all lengths and of one
_LEAST_GAIN = 0.8  # a prediction is not worth more than this
_PER_READ = 2e-5  # seconds to look an example up and to check it, beside its bytes


class Measured(NamedTuple):
    """What an example costs below a cut: seconds of one worker to compute it, and bytes to keep it.

    It takes `together` seconds where all examples are computed at once, so that many of one shape share a pass.
    """

    seconds: float
    size: float
    together: float

    def shared(self, workers: int) -> Measured:
        """Return the seconds that it takes where so many workers share the examples.

        >>> Measured(4.0, 10.0, 2.0).shared(2)
        Measured(seconds=2.0, size=10.0, together=1.0)
        """
        return self._replace(seconds=self.seconds / workers, together=self.together / workers)

    def above(self, lower: Measured, read: float) -> Measured:
        """Return the cost of going on from what is stored at a lower cut and read at so many bytes a second.

        >>> Measured(4.0, 10.0, 2.0).above(Measured(3.0, 50.0, 1.5), read=100.0)
        Measured(seconds=1.5, size=10.0, together=1.0)
        """
        again = lower.size / read
        return self._replace(
            seconds=max(0.0, self.seconds - lower.seconds) + again, together=max(0.0, self.together - lower.together) + again
        )


class Outlook(NamedTuple):
    """What a cut is predicted to cost over a whole training, in seconds; `size` are bytes on disk, `reads` examples read.

    Of `stored` the seconds `filled` come before the first read.
    """

    computed: float
    stored: float
    size: float
    reads: float
    filled: float

    @property
    def pays(self) -> bool:
        """Whether storing is predicted to win clearly."""
        return self.stored < _LEAST_GAIN * self.computed

    def over(self, times: float) -> Outlook:
        """Return the same for so many trainings (or a share of one) over the same examples, which the first of them stores.

        >>> Outlook(computed=10.0, stored=12.0, size=1e6, reads=1000, filled=11.0).over(5)[:2]
        (50.0, 16.0)
        """
        stored = self.filled + times * (self.stored - self.filled)
        return self._replace(computed=times * self.computed, stored=stored, reads=times * self.reads)


def measure(prefix: Prefix, data: Data, depth: int) -> Measured:
    """Run a few examples of all lengths to `depth`, and some of one length, and return what one costs on average."""
    order, most = np.argsort(data.lengths, kind="stable"), prefix.below.most
    spread = np.unique(order[np.linspace(0, len(order) - 1, _EXAMPLES).astype(int)])
    full = max(_EXAMPLES, prefix.below.even)  # of a batch that is filled up by repeating all would be paid for
    first = max(0, (len(order) - full) // 2)
    middle = order[first : first + full]
    lengths = np.array([canonical_length(int(length), most) for length in data.lengths[order]]) + 1e-9  # of some it is 0
    apart, size = _run(prefix, data, spread, depth=depth)
    together, _ = _run(prefix, data, middle, depth=depth)
    longer = lengths.mean() / lengths[first : first + full].mean()
    return Measured(apart, size, min(apart, together * float(longer)))


def _run(prefix: Prefix, data: Data, examples: np.ndarray, *, depth: int) -> tuple[float, float]:
    """Return seconds and bytes of one example."""
    size, start = 0, 0.0
    for _ in range(2):  # kernels for a new shape are made in its first pass
        start = time.perf_counter()
        size = sum(row.nbytes for row in prefix.compute(data, examples, depth))
    return (time.perf_counter() - start) / len(examples), size / len(examples)


def outlook(cost: Measured, *, examples: int, missing: int, reads: float, write: float, read: float) -> Outlook:
    """Predict both ways: every one of `reads` computed anew, or `missing` computed and written, and all read.

    `examples` are those of the sets, `write` and `read` bytes a second.

    >>> outlook(Measured(1e-2, 2e4, 1e-2), examples=1000, missing=1000, reads=10_000, write=4e8, read=2e9).pays
    True
    >>> outlook(Measured(1e-2, 2e4, 1e-2), examples=1000, missing=1000, reads=1000, write=4e8, read=2e9).pays
    False
    """
    anew = reads * cost.seconds
    filled = missing * (cost.together + cost.size / write)
    kept = filled + reads * (cost.size / read + _PER_READ)
    return Outlook(anew, kept, examples * cost.size, reads, filled)
