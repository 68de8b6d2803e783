"""Recordings that numbers decide, and tiny random models that hear them, saved as ordinary model folders."""

from __future__ import annotations

import csv
from pathlib import Path
from string import ascii_letters
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
from tokenizers import pre_tokenizers

from thawline.models.load import quiet

RATE = 16000
LABELS = ("high", "low", "middle")
WORDS = ("NO", "ON", "YES")
_WIDTHS = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
_LAYERS = {f"{half}_{part}": 2 for half in ("encoder", "decoder") for part in ("layers", "attention_heads")}
_WAVES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16, 16),
    "conv_stride": (20, 8),
    "conv_kernel": (40, 8),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "layerdrop": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}
_SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")


def clip(number: int, seconds: float | None = None) -> np.ndarray:
    """A tone of one of three pitches, by its number, and noise: float32 at RATE."""
    random = np.random.default_rng(number)
    length = round(RATE * (seconds or 0.2 + 0.02 * (number * 7 % 16)))
    wave = np.sin(2 * np.pi * (1600.0, 300.0, 700.0)[number % 3] * np.arange(length) / RATE)
    return (0.4 * wave + 0.02 * random.standard_normal(length)).astype(np.float32)


def sentence(number: int) -> tuple[np.ndarray, str]:
    """One or two words, each a tone before a pause, and what they say."""
    words, pause = [number, *([number // 3] if number % 2 else [])], np.zeros(RATE // 20, np.float32)
    samples = [part for word in words for part in (clip(word, 0.15), pause)]
    return np.concatenate(samples), " ".join(WORDS[word % 3] for word in words)


def value(samples: np.ndarray) -> dict[str, Any]:
    """What an example holds of a recording in memory."""
    return {"array": samples, "sampling_rate": RATE}


def folder_of(folder: Path, *, transcripts: bool = False, count: int = 36, **longer: float) -> str:
    """Write recordings and the table that names them; `longer` has the seconds of some, by split."""
    for split, start in (("train", 0), ("test", count)):
        rows = []
        for number in range(start, start + (count if split == "train" else count // 3)):
            samples, text = sentence(number) if transcripts else (clip(number), LABELS[number % 3])
            if number == start and split in longer:
                samples = clip(number, longer[split])
            name = f"{split}{number}.wav"
            folder.mkdir(exist_ok=True, parents=True)
            soundfile.write(folder / name, samples, RATE)
            rows.append({"path": name, "text" if transcripts else "label": text})
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    return str(folder)


def whisper(folder: Path, *, seconds: int = 4, tokens: int | None = None) -> str:
    """Save a tiny Whisper that hears so many seconds, with its tokenizer and feature extractor."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # In Whisper's order, by which languages and times are counted.
    names = [*_SPECIAL[:2], "<|en|>", "<|zh|>", "<|de|>", "<|translate|>", "<|transcribe|>", _SPECIAL[2]]
    tokenizer = transformers.WhisperTokenizer(vocab={name: i for i, name in enumerate([*letters, *names])}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    tokenizer.pad_token = _SPECIAL[0]
    extractor = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=seconds)
    end, start, plain = tokenizer.convert_tokens_to_ids(list(_SPECIAL))
    ends = {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end, "decoder_start_token_id": start}
    config = transformers.WhisperConfig(
        vocab_size=tokens or len(tokenizer),
        num_mel_bins=8,
        max_source_positions=50 * seconds,
        max_target_positions=64,
        classifier_proj_size=16,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **{**_WIDTHS, **_LAYERS, **ends},
    )
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    more = {"no_timestamps_token_id": plain, "is_multilingual": False, "max_length": 64}
    model.generation_config.update(**ends, **more, suppress_tokens=tokenizer.convert_tokens_to_ids(list("!?O")))
    with quiet():
        model.save_pretrained(folder)
    transformers.WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return str(folder)


def wav2vec2(folder: Path, *, norm: str = "layer", vocabulary: str | None = None, **more: Any) -> str:
    """Save a tiny wav2vec 2.0; with a `vocabulary` of letters it has a tokenizer and a head. `more` is of its config."""
    from thawline.tasks.transcripts import letters

    masked = norm == "layer"
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked)
    tokenizer = letters(vocabulary or ascii_letters)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(tokenizer), pad_token_id=0, feat_extract_norm=norm, do_stable_layer_norm=masked, **{**_WAVES, **more}
    )
    torch.manual_seed(0)
    with quiet():
        (transformers.Wav2Vec2ForCTC if vocabulary else transformers.Wav2Vec2Model)(config).save_pretrained(folder)
    processor = transformers.Wav2Vec2Processor(extractor, tokenizer) if vocabulary else extractor
    processor.save_pretrained(folder)
    return str(folder)


def trained(path: str, model: str, output: Path, **settings: Any) -> tuple[Any, list[str]]:
    """Train for an epoch or as told; return the run and what was said."""
    import thawline as tl

    train = {"num_train_epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "threads": 1, "seed": 0, "bf16": False}
    said: list[str] = []
    run = tl.finetune(
        path,
        model=model,
        train=train | settings.pop("train", {}),
        evaluate={"bootstrap_samples": 10} | settings.pop("evaluate", {}),
        output={"dir": str(output)},
        progress=False,
        say=said.append,
        **settings,
    )
    return run, said
