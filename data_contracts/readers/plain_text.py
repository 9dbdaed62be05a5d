"""Text files and their encodings."""

import codecs
import re
from pathlib import Path

from data_contracts import DataError

HEAD_BYTES = 1 << 16  # by which an encoding is guessed
BOMS = {codecs.BOM_UTF32: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# What is guessed among. charset-normalizer knows ninety more, which look alike in a short text.
GUESSED = "cp1252 cp1251 cp1250 cp1253 cp1254 cp1255 cp1256 koi8_r cp866 cp932 euc_jp gb18030 big5 cp949".split()  # noqa: SIM905
# What nearly all of UTF-16 is in Chinese, Japanese and Korean, with few zeros among its bytes. In the wrong order, half is.
WIDE = re.compile(r"[\s -~\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef]")
WIDE_SHARE = 0.9
DAMAGED = 16  # bytes of good UTF-8 beyond ASCII, from which on a bad one is damage, and no other encoding
# Between its licence's two parts, a book. The literal at its beginning makes the search twenty times as fast.
GUTENBERG = re.compile(r"(?s)\*\*\* ?START OF TH\w+ PROJECT GUTENBERG.*?\*{3}(.*)\*{3} ?END OF TH\w+ PROJECT GUTENBERG")


def text(path: Path, name: str, encoding: str = "") -> str:
    """A whole text file, without BOM. Raises DataError naming the first byte that is not in its encoding."""
    try:
        return path.read_bytes().decode(codec_of(encoding))
    except UnicodeError:
        raise not_text(path, name, encoding) from None


def encoding_of(path: Path, name: str) -> tuple[str, str]:
    """The encoding of a text file, and, if it is a guess, what to say of it: the confidence, and a line to judge it by.

    Raises DataError for binary data, and for damaged UTF-8.
    """
    with path.open("rb") as file:
        head = block = file.read(HEAD_BYTES)
        while block.isascii() and (more := file.read(HEAD_BYTES)):
            block = more
    for mark, encoding in BOMS.items():
        if head.startswith(mark):
            return encoding, ""
    wide = {one: len(WIDE.findall(head.decode(one, "replace"))) for one in ("utf-16-le", "utf-16-be")}
    widest = max(wide, key=lambda one: wide[one])
    if {0, 1, 2} & {*head} and wide[widest] > WIDE_SHARE * len(head) / 2:
        return widest, ""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if even + odd > max(3, len(head) / 100):
        if min(even, odd):
            raise DataError(f"{name} holds binary data, no text: leave it out, or convert it")
        return "utf-16-be" if even else "utf-16-le", ""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(block)
        return "utf-8", ""
    except UnicodeDecodeError as error:
        if error.start - len(block[: error.start].decode()) >= DAMAGED:
            raise not_text(path, name) from None
    from charset_normalizer import from_bytes

    found = from_bytes(block[: block.rfind(b"\n") + 1] or block, cp_isolation=GUESSED)
    if not found:
        raise DataError(f"{name} is no text in a known encoding: name one with --set options.encoding=NAME")
    # cp1252 is the commonest, if it may be.
    best = next((one for one in found if "cp1252" in one.could_be_from_charset), found[0])
    encoding = "cp1252" if "cp1252" in best.could_be_from_charset else best.encoding
    line = next(line for line in str(best).splitlines() if not line.isascii()).strip()[:60]
    return encoding, f"{name} is taken for {encoding} (confidence {best.coherence:.2f}): {line}"


def codec_of(encoding: str) -> str:
    """Python's name of an encoding; for UTF-8, which "" stands for, the codec that skips a BOM. Raises DataError."""
    try:
        "".encode(encoding or "utf-8")
    except LookupError:
        raise DataError(f"options.encoding {encoding!r} is no encoding of text that Python knows; try cp1252") from None
    known = codecs.lookup(encoding or "utf-8").name
    return "utf-8-sig" if known == "utf-8" else known


def not_text(path: Path, name: str, encoding: str = "") -> DataError:
    """The error for a file in another encoding. It names the first wrong byte, for which the file is read again."""
    codec = codec_of(encoding).removesuffix("-sig")
    wanted = "UTF-8" if codec == "utf-8" else encoding
    mend = "save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
    mend += ", or name its encoding: --set options.encoding=NAME" if encoding else ""
    try:
        path.read_bytes().decode(codec)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        at = f"byte 0x{error.object[error.start]:02x} at offset {error.start} (line {line})"
        return DataError(f"{name} is not {wanted}: {at}\n{mend}")
    return DataError(f"{name} is not {wanted}\n{mend}")
