"""English Wikipedia of October 2020 as plain text: 605 JSON arrays of about 10,000 articles; an article is a document.

The maker of the dataset turned markup into text, put every article on one line, and left much of the markup's debris
(reference: daveshap/PlainTextWikipedia). The rules bring back headings. They drop the debris, and what only refers to other
pages: references, links, categories.

While the rules work, a heading is written START == title END, with as many = as its level: "==Uses== Oak." is START==UsesEND
Oak. No text holds these two characters, since the rule control_characters has removed them.
"""

from contextlib import suppress
from pathlib import Path

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Check, Column, raw_rows
from data_contracts.readers.rows import ROW, place
from data_contracts.rules import TextRule

FILES, COLUMNS = ("*.json",), ("id", "title", "text")

REASONS = {
    "disambiguation": "a list of what a title may mean, not an article",
    "no_title": "an article without a title cannot be told from a fragment",
}

# Pieces of patterns.
START, END = r"\x1e", r"\x1f"
WITHIN = r"[^\x1e]"  # a character before the next heading
OR_OPTION = r"[^|\x1e]"  # the same, before the next |
NEXT = r"(?:\x1e|\z)"  # the next heading, or the end of the article
NOTHING = r"[\s*:;#|]*"  # signs that stand for no text

# Sections that are lists of sources and links. Their text is what remains of templates.
APPARATUS = "References|External links|See also|Further reading|Notes|Footnotes|Citations|Sources|Bibliography"
SUBSECTIONS = rf"(?:{START}==={WITHIN}*)*"

# A title begins with anything but a small letter: `if a == b and c == d` has no heading.
HEADING = r" ?={2,6} ?([^\p{Ll}\s=][^=\x1e]{0,150}?) ?(={2,6}) ?"
# Nor has `if n == 0 or m == None:`. A comparison goes on after a number, a string or a constant; it stands behind no full stop.
COMPARISON = (
    r"( =)(=)(=? (?:[\-0-9.'\"(][^ ]*?|None|True|False|[A-Z][A-Z_0-9]*)"
    r"(?:[:;)\]},?]| (?:or|and|if|then|else|\?|&&|\|\|) ))"
)
NO_COMPARISON = r"([.!?:;|}*\x1f] =)\x1d(=)\x1d"
# Names of categories have no full stop but that of an abbreviation. A sentence, as `See Category:Trees for more.`, is none.
NAME = r"(?:[^ \n\x1e]*[^ \n\x1e.]|(?:[^ \n\x1e]*[^A-Za-z \n\x1e])?[A-Za-z]{0,3}\.)"
CATEGORIES = rf"(?-u:\b)Category:{NAME}(?:[ \n]+{NAME})*[ \n]*\z"

TABLE = rf" ?\{{\|{WITHIN}*?\|\}}"
# Of a table that is never closed its short cells, and what of the last one stands before a heading or a line end.
CELL = r"[^|\n\x1e]{0,80}"
OPEN_TABLE = rf"\{{\|(?:{CELL}\n?\|)*(?:{CELL}([\n\x1e]|\z))?"
INNER_TABLE = r"(?:\|" + OR_OPTION + r"{0,80})*\|\}"  # the rest of a table that held another
BOLD, OPTIONS = r"(\*)(\*[^ *](?:[^*\x1e]*[^ *\x1e])?\*\*)", r"([,(] \*)(\*[A-Za-z_])"  # **bold**, f(x, **options)
FILE = r"(?:File|Image):" + OR_OPTION + r"{1,200}?\.(?i:jpe?g|png|svg|gif|ogg|ogv|webm|tiff?)\|?"
SIZE, SIDE, ALT = r"\d+px", r"left|right|center|upright[=.\d]*", r"alt=" + OR_OPTION + r"{0,200}"
THUMB = rf"\b(?:{SIZE}\|)?thumb\|(?:(?:{SIZE}|{SIDE}|{ALT})\|)*"


# A row is an article. Titles may be followed by blank lines, and need not be unique.
Raw = raw_rows(id=Column(str, Check.str_matches(r"^\d+$")), title=Column(str), text=Column(str))


def read(path: Path, name: str) -> pl.DataFrame:
    """Articles. polars reads them in a third of the time; a file that it refuses is read again, to say what is wrong."""
    with suppress(pl.exceptions.PolarsError):
        rows = pl.read_json(path, schema=dict.fromkeys(COLUMNS, pl.String))
        if rows.height and not rows["id"].null_count():
            return rows.with_row_index(ROW).pipe(place, name)
    return readers.json_rows(path, name, COLUMNS)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """The title, a blank line, the article; metadata: id, title."""
    title, text = pl.col("title").str.strip_chars(), pl.col("text")
    # A disambiguation page says so in its title, its first words or its last category.
    start, end = text.str.slice(0, 300), text.str.slice(-400)
    disambiguation = (
        title.str.ends_with("(disambiguation)")
        | start.str.contains(r" may (?:also )?refer to ?:|may stand for ?:")
        | end.str.contains("[Dd]isambiguation pages")
    )
    return raw.select(
        *readers.PLACE,
        text=pl.concat_str(title, pl.lit("\n\n"), text),
        source_id="id",
        metadata=pl.struct("id", title.alias("title")).struct.json_encode(),
        reason=pl.when(title == "").then(pl.lit("no_title")).when(disambiguation).then(pl.lit("disambiguation")),
    )


def _empty_sections(text: pl.Expr) -> pl.Expr:
    """Deepest first: a section is empty when nothing follows before a heading of its own or a higher level."""
    for level in range(6, 1, -1):
        empty = rf"(?:{START}={{{level}}}[^=\x1f]+{END}{NOTHING})+"
        next_heading = rf"({START}={{2,{level}}}[^=]|\z)"
        text = text.str.replace_all(empty + next_heading, "$1")
    return text


# Beside each rule stands an example: before -> after.
RULES = (
    TextRule(
        "ampersands",  # R&D; -> R&D
        "html2text took R&D for a character's name, and closed it: R&D;",
        lambda text: text.str.replace_all(r"&([A-Za-z]\w*);", "&$1"),
        only="&",
        setting="entities",  # which leaves no entity that has a name
    ),
    TextRule(
        "code",  # if n == 0 or m == 1: -> if n =MARK=MARK 0 or m == 1:
        "comparisons are no headings: a mark keeps their signs apart",
        lambda text: text.str.replace_all(COMPARISON, "$1\x1d$2\x1d$3").str.replace_all(NO_COMPARISON, "$1$2"),
        only=COMPARISON,
    ),
    TextRule(
        "headings",  # Lead. == Uses == Oak. -> Lead. START==Uses END Oak.
        "== Title == is markup; a line of its own is text",
        lambda text: text.str.replace_all(HEADING, "\x1e$2$1\x1f"),
    ),
    TextRule(
        "categories",  # Text. Category:Trees Category:Wood -> Text.
        "the categories at the end are an index, not prose",
        lambda text: text.str.replace(CATEGORIES, ""),
        only="Category:",
    ),
    TextRule(
        "apparatus",  # Text. START==Notes END 1. START===Books END a. -> Text.
        "references and links come as stubs of templates: nothing to learn from",
        lambda text: text.str.replace_all(rf"{START}==(?:{APPARATUS}){END}{WITHIN}*{SUBSECTIONS}", ""),
    ),
    TextRule(
        "tables",  # Before {| | a || b |} after. -> Before after.
        "{| ... |} is a table's markup; its cells make no sentences",
        lambda text: text.str.replace_all(TABLE, "").str.replace_all(OPEN_TABLE, "$1").str.replace_all(INNER_TABLE, ""),
        only=r"\{\||\|\}",
    ),
    TextRule(
        "files",  # thumb|300px|left|A tree. File:x.jpg|Text. -> A tree. Text.
        "thumb|300px|left| and File:x.jpg| are what is left of pictures",
        lambda text: text.str.replace_all(THUMB, "").str.replace_all(FILE, ""),
        only=r"thumb\||File:|Image:",
    ),
    TextRule(
        "holes",  # Rome (, Roma) or Rome ( ; ) -> Rome (Roma) or Rome
        "a removed template leaves ( ), (, x) or ( ; x) behind",
        # Code such as f() or f(, x) has no space before it.
        lambda text: text.str.replace_all(r" \(\s*(?:[,;]\s*)+", " (").str.replace_all(r" \(\s*\)", ""),
        only=r" \(\s*[,;)]",
    ),
    TextRule(
        "leftovers",  # 1\. It ends }} . -> 1. It ends.
        "html2text escapes (1\\.), stray braces, and spaces where something stood",
        # The space before .NET, .exe or .22 stays; .Atlas is a footnote behind a full stop.
        lambda text: text.str.replace_all(r"( \.(?:[a-z\d]|[A-Z]{2}))|\\([.\-+_#])|\{\{|\}\}| ([,.;])", "$1$2$3"),
    ),
    TextRule(
        "bullets",  # and * * five * * -> and * five; 2**8 and char* *name stay
        "* * * are bullets whose text was a template",
        lambda text: (
            text.str.replace_all(BOLD, "$1\x1d$2")
            .str.replace_all(OPTIONS, "$1\x1d$2")
            .str.replace_all(r"\*?([ \x1f])\*(?:[ *]*\*)+", "$1*")
            .str.replace_all(r" \*\s*(\x1e|\z)", "$1")
        ),
        only=rf"[ \x1f]\*[ *]*(?:\*|{NEXT})",
    ),
    TextRule(
        "empty_sections",  # Text. START==One END * START==Two END b -> Text. START==Two END b
        "a heading with nothing under it promises what is not there",
        _empty_sections,
        only=END + NOTHING + NEXT,
    ),
    TextRule(
        "heading_lines",  # Text. START==Two END b -> Text.\n\nTwo\nb
        "a heading stands on a line of its own, a blank line before it",
        lambda text: text.str.replace_all(rf" *{START}=+([^\x1f]*){END} *", "\n\n$1\n"),
    ),
    TextRule(
        "code_marks",  # if n =MARK=MARK 0 -> if n == 0
        "these marks, and those of bullets, have done their work",
        lambda text: text.str.replace_all("\x1d", "", literal=True),
        only="\x1d",
    ),
)
