"""English Wikipedia of October 2020 as plain text: 605 JSON arrays of about 10,000 articles; an article is a document.

The maker of the dataset turned markup into text, put every article on one line, and left much of the markup's debris
(reference: daveshap/PlainTextWikipedia). The rules bring back headings, and drop the debris and the apparatus: references,
links, categories. While they work, a heading is \\x1e, the === of its level, its title, \\x1f: no text holds such characters,
since the rule control_characters has gone before.
"""

from pathlib import Path

import polars as pl
from pandera.polars import Field

from data_contracts import readers
from data_contracts.clean.change import Rules, TextRule
from data_contracts.contracts import RawRows

TITLE = "English Wikipedia, October 2020, as plain text (Kaggle ltcmdrdata/plain-text-wikipedia-202011)"
LICENCE = "Text by Wikipedia's authors, CC BY-SA 3.0"
FILES = ("*.json",)

REASONS = {
    "disambiguation": "a list of what a title may mean, not an article",
    "no_title": "an article without a title cannot be told from a fragment",
}

# Sections that are lists of sources and links. Their text is what is left of templates, and says nothing.
APPARATUS = "References|External links|See also|Further reading|Notes|Footnotes|Citations|Sources|Bibliography"

TABLE = r" ?\{\|[^\x1e]*?\|\}|\{\|[^\x1e]*"
INNER_TABLE = r"(?:\|[^|\x1e]{0,80})*\|\}"  # the rest of a table that held another
FILE = r"(?:File|Image):[^|\x1e]{1,200}?\.(?i:jpe?g|png|svg|gif|ogg|ogv|webm|tiff?)\|?"
THUMB = r"\b(?:\d+px\|)?thumb\|(?:(?:\d+px|left|right|center|upright[=.\d]*|alt=[^|\x1e]{0,200})\|)*"


class Raw(RawRows):
    """A row is an article. `id` is digits in a string; titles may be followed by blank lines, and need not be unique."""

    id: str = Field(str_matches=r"^\d+$")
    title: str
    text: str


def read(path: Path, name: str) -> pl.DataFrame:
    """Articles."""
    return readers.json_array(path, name, ("id", "title", "text"))


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """The title, a blank line, the article; metadata: id, title."""
    title, text = pl.col("title").str.strip_chars(), pl.col("text")
    # A page of other meanings says so in its title, its first words or its last category.
    start, end = text.str.slice(0, 300), text.str.slice(-400)
    other = title.str.ends_with("(disambiguation)") | start.str.contains(r" may (?:also )?refer to ?:|may stand for ?:")
    other |= end.str.contains("[Dd]isambiguation pages")
    return raw.select(
        "source_file",
        "source_row",
        text=pl.concat_str(title, pl.lit("\n\n"), text),
        metadata=pl.struct("id", title.alias("title")).struct.json_encode(),
        reason=pl.when(title == "").then(pl.lit("no_title")).when(other).then(pl.lit("disambiguation")),
    )


def _empty_sections(text: pl.Expr, _: Rules) -> pl.Expr:
    """Deepest first: a section is empty when nothing follows before a heading of its own or a higher level."""
    for level in range(6, 1, -1):
        empty = rf"(?:\x1e={{{level}}}[^=\x1f]+\x1f[\s*:;#|]*)+(\x1e={{2,{level}}}[^=]|\z)"
        text = text.str.replace_all(empty, "$1")
    return text


RULES = (
    TextRule(
        "ampersands",
        "html2text took R&D for a character's name, and closed it: R&D;",
        lambda text, _: text.str.replace_all(r"&([A-Za-z]\w*);", "&$1"),
        only="&",
        on=lambda rules: rules.entities,  # which leaves no name that is one
    ),
    TextRule(
        "headings",
        "== Title == is markup; a line of its own is text",
        # A title begins with anything but a small letter: `if a == b and c == d` has no heading.
        lambda text, _: text.str.replace_all(r" ?={2,6} ?([^\p{Ll}\s=][^=\x1e]{0,150}?) ?(={2,6}) ?", "\x1e$2$1\x1f"),
    ),
    TextRule(
        "categories",
        "the categories at the end are an index, not prose",
        lambda text, _: text.str.replace(r"\bCategory:\S[^\x1e]*\z", ""),
    ),
    TextRule(
        "apparatus",
        "references and links come as stubs of templates: nothing to learn from",
        lambda text, _: text.str.replace_all(rf"\x1e==(?:{APPARATUS})\x1f[^\x1e]*(?:\x1e===[^\x1e]*)*", ""),
    ),
    TextRule(
        "tables",
        "{| ... |} is a table's markup; its cells make no sentences",
        lambda text, _: text.str.replace_all(TABLE, "").str.replace_all(INNER_TABLE, ""),
        only=r"\{\||\|\}",
    ),
    TextRule(
        "files",
        "thumb|300px|left| and File:x.jpg| are what is left of pictures",
        lambda text, _: text.str.replace_all(THUMB, "").str.replace_all(FILE, ""),
        only=r"thumb\||File:|Image:",
    ),
    TextRule(
        "holes",
        "a removed template leaves ( ), (, x) or ( ; x) behind",
        lambda text, _: text.str.replace_all(r"\(\s*(?:[,;]\s*)+", "(").str.replace_all(r" ?\(\s*\)", ""),
        only=r"\(\s*[,;)]",
    ),
    TextRule(
        "leftovers",
        "html2text escapes (1\\.), stray braces, and spaces where something stood",
        # The space before .NET, .exe or .22 stays; .Atlas is a footnote behind a full stop.
        lambda text, _: text.str.replace_all(r"( \.(?:[a-z\d]|[A-Z]{2}))|\\([.\-+_#])|\{\{|\}\}| ([,.;])", "$1$2$3"),
    ),
    TextRule(
        "bullets",
        "* * * are bullets whose text was a template",
        lambda text, _: text.str.replace_all(r"\*(?:[ *]*\*)+", "*").str.replace_all(r" \*\s*(\x1e|\z)", "$1"),
        only=r"\*[ *]*(?:\*|\x1e|\z)",
    ),
    TextRule(
        "empty_sections",
        "a heading with nothing under it promises what is not there",
        _empty_sections,
        only=r"\x1f[\s*:;#|]*(?:\x1e|\z)",
    ),
    TextRule(
        "heading_lines",
        "a heading stands on a line of its own, a blank line before it",
        lambda text, _: text.str.replace_all(r" *\x1e=+([^\x1f]*)\x1f *", "\n\n$1\n"),
    ),
)
