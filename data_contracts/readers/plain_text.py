"""Text files and their encodings."""

import codecs
from pathlib import Path

from data_contracts import DataError


def text(path: Path, name: str, encoding: str = "") -> str:
    """A whole text file, without BOM. Raises DataError naming the first byte that is not in its encoding."""
    try:
        return path.read_bytes().decode(codec_of(encoding))
    except UnicodeError:
        raise not_text(path, name, encoding) from None


def codec_of(encoding: str) -> str:
    """Python's name of an encoding; for UTF-8, which "" stands for, the codec that skips a BOM. Raises DataError."""
    try:
        known = codecs.lookup(encoding or "utf-8").name
    except LookupError:
        raise DataError(f"options.encoding {encoding!r} is not known to Python; try cp1252, or utf-8") from None
    return "utf-8-sig" if known == "utf-8" else known


def not_text(path: Path, name: str, encoding: str = "") -> DataError:
    """The error for a file in another encoding. It names the first wrong byte, for which the file is read again."""
    codec = codec_of(encoding).removesuffix("-sig")
    wanted = "UTF-8" if codec == "utf-8" else encoding
    mend = "save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
    if encoding:
        mend += ', or name its encoding: options.encoding = "cp1252"'
    try:
        path.read_bytes().decode(codec)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        at = f"byte 0x{error.object[error.start]:02x} at offset {error.start} (line {line})"
        return DataError(f"{name} is not {wanted}: {at}\n{mend}")
    return DataError(f"{name} is not {wanted}\n{mend}")
