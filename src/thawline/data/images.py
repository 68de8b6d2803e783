"""From what a table holds for a picture (bytes, a path, pixels) to a picture in eight bits, upright, in RGB or grey."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.errors import DataError, UserError

if TYPE_CHECKING:
    from PIL import Image

Pixels = np.ndarray[Any, np.dtype[Any]]

_MODES = {1: "L", 3: "RGB"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What is often called a picture and is none that Pillow reads, by where its mark stands in the file.
_FOREIGN: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), "HEIC"),
    (0, (b"%PDF",), "PDF"),
    (0, (b"<svg", b"<?xml"), "SVG or XML"),
    (0, (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"), "a web page"),
)
_MARKS = 12  # bytes that hold any of these
_AT_ONCE = 256  # pictures that wait for a thread
_THREADS = 8  # each holds a whole picture in memory


def picture(value: Any, channels: int = 3, *, least: int = 0) -> Image.Image:
    """Return the picture as a PIL image, mode RGB, or L where `channels` is 1.

    `value` is bytes, a path, a mapping with "bytes" and "path", a PIL image, or an array, uint8 [H, W] or [H, W, 1 … 4]. The
    rotation of EXIF is applied; of an animation the first frame is taken; what is transparent becomes white; CMYK is converted
    without its colour profile. Greys of 16 bits are scaled by their full range; those of 32 bits count as 0 … 255 or 0 … 65535,
    fractions as 0 … 1 or 0 … 255, the narrower that holds them. With `least` a JPEG may be decoded at a half, a quarter or an
    eighth of its size, as long as no side falls below it: many times faster for photos, with slightly other pixels.
    Raises DataError, which names the file, where there is no whole picture in it or where it has more pixels than Pillow reads
    (twice `PIL.Image.MAX_IMAGE_PIXELS`).

    >>> picture(np.zeros((2, 3), np.uint8)).getpixel((0, 0))
    (0, 0, 0)
    """
    return _picture(value, _MODES[channels], least=least)


def pixels(value: Any, channels: int = 3) -> Pixels:
    """Return the picture as an array [H, W, channels]: uint8 for 1 and 3 channels, which come from `picture`.

    Other numbers of channels are left as they are stored, in their own type, and must be what the file holds: RGBA, CMYK, and
    TIFF of many bands (needs tifffile; where each page is a band, the pages are the channels). Raises DataError.

    >>> pixels(np.zeros((2, 3), np.uint8), 1).shape, pixels(np.zeros((2, 3, 7), np.uint16), 7).dtype
    ((2, 3, 1), dtype('uint16'))
    """
    if channels in _MODES:
        flat = np.asarray(picture(value, channels))
        return flat.reshape(*flat.shape[:2], channels)
    bands = _bands(value)
    if bands.shape[2] != channels:
        raise DataError(f"{_name(value)} has {bands.shape[2]} channels; expected {channels}.")
    return bands


def unreadable(values: Iterable[Any], told: Callable[[int], object] = lambda done: None) -> list[tuple[int, str]]:
    """Return the positions of the values that are no picture, each with the sentence that says why.

    Everything is decoded, in threads, since a header can be whole and what follows be cut off; JPEG at an eighth of its size,
    for which all its bytes are read too. `told` is called with the number of pictures done.

    >>> unreadable([np.zeros((9, 9), np.uint8), b"hello"])
    [(1, '5 bytes without a name cannot be read as a picture; expected JPEG, PNG, WebP, TIFF, BMP or GIF.')]
    """
    return looked_through(values, _fault, told)


def looked_through(
    values: Iterable[Any], fault: Callable[[Any], str], told: Callable[[int], object] = lambda done: None
) -> list[tuple[int, str]]:
    """Return the positions of the values that have a fault, each with what `fault` says of it; "" is none. Done in threads."""
    faults: list[tuple[int, str]] = []
    rest, done = iter(values), 0
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        while some := list(islice(rest, _AT_ONCE)):
            faults += [(done + place, said) for place, said in enumerate(pool.map(fault, some)) if said]
            done += len(some)
            told(done)
    return faults


def _fault(value: Any) -> str:
    try:
        _picture(value, "L", least=1)
    except DataError as error:
        return "" if has_many_bands(value) else str(error)
    return ""


def has_many_bands(value: Any) -> bool:
    """Tell whether this is a TIFF that Pillow does not open and tifffile does: one that is neither grey nor coloured."""
    if _head(value)[0][:4] not in _TIFF:
        return False
    try:
        _opened(value).close()
    except DataError:
        try:
            return _of_tiff(value).size > 0
        except UserError:
            return False
    return False


def _picture(value: Any, mode: str, *, least: int) -> Image.Image:
    image = _opened(value)
    try:
        if least:
            image.draft(image.mode, (least, least))
        image.load()
        return _converted(_upright(image), mode, name=_name(value))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders meet damage with errors of a dozen types
        raise DataError(f"{_name(value)} is cut off or damaged ({_words(error)}).") from None
    finally:
        if image is not value:
            image.close()


def _opened(value: Any) -> Image.Image:
    """Return the picture with its header read; raises DataError for what is none."""
    image_module = _package("PIL.Image")
    if isinstance(value, image_module.Image):
        return value  # type: ignore[no-any-return]
    if isinstance(value, np.ndarray):
        return _of_array(value)
    content, path = _content(value)
    if content is None and not (path and os.path.isfile(path)):
        raise DataError(f"{path} is not there." if path else f"{_name(value)}: there is neither a path nor bytes.")
    try:
        return image_module.open(path if content is None else io.BytesIO(content))  # type: ignore[no-any-return]
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning):
        limit = 2 * (image_module.MAX_IMAGE_PIXELS or 0)
        raise DataError(
            f"{_name(value)} has more than the {limit:,} pixels that Pillow reads, lest a small file fill the memory; "
            "scale it down."
        ) from None
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(f"{_name(value)} {_why(content, path, error)}") from None


def _of_array(array: Pixels) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        raise DataError(
            f"An array of {array.dtype} of the shape {array.shape} is not a picture; expected uint8, [height, width] or "
            "[height, width, channels]."
        )
    if not array.size:
        raise DataError(f"An array of the shape {array.shape} has no pixels.")
    image: Image.Image = _package("PIL.Image").fromarray(
        np.ascontiguousarray(array[:, :, 0] if array.shape[2:] == (1,) else array)
    )
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned: Image.Image = _package("PIL.ImageOps").exif_transpose(image)
    except Exception:  # EXIF that is damaged says nothing against the pixels
        return image
    return turned


def _converted(image: Image.Image, mode: str, *, name: str) -> Image.Image:
    image_module = _package("PIL.Image")
    if image.mode.startswith("I") or image.mode == "F":
        image = image_module.fromarray(_eight_bits(np.asarray(image), name))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = image_module.alpha_composite(image_module.new("RGBA", colours.size, "white"), colours)
    return (image.convert("RGB") if image.mode == "LAB" else image).convert(mode)


def _eight_bits(greys: Pixels, name: str) -> Pixels:
    least, most = greys.min(), greys.max()
    ceilings = (65535,) if greys.dtype.itemsize == 2 else (255, 65535) if greys.dtype.kind in "iu" else (1, 255)
    ceiling = next((ceiling for ceiling in ceilings if least >= 0 and most <= ceiling), None)
    if ceiling is None:
        expected = " or ".join(f"0 … {top}" for top in ceilings)
        raise DataError(f"{name} has greys from {least:g} to {most:g}; expected {expected}.")
    return np.rint(greys * (255 / ceiling)).astype(np.uint8)


def _bands(value: Any) -> Pixels:
    if isinstance(value, np.ndarray):
        bands = value
    elif _head(value)[0][:4] in _TIFF:
        bands = _of_tiff(value)
    else:
        with _opened(value) as image:
            bands = np.asarray(_upright(image))
    if bands.ndim not in (2, 3) or not bands.size:
        raise DataError(f"{_name(value)} has the shape {bands.shape}; expected [height, width] or [height, width, channels].")
    return bands if bands.ndim == 3 else bands[:, :, None]


def _of_tiff(value: Any) -> Pixels:
    content, path = _content(value)
    tifffile = _package("tifffile")
    try:
        with tifffile.TiffFile(path if content is None else io.BytesIO(content)) as file:
            series = file.series[0]
            bands: Pixels = series.asarray()
            return np.moveaxis(bands, [series.axes.index("Y"), series.axes.index("X")], [0, 1])
    except MemoryError:
        raise
    except Exception as error:
        hint = " Type: pip install imagecodecs" if "imagecodecs" in str(error) else ""
        raise DataError(f"{_name(value)} cannot be read as a TIFF of many bands ({_words(error)}).{hint}") from None


def _content(value: Any) -> tuple[bytes | None, str | None]:
    if isinstance(value, Mapping):
        return value.get("bytes"), value.get("path")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), None
    if isinstance(value, str | os.PathLike):
        return None, os.fspath(value)
    raise DataError(f"A {type(value).__name__} is not a picture; expected a path, bytes, an array or a PIL image.")


def _head(value: Any) -> tuple[bytes, int]:
    """Return the first bytes and the size of the file, which is -1 where it cannot be opened."""
    if not isinstance(value, Mapping | bytes | bytearray | memoryview | str | os.PathLike):
        return b"", -1
    content, path = _content(value)
    if content is not None:
        return content[:_MARKS], len(content)
    try:
        with open(str(path), "rb") as file:
            return file.read(_MARKS), os.fstat(file.fileno()).st_size
    except OSError:
        return b"", -1


def _why(content: bytes | None, path: str | None, error: Exception) -> str:
    head, size = _head({"bytes": content, "path": path})
    if size == 0:
        return "is empty: it has no bytes."
    if size < 0:
        return f"cannot be opened ({_words(error)})."
    for start, marks, name in _FOREIGN:
        if head[start:].startswith(marks):
            return f"is {name}, which is not read; convert it to JPEG or PNG."
    return "cannot be read as a picture; expected JPEG, PNG, WebP, TIFF, BMP or GIF."


def _words(error: Exception) -> str:
    return (str(getattr(error, "strerror", None) or error) or type(error).__name__).rstrip(".")


def _name(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"An array of the shape {value.shape}"
    if hasattr(value, "getbands"):
        return getattr(value, "filename", "") or f"A picture of {value.size[0]} × {value.size[1]} pixels"
    content, path = _content(value)
    return path or f"{len(content or b'')} bytes without a name"


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        needed = {"PIL": "pillow"}.get(name.partition(".")[0], name)
        raise UserError(f"Reading this picture needs {needed} ({error}). Type: pip install {needed}") from error
