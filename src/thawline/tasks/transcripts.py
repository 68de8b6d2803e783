"""The two ways in which models write down what they hear: a decoder that goes on with a text, and a letter for each frame."""

from __future__ import annotations

import json
import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import transformers
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput

from thawline.errors import DataError, UserError, did_you_mean
from thawline.models.load import quiet
from thawline.tasks.likelihood import token_losses
from thawline.tasks.recordings import Hearing
from thawline.tasks.tokenizers import looks_english
from thawline.types import Batch

if TYPE_CHECKING:
    from thawline.tasks.speech_recognition import SpeechOptions

_IGNORED = -100  # as transformers marks positions where nothing is learned
_MULTILINGUAL = 51865  # tokens from which a Whisper knows more than English (openai/whisper, tokenizer.py)
_ROOM, _MORE = 1.5, 8  # tokens that an answer may have, in those of the longest transcript, and beside these
_SHOWN = 10
_NO_TIMES, _TIME = "<|notimestamps|>", 0.02  # behind which tokens stand for times, in steps of so many seconds

Losses = tuple[Tensor, Tensor, Tensor]
"""Values, how many tokens each is the mean of, and whose they are, all [S]."""


class Heard(NamedTuple):
    """What a CTC model says: logits [B, T, V], of which `frames` [B] are those of each recording, `seconds` apart."""

    logits: Tensor
    frames: Tensor
    seconds: float


class Way(ABC):
    """A way of writing: from transcripts to what is learned, and from what a model says to texts."""

    def __init__(self, tokenizer: Any, options: SpeechOptions, smoothing: float) -> None:
        self.tokenizer, self.options, self.smoothing = tokenizer, options, smoothing
        self._case = options.case or usual_case(tokenizer)
        self.ids = lru_cache(maxsize=1 << 16)(self._ids)

    @classmethod
    @abstractmethod
    def fit(cls, tokenizer: Any, config: Any, options: SpeechOptions, *, said: Sequence[str]) -> list[str]:
        """Make tokenizer and config ready for transcripts, and return what there is to tell."""

    def start(self, model: Any, said: Sequence[str] | None) -> None:
        """Settle how the model answers; nothing by default."""

    @abstractmethod
    def _ids(self, text: str) -> tuple[int, ...]:
        """Return the tokens that are learned of a transcript."""

    def check(self, names: Sequence[str], said: Sequence[str]) -> None:
        """Raise DataError, which names the example, for a transcript that the model cannot write; nothing by default."""

    def inputs(self, ids: Sequence[Sequence[int]] | None, count: int) -> dict[str, Tensor]:
        """Return what the model reads beside recordings, of which there are `count`."""
        del ids, count
        return {}

    def targets(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Return tokens as [B, L], filled up."""
        return pad_sequence([torch.tensor(one) for one in ids], batch_first=True, padding_value=_IGNORED)

    @abstractmethod
    def forward(self, model: Any, batch: Batch, hearing: Hearing) -> Any:
        """Run the model on a batch."""

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> Losses:
        """Return the losses of what is learned."""

    def answer(self, model: Any, outputs: Any) -> Any:
        """Return what `said` takes; the outputs by default."""
        del model
        return outputs

    @abstractmethod
    def said(self, outputs: Any) -> list[dict[str, Any]]:
        """Return "text", and with timestamps "spans" of it, in seconds, for each recording."""

    def cased(self, text: str) -> str:
        """Return a transcript as it is learned."""
        return {"lower": text.lower(), "upper": text.upper()}.get(self._case, text)


class Decoder(Way):
    """Whisper's: special tokens, the transcript, the end; written token by token, of which each sees those before it."""

    @classmethod
    def fit(cls, tokenizer: Any, config: Any, options: SpeechOptions, *, said: Sequence[str]) -> list[str]:
        notes, language = [], options.language
        if config.vocab_size < _MULTILINGUAL:
            if options.language is not None or options.task != "transcribe":
                raise UserError("This Whisper knows English only; leave task.options.language and task.options.task out.")
            return []
        if language is None and said:
            if not looks_english(said):
                raise UserError("The transcripts do not look English; name their language with task.options.language=NAME.")
            language = "english"
            notes.append("the transcripts look English; another language: task.options.language=NAME")
        try:
            tokenizer.set_prefix_tokens(language=language, task=options.task)
        except ValueError:
            from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

            hint = did_you_mean(str(language), TO_LANGUAGE_CODE) or "; expected its English name, such as german, or de."
            raise UserError(f"Whisper knows no language called {language!r}{hint}") from None
        return notes

    def start(self, model: Any, said: Sequence[str] | None) -> None:
        """Let the model answer greedily, up to a length that follows from the transcripts, in their language.

        It is written into its generation config, so that any reader of the saved folder answers alike. Tokens that stand in the
        transcripts are no longer suppressed.
        """
        config = model.generation_config
        config.num_beams, config.forced_decoder_ids, config.return_timestamps = 1, None, self.options.timestamps
        if self.tokenizer.language is not None:
            config.language, config.task = self.tokenizer.language, self.tokenizer.task
        if said is None:
            return
        used = {token for text in said for token in self.ids(text)[:-1]}
        longest = max(len(self.ids(text)) for text in said)
        config.max_length = min(model.config.max_target_positions, math.ceil(_ROOM * longest) + _MORE)
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            setattr(config, name, [token for token in getattr(config, name) or () if token not in used] or None)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(self.cased(text)).input_ids)

    def check(self, names: Sequence[str], said: Sequence[str]) -> None:
        most = 448  # of all Whispers: its decoder has so many positions
        for name, text in zip(names, said, strict=True):
            if len(self.ids(text)) > most:
                raise DataError(
                    f"The transcript of example {name} has {len(self.ids(text))} tokens, and Whisper writes {most} at most; "
                    "cut the recording, and its transcript, into sentences first."
                )

    def inputs(self, ids: Sequence[Sequence[int]] | None, count: int) -> dict[str, Tensor]:
        known = [self.tokenizer.prefix_tokens] * count if ids is None else [one[:-1] for one in ids]
        rows = [torch.tensor(one) for one in known]
        return {"decoder_input_ids": pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)}

    def targets(self, ids: Sequence[Sequence[int]]) -> Tensor:
        return super().targets([one[1:] for one in ids])

    def forward(self, model: Any, batch: Batch, hearing: Hearing) -> Any:
        return hearing.forward(model, batch, use_cache=False)

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        assert batch.targets is not None, "a loss needs targets"
        kept = batch.targets != _IGNORED
        logits = outputs.logits[kept.to(outputs.logits.device)]
        values = token_losses(logits, batch.targets[kept].to(logits.device), self.smoothing)
        return values, torch.ones_like(values), kept.nonzero()[:, 0].to(values.device)

    def answer(self, model: Any, outputs: Any) -> Tensor:
        """Return the tokens that the model writes, [B, L], going on from what its encoder has heard."""
        heard = outputs.encoder_last_hidden_state.detach().to(next(model.parameters()).dtype)
        with quiet():  # of masks, of which Whisper has none
            found: Tensor = model.generate(encoder_outputs=BaseModelOutput(last_hidden_state=heard))
        return found

    def said(self, outputs: Tensor) -> list[dict[str, Any]]:
        if not self.options.timestamps:
            return [{"text": self._text(row)} for row in outputs.tolist()]
        spans = [self._spans(row) for row in outputs.tolist()]
        return [{"text": " ".join(one["text"] for one in found), "spans": found} for found in spans]

    def _text(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _spans(self, tokens: list[int]) -> list[dict[str, Any]]:
        """Return the texts between two times, which are tokens of their own, behind all others."""
        none = self.tokenizer.convert_tokens_to_ids(_NO_TIMES)
        times = [place for place, token in enumerate(tokens) if token > none]
        bounds = [(tokens[a] - none - 1, tokens[b] - none - 1, tokens[a + 1 : b]) for a, b in pairwise(times)]
        found = [{"text": self._text(part), "start": a * _TIME, "end": b * _TIME} for a, b, part in bounds]
        return [span for span in found if span["text"]]


class Letters(Way):
    """CTC: a letter, or nothing, for each frame; learned over all ways to spread the transcript over the frames.

    Source: Graves et al. 2006, "Connectionist Temporal Classification".
    """

    def __init__(self, tokenizer: Any, options: SpeechOptions, smoothing: float) -> None:
        super().__init__(tokenizer, options, smoothing)
        if smoothing:
            raise UserError("train.label_smoothing_factor has no meaning with CTC; leave it out.")

    @classmethod
    def fit(cls, tokenizer: Any, config: Any, options: SpeechOptions, *, said: Sequence[str]) -> list[str]:
        if options.language is not None or options.task != "transcribe":
            raise UserError("task.options.language and task.options.task are for Whisper; leave them out.")
        config.pad_token_id, config.vocab_size = tokenizer.pad_token_id, len(tokenizer)
        way, known = cls(tokenizer, options, 0.0), set(tokenizer.get_vocab())
        notes = [f"transcripts are put in {way._case} case, as the vocabulary is"] if way._case != "keep" else []
        strange = sorted({letter for text in said for letter in way.cased(text) if not letter.isspace()} - known)
        if strange:
            shown = ", ".join(strange[:_SHOWN]) + (", …" if len(strange) > _SHOWN else "")
            notes.append(f"{len(strange)} letters of the transcripts are not in the vocabulary: {shown}")
        return notes

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(self.cased(text)).input_ids)

    def forward(self, model: Any, batch: Batch, hearing: Hearing) -> Heard:
        logits, sizes = hearing.forward(model, batch).logits, batch.inputs["attention_mask"].sum(-1)
        frames = getattr(model, "_get_feat_extract_output_lengths", lambda n: n)
        seconds = getattr(model.config, "inputs_to_logits_ratio", 0) / hearing.rate
        return Heard(logits, frames(sizes).long().to(logits.device), seconds)

    def losses(self, outputs: Heard, batch: Batch) -> Losses:
        assert batch.targets is not None, "a loss needs targets"
        targets = batch.targets.to(outputs.logits.device)
        counts = (targets != _IGNORED).sum(-1)
        scores = outputs.logits.float().log_softmax(-1).transpose(0, 1)
        blank: int = self.tokenizer.pad_token_id
        # What does not fit into the frames of a recording, such as one that was sped up, has no way to be spread over them.
        values = functional.ctc_loss(
            scores, targets.clamp_min(0), outputs.frames, counts, blank=blank, reduction="none", zero_infinity=True
        )
        counts = counts.clamp_min(1)
        return values / counts, counts, torch.arange(len(counts), device=counts.device)

    def said(self, outputs: Heard) -> list[dict[str, Any]]:
        best = outputs.logits.argmax(-1)
        rows = [row[:frames].tolist() for row, frames in zip(best, outputs.frames.tolist(), strict=True)]
        if not self.options.timestamps:
            return [{"text": self.tokenizer.decode(row)} for row in rows]
        found = [self.tokenizer.decode(row, output_word_offsets=True) for row in rows]
        step = outputs.seconds
        return [
            {
                "text": one.text,
                "spans": [
                    {"text": word["word"], "start": float(word["start_offset"] * step), "end": float(word["end_offset"] * step)}
                    for word in one.word_offsets
                ],
            }
            for one in found
        ]


def way_of(tokenizer: Any) -> type[Way]:
    """Return the way of writing that a tokenizer is for."""
    return Decoder if hasattr(tokenizer, "prefix_tokens") else Letters


def usual_case(tokenizer: Any) -> str:
    """Return the case that transcripts are put in where the user names none: that of the vocabulary, where it has but one."""
    letters = [token for token in tokenizer.get_vocab() if len(token) == 1 and token.isalpha()]
    lower, upper = (any(getattr(token, name)() for token in letters) for name in ("islower", "isupper"))
    return "keep" if lower == upper else "upper" if upper else "lower"


def letters(said: Iterable[str]) -> Any:
    """Return a tokenizer whose vocabulary is the letters of transcripts.

    >>> sorted(letters(["NO ON"]).get_vocab())
    ['N', 'O', '[PAD]', '[UNK]', '|']
    """
    there = sorted({letter for text in said for letter in text if not letter.isspace()} - {"|"})
    vocabulary = {token: place for place, token in enumerate(["[PAD]", "[UNK]", "|", *there])}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps(vocabulary), "utf-8")
        return transformers.Wav2Vec2CTCTokenizer(
            str(path), unk_token="[UNK]", pad_token="[PAD]", word_delimiter_token="|", bos_token=None, eos_token=None
        )
