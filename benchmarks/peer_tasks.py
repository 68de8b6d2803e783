"""The peers: what users of transformers write for each task, with the Trainer at its best documented settings.

`PEERS` has a function a task, of a run and the folder of its data; it trains, tests the last model, and returns what a row of
tasks.jsonl holds. `MEASURED` has one of the folder of Thawline's run: the same numbers, computed the same way.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peer import BEST
from peer_images import image_classification, pictures_of_run
from peer_speech import audio_classification, labels_of_run, speech_recognition, transcripts_of_run

from thawline.memory import PeakMemory

Sentences = list[list[str]]


def arguments_of(run: Mapping[str, Any], folder: str) -> Any:
    """Return the Trainer's arguments for a run; warm-up and decay are those of Thawline's recipes."""
    import transformers

    return transformers.TrainingArguments(
        output_dir=folder,
        num_train_epochs=run["epochs"],
        per_device_train_batch_size=run["batch_size"],
        learning_rate=run["learning_rate"],
        warmup_steps=0.1,
        weight_decay=0.01,
        seed=run["seed"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **(BEST if run["tool"] == "trainer-best" else {}),
    )


def trained(peer: Any, run: Mapping[str, Any], *, examples: int, tokens: int) -> dict[str, float]:
    """Train with a Trainer; return seconds, rates and peak memory."""
    start = time.monotonic()
    with PeakMemory() as memory:
        peer.train()
    seconds = time.monotonic() - start
    peer.args.train_sampling_strategy = "random"  # else predictions come back in the order of length
    peer.args.bf16_full_eval = False
    rates = {"examples_per_second": examples, "tokens_per_second": tokens}
    each = {name: count * run["epochs"] / seconds for name, count in rates.items()}
    return {"seconds": seconds, **each, "peak_memory_mb": memory.peak_mb}


def conll(path: Path) -> tuple[Sentences, Sentences]:
    """Return the words and the tags of a CoNLL file, read without Thawline."""
    blocks = [block.splitlines() for block in path.read_text("utf-8").strip().split("\n\n")]
    rows = [[line.split("\t") for line in block] for block in blocks]
    return tuple([[row[place] for row in sentence] for sentence in rows] for place in (0, -1))  # type: ignore[return-value]


def of_entities(true: Sentences, predicted: Sentences) -> dict[str, float]:
    """Return what seqeval says of tags."""
    from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score

    scores = {"f1": f1_score, "precision": precision_score, "recall": recall_score, "token_accuracy": accuracy_score}
    return {name: float(score(true, predicted)) for name, score in scores.items()}


def token_classification(run: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Tags of words with DataCollatorForTokenClassification, as transformers' example run_ner.py has it."""
    import datasets
    import torch
    import transformers

    from thawline.models.load import locate

    words, tags = zip(*(conll(data / f"{split}.conll") for split in ("train", "test")), strict=True)
    labels = sorted({tag for sentences in tags for sentence in sentences for tag in sentence})
    tokenizer = transformers.AutoTokenizer.from_pretrained(locate(run["model"]))

    def encoded(sentences: Sentences, tags: Sentences) -> Any:
        found = tokenizer(sentences, is_split_into_words=True, truncation=True)
        first = [first_pieces(found.word_ids(i)) for i in range(len(sentences))]
        own = [[-100 if word is None else labels.index(row[word]) for word in of] for of, row in zip(first, tags, strict=True)]
        return datasets.Dataset.from_dict({**found, "labels": own, "first": first})

    train, test = (encoded(*split) for split in zip(words, tags, strict=True))
    torch.manual_seed(run["seed"])
    network = transformers.AutoModelForTokenClassification.from_pretrained(
        locate(run["model"]),
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        dtype=torch.float32,
    )
    with tempfile.TemporaryDirectory() as folder:
        peer = transformers.Trainer(
            model=network,
            args=arguments_of(run, folder),
            train_dataset=train,
            data_collator=transformers.DataCollatorForTokenClassification(tokenizer),
            processing_class=tokenizer,
        )
        cost = trained(peer, run, examples=len(train), tokens=sum(map(len, train["input_ids"])))
        found = peer.predict(test)
    answers = np.argmax(found.predictions, -1)
    said = [["O"] * len(row) for row in tags[1]]  # also of words without a piece, such as a lone variation selector
    for row, answer, of in zip(said, answers, test["first"], strict=True):
        for place, word in enumerate(of):
            if word is not None:
                row[word] = labels[answer[place]]
    return of_entities(tags[1], said) | cost


def first_pieces(of: Sequence[int | None]) -> list[int | None]:
    """Return the number of each first piece's word, None for other pieces and special tokens."""
    return [None if place and of[place - 1] == word else word for place, word in enumerate(of)]


def tags_of_run(run: Path, data: Path) -> dict[str, float]:
    """Return what seqeval says of the tags that a run predicted."""
    lines = (run / "predictions" / "test.jsonl").read_text("utf-8").splitlines()
    return of_entities(conll(data / "test.conll")[1], [json.loads(line)["tags"] for line in lines])


Peer = Callable[[Mapping[str, Any], Path], dict[str, Any]]
PEERS: Mapping[str, Peer] = {
    "image-classification": image_classification,
    "token-classification": token_classification,
    "audio-classification": audio_classification,
    "automatic-speech-recognition": speech_recognition,
}
MEASURED: Mapping[str, Callable[[Path, Path], dict[str, float]]] = {
    "image-classification": pictures_of_run,
    "token-classification": tags_of_run,
    "audio-classification": labels_of_run,
    "automatic-speech-recognition": transcripts_of_run,
}
