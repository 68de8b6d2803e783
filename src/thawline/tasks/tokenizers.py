"""What tasks with a tokenizer have in common: how long an item may be, pad tokens, and what the default model can read."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thawline.errors import UserError
from thawline.tasks.base import Fitting

# The commonest function words make up a third of English text and next to nothing of any other language's.
_ENGLISH = frozenset(
    [
        "the",
        "a",
        "an",
        "and",
        "or",
        "of",
        "to",
        "in",
        "is",
        "it",
        "i",
        "you",
        "that",
        "this",
        "for",
        "on",
        "was",
        "are",
        "be",
        "with",
        "as",
        "at",
        "not",
        "have",
        "but",
        "my",
        "do",
        "what",
        "how",
        "can",
        "if",
        "so",
        "we",
        "they",
        "he",
        "she",
    ]
)
_ENGLISH_SHARE = 0.05
MAX_LENGTH = 512


def max_length(config: Any, tokenizer: Any, wanted: int | None, *, usual: int = MAX_LENGTH) -> tuple[int, str | None]:
    """Return how many tokens a text may have, and a note where the wish is above what the model can take.

    Without a wish it is what the model can take, at most `usual`.
    """
    limits = [getattr(tokenizer, "model_max_length", math.inf), positions(config)]
    most = int(min(limits)) if min(limits) < 10**6 else None
    if wanted is not None and most is not None and wanted > most:
        return most, f"data.max_length={wanted} is more than the model can take; it is set to {most} tokens"
    return wanted or min(most or usual, usual), None


def positions(config: Any) -> float:
    """Return how many tokens a model has positions for; infinity where it has no limit."""
    text = config.get_text_config()
    # -1 stands for "no limit" (XLNet); RoBERTa's positions start behind the padding index.
    count = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    offset = text.pad_token_id + 1 if text.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return count - offset if count and count > 0 else math.inf


def looks_english(texts: Iterable[str]) -> bool:
    """Tell whether texts are English, by the share of its commonest words.

    >>> looks_english(["This is the film of the year"]), looks_english(["Das ist der Film des Jahres"])
    (True, False)
    """
    words = [word for text in texts for word in re.findall(r"\w+", text.lower())]
    return not words or sum(word in _ENGLISH for word in words) / len(words) >= _ENGLISH_SHARE


def fit(tokenizer: Any, config: Any, wanted: Fitting, *, usual: int = MAX_LENGTH) -> tuple[int, str | None]:
    """Give a tokenizer what batches need: a pad token, padding where the model's head expects it, added words.

    Returns the tokens that an item may have, and what there is to tell. Raises UserError where nothing could serve for padding.
    """
    if tokenizer.pad_token is None:
        known = [token for token in (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token) if token is not None]
        if not known:
            raise UserError("The model's tokenizer has no token that could serve for padding; choose another model.")
        tokenizer.pad_token = known[0]
        config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if wanted.add_tokens:
        tokenizer.add_tokens(list(wanted.add_tokens))
    hush(tokenizer)
    return max_length(config, tokenizer, wanted.max_length, usual=usual)


def hush(tokenizer: Any) -> None:
    """Keep back one hint of a tokenizer's about speed, of no use here: items are encoded once and padded a batch at a time."""
    tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True


def content_key(tokenizer: Any, *settings: object) -> str:
    """Return a text that changes whenever a tokenizer, or one of the settings beside it, does."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.blake2b(f"{content}{settings}".encode(), digest_size=16).hexdigest()


def padded(tokenizer: Any, items: Sequence[Mapping[str, Any]], length: int | None = None) -> dict[str, Tensor]:
    """Return columns of token ids and the like as tensors [B, length], with the mask that tells padding from tokens.

    What the tokenizer's own `pad` does, at a fifteenth of its time: steps of a head alone take no longer than that.
    """
    width = length or max(len(item["input_ids"]) for item in items)
    fillers = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    columns = {name: np.full((len(items), width), fillers.get(name, 0)) for name in items[0]}
    mask = np.zeros((len(items), width), dtype=np.int64)
    for row, item in enumerate(items):
        size = len(item["input_ids"])
        place = slice(width - size, width) if tokenizer.padding_side == "left" else slice(size)
        mask[row, place] = 1
        for name, values in columns.items():
            values[row, place] = item[name]
    return {name: torch.from_numpy(values) for name, values in {**columns, "attention_mask": mask}.items()}


def windows(count: int, room: int, *, overlap: int) -> list[tuple[int, int]]:
    """Cut `count` tokens into windows of at most `room`, all of about one length, that have `overlap` tokens in common.

    >>> windows(10, 12, overlap=3), windows(20, 12, overlap=3)
    ([(0, 10)], [(0, 12), (8, 20)])
    """
    number = max(1, math.ceil((count - overlap) / (room - overlap)))
    size = math.ceil((count + (number - 1) * overlap) / number)
    starts = np.linspace(0, count - min(size, count), number).round().astype(int).tolist()
    return [(start, min(start + size, count)) for start in starts]


def most_context(places: np.ndarray, cuts: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the number of the window that shows most around each place, int [N]; the ends of a text cut nothing.

    >>> most_context(np.array([0, 9, 10, 19]), [(0, 12), (8, 20)]).tolist()
    [0, 0, 1, 1]
    """
    # Up to the middle of what two windows have in common the first of them shows more.
    limits = [(end - 1 + begin) / 2 for (_, end), (begin, _) in pairwise(cuts)]
    return np.searchsorted(limits, places)
