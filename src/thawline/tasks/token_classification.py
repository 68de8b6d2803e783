"""Token classification: a tag for each word, and the entities that tags write down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thawline.data.encoded import Encoded
from thawline.data.tags import repair, scheme_of, spans
from thawline.data.words import Span
from thawline.errors import DataError, ModelError, UserError
from thawline.models.catalog import DEFAULT_TEXT_MODEL
from thawline.tasks import tokenizers
from thawline.tasks.base import Fitting, Task, weighted_sum
from thawline.tasks.classification import index_of, name_outputs
from thawline.types import Batch, Example, Finding, Item, Loss, Prediction

_NOT_INPUTS = ("places", "words", "owner", "target", "weight", "id", "length", "full_length", "random")
_UNSUPERVISED = -100  # as transformers marks positions that have no label
_OVERLAP = 0.25  # share of a window that it has in common with the next

Pieces = tuple[dict[str, np.ndarray], np.ndarray]
Placed = tuple[str, Sequence[Sequence[int]]]


class TokenClassification(Task):
    """Sentences cut into words, with a tag a word.

    A word is tagged by its first piece. A sentence that is longer than `max_length` tokens is read in windows that overlap, and
    each word is tagged, and learned, in the one where it has most context. `tokenizer` is a fast one with a pad token; `labels`
    are the tags in the order of the model's outputs, in BIO, BIOES, or no scheme of entities; `class_weights` maps tags to
    factors.
    """

    auto_class = "AutoModelForTokenClassification"
    processor_class = "AutoTokenizer"
    inputs = "tokens"
    target = "tags"
    default_model = DEFAULT_TEXT_MODEL

    @classmethod
    def fit(cls, processor: Any, config: Any, wanted: Fitting) -> tuple[int | None, str | None]:
        if not getattr(processor, "is_fast", False):
            raise ModelError(
                f"The model's tokenizer ({type(processor).__name__}) has no fast version, and only those tell which pieces are "
                "of which word; choose another model (those with a tokenizer.json have one)."
            )
        length, note = tokenizers.fit(processor, config, wanted)
        own = processor.num_special_tokens_to_add()
        if length <= own:
            raise UserError(
                f"data.max_length={length} leaves no room for words, since the tokenizer adds {own} tokens of its own; "
                f"expected at least {own + 1}, better 64."
            )
        return length, note

    def __init__(
        self,
        tokenizer: Any,
        *,
        problem: str,
        labels: Sequence[str],
        max_length: int,
        class_weights: Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        tokenizers.hush(tokenizer)
        self.tokenizer, self.max_length, self.label_smoothing = tokenizer, max_length, label_smoothing
        self.problem, self.labels, self._scheme = problem, tuple(labels), scheme_of(labels)
        self._index = {name: i for i, name in enumerate(labels)}
        self._weights = torch.tensor([(class_weights or {}).get(label, 1.0) for label in labels])
        self._spaced = _keeps_spaces(tokenizer)
        known = [tokenizer.unk_token, tokenizer.eos_token, tokenizer.pad_token]
        self._unknown: str = next(token for token in known if token is not None)

    def configure(self, config: Any) -> None:
        name_outputs(config, self.labels)

    def encoding_key(self) -> str:
        return "words " + tokenizers.content_key(self.tokenizer, self.max_length, self.tokenizer.padding_side)

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        words = [self._words(example) for example in examples]
        pieces = self._pieces([own or [self._unknown] for own in words])
        for place, own in enumerate(words):
            lost = set(range(len(own))).difference(pieces[place][1].tolist())
            if lost:  # odd characters that the tokenizer drops: such a word is an unknown one
                pieces[place] = self._pieces([[self._unknown if i in lost else word for i, word in enumerate(own)]])[0]
        return [item for place, own in enumerate(words) for item in self._windows(place, len(own), pieces[place])]

    def _words(self, example: Example) -> list[str]:
        """Return the words, where the tokenizer tells them apart each with the space before it, as in a whole text."""
        words: list[str] = list(example["tokens"])
        if not self._spaced or not words:
            return words
        _, places = _placed(example)
        apart = (one[1] < other[0] for one, other in pairwise(places))
        return [words[0], *(f" {word}" if gap else word for word, gap in zip(words[1:], apart, strict=True))]

    def _pieces(self, words: Sequence[list[str]]) -> list[Pieces]:
        """Return for each sentence what the tokenizer makes of it, and the number of each piece's word, -1 for none."""
        options = {"is_split_into_words": True, "truncation": False, "return_attention_mask": False, "verbose": False}
        found = self.tokenizer(list(words), **options)
        of_words = [np.array([-1 if word is None else word for word in found.word_ids(i)]) for i in range(len(words))]
        return [({name: np.array(values[i]) for name, values in found.items()}, of) for i, of in enumerate(of_words)]

    def _windows(self, owner: int, count: int, pieces: Pieces) -> Iterator[Item]:
        """Yield the items of a sentence of so many words: pieces between special tokens, "places" of first pieces, "words"."""
        columns, of = pieces
        body = np.flatnonzero(of >= 0)
        start, stop = body[0], body[-1] + 1
        words, places = (found[:count] for found in np.unique(of[start:stop], return_index=True))
        assert len(words) == count, f"of {count} words {len(words)} have pieces"
        room = self.max_length - (len(of) - (stop - start))
        cuts = tokenizers.windows(stop - start, room, overlap=int(room * _OVERLAP))
        of_window = tokenizers.most_context(places, cuts)
        for number, (begin, end) in enumerate(cuts):
            mine = of_window == number
            if number and not mine.any():  # the middle of one long word
                continue
            kept = np.r_[:start, start + begin : start + end, stop : len(of)]
            window = {name: values[kept] for name, values in columns.items()}
            yield {**window, "places": start + places[mine] - begin, "words": words[mine], "owner": owner}

    def truncation(self, items: Encoded, *, split: str, length: int) -> Finding | None:
        """Tell which sentences are read in windows: nothing of them is lost."""
        assert items.owners is not None, "each item has its sentence"
        windows = np.bincount(items.owners)
        several = windows[windows > 1]
        if not len(several):
            return None
        what = f"{len(several)} of {len(windows)} sentences in {split} have more than {length} tokens"
        return Finding("note", "windows", f"{what} and are read in {several.sum()} windows that overlap")

    def targets(self, examples: Mapping[str, Any]) -> list[list[str]]:
        return [
            # The names of the labels themselves, so that a million tags are no million texts.
            [self.labels[index_of(self._index, tag, example)] for tag in tags]
            for example, tags in zip(examples["id"], examples["label"], strict=True)
        ]

    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        columns = [{name: values for name, values in item.items() if name not in _NOT_INPUTS} for item in items]
        inputs = tokenizers.padded(self.tokenizer, columns, length)
        targets = self._targets(items, inputs["input_ids"].shape) if "target" in items[0] else None
        weights = torch.tensor([float(item.get("weight", 1.0)) for item in items])
        return Batch(inputs, targets, weights, [item.get("id", "") for item in items], items)

    def _targets(self, items: Sequence[Item], shape: Sequence[int]) -> Tensor:
        """Return the index of each first piece's tag, [B, T], and -100 elsewhere."""
        targets = np.full(tuple(shape), _UNSUPERVISED)
        for row, item in enumerate(items):
            if len(item["target"]) <= int(max(item["words"], default=-1)):
                raise DataError(f"Example {item.get('id', '')} has {len(item['target'])} tags, fewer than words.")
            targets[row, self._places(item, shape[1])] = [self._index[item["target"][word]] for word in item["words"]]
        return torch.from_numpy(targets)

    def _places(self, item: Item, width: int) -> np.ndarray:
        """Return where the first pieces stand in a padded row."""
        before = width - len(item["input_ids"]) if self.tokenizer.padding_side == "left" else 0
        return np.asarray(item["places"], dtype=np.int64) + before

    def loss(self, outputs: Any, batch: Batch) -> Loss:
        assert batch.targets is not None, "a loss needs targets"
        kept = batch.targets != _UNSUPERVISED
        targets, weights = batch.targets[kept], batch.weights[:, None].expand(kept.shape)[kept]
        logits = outputs.logits[kept].float()
        values = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        return weighted_sum(values, weights * self._weights.to(targets.device)[targets], outputs)

    def decode(self, outputs: Any, batch: Batch) -> list[Prediction]:
        """Return the tags of each window's words as the model says them, and how probable it finds each."""
        width = outputs.logits.shape[1]
        places = [self._places(item, width) for item in batch.items]
        ends = np.cumsum([0, *map(len, places)]).tolist()
        logits = outputs.logits[np.repeat(np.arange(len(places)), np.diff(ends)), np.concatenate(places)]
        found = logits.float().softmax(-1).max(-1)
        scores, tags = found.values.tolist(), [self.labels[i] for i in found.indices.tolist()]
        return [
            Prediction(id=example, tags=tags[begin:end], tag_scores=scores[begin:end])
            for example, (begin, end) in zip(batch.ids, pairwise(ends), strict=True)
        ]

    def combine(self, predictions: Sequence[Prediction]) -> Prediction:
        """Join the windows of a sentence and make its tags legal; the score is the mean of those of its tags."""
        tags = list(chain.from_iterable(prediction["tags"] for prediction in predictions))
        scores = list(chain.from_iterable(prediction["tag_scores"] for prediction in predictions))
        legal = repair(tags, self._scheme) if self._scheme else tags
        return Prediction(id=predictions[0]["id"], tags=legal, tag_scores=scores, score=fmean(scores) if scores else 1.0)

    def describe(self, prediction: Prediction, example: Example) -> Prediction:
        """Return tags, and the entities as spans of characters of the text, or of the tokens with spaces between them."""
        text, places = _placed(example)
        found = [
            {
                "type": kind,
                "start": places[begin][0],
                "end": places[end - 1][1],
                "text": text[places[begin][0] : places[end - 1][1]],
                "score": fmean(prediction["tag_scores"][begin:end]),
            }
            for kind, begin, end in self._entities(prediction["tags"])
        ]
        return Prediction(id=prediction["id"], tags=prediction["tags"], spans=found, score=prediction["score"])

    def _entities(self, tags: Sequence[str]) -> list[Span]:
        if self._scheme is not None:
            return spans(tags)
        # Types without prefixes: neighbours of one are one entity. Without an O, as in parts of speech, there are no entities.
        return spans([tag if tag == "O" else f"I-{tag}" for tag in tags]) if "O" in self.labels else []

    def answers(self, predictions: Sequence[Prediction]) -> list[list[str]]:
        return [prediction["tags"] for prediction in predictions]

    @classmethod
    def remarks(cls, examples: Iterable[Example]) -> Iterable[str]:
        if not tokenizers.looks_english(" ".join(example["tokens"]) for example in examples):
            yield "these texts do not look English, and MiniLM knows English only; name a multilingual model with model=NAME"

    def save(self, folder: Path) -> None:
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)

    def resize(self, model: nn.Module) -> None:
        model.resize_token_embeddings(len(self.tokenizer))  # type: ignore[operator]


def _keeps_spaces(tokenizer: Any) -> bool:
    """Tell whether a word has other pieces behind a space, and has to be given it (byte-level: RoBERTa, GPT-2, Qwen)."""

    def pieces(text: str | list[str]) -> list[int]:
        split = not isinstance(text, str)
        return list(tokenizer(text, is_split_into_words=split, add_special_tokens=False)["input_ids"])

    whole = pieces("the the")
    return pieces(["the", "the"]) != whole == pieces(["the", " the"])


def _placed(example: Example) -> Placed:
    """Return a text and where each token stands in it: the text that the tokens were cut from, else tokens with spaces between.

    >>> _placed({"tokens": ["Dr", "."]}), _placed({"tokens": ["Dr", "."], "offsets": [[0, 2], [2, 3]], "text_original": "Dr."})
    (('Dr .', [(0, 2), (3, 4)]), ('Dr.', [[0, 2], [2, 3]]))
    """
    tokens, offsets = example["tokens"], example.get("offsets")
    if offsets and len(offsets) == len(tokens) and all(len(place) == 2 for place in offsets):
        texts = (value for value in example.values() if isinstance(value, str))
        text = next((text for text in texts if [text[begin:end] for begin, end in offsets] == tokens), None)
        return text if text is not None else _filled(tokens, offsets), offsets
    ends = np.cumsum([len(token) + 1 for token in tokens], dtype=int).tolist()
    return " ".join(tokens), [(end - 1 - len(token), end - 1) for token, end in zip(tokens, ends, strict=True)]


def _filled(tokens: Sequence[str], offsets: Sequence[Sequence[int]]) -> str:
    """Return a text of which only the tokens are known: what stands between words is white space."""
    text = ""
    for token, (begin, _) in zip(tokens, offsets, strict=True):
        text = text.ljust(begin) + token
    return text
