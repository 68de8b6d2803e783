"""Speech recognition: what is said in recordings, written down by a decoder (Whisper) or letter by letter (CTC)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from pydantic import BaseModel

from thawline.errors import ModelError
from thawline.tasks import recordings, transcripts
from thawline.tasks.base import Fitting, Task, weighted_sum
from thawline.tasks.too_short import least_samples, too_short
from thawline.types import Batch, Example, Item, Loss, Prediction

_SEQ2SEQ, _CTC = "AutoModelForSpeechSeq2Seq", "AutoModelForCTC"


def _refuse_unknown(config: Any) -> None:
    """Raise ModelError for a model that neither decodes as Whisper does nor has a CTC head, such as Moonshine."""
    if config.model_type != "whisper" and SpeechRecognition.head_class(config) != _CTC:
        raise ModelError(
            "Speech recognition is learned by Whisper and by models with a CTC head (wav2vec 2.0, HuBERT, WavLM), and this is "
            f"a {config.model_type}; name one of those with model=NAME."
        )


class SpeechOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """What `task.options` may say of speech recognition; docs/guides/tasks.md explains each."""

    window: int | None = None
    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    case: Literal["keep", "lower", "upper"] | None = None
    timestamps: bool = False


class SpeechRecognition(Task):
    """Recordings with transcripts.

    `processor` has a feature extractor and a tokenizer. With Whisper's tokenizer the model has a decoder, which learns the
    transcript behind its special tokens; with another it says a letter, or nothing, for each frame. Each token weighs the same.
    """

    processor_class = "AutoProcessor"
    auto_class = _SEQ2SEQ
    inputs = "audio"
    target = "transcript"
    at_once = 64
    head_is_pretrained = True
    Options = SpeechOptions
    passes_to_answer = 1.0

    @classmethod
    def head_class(cls, config: Any) -> str:
        return _CTC if type(config) in transformers.AutoModelForCTC._model_mapping else _SEQ2SEQ

    @classmethod
    def processor(cls, load: Callable[[str], Any], config: Any, wanted: Fitting) -> Any:
        """Return the processor; where the checkpoint has no vocabulary, that is the letters of the training transcripts."""
        _refuse_unknown(config)
        try:
            return load(cls.processor_class)
        except ModelError:
            if cls.head_class(config) != _CTC or "train" not in wanted.examples:
                raise
        tokenizer = transcripts.letters(row["label"] for row in wanted.examples["train"])
        return transformers.Wav2Vec2Processor(feature_extractor=load("AutoFeatureExtractor"), tokenizer=tokenizer)

    @classmethod
    def fit(cls, processor: Any, config: Any, wanted: Fitting) -> tuple[int | None, str | None]:
        _refuse_unknown(config)
        options, said = SpeechOptions(**wanted.options), [row["label"] for row in wanted.examples.get("train", ())]
        notes = recordings.fit(processor.feature_extractor, config, wanted, whole=True)
        notes += transcripts.way_of(processor.tokenizer).fit(processor.tokenizer, config, options, said=said)
        return None, "; ".join(notes) or None

    @classmethod
    def unfit(cls, processor: Any, config: Any, examples: Sequence[Example]) -> list[tuple[int, str]]:
        return too_short(processor.feature_extractor, config, examples)

    def __init__(
        self,
        processor: Any,
        *,
        problem: str = "speech_recognition",
        labels: Sequence[str] = (),
        max_length: int | None = None,
        class_weights: Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
        options: SpeechOptions | None = None,
    ) -> None:
        del max_length, class_weights  # recordings are not cut off, and tokens have no classes
        self.speech, self.problem, self.labels = processor, problem, tuple(labels)
        self.hearing, self.options = recordings.Hearing(processor.feature_extractor), options or SpeechOptions()
        self.way = transcripts.way_of(processor.tokenizer)(processor.tokenizer, self.options, label_smoothing)

    def configure(self, config: Any) -> None:
        recordings.configure(config)
        self.hearing.least = least_samples(self.hearing.extractor, config)

    def start(self, model: Any, targets: Any) -> None:
        recordings.settle(model, self.hearing.extractor)
        self.way.start(model, targets)

    def augment(self, specs: Sequence[str]) -> None:
        self.hearing.augment(specs)

    def encoding_key(self) -> str:
        return self.hearing.key()

    def collating_key(self) -> str:
        return self.hearing.key()  # an item may be samples, and what stands behind features is the extractor's

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        return self.hearing.encode(examples)

    def targets(self, examples: Mapping[str, Any]) -> list[str]:
        """Return the transcripts; raises DataError for one that is longer than the model can write."""
        self.way.check(examples["id"], examples["label"])
        return list(examples["label"])

    def collate(self, items: Sequence[Item], length: int | None = None) -> Batch:
        del length  # a window has one length, and waveforms share a canonical shape with none
        heard = self.hearing.heard(items)
        ids = [self.way.ids(item["target"]) for item in items] if "target" in items[0] else None
        inputs = {**self.hearing.inputs(heard), **self.way.inputs(ids, len(items))}
        weights = torch.tensor([float(item.get("weight", 1.0)) for item in items])
        targets = None if ids is None else self.way.targets(ids)
        return Batch(inputs, targets, weights, [item.get("id", "") for item in items], heard)

    def forward(self, model: Any, batch: Batch) -> Any:
        return self.way.forward(model, batch, self.hearing)

    def loss(self, outputs: Any, batch: Batch) -> Loss:
        values, counts, owners = self.way.losses(outputs, batch)
        return weighted_sum(values, counts * batch.weights.to(values.device)[owners], outputs)

    def answer(self, model: Any, batch: Batch, outputs: Any) -> Any:
        return self.way.answer(model, outputs)

    def decode(self, outputs: Any, batch: Batch) -> list[Prediction]:
        found = []
        for name, item, said in zip(batch.ids, batch.items, self.way.said(outputs), strict=True):
            begin, spans = float(item["start"][0]), said.get("spans")
            moved = [{**span, "start": span["start"] + begin, "end": span["end"] + begin} for span in spans or ()]
            found.append(Prediction(id=name, text=said["text"], **({"spans": moved} if spans is not None else {})))
        return found

    def combine(self, predictions: Sequence[Prediction]) -> Prediction:
        """Put together what is said in the pieces of a recording."""
        whole = Prediction(id=predictions[0]["id"], text=" ".join(filter(None, (one["text"] for one in predictions))))
        if "spans" in predictions[0]:
            whole["spans"] = [span for one in predictions for span in one["spans"]]
        return whole

    def answers(self, predictions: Sequence[Prediction]) -> list[str]:
        return [prediction["text"] for prediction in predictions]

    def save(self, folder: Path) -> None:
        self.speech.save_pretrained(folder)
