"""Values that follow from others where the user leaves them to us, all in this one place, each with a line that says so."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

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


def learning_rate(config: Any, *, head_only: bool) -> float:
    """Return the peak learning rate for a model: 1e-3 for a head alone, else 3e-5·(768/width)^1.5, to one digit, at most 5e-4.

    The anchor is what BERT-base (width 768) is tuned at, 2e-5 to 5e-5 (Devlin et al. 2019, appendix A.3); narrower models take
    and need more: 8e-5 at width 384, 2e-5 at 1024.
    """
    if head_only:
        return 1e-3
    width: int = getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or 768
    rate = min(3e-5 * (768 / width) ** 1.5, 5e-4)
    return float(f"{rate:.0e}")


def max_length(config: Any, tokenizer: Any, wanted: int | None) -> tuple[int, str | None]:
    """Return how many tokens a text may have, and a note where the wish is above what the model can take.

    Without a wish it is what the model can take, at most 512.
    """
    limits = [getattr(tokenizer, "model_max_length", math.inf), _positions(config)]
    most = int(min(limits)) if min(limits) < 10**6 else None
    if wanted is not None and most is not None and wanted > most:
        return most, f"data.max_length={wanted} is more than the model can take; texts are cut at {most} tokens"
    return wanted or min(most or MAX_LENGTH, MAX_LENGTH), None


def _positions(config: Any) -> float:
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
