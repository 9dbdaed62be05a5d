"""Pages, subtitles, books, letters and mails: only their text is kept."""

import logging
import re
import zipfile
from codecs import BOM_UTF8
from collections.abc import Callable
from contextlib import suppress
from email import message_from_binary_file, policy
from functools import partial
from mailbox import mbox
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from data_contracts import DataError
from data_contracts.readers.plain_text import text

# Of subtitles: their head and notes, numbers with times, and marks.
HEAD = r"(?:\A|(?<=\n\n)|(?<=\n\r\n))(?:WEBVTT|NOTE|STYLE|REGION).*\n(?:[^\r\n].*\n)*"
CUE = re.compile(rf"(?m){HEAD}|^(?:\d+\r?\n)?.*-->.*\n?|<[^<>\n]{{1,40}}>|\{{\\[^}}]*\}}")
WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
BREAKS = {f"{WORD}tab": "\t", f"{WORD}br": "\n", f"{WORD}cr": "\n"}


def read(path: Path, name: str, encoding: str) -> list[str]:
    """The chapters of a book, the mails of a mailbox, or a file's text. Raises DataError. encoding: of a page or subtitles."""
    ending = path.suffix.lower()
    shown = text(path, name, encoding) if ending in SHOWN else ""
    try:
        return [SHOWN[ending](shown)] if ending in SHOWN else BINARY[ending](path)
    except Exception as error:  # the parsers raise anything for damage
        raise DataError(f"{name} cannot be read ({error!r}): is it cut, or locked by a password?") from None


def _page(content: str) -> str:
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.html_engine import Inscriptis, ParserConfig
    from lxml.html import HTMLParser, document_fromstring

    # Of a huge tree: else what is nested deeper than 256 is lost. The last paragraph lets a page be empty.
    page = document_fromstring(f"{content}<p></p>".encode(), parser=HTMLParser(encoding="utf-8", huge_tree=True))
    return Inscriptis(page, ParserConfig(css=CSS_PROFILES["strict"])).get_text()


def _letter(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        body, lines = ElementTree.fromstring(file.read("word/document.xml")), list[str]()
    for paragraph in body.iter(f"{WORD}p"):
        parts = paragraph.iterfind(f".//{WORD}r/*")
        lines.append("".join(part.text or "" if part.tag == f"{WORD}t" else BREAKS.get(part.tag, "") for part in parts))
    return ["\n".join(lines)]


def _book(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        container = ElementTree.fromstring(file.read("META-INF/container.xml"))
        place = next(container.iterfind(".//{*}rootfile")).attrib["full-path"]
        book = ElementTree.fromstring(file.read(place))
        files = {item.attrib["id"]: item.attrib["href"] for item in book.iterfind(".//{*}manifest/{*}item")}
        chapters = [files[one.attrib["idref"]] for one in book.iterfind(".//{*}spine/{*}itemref")]
        return [_page(file.read(str(PurePosixPath(place).parent / unquote(one))).decode()) for one in chapters]


def _mails(path: Path) -> list[str]:
    parse: Any = partial(message_from_binary_file, policy=policy.default)
    if path.suffix.lower() == ".mbox":
        return [_mail(mail) for mail in mbox(path, parse, create=False)]
    with path.open("rb") as file:
        file.seek(len(BOM_UTF8) * (file.read(len(BOM_UTF8)) == BOM_UTF8))
        return [_mail(parse(file))]


def _mail(mail: Any) -> str:
    """What was written, without its head and what is attached."""
    body = mail.get_body(("plain", "html")) if mail.is_multipart() else mail
    if not body or body.get_content_type() not in ("text/plain", "text/html", "multipart/mixed"):
        return ""
    payload, content = body.get_payload(decode=True) or b"", ""
    for encoding in ("latin-1", "utf-8", body.get_content_charset("utf-8")):  # what the mail says, if that can be
        with suppress(LookupError, UnicodeError):
            content = payload.decode(encoding)
    content = _page(content) if body.get_content_subtype() == "html" else content
    return re.sub(r"(?m)^>(>*From )", r"\1", content.replace("\r\n", "\n"))


def _pdf(path: Path) -> list[str]:
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is wrong, its error says
    return ["\n".join(page.extract_text() for page in PdfReader(path).pages)]


SHOWN: dict[str, Callable[[str], str]] = {
    **dict.fromkeys((".htm", ".html", ".xhtml"), _page),
    **dict.fromkeys((".srt", ".vtt"), partial(CUE.sub, "")),
}
BINARY: dict[str, Callable[[Path], list[str]]] = {
    ".docx": _letter,
    ".epub": _book,
    ".pdf": _pdf,
    ".eml": _mails,
    ".mbox": _mails,
}
KINDS = (*SHOWN, *BINARY)
