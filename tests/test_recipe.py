"""Recipes: read, changed, written, and faulted in plain words."""

import doctest
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from thawline.errors import RecipeError
from thawline.recipe import ALIASES, Recipe, key_table, load_recipe, python_arguments, recipe_from, save_recipe, to_yaml
from thawline.recipe.names import BARE, SECTIONS, WHOLE, canonical, fields, keys, sections_of
from thawline.recipe.text import parse_yaml
from thawline.tasks.base import TASKS
from thawline.train.optimizers import OPTIMIZERS
from thawline.train.schedule import SCHEDULES

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "recipe.md"
PATHS = [f"{section}.{key}" if key else section for section in SECTIONS for key in keys(section) or [""]]


def made(*overrides: str, **sections: Any) -> Recipe:
    return recipe_from({"data": "reviews.csv"}, overrides, **sections)


def faults(*overrides: str, **mapping: Any) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        recipe_from({"data": "reviews.csv", **mapping}, overrides)
    return caught.value.faults


def tried(make: Callable[[], Recipe]) -> Recipe | None:
    try:
        return make()
    except RecipeError:
        return None


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# What is there


def test_every_field_is_described_and_aliases_lead_to_fields() -> None:
    described = [*Recipe.model_fields.values(), *(field for section in SECTIONS for field in fields(section).values())]
    assert all(field.description for field in described)
    assert all(name in fields(section) for section, table in ALIASES.items() for name in table.values())
    assert not any(alias in fields(section) for section, table in ALIASES.items() for alias in table)
    assert not any(sections_of(section) for section in SECTIONS), "a bare key would be read as a section"
    assert all(key in fields(section) for section, key in BARE.items())


def test_a_recipe_is_a_value() -> None:
    assert made() == made()
    with pytest.raises(ValidationError, match="frozen"):
        made().train.seed = 1
    with pytest.raises(ValidationError, match="Extra"):
        Recipe.model_validate({"data": {"path": "x"}, "trian": {}})


def test_defaults() -> None:
    recipe = made()
    assert (recipe.task.name, recipe.model.name, recipe.strategy, recipe.regularize) == ("auto", None, "full", [])
    train = recipe.train
    assert (train.num_train_epochs, train.per_device_train_batch_size, train.learning_rate) == (3, 32, "auto")
    assert (recipe.data.split, recipe.data.validation_size, recipe.data.test_size) == ("auto", 0.1, None)


# Names


@pytest.mark.parametrize("alias", ALIASES["train"])
def test_an_alias_means_its_key_in_yaml_on_the_command_line_and_in_python(alias: str, tmp_path: Path) -> None:
    values = {"optimizer": "sgd", "sampling": "group_by_length", "metric": "f1_macro", "label_smoothing": 0.2, "warmup": 0.2}
    value = values.get(alias, "cosine" if alias.startswith("sched") else 4)
    path = written(tmp_path, f"data: reviews.csv\ntrain: {{{alias}: {value}}}\n")
    canonically = made(train={canonical("train", alias) if alias != "batch_size" else "per_device_train_batch_size": value})
    assert (
        load_recipe(path) == made(f"train.{alias}={value}") == made(f"{alias}={value}") == made(**{alias: value}) == canonically
    )
    assert canonically != made()


def test_one_key_under_two_names_is_a_fault() -> None:
    assert faults(train={"epochs": 3, "num_train_epochs": 3}) == (
        "train.num_train_epochs: is given as train.epochs too; expected once; leave one out.",
    )
    assert "as train.batch_size too" in faults(train={"batch_size": 8, "per_device_train_batch_size": 8})[0]
    assert faults("epochs=3", "train.epochs=4") == ("train.epochs: is given twice; expected once; leave one out.",)
    assert faults("model=a", "model.name=b") == ("model.name: is given twice; expected once; leave one out.",)


def test_bare_keys_find_their_section() -> None:
    assert python_arguments(model="x", epochs=3, max_length=64, batch_size=8) == {
        "model": {"name": "x"},
        "train": {"num_train_epochs": 3, "batch_size": 8},
        "data": {"max_length": 64},
    }
    assert made("dir=runs/a", "text=[a, b]").output.dir == "runs/a"
    assert made(model=None, strategy=None, train=None) == made()
    assert faults("path=x") == ("path: stands in several sections; type data.path or store.path.",)
    with pytest.raises(RecipeError, match=r"epchs: there is no such key, did you mean 'train.epochs'\?"):
        python_arguments(epchs=3)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("data.epochs", "train.epochs"),
        ("train.epoch", "train.epochs"),
        ("train.learning_rte", "train.learning_rate"),
        ("trian", "train"),
        ("trian.epochs", "train.epochs"),
        ("model.pth", "data.path"),
        ("store.lable", "data.label"),
        ("train.class_weights.good", "train.class_weights"),
    ],
)
def test_did_you_mean(path: str, meant: str) -> None:
    (fault,) = faults(f"{path}=1")
    assert f"did you mean '{meant}'?" in fault


# Values


def test_batch_size_is_divided_once_both_are_known(tmp_path: Path) -> None:
    path = written(tmp_path, "data: x.csv\ntrain: {batch_size: 32}\n")
    assert load_recipe(path, ["accumulation=4"]).train.per_device_train_batch_size == 8
    assert load_recipe(path, ["per_device_train_batch_size=4"]).train.per_device_train_batch_size == 4
    assert made("batch_size=16", train={"gradient_accumulation_steps": 2}).train.per_device_train_batch_size == 8
    assert faults("batch_size=10", "accumulation=4") == (
        "train.batch_size: 10 examples a step cannot be cut into 4 equal parts (train.accumulation);"
        " expected a multiple; for example train.batch_size=12.",
    )
    assert faults("batch_size=many", "accumulation=0")[0].startswith("train.batch_size: 'many' was given")


def test_warmup_is_a_share_or_steps() -> None:
    assert (made("warmup=0.2").train.warmup_ratio, made("warmup=0.2").train.warmup_steps) == (0.2, None)
    assert made("warmup=100").train.warmup_steps == made(warmup=100.0).train.warmup_steps == 100
    assert faults("warmup=10.5")[0].startswith("train.warmup: 10.5 was given; expected a whole number")


def test_what_is_given_later_puts_its_rival_out() -> None:
    recipe = recipe_from({"data": "x.csv", "train": {"max_steps": 100, "warmup_steps": 5}}, ["epochs=5", "warmup=0.2"])
    assert (recipe.train.max_steps, recipe.train.num_train_epochs, recipe.train.warmup_steps) == (None, 5, None)
    assert faults("epochs=5", "max_steps=100")[0].startswith("train.max_steps: stands beside train.num_train_epochs;")


def test_call_forms_are_canonical_and_accept_objects_with_a_spec() -> None:
    text = "gradual(layerwise(full,decay=.9), until=0.5)"
    thing: Any = SimpleNamespace(spec="gradual(layerwise(full, decay=0.9), until=0.5)")
    assert made(f"strategy={text}") == made(strategy=text) == made(strategy=thing)
    assert made(f"strategy={text}").strategy == thing.spec
    assert made(strategy="my.parts:thing(full, 2)").strategy == "my.parts:thing(full, 2)"
    assert made("split=group('sent by')").data.split == "group('sent by')"
    assert made("data.split=time(column=when)").data.split == "time(when)"


@pytest.mark.parametrize(
    "given_as",
    ["regularize=[l1(1e-5), dropout([0.1, 0.2])]", "regularize=l1(1e-5), dropout([0.1, 0.2])"],
)
def test_regularize_from_text_and_lists(given_as: str, tmp_path: Path) -> None:
    wanted = ["l1(1e-05)", "dropout([0.1, 0.2])"]
    assert made(given_as).regularize == made(regularize=["l1(1e-5)", "dropout([0.1,0.2])"]).regularize == wanted
    block = written(tmp_path, "data: x\nregularize:\n- l1(1e-5)\n- dropout([0.1, 0.2])\n")
    assert load_recipe(block).regularize == wanted
    assert load_recipe(block, ["regularize=[]"]).regularize == []
    assert load_recipe(written(tmp_path, "data: x\nregularize: [l2(1e-4)]\n")).regularize == ["l2(0.0001)"]


@pytest.mark.parametrize(
    ("given_as", "said"),
    [
        ("strategy=gradual(", "strategy: 'gradual(' is not a name or a call"),
        ("strategy=3", "strategy: '3' is not a name or a call"),
        ("strategy=gradul(full)", "no strategy called 'gradul', did you mean 'gradual'?"),
        ("strategy=gradual(fll)", "no strategy called 'fll', did you mean 'full'?"),
        ("strategy=layerwise(full, decay=2)", "strategy: layerwise(decay=2) is out of range"),
        ("strategy=layerwise(3)", "strategy: "),
        ("regularize=[l1(1e-5), drpout(0.1)]", "regularize: there is no regularizer called 'drpout', did you mean 'dropout'?"),
        ("regularize=[l1(1e-5]", "regularize: "),
        ("regularize=0.1", "regularize: '0.1' is not a list of calls"),
        ("data.split=stratify", "data.split: there is no split called 'stratify', did you mean 'stratified'?"),
        ("data.split=group", "data.split: 'group' was given; expected group(COLUMN)"),
        ("data.split=hash(3)", "data.split: 'hash(3)' was given; expected hash alone"),
    ],
)
def test_malformed_call_forms(given_as: str, said: str) -> None:
    (fault,) = faults(given_as)
    assert said in fault


@pytest.mark.parametrize(
    ("given_as", "said"),
    [
        (
            "task=text-clasification",
            "task.name: there is no task called 'text-clasification', did you mean 'text-classification'?",
        ),
        (
            "optimizer=sdg",
            "train.optimizer: there is no optimizer called 'sdg', did you mean 'sgd'? Expected adamw, adam, sgd or",
        ),
        (
            "train.schedule=cosin",
            "train.schedule: there is no schedule called 'cosin', did you mean 'cosine'? Expected linear,",
        ),
        ("optim=my.parts:", "train.optim: there is no optimizer called 'my.parts:'. Expected adamw"),
    ],
)
def test_parts_are_those_of_the_tables(given_as: str, said: str) -> None:
    (fault,) = faults(given_as)
    assert fault.startswith(said)


def test_the_tables_parts_and_ones_own_go_through() -> None:
    for optim in (*OPTIMIZERS, "my.parts:Lion"):
        assert made(f"optim={optim}").train.optim == optim
    assert made("optim=adamw_torch_fused").train.optim == "adamw"
    assert {made(schedule=name).train.lr_scheduler_type for name in SCHEDULES} == set(SCHEDULES)
    assert {made(task=name).task.name for name in (*TASKS, "auto", "my.parts:Task")} == {*TASKS, "auto", "my.parts:Task"}


@pytest.mark.parametrize(
    ("schedule", "options", "said"),
    [
        ("linear", {"gamma": 1}, "linear has no argument 'gamma'. It is linear(progress)."),
        ("step", {"gama": 0.5}, "step has no argument 'gama', did you mean 'gamma'? It is step(progress, steps=3, gamma=0.1)."),
        ("step", {"gamma": "a"}, "step(gamma='a') has an argument of the wrong kind or size"),
        ("cosine", {"progress": 1}, "does not fit cosine(progress, num_cycles=0.5)"),
    ],
)
def test_options_of_a_schedule_are_told_with_the_other_faults(schedule: str, options: dict[str, Any], said: str) -> None:
    found = faults(f"schedule={schedule}", "lr=-1", train={"lr_scheduler_kwargs": options})
    assert [fault.partition(":")[0] for fault in found] == ["train.lr", "train.lr_scheduler_kwargs"]
    assert said in found[1]
    assert made("schedule=step", train={"lr_scheduler_kwargs": {"gamma": 0.5}}).train.lr_scheduler_kwargs == {"gamma": 0.5}
    assert made("schedule=my.parts:own", train={"lr_scheduler_kwargs": options}).train.lr_scheduler_kwargs == options


def test_reading_a_recipe_runs_nothing_that_it_names(tmp_path: Path) -> None:
    target = tmp_path / "made"
    made("optim=os:abort", "schedule=os:abort", "task=os:abort", "lr_scheduler_kwargs={a: 1}")
    for form in ("os:mkdir('{}')", "layerwise(os:mkdir('{}'))", "gradual(full, until=os:mkdir('{}'))"):
        made(strategy=form.format(target), regularize=[f"os:mkdir('{target}')"])
    assert not target.exists()


def test_text_is_taken_as_it_stands_on_the_command_line() -> None:
    recipe = made("model.revision=1e5", "data.label=0", "text=[a, 1]", "device=cuda:0", "eval_strategy=no", "data=2024-01-01")
    assert (recipe.model.revision, recipe.data.label, recipe.data.text) == ("1e5", "0", ["a", "1"])
    assert (recipe.train.device, recipe.train.eval_strategy, recipe.data.path) == ("cuda:0", "no", "2024-01-01")
    assert made("model=a=b").model.name == "a=b"
    assert made("report_to=wandb").train.report_to == ["wandb"]
    assert made("report_to=none").train.report_to == []


def test_class_weights_keep_the_names_of_classes(tmp_path: Path) -> None:
    wanted = {"0": 2.0, "no": 1.0, "01": 3.0}
    path = written(tmp_path, "data: x\ntrain: {class_weights: {0: 2, no: 1, 01: 3}}\n")
    assert load_recipe(path).train.class_weights == made("class_weights={0: 2, no: 1, 01: 3}").train.class_weights == wanted
    assert made(class_weights={0: 2, "no": 1, "01": np.float32(3)}).train.class_weights == wanted
    assert made(class_weights=None).train.class_weights == "none"


def test_numbers_of_numpy_and_paths_are_welcome() -> None:
    recipe = made(seed=np.int64(3), lr=np.float32(0.5), epochs=np.int32(2), output=Path("runs/x"), data={"path": Path("a.csv")})
    assert (recipe.train.seed, recipe.train.learning_rate, recipe.train.num_train_epochs) == (3, 0.5, 2.0)
    assert (recipe.output.dir, recipe.data.path) == ("runs/x", "a.csv")
    assert recipe_from(recipe, ["seed=4"]).train.seed == 4


def test_overrides_win_and_keep_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path, "model: {name: a, revision: b}\ndata: x.csv\ntrain: {epochs: 5, lr: 1e-4}\n")
    recipe = load_recipe(path, ["train.num_train_epochs=7", "model=c"], seed=9, lr=1e-3)
    assert (recipe.train.num_train_epochs, recipe.train.learning_rate, recipe.train.seed) == (7, 1e-3, 9)
    assert (recipe.model.name, recipe.model.revision) == ("c", "b")
    assert load_recipe(path, ["model=null"]).model.name is None
    assert load_recipe(path, ["train={epochs: 1, lr: 1e-2}"]).train.learning_rate == 1e-2


# Faults


def test_all_faults_at_once_each_with_its_path_and_a_way_out() -> None:
    found = faults(
        "loose",
        "train.lr=[",
        task=5,
        store=3,
        data={"epochs": 1, "validation_size": 1},
        strategy="gradual(",
        train={
            "epochs": 0,
            "optimizer": "adamm",
            "seed": True,
            "eval_batch_size": "8",
            "wat": 1,
            "max_grad_norm": float("inf"),
        },
    )
    starts = {fault.partition(":")[0] for fault in found}
    paths = {"epochs", "optimizer", "seed", "eval_batch_size", "wat", "max_grad_norm", "lr"}
    wanted = {"loose", "task.name", "store", "data.epochs", "data.path", "data.validation_size", "strategy"}
    assert starts == wanted | {f"train.{path}" for path in paths}
    assert len(found) == len(starts)
    assert all(re.search("expected|did you mean", fault) for fault in found)
    assert not re.search(r"Input should|validation error|pydantic|function-", "\n".join(found))
    assert "data.path: is missing; expected a path; type data=FILE or data.path=FILE." in found
    assert "train.epochs: 0 was given; expected a number above 0; for example train.epochs=3.0." in found


def test_keys_that_do_not_agree() -> None:
    assert "expected a number with steps" in faults("eval_strategy=steps")[0]
    assert faults("eval_strategy=no", "patience=2")[0].startswith("train.early_stopping_patience: stands beside")
    assert made("eval_strategy=steps", "eval_steps=10").train.eval_steps == 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: x\ntrain:\n  lr: 1\n  lr: 2\n", "line 4: lr stands twice"),
        ("data: x\ntrain:\n\tlr: 1\n", "line 3: this is not YAML"),
        ("data: [x\n", "this is not YAML"),
        ("data: x\nregularize: [dropout([1])]\n", "line 2: this is not YAML"),
        ("data: !!python/object:os.system x\n", "line 1: this is not YAML"),
        ("data: !!int x\n", "this is not YAML"),
        ("data: \x07\n", "line 1: this is not YAML"),
        ("just text\n", "'just text' stands there; expected sections"),
        ("? [a]\n: 1\n", "a key must be one word"),
        ("", "data.path: is missing"),
        ("data:\ntrain:\n", "data.path: is missing"),
        ("data: x\nepochs: 3\n", "epochs: there is no such key, did you mean 'train.epochs'?"),
        (f"data: {'[' * 5000}", "this is not YAML"),
        ("data: x\ntrain: &a {epochs: *a}\n", "train.epochs: "),
    ],
)
def test_faulty_files(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, text))
    assert len(caught.value.faults) == 1
    assert said in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    written(tmp_path, "data: x\n")
    with pytest.raises(RecipeError, match=r"no such file, did you mean 'recipe.yaml'\?"):
        load_recipe(tmp_path / "recpe.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("data: caf\xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match="byte 9 is not UTF-8"):
        load_recipe(tmp_path / "latin.yaml")
    (tmp_path / "bom.yaml").write_bytes("data: x.csv".encode("utf-8-sig"))
    assert load_recipe(tmp_path / "bom.yaml").data.path == "x.csv"


def test_duplicate_keys_are_told_with_the_other_faults(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, "data: x\ndata: y\ntrain: {epochs: -1}\n"), ["sed=1"])
    assert len(caught.value.faults) == 3


# There and back

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
TEXTS = WORDS | st.sampled_from(
    ["no", "1e-4", "010", "null", "~", "1:30", "0x1f", "2024-01-01", "=", "<<", "- a", "a: b", " x ", "#"]
)
POSITIVE = st.floats(1e-300, 1e300)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    train = {
        "learning_rate": draw(POSITIVE | st.just("auto")),
        "class_weights": draw(st.just("auto") | st.dictionaries(TEXTS, POSITIVE, max_size=3)),
        "max_grad_norm": draw(st.none() | POSITIVE),
        "report_to": draw(st.lists(TEXTS.filter(lambda word: word != "none"), max_size=2)),
        "lr_scheduler_type": "a.b:schedule",
        "lr_scheduler_kwargs": draw(
            st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers() | TEXTS | POSITIVE, max_size=2)
        ),
        "threads": draw(st.none() | st.integers(1, 10**30)),
    }
    data = {
        "path": draw(TEXTS),
        "text": draw(st.none() | TEXTS | st.lists(TEXTS, max_size=2)),
        "label": draw(st.none() | TEXTS),
    }
    model = {"name": draw(st.none() | TEXTS), "add_tokens": draw(st.lists(TEXTS, max_size=3))}
    regularize = draw(st.lists(st.sampled_from(["a.b:l1(1e-5)", "a:b([0.1, 'x, y'])"]), max_size=2))
    return recipe_from({"data": data, "model": model, "train": train, "strategy": "freeze(2)", "regularize": regularize})


@settings(deadline=None, max_examples=40)
@given(recipes(), st.booleans())
def test_yaml_loads_back_to_the_equal_recipe(recipe: Recipe, comments: bool) -> None:
    text = to_yaml(recipe, comments)
    mapping, repeated = parse_yaml(text)
    assert not repeated
    assert recipe_from(mapping) == recipe
    assert to_yaml(recipe_from(mapping), comments) == text


def test_save_and_load(tmp_path: Path) -> None:
    recipe = made(
        "batch_size=16", "accumulation=2", "warmup=50", "max_steps=9", "model=模型", "strategy=gradual(layerwise(full))"
    )
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert (tmp_path / "recipe.yaml").read_text("utf-8").startswith("# thawline recipe\ntask:\n  name: auto\n")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_comments_say_what_each_key_is() -> None:
    lines = to_yaml(made(), comments=True).splitlines()
    assert "  # passes over the training set (a number above 0)" in lines
    assert all(lines[i - 1].lstrip().startswith("#") for i, line in enumerate(lines) if re.match(r" *\w+:", line))
    assert max(map(len, lines)) <= 104


SIGNS = st.sampled_from([*"()[]{}=.,:'\"#&*!|>%@` \t\n-+~\\_0123456789e", "full", "l1(", "null", "1e-4", "gradual(", "group("])
VALUES = (
    st.lists(SIGNS, max_size=12).map("".join)
    | st.text(max_size=12)
    | st.sampled_from(["3", "0.5", "auto", "true", "[a, b]", "{a: 1}"])
)


@settings(deadline=None, max_examples=400)
@given(st.lists(st.tuples(st.sampled_from([*PATHS, *SECTIONS]) | st.text(max_size=8), VALUES), max_size=4))
def test_key_value_texts_give_a_recipe_or_a_recipe_error(pairs: list[tuple[str, str]]) -> None:
    recipe = tried(lambda: made(*(f"{path}={value}" for path, value in pairs)))
    if isinstance(recipe, Recipe):
        assert recipe_from(parse_yaml(to_yaml(recipe))[0]) == recipe


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=40) | st.lists(SIGNS | st.sampled_from(["data: x\n", "train:\n", "  lr: "]), max_size=15).map("".join))
def test_any_file_gives_a_recipe_or_a_recipe_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    tried(lambda: load_recipe(path))


# The guide


def test_the_guide_has_the_table_of_every_key() -> None:
    assert GUIDE.read_text("utf-8").endswith(f"\n{key_table()}"), "replace it by thawline.recipe.key_table()"
    assert all(f"`{path}`" in key_table() for path in PATHS if path.split(".")[-1] not in ALIASES["train"] or "predict" in path)
    assert all(f"`{section}`" in key_table() for section in WHOLE)


def test_the_guide_runs() -> None:
    assert doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8").failed == 0
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert [recipe_from(parse_yaml(block)[0]).data.path for block in blocks] == ["reviews.csv", "reviews.csv"]
