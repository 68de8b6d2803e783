"""Text generation: the answers of conversations, or whole documents, learned token by token."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import transformers
from pydantic import BaseModel, Field
from torch import Tensor, nn

from thawline.data.batch import by_length
from thawline.data.encoded import Encoded as Items
from thawline.errors import DataError, UserError, did_you_mean
from thawline.models.chat import Encoded, encode_conversation, end_ids, ensure_template, prompt_of, truncate
from thawline.models.load import quiet
from thawline.models.packing import IGNORED, laid_out, pack, sees_through
from thawline.tasks import tokenizers
from thawline.tasks.base import Fitting, Task, weighted_sum
from thawline.tasks.likelihood import token_losses
from thawline.types import Batch, Example, Finding, Item, Loss, Prediction

MAX_LENGTH = 1024
_LOGITS = 1 << 27  # numbers in the logits of a batch where nothing is learned: 0.5 GB in float32
_TOGETHER, _MOST_TOKENS = 16, 1 << 14  # conversations, and tokens, that are written at once
_WARNED = 0.01  # share of the tokens to learn that is lost: warning; any: note
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")

Count = Annotated[int, Field(ge=0)]


class GenerationOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """What `task.options` may say of text generation; docs/guides/tasks.md explains each."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    generation: dict[str, Any] = {}
    generate: Count | None = 100
    generate_in_training: Count | None = 0
    packing: bool = False
    max_lost: Annotated[float, Field(ge=0, le=1)] = 0.1


class Written(NamedTuple):
    """What a model says of a batch, and what it writes itself: a text an item, None where there is no room for one."""

    outputs: Any
    texts: Sequence[str | None]


class TextGeneration(Task):
    """Conversations, of which the assistant's answers are learned to their end token, and documents, which are learned whole.

    `tokenizer` is a fast one with a chat template and a pad token; what is longer than `max_length` tokens is cut. Each token
    weighs the same. With `packing` conversations stand side by side in rows, none of them seeing another, and not one a row.
    """

    auto_class = "AutoModelForCausalLM"
    processor_class = "AutoTokenizer"
    inputs = "messages"
    target = "answer"
    head_is_pretrained = True
    Options = GenerationOptions
    passes_to_answer = 8.0

    @classmethod
    def fit(cls, processor: Any, config: Any, wanted: Fitting) -> tuple[int | None, str | None]:
        told = [ensure_template(processor)]
        length, note = tokenizers.fit(processor, config, wanted, usual=MAX_LENGTH)
        return length, "; ".join(filter(None, [*told, note])) or None

    def __init__(
        self,
        tokenizer: Any,
        *,
        problem: str = "text_generation",
        labels: Sequence[str] = (),
        max_length: int = MAX_LENGTH,
        class_weights: Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
        options: GenerationOptions | None = None,
    ) -> None:
        del class_weights  # tokens have no classes
        tokenizers.hush(tokenizer)
        self.tokenizer, self.max_length, self.label_smoothing = tokenizer, max_length, label_smoothing
        self.problem, self.labels, self.options = problem, tuple(labels), options or GenerationOptions()
        self.answered, self.answered_in_training = self.options.generate, self.options.generate_in_training
        if self.answered_in_training == 0:
            told = "since no text is generated then; task.options={generate_in_training: 100} has it of 100 examples"
            self.unmeasured = {"exact_match": told, "rouge_l": told}
        self.tokens_at_once = max(1, _LOGITS // len(tokenizer))

    def configure(self, config: Any) -> None:
        if config.get_text_config().pad_token_id is None:
            config.get_text_config().pad_token_id = self.tokenizer.pad_token_id

    def encoding_key(self) -> str:
        return "conversations " + tokenizers.content_key(self.tokenizer, self.max_length, self.tokenizer.chat_template)

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        return [self._item(example) for example in examples]

    def _item(self, example: Example) -> Item:
        """Return tokens, "learned" (1 or 0 for each), the "prompt" of the last answer, and how many learned ones are "lost"."""
        messages, tools = example["messages"], example.get("tools")
        try:
            whole, prompt = encode_conversation(self.tokenizer, messages, tools), prompt_of(self.tokenizer, messages, tools)
        except DataError as error:
            raise DataError(f"Example {example['id']}: {error}") from None
        begin = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id
        kept = truncate(whole, self.max_length)
        learned = np.array(kept.supervised, np.uint8)
        learned[:1] = 0  # nothing comes before it
        return {
            "input_ids": np.array(kept.input_ids or [begin], np.int32),
            "learned": learned if len(learned) else np.zeros(1, np.uint8),
            "prompt": np.array(prompt or [begin], np.int32),
            "lost": np.array([sum(whole.supervised[self.max_length :])], np.int32),
            "full_length": len(whole.input_ids),
        }

    def truncation(self, items: Items, *, split: str, length: int) -> Finding | None:
        lost, kept = (sum(int(part.sum()) for part in items.values(name) or ()) for name in ("lost", "learned"))
        if split == "train" and not lost + kept:
            return Finding(
                "stop", "no_answers", f"None of the {len(items)} conversations in train has an answer to learn from."
            )
        cut = int((items.full_lengths > length).sum())
        if not cut:
            return None
        share = lost / max(1, lost + kept)
        text = (
            f"truncation to {length} tokens cuts {cut} of {len(items)} conversations in {split} and loses {share:.1%} of the "
            f"tokens to learn; the longest has {items.full_lengths.max()}"
        )
        if split == "train" and share > self.options.max_lost:
            advice = "Raise data.max_length, or task.options={max_lost: …} to have it so."
            return Finding("stop", "truncation", f"{text}. Answers without an end teach a model not to stop. {advice}")
        return Finding("warning" if share > _WARNED else "note", "truncation", text)

    def targets(self, examples: Mapping[str, Any]) -> list[str | None]:
        """Return the last answer of each conversation, None where there is none."""
        return list(examples["label"])

    @property
    def packs(self) -> bool:
        return self.options.packing

    mixes = packs

    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        parts = [Encoded(item["input_ids"], item["learned"]) for item in items]
        lengths = [len(part.input_ids) for part in parts]
        width = max(length or 0, *lengths)
        rows = pack(lengths, width) if self.options.packing else [[place] for place in range(len(items))]
        table = laid_out(parts, rows, pad=self.tokenizer.pad_token_id, length=width)
        labels = np.full_like(table["labels"], IGNORED)
        labels[:, :-1] = table["labels"][:, 1:]
        beside = {"position_ids": table["position_ids"]} if self.options.packing else {"attention_mask": table["owners"] >= 0}
        inputs = {"input_ids": table["input_ids"], **{name: values.astype(np.int64) for name, values in beside.items()}}
        weights = torch.tensor([float(item.get("weight", 1.0)) for item in items])
        targets = torch.from_numpy(np.stack([labels, table["owners"]], -1))
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        return Batch(tensors, targets, weights, [item.get("id", "") for item in items], items)

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run the model, with logits only where the next token is learned, if it can do so."""
        accepted = _accepts(type(model).forward)
        options: dict[str, Any] = {"use_cache": False} if "use_cache" in accepted else {}
        if "logits_to_keep" in accepted:
            options["logits_to_keep"] = _learned(batch)
        return model(**batch.inputs, **options)

    def loss(self, outputs: Any, batch: Batch) -> Loss:
        losses, owners = self._losses(outputs, batch, smoothing=self.label_smoothing)
        return weighted_sum(losses, batch.weights.to(losses.device)[owners], outputs)

    def _losses(self, outputs: Any, batch: Batch, *, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return the loss of each token that is learned, and the place of its item, both [S]."""
        assert batch.targets is not None, "a loss needs targets"
        logits, kept = outputs.logits, _learned(batch)
        targets = batch.targets[kept].to(logits.device)
        some = logits if logits.dim() == 2 else logits[kept.to(logits.device)]
        return token_losses(some, targets[:, 0], smoothing), targets[:, 1]

    def answer(self, model: nn.Module, batch: Batch, outputs: Any) -> Written:
        return Written(outputs, self._write(model, [item["prompt"] for item in batch.items]))

    def _write(self, model: Any, prompts: Sequence[np.ndarray]) -> list[str | None]:
        """Return what the model writes after each prompt; prompts of like length share a batch, padded on the left."""
        most, ends = model.generation_config.max_new_tokens, end_ids(self.tokenizer)
        room = tokenizers.positions(model.config)
        lengths = np.array([len(prompt) for prompt in prompts])
        fits = np.flatnonzero(lengths < room)
        texts: list[str | None] = [None] * len(prompts)
        for group in by_length(lengths[fits] + most, max_examples=_TOGETHER, max_tokens=_MOST_TOKENS):
            places = fits[group]
            width = int(lengths[places].max())
            ids, mask = np.full((len(places), width), self.tokenizer.pad_token_id), np.zeros((len(places), width), np.int64)
            for row, place in enumerate(places):
                ids[row, width - lengths[place] :], mask[row, width - lengths[place] :] = prompts[place], 1
            given = {"input_ids": ids, "attention_mask": mask}
            tensors = {name: torch.from_numpy(values).to(model.device) for name, values in given.items()}
            found = model.generate(**tensors, max_new_tokens=int(min(most, room - width)))[:, width:].tolist()
            for place, tokens in zip(places, found, strict=True):
                end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
                texts[place] = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        return texts

    def decode(self, outputs: Any, batch: Batch) -> list[Prediction]:
        outputs, texts = outputs if isinstance(outputs, Written) else (outputs, [None] * len(batch.ids))
        losses, owners = self._losses(outputs, batch)
        totals = torch.zeros(len(batch.ids), device=losses.device).index_add_(0, owners, losses).tolist()
        counts = torch.bincount(owners, minlength=len(batch.ids)).tolist()
        return list(map(_prediction, batch.ids, texts, zip(totals, counts, strict=True)))

    def answers(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        return list(predictions)

    def start(self, model: Any, targets: Any) -> None:
        """Settle how answers are generated: greedily unless the options say otherwise, to the true end."""
        del targets
        ends, config = end_ids(self.tokenizer), model.generation_config
        config.do_sample, config._from_model_config = False, False
        for name in _SAMPLING:
            setattr(config, name, None)
        unknown = config.update(
            max_new_tokens=self.options.max_new_tokens,
            eos_token_id=ends if len(ends) > 1 else ends[0],
            pad_token_id=self.tokenizer.pad_token_id,
            **self.options.generation,
        )
        for name in unknown:
            hint = did_you_mean(name, vars(config)) or "; expected the names of transformers' GenerationConfig."
            raise UserError(f"task.options.generation: there is no {name!r}{hint}")
        _refuse_unfit(config)
        if self.options.packing and sees_through(model):
            raise UserError(
                f"In {type(model).__name__} conversations of one row see one another, so that they cannot be packed; "
                "leave task.options.packing out."
            )

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)

    def resize(self, model: Any) -> None:
        model.resize_token_embeddings(len(self.tokenizer))


def _refuse_unfit(config: Any) -> None:
    """Raise UserError for options of generation that transformers would not save: now, and not after training."""
    try:
        with quiet():
            config.validate(strict=True)
    except ValueError as error:
        told = " ".join(line.strip() for line in str(error).splitlines())
        raise UserError(f"task.options.generation: {told} (options of sampling need do_sample: true beside them)") from None


def _prediction(example: str, text: str | None, loss: tuple[float, int]) -> Prediction:
    made = Prediction(id=example)
    if text is not None:
        made["text"] = text
    if loss[1]:
        made["loss"], made["tokens"] = loss
    return made


def _learned(batch: Batch) -> Tensor:
    """Return after which positions a token is learned, bool [B, L]."""
    assert batch.targets is not None, "positions are those of targets"
    return batch.targets[..., 0] != IGNORED


@cache
def _accepts(forward: Any) -> frozenset[str]:
    """Return the arguments of a model's forward; of logits to keep only where they may be told by a mask."""
    names = set(inspect.signature(forward).parameters)
    if not hasattr(transformers.modeling_utils, "slice_logits_to_keep"):
        names -= {"logits_to_keep"}
    return frozenset(names)
