"""Adaptive freezing: what has settled is frozen from the bottom, for good, and by signals alone."""

import doctest
import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

import thawline as tl
from families import folder_of
from test_prefix import evaluations, weights
from test_strategies import ladder, learner, tensors_of, train
from test_training import options, run, table
from thawline.errors import UserError
from thawline.run.keeper import Frozen, Move
from thawline.strategies.base import Decisions, Groups, Signals, Strategy, strategy
from thawline.thaw.cost import Outlook
from thawline.train.watch import Watch

EAGER = "adaptive(full, after=0.2, most=1.0, change=1)"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that starts empty."""
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "cache"))


def told(spec: str, story: list[dict[int, float]], blocks: int = 4) -> list[int]:
    """The lines that a strategy comes to when it is told these norms at equal steps of progress."""
    made, decisions, lines = strategy(spec), Decisions(), list[int]()
    groups = made.groups(ladder(blocks))
    for place, norms in enumerate(story, start=1):
        assert made.adaptation is not None
        decisions = made.adaptation.decide(groups, Signals(place / len(story), norms), decisions)
        lines.append(decisions.line)
    return lines


def even(value: float = 1.0, blocks: int = 4) -> dict[int, float]:
    return dict.fromkeys(range(blocks + 2), value)


def test_settled_stages_freeze_from_the_bottom_up_to_most() -> None:
    still = [even()] * 10
    assert told("adaptive(full, after=0)", still) == [0, *[4] * 9]  # the first is what the next is compared with
    assert told("adaptive(full, after=0, most=1.0)", still)[-1] == 5  # the head learns on
    assert told("adaptive(full, after=0, most=0)", still) == [0] * 10
    assert told("adaptive(freeze(2), after=0, most=1.0)", still)[-1] == 5
    assert told("adaptive(full, after=0.55)", still) == [0] * 5 + [4] * 5


def test_what_still_changes_keeps_itself_and_all_above_open() -> None:
    grows = [even() | {2: 2.0**step} for step in range(10)]
    assert told("adaptive(full, after=0, most=1.0)", grows) == [0, *[2] * 9]
    assert told("adaptive(full, after=0, most=1.0)", [even() | {0: 2.0**step} for step in range(10)]) == [0] * 10
    shrinks = [even() | {1: max(4.0**-step, 4.0**-4)} for step in range(10)]
    assert told("adaptive(full, after=0, most=1.0)", shrinks)[:5] == [0, 1, 1, 1, 1]
    assert told("adaptive(full, after=0, most=1.0)", shrinks)[-1] == 5


def test_change_is_a_share_of_the_smoothed_norm() -> None:
    for spec, line in (("adaptive(full, after=0, change=0.3)", 0), ("adaptive(full, after=0, change=0.5)", 4)):
        assert told(spec, [even(1.0), even(1.4)]) == [0, line]
        assert told(spec, [even(1.4), even(1.0)]) == [0, line]


def test_what_has_not_opened_yet_has_not_settled() -> None:
    """Inside gradual the bottom opens last, so nothing freezes before it has learned."""
    opening = [dict.fromkeys(range(max(0, 5 - place), 6), 1.0) for place in range(10)]
    assert told("gradual(adaptive(full, after=0), until=0.5)", opening) == [0] * 6 + [4] * 4


@given(some.lists(some.dictionaries(some.integers(0, 5), some.floats(1e-6, 1e6)), max_size=30), some.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_whatever_the_signals_the_line_only_rises_and_keeps_its_bounds(story: list[dict[int, float]], most: float) -> None:
    spec = f"adaptive(full, most={most})"
    lines = told(spec, story)
    assert lines == sorted(lines) and all(line <= int(5 * most + 0.5) for line in lines)
    assert told(spec, story) == lines
    assert (
        told(spec, [{k: 1000 * v for k, v in norms.items()} for norms in story]) == lines
    )  # no unit matters, nor the loss's scale


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("adaptive(full, after=2)", r"adaptive\(after=2\) is out of range; expected a share from 0 to 1"),
        ("adaptive(full, most='half')", "is out of range"),
        ("adaptive(full, change=true)", "is out of range"),
        ("adaptive(gradual(adaptive(full)))", "would freeze twice"),
    ],
)
def test_mistakes_are_told(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        strategy(spec)


def test_nothing_to_freeze_is_told() -> None:
    with pytest.raises(UserError, match="only one stage learns; use head alone"):
        strategy("adaptive(head)").groups(ladder(4))


# Watching.


def watched(spec: str = EAGER, *, total: int = 100, warmup: int = 0) -> Watch:
    made = strategy(spec)
    return Watch(made.adaptation, made.groups(ladder(4)), total=total, warmup=warmup)


def look(watch: Watch, step: int, norms: dict[int, float] | None = None) -> int:
    """One step of a loop, and the line at the next."""
    norms = norms or even()
    watch.see(step, list(norms), torch.tensor(list(norms.values())))
    return watch.line(step + 1)


def test_watch_decides_at_fixed_steps_and_not_in_warm_up() -> None:
    watch = watched(warmup=50)
    lines = [look(watch, step) for step in range(100)]
    assert lines == [0] * 59 + [5] * 41  # parts of 5 steps: the first after the warm-up, the one that is like it


def test_watch_sums_squares_within_a_stage_and_logs_over_steps() -> None:
    seen = list[Signals]()
    made = strategy(EAGER)

    def decide(groups: Groups, signals: Signals, before: Decisions) -> Decisions:
        seen.append(signals)
        return before

    assert made.adaptation is not None
    watch = Watch(made.adaptation._replace(decide=decide), (), total=40, warmup=0)
    watch.see(0, [0, 0, 1], torch.tensor([3.0, 4.0, 1.0]))
    watch.see(1, [0, 1], torch.tensor([20.0, math.inf]))
    assert watch.line(2) == watch.line(2) == 0
    (signals,) = seen
    assert signals.norms == {0: pytest.approx(10.0)}  # stage 1 has no norm that says anything
    assert signals.progress == 0.05


@pytest.mark.parametrize("kept", range(0, 40, 3))
def test_watch_goes_on_from_json(kept: int) -> None:
    rng = torch.Generator().manual_seed(0)
    story = [dict(enumerate(torch.rand(6, generator=rng).add(0.5).tolist())) for _ in range(40)]
    one, other = watched(total=40), watched(total=40)
    lines = [look(one, step, norms) for step, norms in enumerate(story)]
    for step in range(kept):
        look(other, step, story[step])
    again = watched(total=40)
    again.load(json.loads(json.dumps(other.state())))
    assert [look(again, step, story[step]) for step in range(kept, 40)] == lines[kept:]
    assert again.state() == one.state()


# Training.


def settling(spec: str = EAGER) -> Strategy:
    """A strategy that takes every stage for settled."""
    made = strategy(spec)
    assert made.adaptation is not None
    lines = [0, 2, 2, 4]

    def decide(groups: Groups, signals: Signals, before: Decisions) -> Decisions:
        return Decisions(lines[min(len(before.memory), 3)], {**before.memory, str(len(before.memory)): 0})

    return made._replace(adaptation=made.adaptation._replace(decide=decide, times=5))


def test_frozen_stages_stay_as_they_were_when_frozen() -> None:
    one = learner(settling())
    seen = list[int]()
    kept: dict[int, dict[str, torch.Tensor]] = {}
    for step in range(10):
        one.open(step)
        kept |= {k: {n: t.clone() for n, t in tensors_of(one, k).items()} for k in range(one.thaw_line) if k not in kept}
        train(one, [step])
        seen.append(one.thaw_line)
    assert seen == [0, 0, 0, 0, 2, 2, 2, 2, 4, 4]
    for k, tensors in kept.items():
        assert all(torch.equal(tensors_of(one, k)[name], tensor) for name, tensor in tensors.items())
    learned = {name for k in (4, 5) for name in one.stages[k].parameters}
    assert {one.masters.named[name] for name in learned} == set(one.optimizer.state)  # no memory for what never learns again


def thaw_lines(folder: Path) -> list[int]:
    steps = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [step["thaw_line"] for step in steps if step["kind"] == "step"]


@pytest.mark.parametrize("spec", [EAGER, "gradual(adaptive(full, after=0.2, most=1.0, change=1), until=0.3)"])
@pytest.mark.parametrize("bf16", [False, True])
def test_stored_is_computed_is_warm(tmp_path: Path, spec: str, bf16: bool) -> None:
    plain = {"strategy": spec, "bf16": bf16, "epochs": 6}
    for name, features in (("off", False), ("cold", True), ("warm", True)):
        run(tmp_path / name, store={"features": features}, **plain)
    assert weights(tmp_path / "off") == weights(tmp_path / "cold") == weights(tmp_path / "warm")
    assert evaluations(tmp_path / "off") == evaluations(tmp_path / "cold") == evaluations(tmp_path / "warm")
    lines = thaw_lines(tmp_path / "cold")
    assert lines[-1] > 0
    if spec == EAGER:
        assert lines == sorted(lines)


def test_what_was_predicted_of_moves_stands_beside_fact(tmp_path: Path) -> None:
    made = run(tmp_path / "run", strategy=EAGER, epochs=6, store={"features": True})
    found = made.metrics["train"]["prefix"]
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["store"] == []  # nothing was known before the first step
    assert found["predicted_seconds"] > 0
    assert found["seconds"] > 0


def test_a_prediction_counts_for_as_long_as_its_line_held() -> None:
    keeper: Any = SimpleNamespace(decisions={"steps": 100, "stored": [2]})
    keeper.lines = lambda prefix, until=None: Counter({0: 10, 2: (until or 100) - 10})
    begun, later = (Outlook(computed=c, stored=c / 10, size=1e6, reads=100.0, filled=1.0) for c in (90.0, 60.0))
    frozen = Frozen(SimpleNamespace(), keeper, {2: begun})  # type: ignore[arg-type]
    assert frozen.predicted() == pytest.approx(9)
    frozen.moves += [Move(55, later, stored=False), Move(85, later, stored=True)]
    assert frozen.predicted() == pytest.approx((1 + 8 / 2) + 60 * 30 / 45 + 6)
    assert Frozen(SimpleNamespace()).predicted() is None  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["albert", "xlnet", "gpt2", "bart"])
def test_families(tmp_path: Path, name: str) -> None:
    said: list[str] = []
    more: dict[str, Any] = options(strategy=EAGER, model=str(folder_of(name)), epochs=4, store={"features": True})
    tl.finetune(table(32), say=said.append, progress=False, output=str(tmp_path / "run"), **more)
    assert thaw_lines(tmp_path / "run")[-1] > 0
    assert any("are frozen, since their gradients have settled" in line for line in said)
    assert any("are stored" in line for line in said)


def test_the_page_runs() -> None:
    page = Path(__file__).parents[1] / "docs" / "methods" / "adaptive.md"
    assert doctest.testfile(str(page), module_relative=False, encoding="utf-8").failed == 0
