"""Reading sounds of every format and rate, and changing them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from thawline.calls import make, parse_call
from thawline.data.augment.sounds import FEATURES, WAVEFORMS, Waveform, frequency_mask, gain, noise, shift, speed, time_mask
from thawline.data.sounds import seconds, sound, unreadable
from thawline.errors import DataError, UserError

FORMATS = [
    *[
        ("WAV", kind, 0.02 if kind in ("PCM_U8", "ULAW") else 1e-4)
        for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")
    ],
    *[
        ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-4),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.05),
    ],
]


def sine(hertz: float = 440, rate: int = 16000, length: float = 1.0) -> np.ndarray[Any, Any]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * length)) / rate)).astype(np.float32)


def encoded(samples: np.ndarray[Any, Any], rate: int = 16000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "subtype", "within"), FORMATS)
def test_every_format_is_read(kind: str, subtype: str, within: float, tmp_path: Path) -> None:
    content = encoded(sine(), kind=kind, subtype=subtype)
    path = tmp_path / "a.bin"  # what it is says its content, not its name
    path.write_bytes(content)
    read = sound({"bytes": None, "path": str(path)}, 16000)
    assert read.dtype == np.float32 and read.ndim == 1
    assert np.abs(read - sine())[1000:-1000].max() < within
    assert np.array_equal(read, sound(content, 16000)) and np.array_equal(read, sound(path, 16000))
    assert seconds(content) == seconds(path) == 1.0


@pytest.mark.parametrize(("own", "rate"), [(8000, 16000), (22050, 16000), (44100, 16000), (48000, 16000), (16000, 24000)])
def test_resampling_keeps_frequency_and_amplitude(own: int, rate: int) -> None:
    read = sound((sine(1000, own), own), rate)
    assert len(read) == rate
    middle = slice(rate // 8, -rate // 8)
    assert np.abs(read - sine(1000, rate))[middle].max() < 1e-3


def test_what_the_new_rate_cannot_hold_is_gone() -> None:
    assert np.abs(sound((sine(10_000, 44100), 44100), 16000)[1000:-1000]).max() < 1e-3


def test_channels_are_averaged() -> None:
    both = np.stack([sine(), np.zeros(16000, np.float32)], 1)
    for value in ((both, 16000), (both.T, 16000), {"array": both, "sampling_rate": 16000}, encoded(both, subtype="FLOAT")):
        assert np.abs(sound(value, 16000) - sine() / 2).max() < 1e-6


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32])
def test_integers_are_scaled_by_their_range(kind: type) -> None:
    info = np.iinfo(kind)
    read = sound((np.array([info.min, (info.max + info.min + 1) // 2, info.max], kind), 16000), 16000)
    assert read == pytest.approx([-1, 0, 1], abs=0.01)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: it has no bytes"),
        (encoded(sine()[:0]), "is empty: it has no samples"),
        (b"\0\0\0\x20ftypM4A " + bytes(99), "is M4A .* ffmpeg"),
        (b"\xff\xf1" + bytes(99), "is AAC"),
        (b"hello" * 99, "cannot be read as a sound"),
        (encoded(sine())[:9000], "is cut off: 9000 of 32044 bytes"),
        (encoded(sine(), kind="FLAC")[:9000], "is damaged"),
        (encoded(np.array([0, np.nan], np.float32), subtype="FLOAT"), "holds samples that are no numbers"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_is_no_sound_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"clip.wav {words}") as raised:
        sound(path, 16000)
    assert unreadable([path, encoded(sine()), {"bytes": content, "path": "clip.wav"}])[0] == (0, str(raised.value))
    assert "\n" not in str(raised.value)


def test_a_wav_from_a_pipe_has_no_size() -> None:
    content = bytearray(encoded(sine()))
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    assert np.array_equal(sound(bytes(content), 16000), sound(encoded(sine()), 16000))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nowhere.wav", "nowhere.wav is not there"),
        ({"bytes": None, "path": None}, "neither a path nor bytes"),
        (3, "A int is not a sound"),
        ((np.zeros((2, 2, 2)), 8), r"shape \(2, 2, 2\)"),
        ((np.zeros(3, "<U1"), 8), "expected numbers"),
        ((np.zeros(1), 48000), "too short: 0 samples at 8000 Hz; expected 1 or more"),
    ],
)
def test_what_cannot_be_a_sound(value: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        sound(value, 8000)


def test_a_column_of_sounds_is_looked_through() -> None:
    column = pa.chunked_array([[{"bytes": encoded(sine()), "path": "a.wav"}, {"bytes": b"no", "path": "b.wav"}]])
    done: list[int] = []
    assert [place for place, _ in unreadable(column, done.append)] == [1] and done == [2]


CHANGES: list[tuple[Callable[..., Any], Any]] = [
    *[(part, Waveform(sine(), 16000)) for part in (noise, speed, gain, shift)],
    *[(part, np.random.default_rng(1).normal(size=(80, 100)).astype(np.float32)) for part in (time_mask, frequency_mask)],
]


@pytest.mark.parametrize(("part", "example"), CHANGES, ids=lambda part: getattr(part, "__name__", ""))
def test_what_is_drawn_follows_from_the_generator(part: Callable[..., Any], example: Any) -> None:
    def values(seed: int) -> np.ndarray[Any, Any]:
        changed = make(parse_call(part.__name__), part, "Augmentation")(example, np.random.default_rng(seed))
        return changed.samples if isinstance(changed, Waveform) else changed

    before = [np.array(array) for array in (example if isinstance(example, Waveform) else [example])]
    assert np.array_equal(values(1), values(1)) and not np.array_equal(values(1), values(2))
    assert values(1).dtype == np.float32
    after = example if isinstance(example, Waveform) else [example]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_tables_hold_them_all() -> None:
    assert [*WAVEFORMS, *FEATURES] == [part.__name__ for part, _ in CHANGES]
    assert [{**WAVEFORMS.entries, **FEATURES.entries}[part.__name__] for part, _ in CHANGES] == [
        f"{part.__module__}:{part.__name__}" for part, _ in CHANGES
    ]


@pytest.mark.parametrize(("color", "slope"), [("white", 0), ("pink", -1)])
def test_noise_has_its_power_and_colour(color: str, slope: float) -> None:
    clean = Waveform(sine(length=4), 16000)
    added = noise(snr=[10, 10], color=color)(clean, np.random.default_rng(0)).samples - clean.samples
    assert 10 * np.log10(np.mean(clean.samples**2) / np.mean(added**2)) == pytest.approx(10, abs=0.01)
    power = np.abs(np.fft.rfft(added)) ** 2
    low, high = power[200:400].mean(), power[12800:25600].mean()
    assert np.log2(high / low) / 6 == pytest.approx(slope, abs=0.1)


def test_speed_raises_the_pitch() -> None:
    fast = speed(1.25, 1.25)(Waveform(sine(400, length=2), 16000), np.random.default_rng(0))
    assert len(fast.samples) == 25600
    assert np.argmax(np.abs(np.fft.rfft(fast.samples))) * 16000 / 25600 == pytest.approx(500, abs=1)


def test_masks_keep_to_their_width() -> None:
    features = np.random.default_rng(0).normal(size=(80, 50)).astype(np.float32)
    for seed in range(50):
        frames = (time_mask(40, 1, 0.2)(features, np.random.default_rng(seed)) != features).any(0).sum()
        bands = (frequency_mask(27)(features, np.random.default_rng(seed)) != features).any(1).sum()
        assert frames <= 10 and bands <= 27
    assert np.array_equal(time_mask(0)(features, np.random.default_rng(0)), features)
    assert time_mask()(features[:, :1], np.random.default_rng(0)).shape == (80, 1)


@pytest.mark.parametrize(
    "call", ["noise(color='red')", "noise(snr=[1,2,3])", "noise(p=2)", "speed(0)", "speed(1.2, 1.1)", "gain(-1)", "shift(-1)"]
)
def test_arguments_are_checked(call: str) -> None:
    parsed = parse_call(call)
    with pytest.raises(UserError, match=parsed.name):
        make(parsed, WAVEFORMS[parsed.name], "Augmentation")
