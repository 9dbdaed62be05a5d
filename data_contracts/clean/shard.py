"""Cleaning one shard: `clean_shard` brings its raw files to judged texts, `finish_shard` writes its documents and rejects.

Nothing of other shards is in memory, and a Shard is plain values: any process can do the work. In between, split.settle decides
what needs all shards at once, from a few numbers a text.

What was measured is kept beside the texts. Where only settings have changed that decide by it, `clean_shard` takes texts and
measures from there: raw files are not read again.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from data_contracts import DataError, corpora
from data_contracts.clean.change import apply_rules, text_rules
from data_contracts.clean.cut import ENOUGH, cut, zones
from data_contracts.clean.judge import DECIDED, judge, measure_all
from data_contracts.clean.near_duplicates import BUCKET_NAMES, signatures
from data_contracts.clean.split import identify, keys, sides
from data_contracts.contracts import COLUMNS, SPLITS, Documents, Rejects, check
from data_contracts.readers import PLACE
from data_contracts.readers.rows import UNDERSTOOD, reading
from data_contracts.rules import Rules

SAMPLE_CHARS = 3000  # of each text of the sample: one of this length is the beginning of a longer text
DAMAGED = "\ufffd|[ÃÂ][\u0080-\u00bf]|â€"  # a character that was lost, and é or ’ as they look in a wrong encoding
IS_KEPT = pl.col("reason").is_null()
FINAL = ("documents", "rejects", "measured")  # the folders of what is kept
# Of each row of documents, then of rejects: its place among the pieces (null: it was never measured), and what documents lack.
MEASURED = ("piece", "text_id", "place", "drawn", "zone", "language", *BUCKET_NAMES)
# Fixed, so that the bytes of a file depend on its rows alone.
PARQUET: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "row_group_size": 50_000}


@dataclass(frozen=True)
class Shard:
    """What cleaning one shard needs."""

    corpus: str
    number: int
    files: dict[str, str]
    """relative name -> path"""
    work: str
    rules: Rules
    options: dict[str, str]
    sampled: int
    """texts to set aside for the data card"""
    earlier: str = ""
    """the folder of an earlier cleaning with the same `measured_by`"""

    def path(self, kind: str) -> Path:
        """A file of its own in the work folder."""
        return Path(self.work) / f"{self.number:05}.{kind}"

    def final(self, kind: str, ending: str = "parquet", earlier: bool = False) -> Path:
        """A file of what is kept."""
        return (Path(self.earlier) if earlier else Path(self.work).parent) / kind / f"{self.number:05}.{ending}"


def clean_shard(shard: Shard) -> dict:
    """Write the shard's texts (kept or not), keys, sample and, last, counts into the work folder; returns the counts."""
    pieces, set_aside, sample, counts = _measured(shard) if shard.earlier else _measure(shard)
    judged = judge(pieces, shard.rules)
    kept, out_of_bounds = judged.filter(IS_KEPT).pipe(sides, shard.rules), judged.filter(~IS_KEPT)
    write_parquet(keys(kept, shard.rules), shard.path("keys"))
    texts = pl.concat([kept.drop("side"), out_of_bounds, set_aside], how="diagonal_relaxed")
    # Soon read again and thrown away: even lz4 would take ten times as long.
    texts.write_ipc(shard.path("texts"), compression="uncompressed")
    rejected = pl.concat([set_aside, out_of_bounds], how="diagonal_relaxed")
    counts |= {"pieces": judged.height, "piece_bytes": _bytes(judged), "kept": kept.height}
    counts["rejected"] = dict(sorted(rejected.group_by("reason").len().iter_rows()))
    write_parquet(sample, shard.path("sample"))
    write_json(counts, shard.path("partial"), shard.path("json"))
    return counts


def finish_shard(shard: Shard) -> None:
    """Write the shard's documents, rejects and measures by its verdict; nothing, if an interrupted run did."""
    if all(shard.final(kind).exists() for kind in FINAL):
        return
    texts = pl.read_ipc(shard.path("texts").open("rb"))
    verdict = pl.read_parquet(shard.path("verdict"), glob=False)
    split = verdict["side"].replace_strict(dict(enumerate(SPLITS)))
    settled = texts.filter(IS_KEPT).with_columns(reason=verdict["reason"], split=split)
    rejected = pl.concat([texts.filter(~IS_KEPT), settled.filter(~IS_KEPT)], how="diagonal")
    documents = settled.filter(IS_KEPT)
    frames = {
        name: check(rows.select(list(contract.columns)), contract)
        for name, contract, rows in (("rejects", Rejects, rejected), ("documents", Documents, documents))
    }
    frames["measured"] = pl.concat([rows.select(MEASURED) for rows in (documents, rejected)])
    for kind in frames:
        shard.final(kind).parent.mkdir(exist_ok=True)
    for ending in ("sample", "json"):
        shutil.copy(shard.path(ending), shard.final("measured", ending))
    for kind, frame in frames.items():
        partial = shard.path(f"{kind}-partial")
        write_parquet(frame, partial)
        partial.replace(shard.final(kind))


def measured_by(rules: Rules) -> dict[str, Any]:
    """The settings that texts and measures depend on. All others decide from the measures."""
    settings = {name: value for name, value in asdict(rules).items() if name not in DECIDED}
    return settings | {"near_duplicates": rules.near_duplicates != "keep", "languages": bool(rules.languages)}


def read_files(module: ModuleType, found: Mapping[str, str | Path], options: dict[str, str]) -> pl.DataFrame:
    """The raw rows of files, {relative name: path}, one after another; `malformed`: what is wrong with each (null: nothing)."""
    frames = [pl.DataFrame(schema={"malformed": pl.String})]
    for name, path in found.items():
        with reading(name):
            frames.append(module.read(Path(path), name, **options).lazy().collect())
    return pl.concat(frames, how="diagonal")


def make_texts(module: ModuleType, rows: pl.DataFrame) -> pl.DataFrame:
    """The corpus's texts of readable rows, with the columns that it may leave out: n_rows, source_id, reason (null: kept)."""
    texts = module.documents(rows.lazy())
    place = pl.format("{}:{}", "source_file", "source_row")
    defaults = {"n_rows": pl.lit(1, pl.Int64), "reason": pl.lit(None, pl.String), "source_id": place}
    missing = {name: value for name, value in defaults.items() if name not in texts.collect_schema()}
    texts = texts.with_columns(pl.col("text").fill_null(""), **missing)
    return texts.with_columns(pl.col("source_id").fill_null(place)).collect()


def malformed_error(corpus: str, malformed: int, rows: int, first: tuple, rules: Rules) -> DataError:
    """More records are malformed than the rules allow. first: source_file, source_row and what is wrong with it."""
    file, row, wrong = first
    limit = f"{malformed} of {rows} records are malformed; clean.max_malformed = {rules.max_malformed} allows fewer"
    return DataError(f"{file} row {row} of {corpus} cannot be read: {wrong}\n{limit}")


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    frame.rechunk().write_parquet(path, **PARQUET)


def write_json(counts: dict, partial: Path, path: Path) -> None:
    """Whole or not at all: if the file is there, everything before it is done."""
    partial.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _measure(shard: Shard) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, dict]:
    """From the raw files: the pieces, with all that is measured of them; what is set aside unmeasured; a sample of the texts
    before and after the rules; the counts so far."""
    module, rules = corpora.find(shard.corpus), shard.rules
    accepted, set_aside, counts = _read(shard, module)
    after, changed = apply_rules(accepted["text"], text_rules(getattr(module, "RULES", ()), rules))
    both = accepted.select(pl.col("text").alias("before"), after.alias("text"), "source_file", "source_row")
    sample = both.sample(min(shard.sampled, both.height), seed=shard.number)
    accepted = accepted.with_columns(after.alias("text"))
    counts |= {"text_bytes": _bytes(accepted), "changed": changed}
    pieces = accepted.lazy().pipe(cut, rules.split_chars).collect().with_row_index("piece")
    del accepted, both, after
    signed = signatures(pieces["text"]) if rules.near_duplicates != "keep" else pl.DataFrame()
    pieces = pl.concat([pieces, measure_all(pieces["text"], rules), signed], how="horizontal").pipe(identify, rules)
    lacking = {name: pl.lit(None, pl.UInt64) for name in BUCKET_NAMES if name not in pieces.columns}
    sample = sample.with_columns(pl.col("before", "text").str.slice(0, SAMPLE_CHARS))
    return pieces.with_columns(**lacking), set_aside, sample, counts


def _measured(shard: Shard) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, dict]:
    """The same, from an earlier cleaning."""
    documents, rejects, measured = (pl.read_parquet(shard.final(kind, earlier=True), glob=False) for kind in FINAL)
    texts = pl.concat([documents.drop("doc_id", "split", "place"), rejects], how="diagonal").hstack(measured)
    pieces = texts.filter(pl.col("piece").is_not_null()).sort("piece").drop("reason")
    set_aside = texts.filter(pl.col("piece").is_null()).drop(*COLUMNS, *MEASURED)
    counts = json.loads(shard.final("measured", "json", earlier=True).read_text(encoding="utf-8"))
    return pieces, set_aside, pl.read_parquet(shard.final("measured", "sample", earlier=True), glob=False), counts


def _read(shard: Shard, module: ModuleType) -> tuple[pl.DataFrame, pl.DataFrame, dict]:
    """The zones of the texts that the corpus accepts; malformed records and texts that it turns away; the counts of all."""
    raw = read_files(module, shard.files, shard.options)
    understood = dict(raw[UNDERSTOOD].value_counts().sort(UNDERSTOOD).iter_rows()) if UNDERSTOOD in raw.columns else {}
    reject: dict[str, Any] = {"text": "malformed", "metadata": pl.lit("{}"), "reason": pl.lit("malformed")}
    malformed = raw.filter(pl.col("malformed").is_not_null()).select("source_file", "source_row", **reject)
    if malformed.height and not shard.rules.max_malformed:
        raise malformed_error(shard.corpus, malformed.height, raw.height, malformed.row(0)[:3], shard.rules)
    rows = raw.filter(pl.col("malformed").is_null()).select(pl.exclude("malformed", UNDERSTOOD))
    check(rows, module.Raw, f"raw rows of {shard.corpus}")
    texts = make_texts(module, rows)
    turned_away, accepted = texts.filter(~IS_KEPT).drop("n_rows"), texts.filter(IS_KEPT).drop("n_rows", "reason")
    counts = {
        "rows": rows.height + malformed.height,
        "rows_of_texts": texts["n_rows"].sum(),
        "malformed": malformed.height,
        "first_malformed": malformed.head(1).select("source_file", "source_row", "text").rows(),
        "understood": understood,
        "damaged": int(accepted["text"].str.contains(DAMAGED).sum()) if understood else 0,
        "columns": rows.select(pl.exclude(*PLACE).count()).row(0, named=True),
        "texts": texts.height,
        "turned_away": turned_away.height,
        "sources": accepted["source_id"].unique().sort().head(ENOUGH).to_list(),
    }
    set_aside = pl.concat([malformed, turned_away], how="diagonal_relaxed")
    return zones(accepted, shard.rules), set_aside, counts


def _bytes(texts: pl.DataFrame) -> int:
    return int(texts["text"].str.len_bytes().cast(pl.Int64).sum())
