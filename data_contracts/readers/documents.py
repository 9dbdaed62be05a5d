"""Pages, subtitles, books and letters: only their text is kept."""

import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree import ElementTree

from data_contracts import DataError
from data_contracts.readers.plain_text import text

# Numbers, times and marks of subtitles.
CUE = re.compile(r"(?m)^(?:WEBVTT.*|\d+\s*|.*-->.*)$\n?|<[^<>\n]{1,40}>|\{\\[^}]*\}")
WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def read(path: Path, name: str, encoding: str) -> list[str]:
    """The chapters of an .epub, or the one text of another file. Raises DataError. encoding: of a page, or of subtitles."""
    ending = path.suffix.lower()
    if ending in SHOWN:
        return [SHOWN[ending](text(path, name, encoding))]
    try:
        return BINARY[ending](path)
    except Exception as error:  # the parsers raise anything for damage
        why = str(error) or type(error).__name__
        raise DataError(f"{name} cannot be read ({why}): is it cut, or locked by a password?") from None


def _page(content: str) -> str:
    from inscriptis import get_text

    return get_text(content)


def _word(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        paragraphs = ElementTree.fromstring(file.read("word/document.xml")).iter(f"{WORD}p")
        return ["\n".join("".join(run.text or "" for run in one.iter(f"{WORD}t")) for one in paragraphs)]


def _book(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        container = ElementTree.fromstring(file.read("META-INF/container.xml"))
        place = next(container.iterfind(".//{*}rootfile")).attrib["full-path"]
        book = ElementTree.fromstring(file.read(place))
        files = {item.attrib["id"]: item.attrib["href"] for item in book.iterfind(".//{*}manifest/{*}item")}
        chapters = [files[one.attrib["idref"]] for one in book.iterfind(".//{*}spine/{*}itemref")]
        return [_page(file.read(str(PurePosixPath(place).parent / unquote(one))).decode()) for one in chapters]


def _pdf(path: Path) -> list[str]:
    from pypdf import PdfReader

    return ["\n".join(page.extract_text() for page in PdfReader(path).pages)]


SHOWN: dict[str, Callable[[str], str]] = {
    **dict.fromkeys((".htm", ".html", ".xhtml"), _page),
    **dict.fromkeys((".srt", ".vtt"), partial(CUE.sub, "")),
}
BINARY: dict[str, Callable[[Path], list[str]]] = {".docx": _word, ".epub": _book, ".pdf": _pdf}
KINDS = (*SHOWN, *BINARY)
