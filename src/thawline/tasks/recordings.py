"""What tasks with recordings have in common: samples, features, Whisper's window, and augmentation of either."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import SequenceClassifierOutput

from thawline.calls import make, parse_call
from thawline.data.augment import Augmentation
from thawline.data.augment.sounds import FEATURES, WAVEFORMS, Waveform
from thawline.data.sounds import Samples, seconds, sound
from thawline.errors import DataError, UserError, did_you_mean
from thawline.tasks.base import Fitting
from thawline.types import Batch, Example, Item

MOST_SECONDS = 30
"""What is heard at once: all that Whisper takes, and what other models have memory for."""
_SPARE = 0.1  # seconds that a window has at least beside the longest recording
_POSITION = 320  # samples that make one position of wav2vec 2.0, and of Whisper at 16 kHz
_QUIET = 0.02  # seconds over which loudness is taken, where a long recording is cut
_REST = 0.1  # seconds that are left at least, where a long recording is cut
_SEARCHED = 0.25  # share of a piece, at its end, in which the quietest place is looked for


def is_windowed(extractor: Any) -> bool:
    """Tell whether features are those of a window of fixed length, as Whisper's are."""
    return hasattr(extractor, "nb_max_frames") and hasattr(extractor, "chunk_length")


def fit(extractor: Any, config: Any, wanted: Fitting, *, whole: bool) -> list[str]:
    """Set the window of an extractor to what the data needs, and return what there is to tell; without data nothing changes.

    The window is the longest recording in whole seconds, with room, or the option "window"; never more than the model takes.
    Longer recordings are cut into pieces, which is told, or, where targets are of `whole` ones, refused with DataError.
    """
    lengths = {split: [seconds(row["audio"]) for row in rows] for split, rows in wanted.examples.items()}
    if not lengths:
        return []
    longest, whole_window = max(map(max, lengths.values())), _most(extractor, config)
    most = _window(extractor, wanted.options.get("window"), longest=longest, most=whole_window)
    notes = []
    if most < whole_window:
        why = f"no recording is longer than {longest:.1f} s" if longest <= most else "task.options.window says so"
        notes.append(f"the model hears {most:g} s at a time in the place of {whole_window:g}, since {why}")
    over = {split: sum(length > most for length in some) for split, some in lengths.items()}
    if whole and over.get("train"):
        raise DataError(
            f"{over['train']} training recordings are longer than the {most:g} s that the model hears at once (the longest:"
            f" {max(lengths['train']):.1f} s); cut them, and their transcripts, into sentences first."
        )
    notes += [
        f"{count} of {len(lengths[split])} recordings in {split} are longer than {most:g} s; they are cut where it is quiet,"
        " and what is said of the pieces is put together"
        for split, count in over.items()
        if count
    ]
    if is_windowed(extractor):
        extractor.chunk_length, extractor.n_samples = int(most), int(most) * extractor.sampling_rate
        extractor.nb_max_frames = extractor.n_samples // extractor.hop_length
    return notes


def _window(extractor: Any, asked: Any, *, longest: float, most: float) -> float:
    """Return the seconds that a model is to hear at once; raises UserError where they are not to be had."""
    if asked is None:
        return min(most, math.floor(longest + _SPARE) + 1) if is_windowed(extractor) else most
    if not is_windowed(extractor):
        raise UserError("task.options.window is for models with a window of fixed length (Whisper); leave it out.")
    if not isinstance(asked, int) or not 1 <= asked <= most:
        raise UserError(f"task.options.window is {asked!r}; expected whole seconds from 1 to {most:g}.")
    return asked


def _most(extractor: Any, config: Any) -> float:
    """Return the seconds that a model can hear at once."""
    if is_windowed(extractor):
        return float(config.max_source_positions * 2 * extractor.hop_length / extractor.sampling_rate)
    frames = getattr(extractor, "max_length", None)  # of 10 ms, as the Audio Spectrogram Transformer counts
    return min(MOST_SECONDS, frames / 100) if frames else MOST_SECONDS


def configure(config: Any) -> None:
    """Turn off masking inside the model: it draws from numbers of its own, so that no run could be repeated."""
    if hasattr(config, "apply_spec_augment") or hasattr(config, "mask_time_prob"):  # Data2Vec's has no switch, and is on
        config.apply_spec_augment = False


def settle(model: Any, extractor: Any) -> None:
    """Give a Whisper as many positions as its extractor's window has, the first of its own, and keep these sinusoids fixed.

    Its saved config and weights are then those of the short window, so that any reader of the folder hears the same. In others,
    no layers of an adapter behind the encoder are dropped: which ones would come from numbers that no seed of a run reaches.
    """
    if not is_windowed(extractor):
        for part in (part for part in model.modules() if hasattr(part, "layerdrop")):
            part.layerdrop = 0.0
        return
    positions = extractor.nb_max_frames // 2
    for part in model.modules():
        if hasattr(part, "conv2") and hasattr(part, "embed_positions"):
            kept = part.embed_positions.weight.detach()[:positions].clone()
            part.embed_positions = nn.Embedding(len(kept), kept.shape[1], _weight=kept).requires_grad_(False)
        if hasattr(part, "max_source_positions"):
            part.max_source_positions = positions
    model.config.max_source_positions = positions


@final
class Hearing:
    """From recordings to a model's inputs, by its feature extractor.

    Features are computed once, a recording at a time, and kept without padding: log-mel bands [mels, frames] for a window of
    fixed length, else what the extractor makes (wav2vec 2.0: normalised samples). With augmentation of waveforms samples are
    kept, and features are made as batches are.
    """

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor
        self.rate: int = extractor.sampling_rate
        self.name: str = extractor.model_input_names[0]
        self._windowed = is_windowed(extractor)
        self._most = int((extractor.chunk_length if self._windowed else _most(extractor, None)) * self.rate)
        self.least = 1  # samples; a task that knows its model sets it
        self._waveforms: list[Augmentation] = []
        self._features: list[Augmentation] = []

    def augment(self, specs: Sequence[str]) -> None:
        """Change recordings at random from now on; raises UserError for what is no augmentation, or not of this model's."""
        for call in map(parse_call, specs):
            if call.name in FEATURES:
                if not self._windowed:
                    known = ", ".join(WAVEFORMS)
                    raise UserError(f"{call.name} masks features of Whisper, and this is another model; expected {known}.")
                self._features.append(make(call, FEATURES[call.name], "Augmentation"))
            elif call.name in WAVEFORMS:
                self._waveforms.append(make(call, WAVEFORMS[call.name], "Augmentation"))
            else:
                both = [*WAVEFORMS, *FEATURES]
                hint = did_you_mean(call.name, both) or "."
                raise UserError(f"There is no augmentation of sounds called {call.name!r}{hint} Known: {', '.join(both)}.")

    def key(self) -> str:
        """Return a text that changes whenever `encode` would answer differently."""
        settings = json.dumps(self.extractor.to_dict(), sort_keys=True, default=str)
        return hashlib.blake2b(f"sounds {bool(self._waveforms)} {settings}".encode(), digest_size=16).hexdigest()

    def encode(self, examples: Sequence[Example]) -> list[Item]:
        """Return the pieces of each example, one unless it is longer than the window; "start" is where one begins (s)."""
        found: list[Item] = []
        for owner, example in enumerate(examples):
            start = 0
            for piece in pieces(sound(example["audio"], self.rate), self._most, self.rate):
                item = {"samples": piece, **self._counted(piece)} if self._waveforms else self._numbers(piece)
                found.append({**item, "start": np.array([start / self.rate], np.float32), "owner": owner})
                start += len(piece)
        return found

    def heard(self, items: Sequence[Item]) -> list[Item]:
        """Return items as they are heard this time: changed at random where they come with a generator, and as features."""
        return [self._masked(self._made(item)) for item in items]

    def _made(self, item: Item) -> Item:
        if "samples" not in item:
            return item
        known = Waveform(np.asarray(item["samples"]), self.rate)
        for change in self._waveforms if "random" in item else ():
            changed = change(known, item["random"])
            if self.least <= len(changed.samples) <= self._most:  # nothing that is said is cut off
                known = changed
        return {**item, **self._numbers(known.samples)}

    def _masked(self, item: Item) -> Item:
        if not self._features or "random" not in item:
            return item
        features = np.asarray(item["features"])
        for change in self._features:
            features = change(features, item["random"])
        return {**item, "features": features}

    def _numbers(self, samples: Samples) -> dict[str, Any]:
        """Return the features of samples, and "fill": what stands in a window behind them."""
        found = self.extractor(samples, sampling_rate=self.rate, return_tensors="np")
        features = np.asarray(found[self.name][0], np.float32)
        if not self._windowed:
            if "attention_mask" in found or features.ndim == 1 or len(features) != getattr(self.extractor, "max_length", None):
                real = features[: int(found["attention_mask"][0].sum())] if "attention_mask" in found else features
                return {"features": real, **self._counted(real)}
            frames = _unfilled(features)
            kept = np.ascontiguousarray(features[:frames])
            return {"features": kept, "fill": features[-1:, 0].copy(), **self._counted(features)}
        # A frame is of n_fft samples around its place.
        frames = min(features.shape[1], math.ceil((len(samples) + self.extractor.n_fft / 2) / self.extractor.hop_length))
        fill = features[0, -1] if frames < features.shape[1] else features.min()
        kept = np.ascontiguousarray(features[:, :frames])
        return {"features": kept, "fill": np.array([fill], np.float32), **self._counted(samples)}

    def _counted(self, values: np.ndarray) -> dict[str, int]:
        """Return what an item counts for: the positions that the model has for it."""
        if self._windowed:
            return {"length": int(self.extractor.nb_max_frames) // 2}
        return {"length": len(values) if values.ndim > 1 else max(1, len(values) // _POSITION)}

    def inputs(self, heard: Sequence[Item]) -> dict[str, Tensor]:
        """Return features as the model takes them, filled up to its window or to the longest."""
        if not self._windowed and "fill" in heard[0]:
            whole = np.empty((len(heard), self.extractor.max_length, heard[0]["features"].shape[1]), np.float32)
            for row, item in zip(whole, heard, strict=True):
                row[: len(item["features"])], row[len(item["features"]) :] = item["features"], item["fill"]
            return {self.name: torch.from_numpy(whole)}
        if not self._windowed:
            rows = [np.asarray(item["features"]) for item in heard]
            masked = True if rows[0].ndim == 1 else None
            return dict(self.extractor.pad({self.name: rows}, padding=True, return_attention_mask=masked, return_tensors="pt"))
        bands = len(heard[0]["features"])
        whole = np.empty((len(heard), bands, self.extractor.nb_max_frames), np.float32)
        for row, item in zip(whole, heard, strict=True):
            frames = item["features"].shape[1]
            row[:, :frames], row[:, frames:] = item["features"], item["fill"]
        return {self.name: torch.from_numpy(whole)}

    def span(self, seconds: float) -> float:
        """Return the seconds that the inputs of a piece of so many seconds stand for, what fills up its window included."""
        if self._windowed:
            return float(self.extractor.chunk_length)
        frames = getattr(self.extractor, "max_length", None)  # of 10 ms, as in `_most`
        return frames / 100 if frames else seconds

    def hollow(self, items: Sequence[Item]) -> dict[str, Tensor] | None:
        """Return inputs of which only the shape is right; None where what they are decides on padding."""
        if not self._windowed:
            return None
        shape = (len(items), int(self.extractor.feature_size), int(self.extractor.nb_max_frames))
        return {self.name: torch.zeros(()).expand(shape)}

    def forward(self, model: nn.Module, batch: Batch, **options: Any) -> Any:
        """Run the model; one that was taught without a mask (wav2vec 2.0 base) hears recordings of each length apart.

        Its norms see padding, and without any it answers as it does alone. Above a cut, all of that is done.
        """
        values, mask = batch.inputs[self.name], batch.inputs.get("attention_mask")
        if mask is None or self.extractor.return_attention_mask or "forward" in vars(model):
            return model(**batch.inputs, **options)
        rows: dict[int, Tensor] = {}
        sizes = mask.sum(-1).tolist()
        for size in set(sizes):
            places = [place for place, other in enumerate(sizes) if other == size]
            found = model(**{self.name: values[places, :size]}, **options).logits
            rows |= dict(zip(places, found, strict=True))
        return SequenceClassifierOutput(logits=pad_sequence([rows[place] for place in range(len(sizes))], batch_first=True))


def _unfilled(features: np.ndarray) -> int:
    """Return how many frames of features [frames, bands] there are without those of one number that fill up their end.

    >>> _unfilled(np.array([[1.0, 2.0], [0.5, 0.5], [0.5, 0.5]])), _unfilled(np.array([[0.5, 0.5], [1.0, 2.0]]))
    (1, 2)
    """
    others = np.flatnonzero((features != features[-1, 0]).any(1))
    return int(others[-1]) + 1 if len(others) else 1


def pieces(samples: Samples, most: int, rate: int) -> list[Samples]:
    """Cut samples [n] into pieces of at most `most`, each at the quietest place of the last quarter that it could have.

    >>> loud = np.ones(100, np.float32)
    >>> loud[70] = 0
    >>> [len(piece) for piece in pieces(loud, 80, 50)]
    [70, 30]
    """
    found = []
    while len(samples) > most:
        start, span = int(most * (1 - _SEARCHED)), max(1, int(_QUIET * rate))
        last = min(most, len(samples) - int(_REST * rate))  # lest a model can make nothing of what is left
        power = np.square(samples[start:last], dtype=np.float64)
        loudness = np.convolve(power, np.ones(span), "valid")
        end = start + int(loudness.argmin()) + span // 2
        found.append(samples[:end])
        samples = samples[end:]
    return [*found, samples]
