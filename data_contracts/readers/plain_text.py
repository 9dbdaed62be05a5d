"""Text files and their encodings."""

import codecs
from pathlib import Path

from data_contracts import DataError


def text(path: Path, name: str, encoding: str | None = None) -> str:
    """A whole text file, without BOM. Raises DataError naming the first byte that is not in its encoding."""
    try:
        return path.read_bytes().decode(codec_of(encoding))
    except UnicodeError:
        raise not_text(path, name, encoding) from None


def codec_of(encoding: str | None) -> str:
    """The name of Python's codec; for UTF-8 the one that skips a BOM. None: UTF-8. Raises DataError."""
    try:
        known = codecs.lookup(encoding or "utf-8").name
    except LookupError:
        raise DataError(f"options.encoding {encoding!r} is not known to Python; try cp1252, or utf-8") from None
    return "utf-8-sig" if known == "utf-8" else known


def not_text(path: Path, name: str, encoding: str | None = None) -> DataError:
    """The error for a file in another encoding, which names the first wrong byte. It reads the file again."""
    utf8 = codec_of(encoding) == "utf-8-sig"
    mend = "save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
    if encoding:
        mend += ', or name its encoding: options.encoding = "cp1252"' if utf8 else ", or name another options.encoding"
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8" if utf8 else encoding)
            except UnicodeDecodeError as error:
                at = f"byte 0x{line[error.start]:02x} at offset {offset + error.start} (line {number})"
                return DataError(f"{name} is not {'UTF-8' if utf8 else encoding}: {at}\n{mend}")
            offset += len(line)
    return DataError(f"{name} is not {'UTF-8' if utf8 else encoding}\n{mend}")
