"""Text classification: one label, several labels at once, pairs of texts, and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from thawline.models.catalog import DEFAULT_TEXT_MODEL
from thawline.tasks import tokenizers
from thawline.tasks.base import Fitting
from thawline.tasks.classification import Classification
from thawline.types import Batch, Example, Item

_NOT_INPUTS = ("target", "weight", "id", "full_length", "random")


class TextClassification(Classification):
    """Sentences or pairs of sentences, with a label, several labels, or a number each.

    `tokenizer` is a fast or slow tokenizer with a pad token, `max_length` counts tokens with the special ones; the rest is that
    of `Classification`.
    """

    auto_class = "AutoModelForSequenceClassification"
    processor_class = "AutoTokenizer"
    default_model = DEFAULT_TEXT_MODEL

    @classmethod
    def fit(cls, processor: Any, config: Any, wanted: Fitting) -> tuple[int | None, str | None]:
        return tokenizers.fit(processor, config, wanted)

    def __init__(self, tokenizer: Any, *, max_length: int, **labelling: Any) -> None:
        super().__init__(**labelling)
        tokenizers.hush(tokenizer)
        self.tokenizer, self.max_length = tokenizer, max_length

    def configure(self, config: Any) -> None:
        super().configure(config)
        if config.get_text_config().pad_token_id is None:
            config.get_text_config().pad_token_id = self.tokenizer.pad_token_id

    def encoding_key(self) -> str:
        return tokenizers.content_key(
            self.tokenizer, self.max_length, self.tokenizer.padding_side, self.tokenizer.truncation_side
        )

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        texts = [example["text"] for example in examples]
        pairs = [example["text_pair"] for example in examples] if examples and "text_pair" in examples[0] else None
        options = {"return_attention_mask": False, "verbose": False}
        columns = dict(self.tokenizer(texts, pairs, truncation=False, **options))
        lengths = [len(ids) for ids in columns["input_ids"]]
        for i in (i for i, length in enumerate(lengths) if length > self.max_length):
            pair = pairs[i] if pairs else None
            short = self.tokenizer(texts[i], pair, truncation=True, max_length=self.max_length, **options)
            for name, values in columns.items():
                values[i] = short[name]
        for i in (i for i, length in enumerate(lengths) if length == 0):
            for name, values in columns.items():
                values[i] = [self._blank if name == "input_ids" else 0]
        return [{**{name: values[i] for name, values in columns.items()}, "full_length": n} for i, n in enumerate(lengths)]

    @property
    def _blank(self) -> int:
        """What stands for a text of no tokens, on which no model runs: not the pad token, where there is another."""
        known = [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id]
        return int(next((i for i in known if i not in (None, self.tokenizer.pad_token_id)), self.tokenizer.pad_token_id))

    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        columns = [{k: v for k, v in item.items() if k not in _NOT_INPUTS} for item in items]
        return self.batched(tokenizers.padded(self.tokenizer, columns, length), items)

    @classmethod
    def remarks(cls, examples: Iterable[Example]) -> Iterable[str]:
        if not tokenizers.looks_english(example["text"] for example in examples):
            yield "these texts do not look English, and MiniLM knows English only; name a multilingual model with model=NAME"

    def save(self, folder: Path) -> None:
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)

    def resize(self, model: Any) -> None:
        model.resize_token_embeddings(len(self.tokenizer))
