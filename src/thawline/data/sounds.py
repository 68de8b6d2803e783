"""From what a table holds for a sound (bytes, a path, samples) to one channel of samples at the rate a model wants."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from thawline.errors import DataError, UserError

Samples = np.ndarray[Any, np.dtype[np.float32]]

# What libsndfile does not read, by where its mark stands in the file.
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "M4A (AAC in MP4)"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\x30\x26\xb2\x75", "WMA"),
    (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (0, b"#!AMR", "AMR"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
)
_MARKS = 12  # bytes that hold any of these, and the sizes in a WAV header
_WITHOUT_SIZE = 0x7FFF0000  # what a program that writes WAV into a pipe puts for the size, or more
_SLACK = 9  # bytes by which programs miscount: the header, and a last byte that makes a size even
_AT_ONCE = 1024  # sounds that wait for a thread
_THREADS = 8  # each holds a whole sound in memory
_SHORT = 0.95  # of the length in the header; that of an MP3 without an index is an estimate


def sound(value: Any, rate: int, *, least: int = 1) -> Samples:
    """Return the samples of one channel at `rate` (Hz), float32 [n], full scale being ±1.

    `value` is bytes, a path, a mapping with "bytes" and "path" or with "array" and "sampling_rate", or (array, rate). Channels
    are averaged; of an array with two axes the shorter one is the channels. Integers are scaled by their full range.
    Resampled by soxr, quality HQ. Raises DataError, which names the file, where there is no sound in it, or fewer than `least`
    samples.

    >>> sound((np.zeros(8000, np.int16), 8000), 16000).shape
    (16000,)
    """
    mono, own = _mono(value)
    resampled: Samples = mono if own == rate else _package("soxr").resample(mono, own, rate, quality="HQ")
    if len(resampled) < least:
        raise DataError(f"{_name(value)} is too short: {len(resampled)} samples at {rate} Hz; expected {least} or more.")
    return resampled


def seconds(value: Any) -> float:
    """Return how long a sound lasts, from its header alone; raises DataError where it has none.

    >>> seconds((np.zeros(4000), 8000))
    0.5
    """
    if array := _array(value):
        return len(_upright(array[0])) / array[1]
    with _opened(value) as file:
        return float(file.frames / file.samplerate)


def unreadable(values: Iterable[Any], told: Callable[[int], object] = lambda done: None) -> list[tuple[int, str]]:
    """Return the positions of the values that are no sound, each with the sentence that says why.

    Everything is decoded, in threads, since a header can be whole and what follows be cut off. `told` is called with the
    number of sounds done.

    >>> unreadable([(np.zeros(9), 9), b"hello"])
    [(1, '5 bytes without a name cannot be read as a sound (Format not recognised).')]
    """
    faults: list[str] = []
    rest = iter(values)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        while some := list(islice(rest, _AT_ONCE)):
            faults += pool.map(_fault, some)
            told(len(faults))
    return [(place, fault) for place, fault in enumerate(faults) if fault]


def _fault(value: Any) -> str:
    try:
        _mono(value.as_py() if hasattr(value, "as_py") else value)  # a column of Arrow, gone through, gives scalars
    except DataError as error:
        return str(error)
    return ""


def _mono(value: Any) -> tuple[Samples, int]:
    """Return samples, float32 [n], n > 0, all finite, and their rate."""
    samples, rate = _samples(value)
    if not len(samples):
        raise DataError(f"{_name(value)} is empty: it has no samples.")
    mono = np.ascontiguousarray(samples if samples.ndim == 1 else samples.mean(1), dtype=np.float32)
    if not np.isfinite(mono).all():
        raise DataError(f"{_name(value)} holds samples that are no numbers (NaN or infinite).")
    return mono, rate


def _samples(value: Any) -> tuple[np.ndarray[Any, Any], int]:
    """Return samples [n] or [n, channels] and their rate."""
    if array := _array(value):
        return _scaled(_upright(array[0])), array[1]
    with _opened(value) as file:
        try:
            samples = file.read(dtype="float32")
        except RuntimeError as error:  # what soundfile raises, in the words of libsndfile
            raise DataError(f"{_name(value)} is damaged: it cannot be read to its end ({_words(error)}).") from None
        if len(samples) < _SHORT * file.frames:
            raise DataError(f"{_name(value)} is cut off: {len(samples)} of {file.frames} samples are there.")
        return samples, file.samplerate


def _array(value: Any) -> tuple[np.ndarray[Any, Any], int] | None:
    """Return samples and rate where the value holds samples, None where it holds a file."""
    if isinstance(value, Mapping) and value.get("array") is not None:
        return np.asarray(value["array"]), int(value["sampling_rate"])
    if isinstance(value, tuple | list) and len(value) == 2:
        return np.asarray(value[0]), int(value[1])
    return None


def _upright(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if samples.ndim not in (1, 2):
        raise DataError(f"An array of samples has the shape {samples.shape}; expected [n] or [n, channels].")
    return samples.T if samples.ndim == 2 and samples.shape[0] < samples.shape[1] else samples


def _scaled(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if samples.dtype.kind not in "iuf":
        raise DataError(f"An array of samples holds {samples.dtype}; expected numbers.")
    if samples.dtype.kind == "f":
        return samples
    info = np.iinfo(samples.dtype)
    half = (float(info.max) - float(info.min) + 1) / 2
    return ((samples - (float(info.min) + half)) / half).astype(np.float32)


def _opened(value: Any) -> Any:
    """Return the open soundfile.SoundFile; raises DataError for what is none."""
    content, path = _content(value)
    if content is None and not (path and Path(path).is_file()):
        raise DataError(f"{path} is not there." if path else "A sound has neither a path nor bytes.")
    soundfile = _package("soundfile")
    try:
        file = soundfile.SoundFile(path if content is None else io.BytesIO(content))
    except (OSError, RuntimeError) as error:
        head, size = _head(content, path)
        raise DataError(f"{_name(value)} {_why(head, size, _words(error))}") from None
    if file.format in ("WAV", "WAVEX"):  # libsndfile takes what is left of it for the whole
        head, size = _head(content, path)
        whole = int.from_bytes(head[4:8], "little") + 8
        if size + _SLACK < whole < _WITHOUT_SIZE:
            file.close()
            raise DataError(f"{_name(value)} is cut off: {size} of {whole} bytes are there.")
    return file


def _content(value: Any) -> tuple[bytes | None, str | None]:
    if isinstance(value, Mapping):
        return value.get("bytes"), value.get("path")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), None
    if isinstance(value, str | os.PathLike):
        return None, os.fspath(value)
    raise DataError(f"A {type(value).__name__} is not a sound; expected a path, bytes, or (samples, rate).")


def _head(content: bytes | None, path: str | None) -> tuple[bytes, int]:
    if content is not None:
        return content[:_MARKS], len(content)
    try:
        with open(str(path), "rb") as file:
            return file.read(_MARKS), os.fstat(file.fileno()).st_size
    except OSError:
        return b"", -1


def _why(head: bytes, size: int, words: str) -> str:
    if size == 0:
        return "is empty: it has no bytes."
    for start, mark, name in _FOREIGN:
        if head[start : start + len(mark)] == mark:
            return f"is {name}, which is not read; convert it, for example: ffmpeg -i IN -ac 1 OUT.flac"
    return f"cannot be read as a sound ({words})."


def _words(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")


def _name(value: Any) -> str:
    if _array(value):
        return "An array of samples"
    content, path = _content(value)
    return path or ("A sound without a name" if content is None else f"{len(content)} bytes without a name")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
        raise UserError(f"Reading sounds needs {name} ({error}). Type: pip install soundfile soxr") from error
