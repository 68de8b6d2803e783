"""Tiny random models of every family that is supported, with their own tokenizer classes, saved as ordinary model folders.

They are saved without a classification head, as pretrained models are, so that loading them makes the head anew.
"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import ascii_letters, ascii_lowercase
from typing import Any, NamedTuple

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from thawline.models.load import load_config, load_model, load_processor, quiet
from thawline.tasks import tokenizers
from thawline.tasks.base import Fitting
from thawline.tasks.text_classification import TextClassification

LAYERS, WIDTH, POSITIONS = 4, 32, 64
LABELS = ("bad", "fine", "good")
SENTENCES = [
    "The film is a quiet triumph, warm and funny from the first scene to the last.",
    "A dull, noisy mess; nobody in it seems to know why they are there.",
    "What is the capital of Norway?",
    "My card was charged twice for one coffee. Please refund the second payment!",
    "Good good good bad bad bad fine awful lovely terrible great poor, one two three four.",
]
_WORDS = " ".join(SENTENCES).split()
# Sixteen texts of 3 to 18 words, no two alike, with labels that have nothing to do with them.
EXAMPLES = [
    {"id": f"e{i}", "text": " ".join(_WORDS[3 * i : 3 * i + 3 + (7 * i) % 16]), "label": LABELS[i * i % 7 % 3]}
    for i in range(16)
]


class Family(NamedTuple):
    """A tokenizer class with the kind of vocabulary it has, and a config class with its numbers."""

    tokenizer: str
    vocabulary: str
    config: str
    numbers: Mapping[str, Any]


_SPECIAL = tuple(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep"))
_SIZE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH}
_PLACED = {**_SIZE, "max_position_embeddings": POSITIONS}
_GROUPED = {**_PLACED, "num_key_value_heads": 1}
_HALVES = {f"{half}_{part}": 2 for half in ("encoder", "decoder") for part in ("layers", "attention_heads")}
_WIDTHS = {"encoder_ffn_dim": 2 * WIDTH, "decoder_ffn_dim": 2 * WIDTH, "d_model": WIDTH}
_T5 = {"d_model": WIDTH, "d_kv": 16, "d_ff": 2 * WIDTH, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
_DEBERTA = {"conv_kernel_size": 3, "conv_act": "gelu", "relative_attention": True, "position_buckets": 8}
_DISENTANGLED = {
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}

FAMILIES = {
    "bert": Family("BertTokenizer", "wordpiece", "BertConfig", _PLACED),
    "roberta": Family("RobertaTokenizer", "bytes", "RobertaConfig", {**_SIZE, "max_position_embeddings": POSITIONS + 2}),
    "distilbert": Family(
        "DistilBertTokenizer",
        "wordpiece",
        "DistilBertConfig",
        {"dim": WIDTH, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 2 * WIDTH, "max_position_embeddings": POSITIONS},
    ),
    "albert": Family("AlbertTokenizer", "unigram", "AlbertConfig", {**_PLACED, "embedding_size": 16}),
    "electra": Family("ElectraTokenizer", "wordpiece", "ElectraConfig", {**_PLACED, "embedding_size": 16}),
    "deberta-v2": Family("DebertaV2Tokenizer", "unigram", "DebertaV2Config", {**_PLACED, **_DEBERTA, **_DISENTANGLED}),
    "modernbert": Family("PreTrainedTokenizerFast", "bytes", "ModernBertConfig", {**_PLACED, "local_attention": 8}),
    "xlnet": Family(
        "XLNetTokenizer", "unigram", "XLNetConfig", {"d_model": WIDTH, "n_layer": LAYERS, "n_head": 2, "d_inner": 64}
    ),
    "gpt2": Family(
        "GPT2Tokenizer", "bytes", "GPT2Config", {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 2, "n_positions": POSITIONS}
    ),
    "llama": Family("LlamaTokenizer", "pieces", "LlamaConfig", _GROUPED),
    "qwen2": Family("Qwen2Tokenizer", "bytes", "Qwen2Config", _GROUPED),
}
# Encoder-decoders: cut into stages too, though not promised as classifiers.
FURTHER = {
    "bart": Family("BartTokenizer", "bytes", "BartConfig", {**_HALVES, **_WIDTHS, "max_position_embeddings": POSITIONS}),
    "t5": Family("T5Tokenizer", "unigram", "T5Config", _T5),
}


def folder_of(name: str) -> Path:
    """Return the model folder of a family, made when first asked for and gone when the process ends."""
    return _saved(name)


def tokenizer_of(name: str) -> Any:
    """Return a fresh tokenizer of a family, fitted for classification (it has a pad token)."""
    folder = str(folder_of(name))
    tokenizer = load_processor(folder, "AutoTokenizer")
    tokenizers.fit(tokenizer, load_config(folder), Fitting())
    return tokenizer


def task_of(name: str, problem: str = "single_label_classification", **arguments: Any) -> TextClassification:
    """Return a text-classification task over a family's tokenizer; its labels are LABELS, none for numbers."""
    labels = () if problem == "regression" else LABELS
    return TextClassification(tokenizer_of(name), **{"problem": problem, "labels": labels, "max_length": 32, **arguments})


def model_of(name: str, task: TextClassification | None = None, **numbers: Any) -> Any:
    """Return a fresh classifier of a family in eval mode; `numbers` are set on its config."""
    task, folder = task or task_of(name), str(folder_of(name))
    config = load_config(folder)
    for key, value in numbers.items():
        setattr(config, key, value)
    task.configure(config)
    return load_model(folder, task.auto_class, config, seed=0).model


def inputs_of(name: str, sentences: Sequence[str] = SENTENCES[:3]) -> dict[str, torch.Tensor]:
    """Return a padded batch of sentences, as a family's model takes it."""
    task = task_of(name)
    return dict(task.collate(task.encode([{"id": text, "text": text} for text in sentences])).inputs)


@cache
def _home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="thawline-families-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


@cache
def _saved(name: str) -> Path:
    family, folder = {**FAMILIES, **FURTHER}[name], _home() / name
    tokenizer = _tokenizer(family)
    tokenizer.model_max_length = POSITIONS
    kind = getattr(transformers, family.config)
    special = {key: getattr(tokenizer, key) for key in _SPECIAL if hasattr(kind, key)}
    config = kind(vocab_size=len(tokenizer), **special, **family.numbers)
    torch.manual_seed(0)
    with quiet():
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(family: Family) -> Any:
    kind = getattr(transformers, family.tokenizer)
    if kind is transformers.PreTrainedTokenizerFast:  # ModernBERT has no class of its own
        return _modernbert()
    bare = kind()
    special = list(dict.fromkeys(bare.all_special_tokens))
    return kind(**_VOCABULARIES[family.vocabulary](special))


def _trained(model: Any, splitter: Any, trainer: Any) -> dict[str, Any]:
    backend = Tokenizer(model)
    backend.pre_tokenizer = splitter
    backend.train_from_iterator(SENTENCES * 4, trainer)
    return dict(json.loads(backend.to_str())["model"])


def _wordpiece(special: list[str]) -> dict[str, Any]:
    words = sorted({word for text in SENTENCES for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    pieces = dict.fromkeys([*special, *ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase), *words])
    return {"vocab": {piece: i for i, piece in enumerate(pieces)}}


def _bytes(special: list[str]) -> dict[str, Any]:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    return _merged(_trained(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainer))


def _pieces(special: list[str]) -> dict[str, Any]:
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    return _merged(_trained(models.BPE(unk_token="<unk>"), pre_tokenizers.Metaspace(), trainer))


def _merged(model: dict[str, Any]) -> dict[str, Any]:
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def _unigram(special: list[str]) -> dict[str, Any]:
    # Written down, since the trainer of such vocabularies comes to another one each time.
    words = sorted({f"▁{word}" for text in SENTENCES for word in text.split()})
    letters = ["▁", *sorted(set("".join(SENTENCES)) | set(ascii_letters))]
    scores = dict.fromkeys(special, 0.0) | dict.fromkeys(letters, -10.0) | dict.fromkeys(words, -5.0)
    return {"vocab": list(scores.items())}


def _modernbert() -> Any:
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    model = _bytes(list(names.values()))
    backend = Tokenizer(models.BPE(model["vocab"], model["merges"]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [("[CLS]", model["vocab"]["[CLS]"]), ("[SEP]", model["vocab"]["[SEP]"])]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ends)
    inputs = ["input_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **names)


_VOCABULARIES = {"wordpiece": _wordpiece, "bytes": _bytes, "pieces": _pieces, "unigram": _unigram}


class Medium(NamedTuple):
    """A model of images or sound: its config class with its numbers, and the head that classifies."""

    config: str
    head: str
    numbers: Mapping[str, Any]


_IMAGE, _SOUND, _SIDE = "AutoModelForImageClassification", "AutoModelForAudioClassification", 32
_PATCHES = {**_SIZE, "num_hidden_layers": 3, "image_size": _SIDE, "patch_size": 8}
_WINDOWS = {"image_size": _SIDE, "patch_size": 4, "window_size": 4}
_WAVES = {
    **_SIZE,
    "num_hidden_layers": 3,
    "conv_dim": (16, 16),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 4),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}
_SPECTRA = {
    "d_model": WIDTH,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 2 * WIDTH,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "num_mel_bins": 8,
    "max_source_positions": 20,
    "classifier_proj_size": 16,
}
MEDIA = {
    "vit": Medium("ViTConfig", _IMAGE, _PATCHES),
    "beit": Medium("BeitConfig", _IMAGE, {**_PATCHES, "use_relative_position_bias": True, "layer_scale_init_value": 0.1}),
    "dinov2": Medium("Dinov2Config", _IMAGE, _PATCHES),
    "swin": Medium("SwinConfig", _IMAGE, {**_WINDOWS, "embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2]}),
    "convnext": Medium("ConvNextConfig", _IMAGE, {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1]}),
    "resnet": Medium(
        "ResNetConfig", _IMAGE, {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic"}
    ),
    "resnet-bottleneck": Medium("ResNetConfig", _IMAGE, {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2]}),
    "efficientnet": Medium(
        "EfficientNetConfig",
        _IMAGE,
        {"image_size": _SIDE, "width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320},
    ),
    "mobilenet-v2": Medium("MobileNetV2Config", _IMAGE, {"image_size": _SIDE, "depth_multiplier": 0.25}),
    "wav2vec2": Medium("Wav2Vec2Config", _SOUND, {**_WAVES, "feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "wav2vec2-group": Medium("Wav2Vec2Config", _SOUND, _WAVES),
    "whisper": Medium("WhisperConfig", _SOUND, _SPECTRA),
}


def medium_of(name: str, **numbers: Any) -> Any:
    """Return a fresh classifier of images or sound in eval mode; `numbers` are set on its config."""
    medium = MEDIA[name]
    config = getattr(transformers, medium.config)(**{**medium.numbers, **numbers}, num_labels=len(LABELS))
    torch.manual_seed(0)
    with quiet():
        model = getattr(transformers, medium.head).from_config(config)
    if medium.head == _IMAGE:  # as drawn, activations die out between norms that have seen nothing, and all answers are one
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            model.train()(torch.randn(16, 3, _SIDE, _SIDE))
    return model.eval()


def media_inputs(name: str, lengths: Sequence[int] = (400, 250, 331)) -> dict[str, torch.Tensor]:
    """Return a batch of random images, or of sounds of these lengths, as a model takes it."""
    random, rows = torch.Generator().manual_seed(len(lengths) + sum(lengths)), len(lengths)
    if MEDIA[name].head == _IMAGE:
        return {"pixel_values": torch.randn(rows, 3, _SIDE, _SIDE, generator=random)}
    if name == "whisper":
        return {"input_features": torch.randn(rows, 8, 40, generator=random)}
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_values": torch.randn(rows, max(lengths), generator=random) * mask, "attention_mask": mask}
