"""Image classification: the contract, what becomes of pictures, augmentation and its stored views, and whole runs."""

import hashlib
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import thawline as tl
from stored import stored_of
from test_resume import HEARD, outcome, started, wait_for
from thawline.data.augment import COLORS, PICTURES
from thawline.errors import ModelError, RunError, UserError
from thawline.models.load import load_config, load_model, load_processor, quiet
from thawline.tasks.base import Fitting
from thawline.tasks.image_classification import ImageClassification, channels_of
from thawline.tasks.supervised import Supervised, Views, of_examples
from thawline.testing import check_task
from thawline.train.budget import step_seconds

LABELS = ("dark", "light", "striped")
SIZE = 32
SHARES = {"train": (0, 1, 2), "validation": (3,), "test": (4,)}
VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8}
TOWER = {**VIT, "image_size": SIZE, "projection_dim": 16}
TEXTS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 8}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}


def picture_of(number: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture by its number: the class is the number modulo 3, the rest is noise."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 60, (size[1], size[0], 3)) + (0, 190, 0)[number % 3]
    if number % 3 == 2:
        pixels[::4] += 180
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny random models with their processors, one with batch norms."""
    base = tmp_path_factory.mktemp("models")
    configs = {
        "vit": (transformers.ViTConfig(image_size=SIZE, **VIT), transformers.ViTModel, transformers.ViTImageProcessor),
        "siglip": (
            transformers.SiglipConfig(text_config=TEXTS, vision_config=TOWER),
            transformers.SiglipModel,
            transformers.SiglipImageProcessor,
        ),
        "clip": (
            transformers.CLIPConfig(text_config=TEXTS, vision_config=TOWER, projection_dim=16),
            transformers.CLIPModel,
            transformers.CLIPImageProcessor,
        ),
        "resnet": (transformers.ResNetConfig(**RESNET), transformers.ResNetModel, transformers.ConvNextImageProcessor),
    }
    for name, (config, model, processor) in configs.items():
        torch.manual_seed(0)
        with quiet():
            model(config).save_pretrained(base / name)
        size = {"shortest_edge": SIZE} if name == "resnet" else {"height": SIZE, "width": SIZE}
        more = {"crop_pct": 1.0} if name in ("vit", "resnet") else {}
        if name == "clip":
            more["crop_size"] = size
        processor(size=size, **more).save_pretrained(base / name)
    return {name: str(base / name) for name in configs}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, a folder for each class; one cannot be read."""
    base = tmp_path_factory.mktemp("pictures")
    for number in range(60):
        place = base / LABELS[number % 3] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        picture_of(number).save(place)
    (base / "dark" / "torn.png").write_bytes((base / "dark" / "0.png").read_bytes()[:200])
    return base


def task_of(model: str, problem: str = "single_label_classification") -> ImageClassification:
    labels = () if problem == "regression" else LABELS
    return ImageClassification(load_processor(model, "AutoImageProcessor"), problem=problem, labels=labels)


def examples(problem: str = "single_label_classification") -> list[dict[str, Any]]:
    rows = [{"id": f"e{n}", "image": {"bytes": None, "path": None} | {"bytes": _png(n)}} for n in range(16)]
    label = {
        "regression": lambda n: 5.0 * (n % 3),
        "multi_label_classification": lambda n: [name for i, name in enumerate(LABELS) if i <= n % 3],
    }.get(problem, lambda n: LABELS[n % 3])
    return [{**row, "label": label(n)} for n, row in enumerate(rows)]


def _png(number: int) -> bytes:
    file = BytesIO()
    picture_of(number).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_contract(problem: str, models: dict[str, str]) -> None:
    task = task_of(models["vit"], problem)
    config = load_config(models["vit"])
    task.configure(config)
    model = load_model(models["vit"], task.auto_class, config, seed=0).model
    check_task(task, model, examples(problem))


def test_pixels_are_those_of_the_processor(models: dict[str, str]) -> None:
    task = task_of(models["vit"])
    items = task.encode(examples()[:3])
    straight = load_processor(models["vit"], "AutoImageProcessor")([picture_of(n) for n in range(3)], return_tensors="pt")[
        "pixel_values"
    ]
    assert torch.equal(task.collate(items).inputs["pixel_values"], straight)
    assert task.hollow(items).inputs["pixel_values"].shape == straight.shape


class NotInSteps:
    """Timm's processor has neither resizing nor normalising of its own."""

    model_input_names = ("pixel_values",)


@pytest.mark.parametrize("settings", [{}, {"include_top": False}, {"rescale_offset": True}])
def test_efficientnet_divides_by_the_deviation_once(settings: dict[str, Any]) -> None:
    same_as_the_processor("EfficientNetImageProcessor", size={"height": SIZE, "width": SIZE}, **settings)


@pytest.mark.parametrize("name", ["MobileViTImageProcessor", "MobileViTImageProcessorPil"])
def test_mobilevit_sees_blue_first_as_in_a_pipeline(name: str) -> None:
    edge = {"height": SIZE, "width": SIZE}
    found = same_as_the_processor(name, size={"shortest_edge": SIZE}, crop_size=edge)
    with_red = same_as_the_processor(name, size={"shortest_edge": SIZE}, crop_size=edge, do_flip_channel_order=False)
    assert torch.equal(found, with_red[:, [2, 1, 0]]) and not torch.equal(found, with_red)


def same_as_the_processor(name: str, **settings: Any) -> torch.Tensor:
    """What becomes of pictures in two steps is what the processor makes of them in one."""
    processor = getattr(transformers, name)(**settings)
    task = ImageClassification(processor, problem="single_label_classification", labels=LABELS)
    found = task.collate(task.encode(coloured())).inputs["pixel_values"]
    pictures = [Image.open(BytesIO(row["image"]["bytes"])) for row in coloured()]
    assert torch.allclose(found, processor(pictures, return_tensors="pt")["pixel_values"], atol=1e-6)
    return found


def coloured() -> list[dict[str, Any]]:
    found = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, (255, 120, 40), (30, 40, 3)).astype(np.uint8)
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found.append({"id": f"c{number}", "image": {"bytes": file.getvalue(), "path": None}})
    return found


def test_processors_of_another_kind_are_refused() -> None:
    for processor in (NotInSteps(), transformers.Siglip2ImageProcessor()):
        with pytest.raises(ModelError, match=r"such as ViT.*model=NAME"):
            ImageClassification.fit(processor, transformers.ResNetConfig(), Fitting())


def seen(task: ImageClassification, *changes: str, most: int | None = None) -> Supervised:
    task.augment(changes)
    rows = examples()
    data = of_examples(task, rows, task.targets({"id": [r["id"] for r in rows], "label": [r["label"] for r in rows]}))
    return Supervised(task, data.items, data.lengths, data.ids, data.targets, views=Views(str(changes), 0, most))


def test_a_view_is_one_object_for_all_steps_of_its_epoch(models: dict[str, str]) -> None:
    """What is held of all its examples is found by it, so that a step need not read them again."""
    data = seen(task_of(models["vit"]), "flip")
    assert data.seen(1) is data.seen(1) and data.seen(1).digests is data.seen(1).digests
    assert data.seen(2) is not data.seen(1) and data.seen(2).digests != data.seen(1).digests


def test_views_follow_from_seed_and_epoch(models: dict[str, str]) -> None:
    data = seen(task_of(models["vit"]), "flip", "crop(0.5)")
    first, again, other = (data.seen(e).batch(np.arange(6)).inputs["pixel_values"] for e in (0, 0, 1))
    alone = data.seen(0).batch(np.array([4])).inputs["pixel_values"]
    assert torch.equal(first, again)
    assert torch.equal(first[4], alone[0])  # whoever its mates are
    assert not torch.equal(first, other)
    assert set(data.seen(0).digests).isdisjoint(data.seen(1).digests)
    few = seen(task_of(models["vit"]), "flip", most=2)
    assert few.seen(0).digests == few.seen(2).digests != few.seen(1).digests


def test_mixing_mixes_the_labels_alike(models: dict[str, str]) -> None:
    task = task_of(models["vit"])
    batch = seen(task, "mixup(1.0)").batch(np.arange(6))
    assert batch.targets is not None and batch.targets.shape == (6, 3)
    assert torch.allclose(batch.targets.sum(-1), torch.ones(6))
    assert task.mixes


@pytest.mark.parametrize("mixing", ["mixup(0.4)", "cutmix"])
def test_a_run_learns_from_mixed_pictures(mixing: str, models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """Nothing of a mixed picture can be stored, whatever is frozen; what is measured is not mixed."""
    more = {"data": {"augment": [mixing]}, "strategy": "freeze(0.5)", "store": {"features": True}}
    one, again = (trained(folder, models["vit"], tmp_path / name, train={"num_train_epochs": 8}, **more)[0] for name in "ab")
    plain, _ = trained(folder, models["vit"], tmp_path / "plain", train={"num_train_epochs": 8}, strategy="freeze(0.5)")
    assert weights(one) == weights(again) != weights(plain)
    assert one.metrics["test"]["accuracy"] > 0.6


def test_augmentation_that_is_none(models: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"flop.*did you mean 'flip'"):
        task_of(models["vit"]).augment(["flop"])
    with pytest.raises(UserError, match="leave mixup and cutmix out"):
        task_of(models["vit"], "regression").augment(["mixup"])


@pytest.mark.parametrize("change", sorted({*PICTURES}))
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_every_augmentation_of_every_number_of_channels(change: str, channels: int, models: dict[str, str]) -> None:
    """What changes colours is refused in a sentence where there are none; all else does its work."""
    task, config = task_of(models["resnet"]), load_config(models["resnet"])
    ImageClassification.fit(task._processor, config, Fitting(in_channels=channels))
    if change in COLORS and channels not in (1, 3):
        with pytest.raises(UserError, match=f"{change} changes colours.*{channels} channels; expected flip"):
            task.augment([change])
        return
    task.augment([change])
    generator, pixels = np.random.default_rng(0), np.zeros((channels, SIZE, SIZE), np.uint8)
    for _ in range(20):
        assert task._view({"pixels": pixels, "random": generator}).shape == pixels.shape


def trained(folder: Path, model: str, output: Path, model_settings: dict[str, Any] | None = None, **settings: Any) -> Any:
    train = {
        "num_train_epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "threads": 1,
        "seed": 0,
        "bf16": False,
    } | settings.pop("train", {})
    said: list[str] = []
    run = tl.finetune(
        str(folder),
        model={"name": model, **(model_settings or {})},
        train=train,
        output={"dir": str(output)},
        progress=False,
        say=said.append,
        **settings,
    )
    return run, said


def weights(run: Any) -> str:
    """A hash, since pytest would look for the place where bytes differ for minutes."""
    return hashlib.blake2b((run.folder / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("strategy", ["full", "head", "freeze(0.5)", "layerwise(full, decay=0.8)", "gradual(full, until=0.5)"])
@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_strategies_with_and_without_the_store(
    name: str, strategy: str, models: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    runs = [
        trained(
            folder, models[name], tmp_path / str(kept), strategy=strategy, store={"features": kept}, data={"augment": ["flip"]}
        )
        for kept in (True, False)
    ]
    (with_store, said), (without, _) = runs
    assert any("torn.png" in line and "left out" in line for line in said)
    assert with_store.recipe.task.name == "image-classification"
    one, other = (run.metrics["validation"] for run in (with_store, without))
    assert {k: v for k, v in one.items() if not isinstance(v, dict)} == {
        k: v for k, v in other.items() if not isinstance(v, dict)
    }
    assert stored_of(without) == []
    assert bool(stored_of(with_store)) == (strategy not in ("full", "layerwise(full, decay=0.8)"))
    if strategy in ("full", "layerwise(full, decay=0.8)"):
        assert weights(with_store) == weights(without)


def test_features_are_those_of_the_processor(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """What another processor makes of the same pixels is not taken from the store."""
    other = tmp_path / "other"
    shutil.copytree(models["vit"], other)
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.1, 0.2, 0.3]}))
    made = {}
    for name, model, kept in (("first", models["vit"], True), ("stored", str(other), True), ("computed", str(other), False)):
        made[name], _ = trained(folder, model, tmp_path / name, strategy="head", store={"features": kept})
    assert weights(made["first"]) != weights(made["stored"]) == weights(made["computed"])
    again, _ = trained(folder, str(other), tmp_path / "again", strategy="head", store={"features": True})
    assert again.metrics["train"]["prefix"]["examples_computed"] == 0


@pytest.mark.parametrize("strategy", ["head", "freeze(0.5)"])
def test_views_are_stored_and_take_turns(strategy: str, models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """As many as `store.views` of each training example, whether they are stored or computed anew; cold is warm."""
    more = {
        "strategy": strategy,
        "data": {"augment": ["flip", "crop(0.5)"]},
        "train": {"num_train_epochs": 5, "load_best_model_at_end": False},
    }
    made = {}
    for name, kept, views in (("off", False, 2), ("cold", True, 2), ("warm", True, 2), ("one", True, 1)):
        store = {"features": kept, "views": views}
        made[name], said = trained(folder, models["resnet"], tmp_path / name, store=store, **more)
        assert any(f"{views} view" in line and "take turns" in line for line in said) == kept
    assert weights(made["cold"]) == weights(made["warm"]) != weights(made["one"])
    assert weights(made["off"]) != weights(made["cold"])  # without the store each epoch has a view of its own
    sizes = json.loads((tmp_path / "cold" / "data.json").read_text())["splits"]
    found = {name: run.metrics["train"].get("prefix", {}).get("examples_computed") for name, run in made.items()}
    assert found["cold"] == 2 * sizes["train"] + sizes["validation"]
    assert (found["warm"], found["one"]) == (0, 0)


def test_pictures_in_tables(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """A table that names files, and `datasets` image features in memory, saved, and as Parquet, come to the same weights."""
    datasets = pytest.importorskip("datasets")
    files = sorted(path for path in folder.rglob("*.png") if path.name != "torn.png")
    labels = [path.parent.name for path in files]
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=sorted(set(labels)))})
    rows, forms = {}, {form: tmp_path / form for form in ("csv", "saved", "parquet")}
    for form in ("csv", "parquet"):
        forms[form].mkdir()
    for split, shares in SHARES.items():
        own = [place for place in range(len(files)) if place % 5 in shares]
        columns = {"picture": [str(files[place]) for place in own], "label": [labels[place] for place in own]}
        lines = [",".join(row) for row in zip(*columns.values(), strict=True)]
        (forms["csv"] / f"{split}.csv").write_text("\n".join(["file,label", *lines]), "utf-8")
        rows[split] = datasets.Dataset.from_dict(columns, features=features)
        rows[split].to_parquet(forms["parquet"] / f"{split}.parquet")
    datasets.DatasetDict(rows).save_to_disk(forms["saved"])
    made: dict[str, tl.Run] = {}
    for form, given in {**forms, "memory": rows}.items():
        made[form] = tl.finetune(
            given,
            model=models["resnet"],
            strategy="head",
            train={"num_train_epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "threads": 1, "seed": 0, "bf16": False},
            output={"dir": str(tmp_path / f"run-{form}")},
            progress=False,
            say=lambda text: None,
        )
        assert made[form].recipe.task.name == "image-classification"
        assert {split: made[form].metrics[split]["n"] for split in ("validation", "test")} == {"validation": 12, "test": 12}
    assert len({weights(run) for run in made.values()}) == 1


def test_a_torn_picture_to_be_answered_is_told_by_name(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    run, _ = trained(folder, models["resnet"], tmp_path / "run", strategy="head", train={"num_train_epochs": 1})
    with pytest.raises(UserError, match=r"torn\.png"):
        run.predict(str(folder / "dark" / "torn.png"))


def test_saved_model_answers_alike_in_a_pipeline(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    run, _ = trained(folder, models["resnet"], tmp_path / "run")
    files = [str(folder / LABELS[n % 3] / f"{n}.png") for n in range(6)]
    with quiet():
        pipe = transformers.pipeline("image-classification", model=str(run.folder / "model"))
    plain = pipe(files, top_k=None)
    rows = [{"id": str(n), "image": {"bytes": None, "path": file}} for n, file in enumerate(files)]
    for said, found in zip(plain, run.model(rows), strict=True):
        assert {one["label"]: one["score"] for one in said} == pytest.approx(found["scores"], abs=1e-5)


def test_another_backend_is_refused(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """Pictures come out a little different where torchvision is missing and PIL brings them to size."""
    run, _ = trained(folder, models["resnet"], tmp_path / "run", train={"num_train_epochs": 1})
    place = run.folder / "data.json"
    known = json.loads(place.read_text())
    assert known["backend"] == load_processor(models["resnet"], "AutoImageProcessor").backend == "torchvision"
    place.write_text(json.dumps(known | {"backend": "pil"}))
    with pytest.raises(RunError, match=r"brought to size by pil, and here it would be torchvision.*pip install pillow"):
        tl.load_run(run.folder).predict([{"image": str(folder / "dark" / "0.png")}])
    (run.folder / "metrics.json").unlink()
    with pytest.raises(RunError, match="pip install"):
        tl.resume(run.folder, say=lambda text: None, progress=False)


def test_batch_norms_keep_their_statistics_unless_told(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    def statistics(place: str) -> dict[str, torch.Tensor]:
        model = transformers.AutoModelForImageClassification.from_pretrained(place)
        return {name: buffer for name, buffer in model.named_buffers() if "running" in name}

    before = statistics(models["resnet"])
    frozen, _ = trained(folder, models["resnet"], tmp_path / "frozen", train={"num_train_epochs": 1})
    moved, _ = trained(folder, models["resnet"], tmp_path / "moved", train={"num_train_epochs": 1, "batch_norm": "batch"})
    assert all(torch.equal(buffer, before[name]) for name, buffer in statistics(str(frozen.folder / "model")).items())
    assert not any(torch.equal(b, before[name]) for name, b in statistics(str(moved.folder / "model")).items())


@pytest.mark.parametrize("name", ["siglip", "clip"])
def test_towers_for_pictures(name: str, models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """Of models for texts and pictures, whose configs tell of pictures in a part of their own."""
    run, _ = trained(folder, models[name], tmp_path / "run")
    with quiet():
        pipe = transformers.pipeline("image-classification", model=str(run.folder / "model"))
    file = str(folder / "light" / "1.png")
    found = run.predict([{"id": "a", "image": {"bytes": None, "path": file}}])[0]
    assert {one["label"]: one["score"] for one in pipe(file, top_k=None)} == pytest.approx(found["scores"], abs=1e-5)


@pytest.mark.parametrize(("name", "channels"), [("resnet", 1), ("resnet", 5), ("siglip", 1), ("clip", 5)])
def test_pictures_of_other_channels(name: str, channels: int, models: dict[str, str], tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    for number in range(24):
        place = tmp_path / "data" / LABELS[number % 3] / f"{number}.{'png' if channels == 1 else 'tif'}"
        place.parent.mkdir(exist_ok=True, parents=True)
        if channels == 1:
            picture_of(number).convert("L").save(place)
        else:
            tifffile.imwrite(
                place,
                np.repeat(np.asarray(picture_of(number))[..., :1], channels, 2),
                photometric="minisblack",
                planarconfig="contig",
            )
    run, said = trained(tmp_path / "data", models[name], tmp_path / "run", model_settings={"in_channels": channels})
    assert any(f"have {channels} channels" in line for line in said)
    reloaded = transformers.AutoModelForImageClassification.from_pretrained(run.folder / "model")
    assert channels_of(reloaded.config) == channels
    assert next(m for m in reloaded.modules() if isinstance(m, torch.nn.Conv2d)).in_channels == channels
    assert len(run.predict(str(tmp_path / "data" / "dark"))) == 8


@pytest.mark.parametrize("channels", [None, 5])
def test_pictures_with_other_bands_are_left_out_by_name(channels: int | None, models: dict[str, str], tmp_path: Path) -> None:
    """Whether the model takes colours or bands."""
    tifffile = pytest.importorskip("tifffile")

    def write(place: Path, number: int, bands: int | None) -> None:
        place.parent.mkdir(exist_ok=True, parents=True)
        if bands is None:
            picture_of(number).save(place)
        else:
            values = np.repeat(np.asarray(picture_of(number))[..., :1], bands, 2)
            tifffile.imwrite(place, values, photometric="minisblack", planarconfig="contig")

    for number in range(24):
        write(tmp_path / "data" / LABELS[number % 3] / f"{number}.{'png' if channels is None else 'tif'}", number, channels)
    for name in ("six.tif", "more.tif"):
        write(tmp_path / "data" / "light" / name, 1, 6)
    settings = {"in_channels": channels} if channels else {}
    run, said = trained(tmp_path / "data", models["resnet"], tmp_path / "run", model_settings=settings)
    for name in ("six.tif", "more.tif"):
        assert any(name in line and "left out" in line for line in said)
    assert sum(run.metrics[split]["n"] for split in ("train", "validation", "test") if "n" in run.metrics[split]) < 24
    assert len(run.predict(str(tmp_path / "data" / "light"))) == 8


def test_pictures_without_labels_are_answered_by_name(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    run, _ = trained(folder, models["vit"], tmp_path / "run", train={"num_train_epochs": 1})
    picture_of(1).save(tmp_path / "one.jpg")
    (tmp_path / "some" / "deep").mkdir(parents=True)
    for name in ("b.png", "deep/a.png"):
        picture_of(2).save(tmp_path / "some" / name)
    assert [p["id"] for p in run.predict(str(tmp_path / "some"))] == ["b.png", "deep/a.png"]
    assert [p["id"] for p in run.predict(str(tmp_path / "one.jpg"))] == ["one.jpg"]


def test_killed_run_on_pictures_resumes_to_the_same_bytes(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """What an optimiser keeps of convolutions lies in memory as they do, whose channels come last here."""
    train = {"epochs": 6, "batch_size": 8, "lr": 1e-3, "threads": 1, "seed": 0, "bf16": False, "checkpoint_minutes": 1e-6}
    seen = {"path": str(folder), "model": models["resnet"], "strategy": "full", "evaluate": {"bootstrap_samples": 10}}
    process = started(HEARD, tmp_path / "whole", {**seen, "train": train}, lines=10**5)
    assert process.communicate() and process.returncode == 0
    process = started(HEARD, tmp_path / "run", {**seen, "train": train}, lines=9)
    wait_for(tmp_path / "run" / "history.jsonl", 9, process)
    process.kill()
    process.communicate()
    assert not (tmp_path / "run" / "metrics.json").exists()
    tl.resume(tmp_path / "run", say=lambda text: None, progress=False)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_time_budget_leaves_running_statistics_alone(models: dict[str, str], folder: Path, tmp_path: Path) -> None:
    said: list[Any] = []

    def measured(learner: Any, gradients: Any, rhythm: Any) -> Any:
        before = [buffer.clone() for buffer in learner.model.buffers()]
        spent = step_seconds(learner, gradients, rhythm)
        said.append(all(map(torch.equal, before, learner.model.buffers())))
        return spent

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thawline.run.within.step_seconds", measured)
        more = {"batch_norm": "batch", "max_minutes": 5, "num_train_epochs": 1}
        trained(folder, models["resnet"], tmp_path / "run", strategy="full", train=more)
    assert said == [True]
