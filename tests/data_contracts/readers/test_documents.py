"""Pages, subtitles, word processor's files, books, mails and PDFs: their text comes out, and damage is told."""

import io
import zipfile

import pytest

from data_contracts import DataError
from data_contracts.readers.kinds import probe
from data_contracts.sources import files
from tests.data_contracts.readers.test_kinds import rows

PAGE = """<!doctype html><html><head><title>T</title><style>p {}</style></head><body><h1>Tea &amp; cake</h1>
<p>One <b>two</b>
three.<br>Four.</p><script>var x = 1 < 2;</script><ul><li>a</li><li>b</li></ul></body></html>"""
SUBTITLES = """\
1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there.

2
00:00:03,000 --> 00:00:04,000
{\\an8}7 of them
42
"""
VTT = """\
WEBVTT - a film
Kind: captions

STYLE
::cue { color: red }

NOTE by nobody

00:01.000 --> 00:02.000 align:start
<v Ann>Hello
NOTE well
"""
WORD = """<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>
<w:p><w:pPr><w:tabs><w:tab w:pos="1"/></w:tabs></w:pPr><w:r><w:t>Dear </w:t></w:r><w:r><w:t>Ann,</w:t><w:tab/><w:t>and</w:t>
<w:br/><w:t>Bob</w:t></w:r></w:p><w:p><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>
<w:tbl><w:tr><w:tc><w:p><w:r><w:t>in a table</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:document>"""
CONTAINER = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
BOOK = """<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="b" href="two.xhtml"/>
<item id="a" href="the%20one.xhtml"/><item id="c" href="cover.png"/></manifest><spine>
<itemref idref="a"/><itemref idref="b"/></spine></package>"""
CHAPTER = (
    '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>{}</p></body></html>'
)


def packed(**parts: str) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return whole.getvalue()


def book() -> bytes:
    chapters = {"OEBPS/the one.xhtml": CHAPTER.format("Once."), "OEBPS/two.xhtml": CHAPTER.format("Twice é.")}
    return packed(**{"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": BOOK} | chapters)


def pdf(text: str) -> bytes:
    """A page, written by hand."""
    drawn = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    whole, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(whole))
        whole += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(whole)
    return whole + b"xref\n0 6\n0000000000 65535 f \n" + table + end


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.html", PAGE, ["Tea & cake\n\nOne two three.\nFour.\n\n  * a\n  * b\n"]),
        ("a.HTM", PAGE.encode("utf-16"), ["Tea & cake\n\nOne two three.\nFour.\n\n  * a\n  * b\n"]),
        ("a.html", "<div>" * 400 + "deep" + "</div>" * 400 + "<p>after", ["deep\n\nafter"]),  # lxml stops at 256
        ("a.html", "<!-- nothing -->", [""]),
        ("a.xhtml", CHAPTER.format("Once."), ["Once."]),
        ("a.srt", SUBTITLES, ["Hello there.\n\n7 of them\n42"]),
        ("a.srt", SUBTITLES.replace("\n", "\r\n"), ["Hello there.\r\n\r\n7 of them\r\n42"]),
        ("a.vtt", VTT, ["Hello\nNOTE well"]),
        ("a.docx", packed(**{"word/document.xml": WORD}), ["Dear Ann,\tand\nBob\n\nin a table"]),
        ("a.epub", book(), ["Once.\n", "Twice é.\n"]),
        ("a.pdf", pdf("Hello there"), ["Hello there"]),
    ],
)
def test_the_text_of_a_document(folder, tmp_path, name, content, texts):
    path = folder({name: content}) / name
    files.inspect(path, name)
    found, (line,) = rows(path)
    assert [text.strip() for text in found] == [text.strip() for text in texts]
    assert line.startswith(f"{len(texts)} texts of {path.suffix[1:].lower()} files")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.docx", packed(**{"other.xml": ""}), "a.docx cannot be read"),
        ("a.docx", packed(**{"word/document.xml": WORD})[:200], "a.docx cannot be read"),
        ("a.epub", packed(**{"META-INF/container.xml": "<a/>"}), "a.epub cannot be read"),
        ("a.epub", packed(**{"META-INF/container.xml": "<a"}), "a.epub cannot be read"),
        ("a.pdf", b"%PDF-1.4 but cut", "a.pdf cannot be read"),
        ("a.pdf", packed(), "a.pdf is not a pdf file"),
        ("a.docx", b"text", "a.docx is not a docx file"),
        ("a.html", b"%PDF", "a.html is a PDF"),
    ],
)
def test_a_damaged_document_is_told(folder, name, content, words):
    path = folder({name: content}) / name

    def inspect_and_read() -> None:
        files.inspect(path, name)
        rows(path)

    with pytest.raises(DataError, match=words) as told:
        inspect_and_read()
    assert len(str(told.value).splitlines()) <= 2


GUTENBERG = """The Project Gutenberg eBook of Tea

*** START OF THE PROJECT GUTENBERG EBOOK TEA
AND CAKE ***

Chapter one.

*** END OF THE PROJECT GUTENBERG EBOOK TEA AND CAKE ***
Updated editions will replace the previous one."""


def test_a_book_of_project_gutenberg_is_without_its_licence(folder):
    texts, (line,) = rows(folder({"pg1.txt": GUTENBERG}) / "pg1.txt")
    assert [text.strip() for text in texts] == ["Chapter one."]
    assert line == "1 texts of Project Gutenberg files in utf-8"


def test_words_parted_at_line_ends_are_joined_when_asked_for(folder):
    content = "An exam-\nple of a\nwell-\n  known word,\nnot of A-\nB or 1-\n2 -\nx\n"
    path = folder({"a.txt": content}) / "a.txt"
    assert rows(path)[0] == [content]
    assert rows(path, hyphens="join")[0] == ["An example\nof a\nwellknown\nword,\nnot of A-\nB or 1-\n2 -\nx\n"]


def test_of_a_large_document_the_beginning_is_not_tried(folder):
    path = folder({"a.docx": b"PK\x03\x04" + bytes(2 << 20)}) / "a.docx"
    probe(path, path.name)


MAILS = {
    "plain": b"Subject: Tea\nContent-Type: text/plain; charset=utf-8\n\nOne caf\xc3\xa9.\r\n>From here on.\n",
    "quoted": b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n"
    b"\nOne caf=C3=A9,=\n two.\n",
    "base64": b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nT25lIGNhZsOpLgo=\n",
    "latin": b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nOne caf\xe9.\n",
    "undeclared": b"Subject: a\n\nOne caf\xc3\xa9.\n",
    "undeclared latin": b"Subject: a\n\nOne caf\xe9.\n",
    "mark": b"\xef\xbb\xbfSubject: a\n\nOne.\n",
    "invitation": b"Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n",
    "unknown": b"Content-Type: text/plain; charset=x-nobody\nContent-Transfer-Encoding: 8bit\n\nOne caf\xe9.\n",
    "page": b"Content-Type: text/html; charset=utf-8\n\n<p>One <b>caf\xc3\xa9</b>.</p><script>no()</script>\n",
    "parts": b'Content-Type: multipart/mixed; boundary="B"\n\n--B\nContent-Type: multipart/alternative; boundary="C"\n\n--C\n'
    b"Content-Type: text/plain\n\nOne.\n--C\nContent-Type: text/html\n\n<p>no</p>\n--C--\n--B\nContent-Type: text/plain\n"
    b"Content-Disposition: attachment; filename=a.txt\n\nattached\n--B--\n",
    "picture": b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw==\n",
    "broken": b"Subject: =?utf-8?B?////?=\nFrom: <<<@\nContent-Type: text/plain; charset\nno header\n\nOne.\n",
    "no parts": b"Content-Type: multipart/mixed\n\nOne.\n",
}
WRITTEN = {
    "plain": "One café.\nFrom here on.",
    "quoted": "One café, two.",
    "parts": "One.",
    "picture": "",
    "invitation": "",
}
WRITTEN |= dict.fromkeys(("base64", "latin", "undeclared", "undeclared latin", "unknown", "page"), "One café.")


@pytest.mark.parametrize("kind", MAILS)
def test_a_mail_is_its_text(folder, kind):
    texts, said = rows(folder({"a.eml": MAILS[kind]}) / "a.eml")
    assert [text.strip() for text in texts] == [WRITTEN.get(kind, "One.")] or (
        kind == "broken" and texts[0].endswith("One.\n")
    )
    assert said == ["1 texts of eml files"]


def test_a_mailbox_holds_a_text_for_each_mail(folder):
    lines = b"".join(b"From a@b.org Mon Jan  1 10:00:00 2024\n" + mail + b"\n" for mail in MAILS.values())
    texts, said = rows(folder({"a.mbox": lines}) / "a.mbox")
    assert [text.strip() for text in texts][:4] == [
        "One café.\nFrom here on.",
        "One café, two.",
        "One café.",
        "One café.",
    ]
    assert said == [f"{len(MAILS)} texts of mbox files"]
    assert rows(folder({"b.mbox": "no mail"}) / "b.mbox")[0] == []
