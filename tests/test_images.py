"""Pictures come out upright and in eight bits, or are named as no pictures; augmentation follows its generator."""

import importlib.util
import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from thawline.calls import make, parse_call
from thawline.data.augment import MIXINGS, PICTURES
from thawline.data.folders import media
from thawline.data.images import picture, pixels, unreadable
from thawline.errors import DataError, UserError

RAMP = np.linspace(0, 255, 40 * 30 * 3).reshape(40, 30, 3).astype(np.uint8)
FORMATS = ["jpg", "png", "webp", "bmp", "gif", "tif", "ppm", "avif"]
RED, CLEAR = (200, 30, 30), (10, 10, 10)


def stored(image: Image.Image, ending: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, Image.registered_extensions()[f".{ending}"], **options)
    return file.getvalue()


def noise(height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("ending", FORMATS)
def test_formats(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    content = stored(Image.fromarray(RAMP), ending)
    path.write_bytes(content)
    seen = [
        picture(value)
        for value in (path, str(path), content, {"bytes": content, "path": None}, {"bytes": None, "path": str(path)})
    ]
    assert {(image.mode, image.size, image.tobytes()) for image in seen} == {("RGB", (30, 40), seen[0].tobytes())}
    assert np.abs(np.asarray(seen[0], int) - RAMP).mean() < 6


def palette(transparency: bytes | int) -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*CLEAR, *RED])
    image.putpixel((0, 0), 0)
    image.info["transparency"] = transparency
    return image


def key_colour() -> Image.Image:
    image = Image.new("RGB", (4, 4), RED)
    image.putpixel((0, 0), CLEAR)
    image.info["transparency"] = CLEAR
    return image


def with_alpha(mode: str, colour: Any, clear: Any) -> Image.Image:
    image = Image.new(mode, (4, 4), colour)
    image.putpixel((0, 0), clear)
    return image


def greys(dtype: str, value: float) -> Image.Image:
    return Image.fromarray(np.full((4, 4), value, dtype))


WHITE = (255, 255, 255)
MODES: dict[str, tuple[Image.Image, str, tuple[int, ...], tuple[int, ...]]] = {  # expected: in the corner, elsewhere
    "grey": (Image.new("L", (4, 4), 77), "png", (77,) * 3, (77,) * 3),
    "black and white": (Image.new("1", (4, 4), 1), "png", WHITE, WHITE),
    "palette": (palette(b""), "png", CLEAR, RED),
    "palette, transparent": (palette(0), "png", WHITE, RED),
    "palette, alpha": (palette(b"\x00\xff"), "png", WHITE, RED),
    "gif, transparent": (palette(0), "gif", WHITE, RED),
    "one colour transparent": (key_colour(), "png", WHITE, RED),
    "grey, alpha": (with_alpha("LA", (77, 255), (0, 0)), "png", WHITE, (77,) * 3),
    "alpha": (with_alpha("RGBA", (*RED, 255), (0, 0, 0, 0)), "png", WHITE, RED),
    "half transparent": (with_alpha("RGBA", (*RED, 255), (0, 0, 0, 51)), "png", (204,) * 3, RED),
    "cmyk": (Image.new("CMYK", (4, 4), (55, 225, 225, 0)), "jpg", (200, 30, 30), (200, 30, 30)),
    "cmyk tiff": (Image.new("CMYK", (4, 4), (55, 225, 225, 0)), "tif", RED, RED),
    "lab": (Image.new("LAB", (4, 4), (128, 128, 128)), "tif", (119,) * 3, (119,) * 3),
    "16 bits": (greys("uint16", 40000), "png", (156,) * 3, (156,) * 3),
    "16 bits, tiff": (greys(">u2", 40000), "tif", (156,) * 3, (156,) * 3),
    "32 bits": (greys("int32", 40000), "tif", (156,) * 3, (156,) * 3),
    "32 bits, small": (greys("int32", 200), "tif", (200,) * 3, (200,) * 3),
    "fraction": (greys("float32", 0.5), "tif", (128,) * 3, (128,) * 3),
    "fraction, large": (greys("float32", 99.6), "tif", (100,) * 3, (100,) * 3),
}


@pytest.mark.parametrize("name", MODES)
def test_modes(name: str) -> None:
    made, ending, corner, elsewhere = MODES[name]
    content = stored(made, ending, **({"quality": 100} if ending in ("jpg", "webp") else {}))
    image = picture(content)
    assert image.mode == "RGB"
    assert np.abs(np.subtract([image.getpixel((0, 0)), image.getpixel((3, 3))], [corner, elsewhere])).max() <= 3
    grey = picture(content, 1)
    assert grey.mode == "L"
    assert grey.getpixel((3, 3)) == pytest.approx(np.dot(elsewhere, (0.299, 0.587, 0.114)), abs=3)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(ending: str, orientation: int) -> None:
    """A picture that is held as EXIF says shows its bright corner at the top left."""
    shown = np.zeros((16, 24), np.uint8)
    shown[:8, :8] = 255
    turns: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda a: a, np.fliplr, lambda a: a[::-1, ::-1], np.flipud, np.transpose, np.rot90, lambda a: a[::-1, ::-1].T,
        lambda a: np.rot90(a, -1),
    ]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    held = Image.fromarray(np.ascontiguousarray(turns[orientation - 1](shown))).convert("RGB")
    for value in (content := stored(held, ending, exif=exif), Image.open(io.BytesIO(content))):
        assert np.abs(np.asarray(picture(value, 1), int) - shown).mean() < 8


def test_damaged_exif_does_not_matter() -> None:
    content = stored(Image.fromarray(RAMP), "jpg", exif=b"Exif\0\0no such thing")
    assert picture(content).size == (30, 40)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_first_frame(ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    image = picture(stored(frames[0], ending, save_all=True, append_images=frames[1:]))
    assert image.getpixel((4, 4))[0] > 200 and image.getpixel((4, 4))[2] < 50


def test_large_photos_may_be_decoded_smaller() -> None:
    content = stored(Image.fromarray(RAMP).resize((1600, 1200)), "jpg", quality=95)
    small, whole = picture(content, least=224), picture(content)
    assert (small.size, whole.size, picture(content, least=1000).size) == ((400, 300), (1600, 1200), (1600, 1200))
    assert np.abs(np.asarray(small, int) - np.asarray(whole.resize((400, 300)))).mean() < 2


def test_what_is_there_already() -> None:
    array = noise()
    given = Image.fromarray(array)
    assert picture(given).tobytes() == picture(array).tobytes() == array.tobytes()
    assert given.getpixel((0, 0)) == tuple(array[0, 0])
    assert picture(array[:, :, 0]).getpixel((5, 7)) == (array[7, 5, 0],) * 3
    assert picture(array[:, :, :1], 1).getpixel((5, 7)) == array[7, 5, 0]
    assert picture(np.dstack([array, np.zeros_like(array[:, :, 0])])).getpixel((0, 0)) == WHITE


def huge() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)) + chunk(b"IEND", b"")


CUT = ("jpg", "png", "gif", "tif", "ppm")
FAULTS: dict[str, tuple[Any, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"hello, world", "cannot be read as a picture"),
    "page": (b"<!DOCTYPE html><html>", "is a web page"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "is HEIC, which is not read; convert it"),
    "huge": (huge(), "178,956,970 pixels"),
    **{f"cut {e}": (stored(Image.fromarray(noise()), e)[:-200], "is cut off or damaged") for e in CUT},
    "cut webp": (stored(Image.fromarray(noise()), "webp")[:-200], ""),
    "wide range": (stored(greys("int32", 70_000), "tif"), "has greys from 70000 to 70000; expected 0 … 255 or 0 … 65535"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_the_file(name: str, tmp_path: Path) -> None:
    content, told = FAULTS[name]
    path = tmp_path / f"{name}.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}.*{told}") as error:
        picture({"bytes": None, "path": str(path)})
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    assert unreadable([path, content, RAMP])[0] == (0, str(error.value))
    assert [place for place, _ in unreadable([RAMP, path, content])] == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        "/no/such.jpg",
        Path(__file__).parent,
        7,
        None,
        {"bytes": None, "path": None},
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
    ],
    ids=str,
)
def test_what_is_no_picture(value: Any) -> None:
    with pytest.raises(DataError, match=r"\.$"):
        picture(value)


@pytest.mark.parametrize("ending", FORMATS)
def test_damage_never_escapes(ending: str) -> None:
    """Bytes changed at random give a picture or a DataError, and nothing else."""
    random = np.random.default_rng(1)
    whole = np.frombuffer(stored(Image.fromarray(RAMP), ending), np.uint8)
    for _ in range(60):
        broken = whole.copy()
        broken[random.integers(0, min(len(whole), 400), 6)] = random.integers(0, 256, 6)
        content = broken[: random.integers(1, len(whole) + 1)].tobytes()
        try:
            assert picture(content).mode == "RGB"
        except DataError:
            continue


def test_unreadable_tells_progress() -> None:
    done: list[int] = []
    values = ({"bytes": stored(Image.fromarray(RAMP), "png") if row % 100 else b"no", "path": "x.png"} for row in range(300))
    assert [place for place, _ in unreadable(values, done.append)] == [0, 100, 200]
    assert done == [256, 300]


def test_all_of_trashnet_is_readable(shared: Path, cache: Path) -> None:
    source = media(shared / "data" / "trashnet", cache)
    assert source is not None
    assert unreadable(source.splits["validation"].column("image").to_pylist()) == []


@pytest.mark.parametrize("layout", ["contig", "separate", "pages"])
def test_many_bands(layout: str, tmp_path: Path) -> None:
    bands = np.arange(7 * 9 * 6, dtype=np.uint16).reshape(7, 9, 6)
    path = tmp_path / "a.tif"
    held = bands if layout == "contig" else np.ascontiguousarray(np.moveaxis(bands, 2, 0))
    how = {} if layout == "pages" else {"planarconfig": layout}
    tifffile.imwrite(path, held, photometric="minisblack", **how)
    for value in (path, {"bytes": path.read_bytes(), "path": None}, bands):
        assert np.array_equal(pixels(value, 6), bands)
        assert pixels(value, 6).dtype == np.uint16
    with pytest.raises(DataError, match="has 6 channels; expected 5"):
        pixels(path, 5)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=f"{path} cannot be read as a TIFF of many bands"):
        pixels(path, 6)


def test_what_a_compressed_tiff_lacks_is_told() -> None:
    if importlib.util.find_spec("imagecodecs"):
        pytest.skip("imagecodecs is there")
    with pytest.raises(DataError, match="Type: pip install imagecodecs"):
        pixels(stored(Image.new("RGBA", (4, 4)), "tif", compression="tiff_lzw"), 4)


def test_channels() -> None:
    content = stored(with_alpha("RGBA", (1, 2, 3, 4), (5, 6, 7, 8)), "png")
    assert pixels(content, 4)[0, 0].tolist() == [5, 6, 7, 8]
    assert pixels(content, 3).shape == (4, 4, 3) and pixels(content, 1).shape == (4, 4, 1)
    with pytest.raises(DataError, match="expected 5"):
        pixels(content, 5)


CALLS = [
    "flip", "flip(1)", "vertical_flip", "crop", "crop(0.2)", "rotate(30)", "color", "colour(0.5, hue=0.2)", "grayscale(0.5)",
    "blur", "blur(3, p=1)", "erase(1)", "randaugment", "randaugment(n=3, m=20)", "trivialaugment",
]  # fmt: skip


def made(call: str) -> Any:
    parsed = parse_call(call)
    return make(parsed, PICTURES[parsed.name], "Augmentation")


def state(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, Image.Image) else value.numpy().tobytes()


def of_kind(kind: str) -> Any:
    image = Image.fromarray(noise())
    if kind in ("PIL", "PIL grey"):
        return image if kind == "PIL" else image.convert("L")
    tensor = torch.from_numpy(noise()).permute(2, 0, 1).contiguous()
    return tensor if kind == "tensor" else tensor[:1]


@pytest.mark.parametrize("kind", ["PIL", "PIL grey", "tensor", "tensor grey"])
@pytest.mark.parametrize("call", CALLS)
def test_augmentation_follows_its_generator(call: str, kind: str) -> None:
    augment, given = made(call), of_kind(kind)
    before, torch_before = state(given), torch.get_rng_state()
    for fresh in (np.random.default_rng, lambda seed: torch.Generator().manual_seed(seed)):
        seen = [state(augment(given, fresh(seed))) for seed in range(6)]
        torch.rand(3)  # what others draw meanwhile does not matter
        assert [state(augment(given, fresh(seed))) for seed in range(6)] == seen
        assert call == "flip(1)" or len(set(seen)) > 1 or kind.endswith("grey")
    after = augment(given, np.random.default_rng(0))
    assert type(after) is type(given) and state(given) == before
    if isinstance(given, Image.Image):
        assert (after.size, after.mode) == (given.size, given.mode)
    else:
        assert (after.shape, after.dtype) == (given.shape, given.dtype)
    torch.set_rng_state(torch_before)


def test_torch_is_left_alone() -> None:
    before = torch.get_rng_state()
    for call in CALLS:
        made(call)(of_kind("tensor"), np.random.default_rng(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_do_not_disturb_one_another() -> None:
    augment, given = made("randaugment"), of_kind("tensor")

    def seeded(seed: int) -> bytes:
        torch.rand(seed)
        return state(augment(given, np.random.default_rng(seed)))

    alone = [seeded(seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(seeded, range(40))) == alone


OFF = [
    "flip(0)",
    "vertical_flip(p=0)",
    "crop(1)",
    "rotate(0)",
    "color(0, 0, 0, hue=0)",
    "grayscale(0)",
    "blur(p=0)",
    "erase(0)",
]


@pytest.mark.parametrize("kind", ["PIL", "tensor"])
@pytest.mark.parametrize("call", [*OFF, "randaugment(0)"])
def test_off_is_the_same_picture(call: str, kind: str) -> None:
    given = of_kind(kind)
    assert {state(made(call)(given, np.random.default_rng(seed))) for seed in range(5)} == {state(given)}


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3)])
@pytest.mark.parametrize("call", CALLS)
def test_odd_sizes(call: str, shape: tuple[int, int]) -> None:
    assert made(call)(torch.zeros(3, *shape, dtype=torch.uint8), np.random.default_rng(0)).shape == (3, *shape)


def test_crop_to_a_size() -> None:
    assert made("crop(0.5, size=32)")(of_kind("PIL"), np.random.default_rng(0)).size == (32, 32)
    assert made("crop(0.5, size=[16, 24])")(of_kind("tensor"), np.random.default_rng(0)).shape == (3, 16, 24)


@pytest.mark.parametrize(
    "call", ["flip(2)", "crop(0)", "crop(0.5, size=[1, 2, 3])", "color(hue=0.6)", "blur(0)", "randaugment(m=50)"]
)
def test_augmentation_out_of_range(call: str) -> None:
    with pytest.raises(UserError, match="expected"):
        made(call)


@pytest.mark.parametrize("call", ["mixup(0.4)", "cutmix", "mixup(0)", "cutmix(0)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixing(call: str, dtype: torch.dtype) -> None:
    """Targets are mixed as the pixels are: pictures of one colour, a channel for each class, say so."""
    parsed = parse_call(call)
    mix = make(parsed, MIXINGS[parsed.name], "Mixing")
    targets = torch.eye(4).repeat(2, 1)
    given = targets[:, :, None, None].expand(8, 4, 16, 20).to(dtype)
    mixed, told = mix(given, targets, np.random.default_rng(5))
    again, _ = mix(given, targets, np.random.default_rng(5))
    other, _ = mix(given, targets, torch.Generator().manual_seed(1))
    assert torch.equal(mixed, again) and (mixed.dtype, told.dtype) == (dtype, torch.float32)
    assert torch.allclose(told.sum(1), torch.ones(8))
    assert torch.allclose(mixed.float().mean((2, 3)), told, atol=1e-2)
    assert torch.equal(mixed, given) == torch.equal(other, mixed) == call.endswith("(0)")
