"""How a text file is encoded: detected, or as told, and checked to the last byte before anything is parsed."""

from __future__ import annotations

import codecs
from pathlib import Path

from thawline.errors import DataError, did_you_mean

_BLOCK = 1 << 22
_SAMPLE = 1 << 16
_BOMS = (  # the mark of UTF-32 begins with that of UTF-16
    *((mark, "utf-32") for mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    (codecs.BOM_UTF8, "utf-8-sig"),
    *((mark, "utf-16") for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)
_NAMES = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with a byte order mark", "gb18030": "GB18030"}
_USUAL = ("utf-8", "utf-16", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "cp1252", "latin-1")


def detect(path: Path, encoding: str | None = None) -> str:
    """Return the name of the codec that decodes the whole file: `encoding` if given, else UTF-8, UTF-16, UTF-32 or GB18030.

    Raises DataError for an empty file, an unknown encoding, and a file that cannot be decoded, naming the line.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    if not sample.strip(b" \t\r\n\0\xef\xbb\xbf\xff\xfe"):
        raise DataError(f"{path} is empty; expected a table with a header and at least one row.")
    if encoding is not None:
        codec = known(encoding)
        if (fault := _fault(path, codec)) is not None:
            raise DataError(f"{path}, line {fault}: not {encoding}. Leave data.encoding out to have the encoding detected.")
        return "utf-8-sig" if codec == "utf-8" and sample.startswith(codecs.BOM_UTF8) else codec
    codec = next((name for bom, name in _BOMS if sample.startswith(bom)), "") or _without_bom(sample)
    if (fault := _fault(path, codec)) is None:
        return codec
    if codec == "utf-8" and _fault(path, "gb18030") is None and _looks_chinese(path):
        return "gb18030"
    raise DataError(
        f"{path}, line {fault}: not {_NAMES.get(codec, codec)}, and neither UTF-16 nor GB18030. "
        "Name the encoding, for instance data.encoding=cp1252 (Western Windows) or data.encoding=euc_kr."
    )


def told(codec: str, encoding: str | None) -> tuple[str, ...]:
    """Return the note that says how a file was read; none where it is plain UTF-8."""
    if encoding is None and codec == "utf-8":
        return ()
    return (f"read as {_NAMES.get(codec, codec.upper())}{' (detected)' if encoding is None else ''}",)


def known(encoding: str) -> str:
    """Return the name of a codec as Python has it; raises DataError for an encoding that there is not."""
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        hint = did_you_mean(encoding, _USUAL)
        raise DataError(f"There is no encoding called {encoding!r}{hint or '.'} Usual ones: {', '.join(_USUAL)}.") from None


def _without_bom(sample: bytes) -> str:
    """Tell UTF-16 without a byte order mark by its zero bytes: every second one in Latin text, and in the line ends of any."""
    zeros = sample[1::2].count(0), sample[0::2].count(0)
    if max(zeros) < len(sample) / 200 + 1 or min(zeros) > max(zeros) / 10:
        return "utf-8"
    return "utf-16-le" if zeros[0] > zeros[1] else "utf-16-be"


def _fault(path: Path, codec: str) -> int | None:
    """Return the number of the first line that does not decode; None where all do."""
    decoder = codecs.getincrementaldecoder(codec)()
    lines = 1
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            try:
                lines += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                return lines + error.object[: error.start].decode(codec, "replace").count("\n")
            except UnicodeError:  # UTF-16 without the mark that says in which order
                return lines
            if not block:
                return None


def _looks_chinese(path: Path) -> bool:
    """Most byte pairs of Western text can be read as GB18030 too, but hardly as the everyday characters of GB2312."""
    with path.open("rb") as file:
        text = file.read(_SAMPLE * 16).decode("gb18030", "ignore")
    strange = "".join(letter for letter in text if letter > "\x7f")
    leads = strange.encode("gb2312", "ignore")[::2]
    if not strange or len(leads) <= 0.8 * len(strange):
        return False
    # Korean in EUC-KR and Japanese in EUC-JP are all such characters too: hangul end at 0xC8, and kana are in every sentence.
    characters, kana = [lead for lead in leads if lead >= 0xB0], sum(lead in (0xA4, 0xA5) for lead in leads)
    return sum(lead > 0xC8 for lead in characters) > 0.15 * len(characters) and kana < 0.1 * len(leads)
