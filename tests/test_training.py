"""The loop and its parts: sums and not means, pure functions of the step, the best and the last checkpoint."""

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

import thawline as tl
from families import folder_of
from thawline.errors import DivergedError, MachineError, RecipeError
from thawline.recipe import recipe_from
from thawline.run.api import recipe_for
from thawline.run.assemble import Footing, assemble, decide, learner_of, loop_of, order_of
from thawline.run.lighten import lighten
from thawline.run.prepare import check_parts, prepare
from thawline.tasks.base import plain_objective
from thawline.thaw.prefix import Below, Prefix
from thawline.thaw.replicas import Replicas
from thawline.train import observe
from thawline.train.budget import Costs, steps_within
from thawline.train.checkpoint import Checkpoints
from thawline.train.device import Device
from thawline.train.forecast import advice, forecast
from thawline.train.learner import Learner
from thawline.train.loop import Moment
from thawline.train.masters import Masters
from thawline.train.observe import ProgressBar, memory_watch
from thawline.train.schedule import SCHEDULES, Schedule
from thawline.train.steps import Order, Shapes
from thawline.train.stop import Judge, Standing
from thawline.train.workers import Workers

WORDS = ["warm", "funny", "dull", "noisy", "quiet", "lovely", "awful", "film", "card", "coffee", "Norway"]


def silent(text: str) -> None:
    """Say nothing."""


def table(n: int = 48, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of very different lengths whose label is the first word."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 24))) for _ in range(n)]
    return [f"{('good', 'bad')[i % 2]} {text} {i}" for i, text in enumerate(texts)], [("good", "bad")[i % 2] for i in range(n)]


def options(**more: Any) -> dict[str, Any]:
    """A recipe that is carried out in a second or two."""
    plain = {"model": str(folder_of("bert")), "bf16": False, "lr": 1e-3, "batch_size": 8, "epochs": 2, "seed": 3}
    return {**plain, "evaluate": {"baselines": False, "bootstrap_samples": 20}, **more}


def test_orders_and_optimisers_are_those_of_the_recipe() -> None:
    prepared = prepare(recipe_for(table(200), **options()), silent)
    data, lengths = prepared.sets["train"], prepared.sets["train"].lengths

    def order(**more: Any) -> Order:
        return order_of(data, recipe_for(table(), **options(**more)))

    plain, grouped = order(), order(train_sampling_strategy="group_by_length")
    spread = [np.mean([np.ptp(lengths[one.examples(step)]) for step in range(one.steps_per_epoch)]) for one in (plain, grouped)]
    assert spread[1] < spread[0] / 2
    some = order(tokens_per_step=40)
    held = [int(lengths[some.examples(step)].sum()) for step in range(some.steps_per_epoch)]
    assert some.steps_per_epoch == -(-int(lengths.sum()) // 40) and max(held) <= 40 + 2 * lengths.max()
    for name in ("adamw", "adam", "sgd"):
        assembled = assemble(prepared, silent)
        learner = learner_of(replace(assembled, recipe=recipe_for(table(), **options(optim=name))), Masters(assembled.model), 4)
        assert learner.optimizer.defaults["fused"]


def run(folder: Path, **more: Any) -> tl.Run:
    return tl.finetune(table(), say=silent, progress=False, output=str(folder), **options(**more))


def assembled(tmp_path: Path, **more: Any) -> Any:
    prepared = prepare(recipe_for(table(), **options(**more)), silent)
    parts = assemble(prepared, silent)
    device = Device("cpu")
    decisions = decide(prepared, parts.recipe, device, say=silent)
    workers, light = Workers(), lighten(prepared, parts, device, decisions=decisions, say=silent)
    prefix = Prefix(Replicas(parts.model), (), Below(64, {}))
    footing, checkpoints = Footing(device, workers, light.masters, prefix), Checkpoints(tmp_path / "checkpoints")
    return prepared, parts, loop_of(prepared, parts, footing, decisions=decisions, checkpoints=checkpoints)


def gradient(loop: Any, max_examples: int, order: Order | None = None) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    old = loop.gradients
    parts = replace(old, order=order or old.order, objective=plain_objective, max_examples=max_examples)
    loop.learner.open(0)
    for model in (loop.learner.model, *loop.learner.copies):
        model.eval()  # without dropout: its masks depend on who shares a micro-batch
    sums = parts(loop.learner, 0, 0.0)
    found = {n: p.grad.clone() for n, p in loop.learner.masters.named.items() if p.grad is not None}
    loop.learner.forget()
    return sums, found


@pytest.mark.parametrize("weights", ["none", "auto", {"good": 3.0}])
def test_accumulated_is_whole_batch(tmp_path: Path, weights: Any) -> None:
    _, _, loop = assembled(tmp_path, batch_size=16, class_weights=weights)
    (whole, one), (parts, many) = gradient(loop, 16), gradient(loop, 3)
    assert parts.pop("positions") < whole.pop("positions")  # less of it is padding
    assert parts == pytest.approx(whole, rel=1e-5)
    assert one.keys() == many.keys()
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["full", "head"])
def test_random_numbers_are_others_in_every_step_and_micro_batch(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, draws = list[tuple[int, ...]](), Device.draws

    def noted(self: Device, *key: int) -> Any:
        keys.append(key)
        return draws(self, *key)

    _, _, loop = assembled(tmp_path, batch_size=8, strategy=strategy)
    monkeypatch.setattr(Device, "draws", noted)
    loop.learner.open(0)
    for gradients in (replace(loop.gradients, max_examples=3), replace(loop.gradients, max_examples=3, seed=4)):
        for step in (0, 1, 7):
            gradients(loop.learner, step, 0.0)
            loop.learner.forget()
    assert len(set(keys)) == len(keys) >= 2 * 3 * 3


def test_step_divides_by_the_weight_once(tmp_path: Path) -> None:
    """Twice the weights leave the step as it is: the loss is a sum and a weight, not a mean of means."""
    _, _, loop = assembled(tmp_path, optim="sgd", max_grad_norm=None, warmup_ratio=0.0)
    learner = loop.learner
    learner.open(0)
    parameter = next(p for p in learner.model.parameters() if p.requires_grad)
    before = parameter.detach().clone()
    moves = []
    for factor in (1.0, 2.0):
        parameter.data.copy_(before)
        learner.optimizer.state.clear()
        parameter.grad = torch.full_like(parameter, 0.5 * factor)
        learner.step(0, 4.0 * factor)
        moves.append((parameter.detach() - before).clone())
    torch.testing.assert_close(moves[0], moves[1], rtol=0, atol=0)


def test_clipping_bounds_the_mean_gradient(tmp_path: Path) -> None:
    _, _, loop = assembled(tmp_path, optim="sgd", momentum=0.0, max_grad_norm=0.1, lr=1.0, warmup_ratio=0.0, weight_decay=0.0)
    learner = loop.learner
    learner.open(0)
    before = {n: p.detach().clone() for n, p in learner.model.named_parameters()}
    loop.gradients(learner, 0, 0.0)
    norm, _ = learner.step(0, 8.0)
    moved = torch.cat([(p.detach() - before[n]).flatten() for n, p in learner.model.named_parameters()])
    assert float(moved.norm()) == pytest.approx(min(0.1, norm), rel=1e-3)


def test_order_is_a_function_of_seed_and_step() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 37)
    order = Order(lengths, 8, seed=5)
    steps = [order.examples(step) for step in range(2 * order.steps_per_epoch)]
    again = Order(lengths, 8, seed=5)
    assert all((again.examples(step) == steps[step]).all() for step in reversed(range(len(steps))))
    for epoch in (0, 1):
        seen = np.concatenate(steps[epoch * order.steps_per_epoch : (epoch + 1) * order.steps_per_epoch])
        assert sorted(seen) == list(range(37))
    assert not np.array_equal(steps[0], steps[order.steps_per_epoch])
    whole = np.concatenate(order.micro_batches(3, max_examples=3))
    assert sorted(whole) == sorted(steps[3])


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("tokens", [1, 40, 300, 10**6])
def test_steps_of_about_so_many_tokens(tokens: int, by_length: bool) -> None:
    lengths = np.append(np.random.default_rng(0).integers(1, 60, 60), 900)
    order = Order(lengths, 8, seed=5, tokens=tokens, by_length=by_length)
    for epoch in (0, 1):
        steps = [order.examples(epoch * order.steps_per_epoch + place) for place in range(order.steps_per_epoch)]
        assert sorted(np.concatenate(steps)) == list(range(61)) and all(map(len, steps))
        held = [int(lengths[step].sum()) for step in steps]
        assert all(total <= tokens + lengths[step].max() for total, step in zip(held, steps, strict=True))
    again = Order(lengths, 8, seed=5, tokens=tokens, by_length=by_length)
    assert np.array_equal(again.examples(order.steps_per_epoch), steps[0])


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_warm_up_and_stay_within_bounds(name: str) -> None:
    schedule = Schedule(name, 100, 10)
    rates = [schedule(step) for step in range(100)]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1
    if name != "constant":
        assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_judge_keeps_the_earlier_of_equals_and_runs_out_of_patience() -> None:
    judge, standing = Judge("f1_macro", True, patience=2), Standing()
    for step, value in enumerate([0.5, 0.7, 0.7, 0.6]):
        standing = judge.judge(standing, {"f1_macro": value}, step)
    assert (standing.value, standing.step) == (0.7, 1)
    assert judge.ends(standing)


def test_early_stopping_ends_the_run_and_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    wanted = options(lr=1e-9, epochs=20, early_stopping_patience=1, metric="loss", early_stopping_threshold=1.0)
    done = tl.finetune(table(), say=told.append, progress=False, output=str(tmp_path / "run"), **wanted)
    assert done.metrics["train"]["epochs"] < 20
    assert any("did not improve" in line for line in told)


def test_best_and_last_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=4, metric="loss")
    folder = tmp_path / "run" / "checkpoints"
    index = json.loads((folder / "index.json").read_text())
    assert {path.name for path in folder.iterdir()} == {"index.json", index["last"], index["best"]}
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if line["kind"] == "evaluation"}
    assert index["best"] == f"step-{min(losses, key=losses.__getitem__):08d}"


def test_history_has_what_a_curve_needs(tmp_path: Path) -> None:
    done = run(tmp_path / "run", strategy="gradual(layerwise(full, decay=0.5), until=0.5)", epochs=3)
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, done.metrics["train"]["steps"] + 1))
    assert {"loss", "gradient_norm", "learning_rates", "examples_per_second", "tokens_per_second"} <= set(steps[0])
    thaw_lines = [line["thaw_line"] for line in steps]
    assert thaw_lines[0] == 5  # stem, four blocks, head: only the head learns
    assert thaw_lines == sorted(thaw_lines, reverse=True)
    assert thaw_lines[-1] == 0


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        run(tmp_path / name, seed=seed, epochs=1)
    one, two, three = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three


def test_a_loss_that_is_no_number_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"train\.learning_rate"):
        run(tmp_path / "run", lr=1e30, max_grad_norm=None, optim="sgd", epochs=5)


def test_a_gradient_that_is_no_number_ends_before_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Learner._judged

    def broken(self: Learner, done: int, weight: float, norms: torch.Tensor) -> Any:
        return judged(self, done, weight, norms * float("nan") if done == 3 else norms)

    monkeypatch.setattr(Learner, "_judged", broken)
    with pytest.raises(DivergedError, match=r"norm is nan at step 4.*train\.learning_rate"):
        run(tmp_path / "run", epochs=5, checkpoint_minutes=1e-6)
    kept = [load_file(path) for path in (tmp_path / "run" / "checkpoints").rglob("model.safetensors")]
    assert kept and all(bool(tensor.isfinite().all()) for tensors in kept for tensor in tensors.values())


def test_what_no_process_has_a_gradient_of_is_not_moved() -> None:
    device, model = Device("cpu"), nn.ParameterDict({name: nn.Parameter(torch.ones(2)) for name in ("used", "unused")})
    masters = Masters(model)
    masters.open({"used", "unused"})
    masters.add([torch.ones(2), None])
    # Two processes alike.
    device.accelerator = SimpleNamespace(num_processes=2, reduce=lambda tensor, how: 2 * tensor)  # type: ignore[assignment]
    assert device.summed(masters, {"total": 1.0}) == {"total": 2.0}
    used, unused = masters.now
    assert used.grad is not None and used.grad.tolist() == [2.0, 2.0] and unused.grad is None


def test_batches_whose_examples_belong_together_are_not_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match=r"train\.batch_norm.*2 processes.*expected frozen, or one process"):
        prepare(recipe_for(table(), **options(train={"batch_norm": "batch"})), silent)
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_parts(recipe_for(table(), **options(train={"batch_norm": "batch"})))


def test_budget_plans_steps_and_records_the_decision(tmp_path: Path) -> None:
    assert steps_within(Costs(0.5, 2.0, 10.0), 60.0, every=10, most=10**6) == 66
    run(tmp_path / "run", max_minutes=0.2, epochs=10_000)
    decisions = json.loads((tmp_path / "run" / "decisions.json").read_text())
    assert 1 <= decisions["steps"] < 10_000 * 5
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_forecast_grows_with_what_learns_and_advice_fits(tmp_path: Path) -> None:
    _, parts, _ = assembled(tmp_path)
    lengths = np.array([10, 20, 60] * 20)
    full = forecast(parts.model, parts.groups, lengths, rows=32)
    head = forecast(parts.model, [g for g in parts.groups if g.stage == 5], lengths, rows=32)
    assert head.total < full.total
    small = forecast(parts.model, parts.groups, lengths, rows=8)
    assert small.total < full.total
    assert "per_device_train_batch_size=8 train.gradient_accumulation_steps=4" in advice(
        full, full.fixed + 9 * full.row, rows=32, accumulation=1
    )
    assert "smaller model" in advice(full, 0, rows=32, accumulation=1)


def test_memory_watch_stops_with_advice() -> None:
    from thawline.train.loop import Moment

    watch = memory_watch(lambda: 10 << 20, least=200 << 20, advice="Try less.")
    with pytest.raises(MachineError, match=r"10 MB of memory are left at step 7.*Try less"):
        watch(Moment("step", 7, 9, {}))


def test_state_of_every_optimizer_comes_back(tmp_path: Path) -> None:
    from thawline.train.optimize import load_state, state_tensors
    from thawline.train.optimizers import OPTIMIZERS

    for name in OPTIMIZERS:
        _, parts, loop = assembled(tmp_path, optim=name)
        learner = loop.learner
        learner.open(0)
        loop.gradients(learner, 0, 0.0)
        learner.step(0, 8.0)
        kept = state_tensors(learner.optimizer)
        assert kept, name
        fresh = learner_of(parts, learner.masters, 10)
        load_state(fresh.optimizer, kept)
        assert all(torch.equal(value, kept[key]) for key, value in state_tensors(fresh.optimizer).items())


def test_unknown_metric_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(tl_errors().RecipeError, match="did you mean 'accuracy'"):
        run(tmp_path / "run", metric="acuracy")
    assert not (tmp_path / "run").exists()


def tl_errors() -> Any:
    from thawline import errors

    return errors


def test_recipe_says_everything_that_was_inferred(tmp_path: Path) -> None:
    done = run(tmp_path / "run", lr="auto", epochs=1)
    recipe = recipe_from({"data": {"path": "x"}})
    assert recipe.train.learning_rate == "auto"
    assert isinstance(done.recipe.train.learning_rate, float)
    assert done.recipe.task.problem == "single_label_classification"
    assert isinstance(done.model.model, nn.Module)


def test_trackers_are_refused_in_words_before_anything_is_written(tmp_path: Path) -> None:
    for name, words in (("tensorbord", "did you mean 'tensorboard'"), ("aim", "pip install aim")):
        with pytest.raises(tl_errors().UserError, match=words):
            run(tmp_path / "run", report_to=[name])
    assert not (tmp_path / "run").exists()


def test_reports_reach_a_tracker_below_the_run(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1, report_to=["tensorboard"])
    events = [path for path in (tmp_path / "run").rglob("events.out.tfevents*") if b"step/loss" in path.read_bytes()]
    assert events


@pytest.mark.parametrize("terminal", [True, False])
def test_an_evaluation_that_takes_long_shows_how_far_it_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(observe.time, "monotonic", lambda: now[0])
    console = Console(force_terminal=terminal, width=120, file=io.StringIO())
    bar = ProgressBar("accuracy", console=console)
    bar(Moment("step", 1, 10, {"loss": 1.0}))
    for done in range(4):
        bar(Moment("evaluating", 1, 10, {"done": done + 1, "total": 5}))
        now[0] += 20.0
    assert [task.description for task in bar._bar.tasks if task.visible] == ["evaluating"]
    assert terminal or "evaluating: 3/5  about 27 s left" in console.file.getvalue()  # type: ignore[attr-defined]
    bar(Moment("evaluating", 1, 10, {"done": 5, "total": 5}))
    bar(Moment("evaluation", 1, 10, {"accuracy": 0.5}))
    assert [task.description for task in bar._bar.tasks if task.visible] == ["training"]
    bar.close()


def test_evaluations_tell_how_far_they_are(tmp_path: Path) -> None:
    _, _, loop = assembled(tmp_path, epochs=1)
    moments = list[Moment]()
    loop.observers = [moments.append]
    loop.run()
    (last,) = (moment.record for moment in moments if moment.kind == "evaluating")
    assert last["done"] == last["total"] > 0


def test_threads_are_given_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        run(tmp_path / "run", epochs=1, threads=2)
        assert torch.get_num_threads() == 2, "what follows the training has one thread left"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("what", ["plan", "features", "fault"])
def test_threads_are_given_back_by_what_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr("thawline.run.carry_out.Job._foresight", None)
    try:
        if what == "plan":
            monkeypatch.undo()
            tl.plan(table(), say=silent, **options())
        elif what == "features":
            tl.features(str(folder_of("bert")), table()[0], say=silent, progress=False)
        else:
            with pytest.raises(TypeError):
                run(tmp_path / "run", epochs=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_trials_report_each_below_its_own_folder(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1, report_to=["tensorboard"], vary={"lr": [1e-3, 1e-4]})
    found = {path.relative_to(tmp_path / "run").parts[:2]: path for path in (tmp_path / "run").rglob("events.out.tfevents*")
             if b"step/loss" in path.read_bytes()}  # fmt: skip
    assert set(found) == {("trials", "001"), ("trials", "002")}
    counts = {place: path.read_bytes().count(b"step/loss") for place, path in found.items()}
    steps = json.loads((tmp_path / "run" / "trials" / "001" / "plan.json").read_text())["steps"]
    assert set(counts.values()) == {steps}


def test_metrics_that_training_does_not_have_are_refused_before_it(tmp_path: Path) -> None:
    with pytest.raises(tl_errors().RecipeError, match="have no accuracy_top5, since there are no more than 5 labels"):
        run(tmp_path / "run", metric="accuracy_top5")
    assert not (tmp_path / "run").exists()


def test_history_goes_on_after_a_line_that_was_torn_off(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"kind": "step", "step": 1}\n{"kind": "step", "step": 2}\n{"kind": "st')
    observe.history(path, 1)(Moment("step", 2, 9, {"loss": 1.0}))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_tensors_are_dealt_to_no_more_threads_than_there_are_tensors() -> None:
    from thawline.train.workers import shares

    assert shares([torch.empty(1 << 20), torch.empty(1 << 20)], 8) == [[0], [1]]
    assert shares([], 8) == [[]]


def test_gradients_that_share_memory_are_summed_each_for_itself() -> None:
    model = nn.ParameterDict({name: nn.Parameter(torch.zeros(size)) for name, size in (("a", 4), ("b", 4), ("c", 2))})
    masters = Masters(model)
    masters.open({"a", "b", "c"})
    for _ in range(2):  # as a sum of two parameters hands both one tensor back
        gradient = torch.ones(4)
        masters.add([gradient, gradient, gradient[:2]])
    assert [float(master.grad.sum()) for master in masters.now if master.grad is not None] == [8.0, 8.0, 4.0]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_state_comes_back_lying_as_the_weights_do(name: str) -> None:
    """Fused optimisers go through weights and state as they lie in memory: one laid out otherwise would be mixed up."""
    from thawline.strategies.base import Group
    from thawline.train.optimize import Optimization, load_state, state_tensors

    def made() -> tuple[torch.optim.Optimizer, nn.Parameter]:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(8, 6, 3, 3).to(memory_format=torch.channels_last))
        return Optimization(name, learning_rate=0.1).build({"w": weight}, (Group(0, ("w",)),)), weight

    def step(optimizer: torch.optim.Optimizer, weight: nn.Parameter, seed: int) -> None:
        torch.manual_seed(seed)
        weight.grad = torch.randn(8, 6, 3, 3).to(memory_format=torch.channels_last)
        optimizer.step()

    (one, weight), (other, resumed) = made(), made()
    step(one, weight, 1)
    with torch.no_grad():
        resumed.copy_(weight)
    load_state(other, state_tensors(one))
    step(one, weight, 2)
    step(other, resumed, 2)
    assert torch.equal(weight, resumed)


@pytest.mark.parametrize(("few", "many", "asked"), [(0.05, 0.01, [16]), (0.8, 3.0, [16, 832])])
def test_bfloat16_is_given_up_after_a_few_rows(
    few: float, many: float, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gains, seen = {16: few, 832: many}, list[int]()

    def seconds(device: torch.device, dtype: torch.dtype, rows: int) -> float:
        seen.append(rows)
        return gains[rows] if dtype == torch.float32 else 1.0

    monkeypatch.setattr("thawline.train.device._seconds", seconds)
    assert Device("cpu").bf16_gain == gains[asked[-1]] and seen == [rows for rows in asked for _ in range(2)]


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_that_is_asked_for_in_vain_is_told(able: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawline.run.assemble.has_bf16", lambda: able)
    said = list[str]()
    prepared = prepare(recipe_for(table(), **options(bf16=True)), silent)
    decide(prepared, assemble(prepared, silent).recipe, Device("cpu"), say=said.append)
    assert any("cannot multiply in bfloat16" in line for line in said) != able


def test_lengths_are_on_a_coarser_grid_where_kernels_are_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order(np.array([5, 17, 23, 40, 41]), 4, seed=0, shapes=Shapes(8))
    assert [order.length(np.array(part)) for part in ([0], [1, 0], [2], [3, 4])] == [8, 24, 24, 41]
    for tiles, wanted in ((True, 8), (False, 2)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda tiles=tiles: {"amx_tile": tiles})
        assert [Device("cpu", bf16=bf16).shapes(real=False, by_length=False).grid for bf16 in (True, False)] == [wanted, 2]
