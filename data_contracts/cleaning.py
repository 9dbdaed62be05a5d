"""The rules of cleaning, each with a name, a reason and a polars expression; and `clean`, which applies them to a corpus.

Texts are first put in order (TEXT_RULES change characters, never drop a document), long ones are cut if asked, then
every piece is measured and either kept or rejected by the first DROP_RULE that holds. Nothing disappears: what
is not in documents.parquet is in rejects.parquet, with its reason, and report.json adds both up.
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple, get_args

import polars as pl

from data_contracts import DataError, corpora, parts, report
from data_contracts.documents import Documents, Rejects, check

Normalize = Literal["none", "NFC"]

# Fixed, so that the bytes of a file depend on its rows alone.
PARQUET = {"compression": "zstd", "compression_level": 3, "row_group_size": 50_000}


@dataclass(frozen=True)
class Rules:
    """What a document must be, and which documents are held out. Raises DataError that lists every problem at once."""

    min_chars: int = 1
    """Shorter texts are rejected as `too_short`. Characters are Unicode code points, after cleaning."""
    max_chars: int = 0
    """Longer texts are rejected as `too_long`; 0 means no limit."""
    normalize: Normalize = "none"
    """NFC writes accents and the like in one way; none leaves them as they came."""
    deduplicate: bool = True
    """Reject every exact copy of an earlier text as `duplicate`."""
    split_chars: int = 0
    """Cut longer texts at line ends into parts of about this length, each a document of its own; 0 means never."""
    val_fraction: float = 0.1
    """Share of documents held out. Each is drawn by its own hash, so that a corpus that grows keeps its split."""
    seed: int = 0
    """Another seed holds out other documents."""

    def __post_init__(self) -> None:
        problems = []
        if self.min_chars < 1:
            problems.append(f"min_chars {self.min_chars} is less than 1")
        if self.max_chars and self.max_chars < self.min_chars:
            problems.append(f"max_chars {self.max_chars} is less than min_chars {self.min_chars} (0 means no limit)")
        if self.normalize not in get_args(Normalize):
            problems.append(f"normalize {self.normalize!r} is not one of {', '.join(get_args(Normalize))}")
        if self.split_chars and self.split_chars < max(100, self.min_chars):
            problems.append(
                f"split_chars {self.split_chars} is less than {max(100, self.min_chars)} (0 means never cut)"
            )
        if not 0 < self.val_fraction < 1:
            problems.append(f"val_fraction {self.val_fraction} is not between 0 and 1")
        if problems:
            raise DataError("rules: " + "; ".join(problems))


class TextRule(NamedTuple):
    """A change to the characters of a text."""

    name: str
    reason: str
    change: Callable[[pl.Expr, Rules], pl.Expr]


class DropRule(NamedTuple):
    """A ground to reject a text. `holds` sees the columns text, n_chars and text_id."""

    name: str
    reason: str
    holds: Callable[[Rules], pl.Expr]


TEXT_RULES = (
    TextRule(
        "line_ends",
        "a line ends in \\n whatever system wrote it: three spellings of one thing would be learned three times",
        lambda text, _: text.str.replace_all(r"\r\n?", "\n"),
    ),
    TextRule(
        "control_characters",
        "NUL, other control characters (but not \\n and \\t) and byte-order marks are leftovers of files, not of language",
        lambda text, _: text.str.replace_all(r"[\p{Cc}\x{FEFF}--[\n\t]]", ""),
    ),
    TextRule(
        "low_block",
        "U+2581 is SentencePiece's own mark for a space and would come back as one: it becomes the low line it looks like",
        lambda text, _: text.str.replace_all("\u2581", "_", literal=True),
    ),
    TextRule(
        "normalize",
        "on demand, one spelling of each accented letter (Unicode NFC)",
        lambda text, rules: text if rules.normalize == "none" else text.str.normalize(rules.normalize),
    ),
    TextRule(
        "edges",
        "blank lines before a text and white space after it say nothing; indentation of its first line does",
        lambda text, _: text.str.replace(r"\A(?:[^\S\n]*\n)+", "").str.strip_chars_end(),
    ),
)

DROP_RULES = (
    DropRule("empty", "nothing but white space", lambda _: ~pl.col("text").str.contains(r"\S")),
    DropRule("too_short", "fewer than min_chars characters", lambda rules: pl.col("n_chars") < rules.min_chars),
    DropRule(
        "too_long",
        "more than max_chars characters",
        lambda rules: pl.col("n_chars") > rules.max_chars if rules.max_chars else pl.lit(False),
    ),
    DropRule(
        "duplicate",
        "an exact copy of an earlier text: it would be learned twice, or stand in train and val",
        lambda rules: ~pl.col("text_id").is_first_distinct() if rules.deduplicate else pl.lit(False),
    ),
)


def clean(corpus: str, raw_folder: Path, out: Path, rules: Rules, **options: object) -> dict:
    """Raw files -> documents.parquet, rejects.parquet and report.json in `out`; returns what the report says.

    corpus: a known name, or a user's own (then any folder of .txt, .jsonl, .csv, .parquet). options: what the corpus's
    `read` takes, such as text_column. Equal files and rules give equal bytes, whatever the number of threads. Raises
    DataError naming file and row for raw data that breaks its contract, and when train or val would hold no document.
    """
    module = corpora.find(corpus)
    raw = _collect(_read(module, corpus, raw_folder, options), corpus)
    if raw.is_empty():
        raise DataError(
            f"{corpus}: its raw files hold no row: {', '.join(module.FILES)} in the source are empty tables"
        )
    check(raw, module.Raw, f"raw rows of {corpus}")
    texts = (
        raw.lazy().pipe(module.documents).pipe(_count_rows).with_columns(text=cleaned(pl.col("text"), rules)).collect()
    )
    pieces = texts.lazy().drop("n_rows").pipe(parts.cut, rules.split_chars).pipe(tag, rules).collect()
    documents = pieces.lazy().filter(pl.col("reason").is_null()).pipe(_identify, rules).collect()
    rejects = pieces.filter(pl.col("reason").is_not_null()).select(list(Rejects.to_schema().columns))

    figures = report.count(raw, texts, pieces, documents, rejects)
    _require_both_splits(corpus, figures, rules)
    out.mkdir(parents=True, exist_ok=True)
    check(documents, Documents).rechunk().write_parquet(out / "documents.parquet", **PARQUET)
    check(rejects, Rejects).rechunk().write_parquet(out / "rejects.parquet", **PARQUET)
    (out / "report.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def cleaned(text: pl.Expr, rules: Rules) -> pl.Expr:
    """A text after every TEXT_RULE, in their order."""
    return reduce(lambda changed, rule: rule.change(changed, rules), TEXT_RULES, text)


def tag(pieces: pl.LazyFrame, rules: Rules) -> pl.LazyFrame:
    """Measure each text and name the first DROP_RULE that holds: n_chars, n_bytes, text_id, reason (null: kept)."""
    reasons = [pl.when(rule.holds(rules)).then(pl.lit(rule.name)) for rule in DROP_RULES]
    return pieces.with_columns(
        n_chars=pl.col("text").str.len_chars().cast(pl.Int64),
        n_bytes=pl.col("text").str.len_bytes().cast(pl.Int64),
        text_id=short_sha256(pl.col("text")),
    ).with_columns(reason=pl.coalesce(*reasons))


def short_sha256(text: pl.Expr) -> pl.Expr:
    """The first 32 hex digits of the text's sha256.

    By hashlib and not by an expression: polars has no hash that stays the same from one version to the next.
    """

    def digests(values: pl.Series) -> pl.Series:
        return pl.Series(values.name, [hashlib.sha256(value.encode()).hexdigest()[:32] for value in values], pl.String)

    return text.map_batches(digests, return_dtype=pl.String)


def held_out(text_id: pl.Expr, rules: Rules) -> pl.Expr:
    """Whether a text belongs to val: a draw from [0, 1) made of the seed and the text's own hash, nothing else."""
    draw = short_sha256(pl.format("{}:{}", pl.lit(rules.seed), text_id)).str.slice(0, 8).str.to_integer(base=16)
    return draw / 2**32 < rules.val_fraction


def _read(module: ModuleType, corpus: str, folder: Path, options: dict) -> pl.LazyFrame:
    taken = list(inspect.signature(module.read).parameters)[1:]
    if unknown := sorted(set(options) - set(taken)):
        raise DataError(
            f"corpus {corpus!r} takes no option {', '.join(unknown)}; it takes {', '.join(taken) or 'none'}"
        )
    return module.read(folder, **options)


def _collect(raw: pl.LazyFrame, corpus: str) -> pl.DataFrame:
    try:
        return raw.collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"the raw files of {corpus} cannot be read: {str(error).splitlines()[0]}") from None


def _count_rows(texts: pl.LazyFrame) -> pl.LazyFrame:
    """n_rows: how many raw rows each text was made of; one, where the corpus does not say."""
    known = "n_rows" in texts.collect_schema().names()
    return texts if known else texts.with_columns(n_rows=pl.lit(1, pl.Int64))


def _identify(kept: pl.LazyFrame, rules: Rules) -> pl.LazyFrame:
    """Documents with doc_id and split. Copies, where they are kept, share the first one's split but not its doc_id."""
    copy = pl.int_range(pl.len()).over("text_id")
    numbered = short_sha256(pl.format("{}#{}", "text_id", copy))
    return kept.with_columns(
        doc_id=pl.col("text_id") if rules.deduplicate else pl.when(copy == 0).then("text_id").otherwise(numbered),
        split=pl.when(held_out(pl.col("text_id"), rules)).then(pl.lit("val")).otherwise(pl.lit("train")),
    ).select(list(Documents.to_schema().columns))


def _require_both_splits(corpus: str, figures: dict, rules: Rules) -> None:
    if not figures["documents"]:
        why = ", ".join(f"{reason} {count}" for reason, count in figures["rejected"].items() if count)
        raise DataError(f"{corpus}: no document is left of {figures['rows']} rows ({why}): loosen the rules")
    for split in ("train", "val"):
        if not figures[f"{split}_documents"]:
            total = figures["chars"]["total"]
            length = max(100, total // 100)
            cut = (
                f", or cut long texts: split_chars {length} would give about {total // length}" if total > 2000 else ""
            )
            raise DataError(
                f"{corpus}: {figures['documents']} documents are too few for val_fraction {rules.val_fraction}: "
                f"none fell to {split}\nadd texts, change val_fraction{cut}"
            )
