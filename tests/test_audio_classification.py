"""Audio classification: the contract, what becomes of recordings, Whisper's short window, augmentation, and whole runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

import thawline as tl
from spoken import LABELS, RATE, clip, folder_of, trained, value, wav2vec2, whisper
from stored import stored_of
from thawline.data.encoded import length_of
from thawline.data.sounds import sound
from thawline.errors import UserError
from thawline.models.load import load_config, load_model, load_processor, quiet
from thawline.run.folder import RunFolder
from thawline.run.kept import kept
from thawline.tasks.audio_classification import AudioClassification
from thawline.tasks.base import Fitting
from thawline.tasks.recordings import configure, pieces
from thawline.tasks.supervised import Supervised, Views, of_examples
from thawline.tasks.too_short import least_samples
from thawline.testing import check_task

SINGLE = "single_label_classification"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("models")
    waves = {norm: wav2vec2(base / norm, norm=norm) for norm in ("layer", "group")}
    return {"whisper": whisper(base / "whisper"), **waves}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder_of(tmp_path_factory.mktemp("tones") / "tones")


def examples(problem: str = SINGLE) -> list[dict[str, Any]]:
    label = {
        "regression": lambda n: 5.0 * (n % 3),
        "multi_label_classification": lambda n: [name for i, name in enumerate(LABELS) if i <= n % 3],
    }.get(problem, lambda n: LABELS[n % 3])
    return [{"id": f"e{n}", "audio": value(clip(n)), "label": label(n)} for n in range(16)]


def task_of(model: str, problem: str = SINGLE, *, window: int | None = None) -> AudioClassification:
    extractor, config = load_processor(model, "AutoFeatureExtractor"), load_config(model)
    options = {"window": window} if window else {}
    AudioClassification.fit(extractor, config, Fitting(options=options, examples={"train": examples()}))
    return AudioClassification(extractor, problem=problem, labels=() if problem == "regression" else LABELS)


def model_of(task: AudioClassification, folder: str) -> Any:
    config = load_config(folder)
    task.configure(config)
    model = load_model(folder, task.head_class(config), config, seed=0).model
    task.start(model, None)
    return model


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("whisper", SINGLE),
        ("whisper", "multi_label_classification"),
        ("whisper", "regression"),
        ("layer", SINGLE),
        ("group", SINGLE),
    ],
)
def test_contract(name: str, problem: str, models: dict[str, str]) -> None:
    """Of wav2vec 2.0 the one without a mask too: each length runs apart."""
    task = task_of(models[name], problem)
    check_task(task, model_of(task, models[name]), examples(problem))


def test_masking_inside_the_model_is_off_where_its_config_has_no_switch() -> None:
    config = transformers.Data2VecAudioConfig()
    configure(config)
    assert config.apply_spec_augment is False


def test_window_is_what_the_data_needs(models: dict[str, str]) -> None:
    task = task_of(models["whisper"])
    assert task.hearing.extractor.chunk_length == 1
    items = task.encode(examples())
    straight = load_processor(models["whisper"], "AutoFeatureExtractor")(
        [clip(n) for n in range(16)], sampling_rate=RATE, return_tensors="pt"
    )["input_features"]
    assert straight.shape == (16, 8, 400)
    batch = task.collate(items).inputs["input_features"]
    assert task.hollow(items).inputs["input_features"].shape == batch.shape == (16, 8, 100)
    # The same numbers as in the whole window, and kept without the silence behind them.
    assert torch.allclose(batch, straight[:, :, :100], atol=1e-5)
    assert max(item["features"].shape[1] for item in items) < 60
    whole = task_of(models["whisper"], window=4)
    assert torch.allclose(whole.collate(whole.encode(examples())).inputs["input_features"], straight, atol=1e-6)
    assert whole.encoding_key() != task.encoding_key()


def test_positions_are_the_first_of_the_model(models: dict[str, str]) -> None:
    whole = transformers.AutoModelForAudioClassification.from_pretrained(models["whisper"])
    short = model_of(task_of(models["whisper"]), models["whisper"])
    positions = short.encoder.embed_positions.weight
    assert torch.equal(positions, whole.encoder.embed_positions.weight[:50]) and not positions.requires_grad
    assert short.config.max_source_positions == 50


@pytest.mark.parametrize("window", [0, 5, "4"])
def test_window_that_is_none(window: Any, models: dict[str, str]) -> None:
    config, extractor = load_config(models["whisper"]), load_processor(models["whisper"], "AutoFeatureExtractor")
    wanted = Fitting(options={"window": window}, examples={"train": examples()})
    with pytest.raises(UserError, match="expected whole seconds from 1 to 4"):
        AudioClassification.fit(extractor, config, wanted)
    with pytest.raises(UserError, match="leave it out"):
        AudioClassification.fit(load_processor(models["layer"], "AutoFeatureExtractor"), config, wanted)


def test_long_recordings_are_cut_where_it_is_quiet(models: dict[str, str]) -> None:
    pause = np.zeros(RATE // 10, np.float32)
    samples = np.concatenate([clip(0, 0.85), pause, clip(1, 0.8)])
    first, second = pieces(samples, RATE, RATE)
    assert 0.85 <= len(first) / RATE <= 0.95 and len(first) + len(second) == len(samples)
    task = task_of(models["whisper"])
    rows = [{"id": "a", "audio": value(samples)}, {"id": "b", "audio": value(clip(2))}]
    data = of_examples(task, rows)
    assert data.owners is not None and data.owners.tolist() == [0, 0, 1]
    model = model_of(task, models["whisper"])
    with torch.no_grad():
        batch = data.batch(np.arange(3))
        one, two, _ = task.decode(task.forward(model, batch), batch)
    both = task.combine([one, two])
    assert both["scores"]["low"] == pytest.approx((one["scores"]["low"] + two["scores"]["low"]) / 2)
    assert both["label"] == max(both["scores"], key=lambda name: both["scores"][name])


def seen(task: AudioClassification, *changes: str) -> Supervised:
    task.augment(changes)
    rows = examples()
    data = of_examples(task, rows, task.targets({"id": [r["id"] for r in rows], "label": [r["label"] for r in rows]}))
    return Supervised(task, data.items, data.lengths, data.ids, data.targets, owners=data.owners, views=Views(str(changes), 0))


@pytest.mark.parametrize(
    ("name", "changes"),
    [("whisper", ("time_mask", "frequency_mask(4)")), ("whisper", ("noise(10)", "time_mask")), ("layer", ("speed", "gain"))],
)
def test_views_follow_from_seed_and_epoch(name: str, changes: tuple[str, ...], models: dict[str, str]) -> None:
    data = seen(task_of(models[name]), *changes)
    first, again, other = (next(iter(data.seen(e).batch(np.arange(6)).inputs.values())) for e in (0, 0, 1))
    assert torch.equal(first, again) and not (first.shape == other.shape and torch.equal(first, other))
    plain = task_of(models[name])
    kept = Supervised(data.task, data.items, data.lengths, data.ids, owners=data.owners).batch(np.arange(6)).inputs
    straight = plain.collate(plain.encode(examples()[:6])).inputs
    assert all(torch.equal(straight[key], kept[key]) for key in straight)  # without views nothing changes
    waves = changes[0] not in ("time_mask", "frequency_mask")
    assert ("samples" in data.items[0]) == waves == (plain.encoding_key() != data.task.encoding_key())


def test_speed_does_not_push_a_recording_out_of_its_window(models: dict[str, str]) -> None:
    task = task_of(models["whisper"], window=1)
    task.augment(["speed(0.5, 0.5)"])
    short, long = task.encode([{"id": "a", "audio": value(clip(0, 0.4))}, {"id": "b", "audio": value(clip(0, 0.9))}])
    heard = task.hearing.heard([{**item, "random": np.random.default_rng(0)} for item in (short, long)])
    assert [item["features"].shape[1] for item in heard] == [82, 92]


def test_augmentation_that_is_none(models: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"nois.*did you mean 'noise'"):
        task_of(models["whisper"]).augment(["nois"])
    with pytest.raises(UserError, match="time_mask masks features of Whisper, and this is another model; expected"):
        task_of(models["layer"]).augment(["time_mask"])


def plain_metrics(run: Any) -> dict[str, Any]:
    return {key: value for key, value in run.metrics["test"].items() if not isinstance(value, dict)}


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("whisper", "head"),
        ("whisper", "freeze(0.5)"),
        ("whisper", "layerwise(full, decay=0.8)"),
        ("whisper", "gradual(full, until=0.5)"),
        ("layer", "head"),
        ("group", "freeze(0.5)"),
    ],
)
def test_strategies_with_and_without_the_store(
    name: str, strategy: str, models: dict[str, str], data: str, tmp_path: Path
) -> None:
    augmented = {"augment": ["time_mask"] if name == "whisper" else ["noise"]}
    with_store, without = (
        trained(data, models[name], tmp_path / str(kept), strategy=strategy, store={"features": kept}, data=augmented)[0]
        for kept in (True, False)
    )
    assert with_store.recipe.task.name == "audio-classification"
    assert plain_metrics(with_store) == plain_metrics(without)
    stored = [stored_of(run) for run in (with_store, without)]
    nothing = strategy == "layerwise(full, decay=0.8)" or name == "group"  # whose norms see padding, so that nothing is stored
    assert stored[1] == [] and bool(stored[0]) != nothing


@pytest.mark.parametrize("name", ["whisper", "group"])
def test_saved_model_answers_alike_in_a_pipeline(name: str, models: dict[str, str], data: str, tmp_path: Path) -> None:
    run, said = trained(data, models[name], tmp_path / "run", train={"num_train_epochs": 2})
    saved = str(run.folder / "model")
    if name == "whisper":
        assert any("hears 1 s at a time in the place of 4" in line for line in said)
        assert load_config(saved).max_source_positions == 50
        before, after = (
            transformers.AutoModel.from_pretrained(place).encoder.embed_positions.weight for place in (models[name], saved)
        )
        assert torch.equal(before[:50], after)
    with quiet():
        pipe = transformers.pipeline("audio-classification", model=saved)
    plain = [pipe({"raw": clip(n), "sampling_rate": RATE}, top_k=None) for n in range(6)]
    found = run.model([{"id": str(n), "audio": value(clip(n))} for n in range(6)])
    for one, other in zip(plain, found, strict=True):
        assert {each["label"]: each["score"] for each in one} == pytest.approx(other["scores"], abs=1e-5)


def test_what_a_model_needs_to_hear() -> None:
    waves, bert = transformers.Wav2Vec2FeatureExtractor(), transformers.SeamlessM4TFeatureExtractor()
    assert least_samples(waves, transformers.Wav2Vec2Config()) == 400
    assert least_samples(waves, transformers.SEWConfig()) == 720  # which takes two frames together
    assert least_samples(transformers.ASTFeatureExtractor(num_mel_bins=64), transformers.ASTConfig()) == 400
    assert least_samples(bert, transformers.Wav2Vec2BertConfig()) == 560
    assert least_samples(transformers.WhisperFeatureExtractor(), transformers.WhisperConfig()) == 1


@pytest.mark.parametrize(("name", "least"), [("layer", 180), ("group", 180)])
def test_the_shortest_recording_that_a_model_hears(name: str, least: int, models: dict[str, str]) -> None:
    task = task_of(models[name])
    assert least_samples(task.hearing.extractor, load_config(models[name])) == least
    model = model_of(task, models[name])
    rows = [{"id": "a", "audio": value(clip(0)[:size])} for size in (least, least - 1)]
    assert [place for place, _ in task.unfit(task.hearing.extractor, model.config, rows)] == [1]
    with torch.no_grad():
        model(**task.collate(task.encode(rows[:1])).inputs)
        with pytest.raises(RuntimeError):
            model(**task.collate(task.encode(rows[1:])).inputs)


@pytest.mark.parametrize("name", ["whisper", "layer"])
def test_recordings_that_are_too_short_are_left_out_by_name(name: str, models: dict[str, str], tmp_path: Path) -> None:
    folder = Path(folder_of(tmp_path / "tones"))
    for split, rate in (("train", 48000), ("test", 44100)):
        soundfile.write(folder / f"{split}_short.wav", clip(0)[:1], rate)
        with (folder / f"{split}.csv").open("a") as file:
            file.write(f"{split}_short.wav,high\n")
    run, said = trained(str(folder), models[name], tmp_path / "run", strategy="head")
    for split in ("train", "test"):
        assert any(f"{split}_short.wav is too short: 0 samples" in line and f"left out of {split}" in line for line in said)
    assert run.metrics["test"]["n"] == 12
    assert len(run.predict(str(folder / "test.csv"))) == 12
    said.clear()
    found = tl.features(models[name], folder / "test.csv", say=said.append, progress=False)
    assert len(found) == 12 and any("test_short.wav is too short" in line for line in said)


def test_folds_without_what_is_too_short(models: dict[str, str], tmp_path: Path) -> None:
    folder = Path(folder_of(tmp_path / "tones"))
    soundfile.write(folder / "short.wav", clip(0)[:100], RATE)
    with (folder / "train.csv").open("a") as file:
        file.write("short.wav,high\n")
    (folder / "test.csv").unlink()
    run, _ = trained(str(folder / "train.csv"), models["layer"], tmp_path / "run", data={"folds": 2, "validation_size": 0.2})
    assert run.metrics["folds"]["n"] == 36
    assert len(kept(RunFolder(run.folder)).examples) == 36


def test_nothing_too_short_is_left_of_a_long_recording() -> None:
    samples = np.concatenate([np.ones(RATE - 200, np.float32), np.zeros(400, np.float32)])
    assert [len(piece) for piece in pieces(samples, RATE, RATE)][1] >= RATE // 10


def test_speed_does_not_make_a_recording_too_short(models: dict[str, str]) -> None:
    task = task_of(models["layer"])
    model_of(task, models["layer"])
    assert task.hearing.least == 180
    task.augment(["speed(0.5, 2)"])
    (item,) = task.encode([{"id": "a", "audio": value(clip(0)[:200])}])
    for seed in range(8):
        (heard,) = task.hearing.heard([{**item, "random": torch.Generator().manual_seed(seed)}])
        assert len(heard["features"]) >= 180


def test_a_long_recording_in_a_test_set_is_told(models: dict[str, str], tmp_path: Path) -> None:
    data = folder_of(tmp_path / "long", count=12, test=5.0)
    run, said = trained(data, models["whisper"], tmp_path / "run", strategy="head")
    assert any("1 of 4 recordings in test are longer than 4 s" in line for line in said)
    assert run.metrics["test"]["n"] == 4


def test_what_fills_up_a_spectrogram_is_not_kept() -> None:
    extractor = transformers.ASTFeatureExtractor(num_mel_bins=64, max_length=200)
    task = AudioClassification(extractor, problem=SINGLE, labels=LABELS)
    clips = [clip(0, 0.8), clip(1, 3.0)]
    items = task.encode([{"id": str(n), "audio": value(samples)} for n, samples in enumerate(clips)])
    plain = extractor(sound(value(clips[0]), RATE), sampling_rate=RATE)
    frames = [len(item["features"]) for item in items]
    assert frames == [78, 159, 137]  # what is heard at a time is two seconds, cut where it is quiet
    assert {length_of(item) for item in items} == {200}
    found = task.collate(items).inputs["input_values"].numpy()
    assert found.shape == (3, 200, 64)
    assert np.array_equal(found[0], plain["input_values"][0])
