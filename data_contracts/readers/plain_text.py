"""Text files and their encodings, and the text of pages and subtitles."""

import codecs
import html
import re
from pathlib import Path

from data_contracts import DataError

HEAD_BYTES = 1 << 16  # by which an encoding is guessed
BOMS = {"utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
# What is guessed among. charset-normalizer knows ninety more, which look alike in a short text.
GUESSED = ["cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "cp866", "cp932", "euc_jp",
           "gb18030", "big5", "cp949"]  # fmt: skip
HIDDEN = re.compile(r"(?is)<(head|script|style|template)\b.*?</\1\s*>|<!--.*?-->")
WITHIN_A_LINE = re.compile(r"(?i)</?(?:a|abbr|b|cite|code|em|font|i|mark|q|small|span|strong|su[bp]|u)\b[^>]*>")
CUE = re.compile(r"(?m)^(?:WEBVTT.*|\d+\s*|.*-->.*)$\n?|<[^<>\n]{1,40}>")  # numbers, times and tags of subtitles
DAMAGED = 16  # bytes of good UTF-8 beyond ASCII, from which on a bad one is damage, and no other encoding


def text(path: Path, name: str, encoding: str = "") -> str:
    """A whole text file, without BOM. Raises DataError naming the first byte that is not in its encoding."""
    try:
        return path.read_bytes().decode(codec_of(encoding))
    except UnicodeError:
        raise not_text(path, name, encoding) from None


def page_text(content: str) -> str:
    """What an HTML page shows, a line for each block."""
    shown = WITHIN_A_LINE.sub("", re.sub(r"\s+", " ", HIDDEN.sub("", content)))
    return re.sub(r"\s*\n\s*", "\n", html.unescape(re.sub(r"</?[A-Za-z!?][^>]*>", "\n", shown))).strip()


def encoding_of(path: Path, name: str) -> tuple[str, str]:
    """The encoding of a text file, and, if it is a guess, what to say of it: the confidence, and a line to judge it by.

    Raises DataError for binary data, and for damaged UTF-8.
    """
    decoder, good = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        head = block = file.read(HEAD_BYTES)
        for encoding, marks in BOMS.items():
            if head.startswith(marks):
                return encoding, ""
        even, odd = (head[start::2].count(0) for start in (0, 1))
        if even + odd > max(3, len(head) / 100):
            if min(even, odd):
                raise DataError(f"{name} holds binary data, no text: leave it out, or convert it")
            return "utf-16-be" if even else "utf-16-le", ""
        try:
            while block:
                good += len(block) - len(decoder.decode(block))
                block = file.read(HEAD_BYTES)
            decoder.decode(b"", True)
            return "utf-8", ""
        except UnicodeDecodeError as error:
            good += error.start - len(error.object[: error.start].decode(errors="ignore"))
    if good >= DAMAGED:
        raise not_text(path, name)
    from charset_normalizer import from_bytes

    sample = head if not head.isascii() else block
    ends = range(len(sample), len(sample) - 4, -1)  # the last character may be cut
    cuts = (from_bytes(sample[:end], cp_isolation=GUESSED) for end in ends)
    found = next((found for found in cuts if found.best()), None)
    if not found:
        raise DataError(f"{name} is no text in a known encoding: name one with --set options.encoding=NAME")
    best, western = found[0], sample.decode("cp1252", "replace")
    same = western == str(best) or "cp1252" in [match.encoding for match in found]
    encoding, shown = ("cp1252", western) if same else (best.encoding, str(best))
    line = next(line for line in shown.splitlines() if not line.isascii()).strip()[:60]
    return encoding, f"{name} is taken for {encoding} (confidence {best.coherence:.2f}): {line}"


def codec_of(encoding: str) -> str:
    """Python's name of an encoding; for UTF-8, which "" stands for, the codec that skips a BOM. Raises DataError."""
    try:
        "".encode(encoding or "utf-8")
    except LookupError:
        wrong = f"options.encoding {encoding!r} is no encoding of text that Python knows"
        raise DataError(f"{wrong}; try cp1252, or utf-8") from None
    known = codecs.lookup(encoding or "utf-8").name
    return "utf-8-sig" if known == "utf-8" else known


def not_text(path: Path, name: str, encoding: str = "") -> DataError:
    """The error for a file in another encoding. It names the first wrong byte, for which the file is read again."""
    codec = codec_of(encoding).removesuffix("-sig")
    wanted = "UTF-8" if codec == "utf-8" else encoding
    other = ", or name its encoding: --set options.encoding=NAME" if encoding else ""
    mend = f"save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8{other}"
    at = ""
    try:
        path.read_bytes().decode(codec)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        at = f": byte 0x{error.object[error.start]:02x} at offset {error.start} (line {line})"
    return DataError(f"{name} is not {wanted}{at}\n{mend}")
