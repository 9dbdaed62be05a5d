"""Raw files -> clean documents, shard by shard: `clean` is the whole of it.

A shard is one raw file, or several small ones; its rows are checked, turned into texts, cleaned, cut, measured and judged with
nothing of other shards in memory. What needs to see them all (copies, near copies, on which side of the split a text
falls) is settled from a few numbers a text; then each shard is written. Both passes can run in many processes.

    documents/00000.parquet ...   one a shard, Documents
    rejects/00000.parquet ...     the same, Rejects: nothing disappears
    laws.json                   what was done, in figures that add up (laws.py)
    work/                         what the passes leave for each other, and a killed run for the next; gone at the end

Equal files and rules give equal bytes, however many shards are cleaned at a time, and wherever.
"""

import inspect
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl

from data_contracts import DataError, corpora
from data_contracts.clean import cut as parts
from data_contracts.clean import laws, near_duplicates
from data_contracts.clean.change import DROP_RULES, OTHER_REASONS, Rules
from data_contracts.clean.judge import apply, identify, judge, key
from data_contracts.contracts import Documents, Rejects, check
from data_contracts.sources import files
from data_contracts.sources.disk import bytes_below, require_space

SHARD_BYTES = 32 << 20
NEEDED = 1.4  # times the raw bytes on disk, while it works: texts as they are, and then zstd
SAMPLED = 4000  # texts, over all shards, that the data card looks at
SAMPLE_CHARS = 3000  # of each: a sampled text of this length is the beginning of a longer one
# Fixed, so that the bytes of a file depend on its rows alone.
PARQUET = {"compression": "zstd", "compression_level": 3, "row_group_size": 50_000}


@dataclass(frozen=True)
class Shard:
    """What cleaning one shard needs: plain values, so that another process can do it."""

    corpus: str
    number: int
    files: dict[str, str]
    """relative name -> path"""
    work: str
    rules: Rules
    options: dict[str, str]
    sampled: int
    """texts to set aside for the data card"""

    def path(self, kind: str) -> Path:
        """A file of its own in the work folder."""
        return Path(self.work) / f"{self.number:05}.{kind}"

    def final(self, kind: str) -> Path:
        return Path(self.work).parent / kind / f"{self.number:05}.parquet"


Map = Callable[[Callable[[Shard], dict], list[Shard]], Iterable[dict]]


def clean(
    corpus: str,
    raw_folder: Path,
    out: Path,
    rules: Rules,
    *,
    fan_out: Map = map,
    progress: Callable[[float, str], None] = lambda share, text: None,
    describe: Callable[[pl.DataFrame, dict], None] = lambda sample, figures: None,
    **options: str,
) -> dict:
    """Clean a corpus into `out`, which may hold what an interrupted run of the same left; returns what laws.json says.

    corpus: a known name, or a user's own. fan_out: how to call a function on each of many shards, in order; the built-in `map`
    does so here and now. describe: called at the end with a sample of the texts and with what laws.json says (card.write).
    options: what the corpus's `read` takes, such as text_column. Raises DataError naming file and row for raw data that breaks
    its contract, and when train or val would hold no document.
    """
    module = corpora.find(corpus)
    _require_options(module, corpus, options)
    found = files.require(raw_folder, module.FILES)
    found = module.choose(found) if hasattr(module, "choose") else found
    groups = list(_groups(found))
    sampled = -(-SAMPLED // len(groups))
    work, finished = out / "work", out / "report.json"
    if finished.exists():  # and killed while it was tidying up
        shutil.rmtree(work, ignore_errors=True)
        return json.loads(finished.read_text(encoding="utf-8"))
    work.mkdir(parents=True, exist_ok=True)
    raw_bytes = sum(path.stat().st_size for path in found.values())
    require_space(out, int(NEEDED * raw_bytes) - bytes_below(out), f"cleaning {corpus}")
    shards = [
        Shard(corpus, number, {name: str(path) for name, path in group.items()}, str(work), rules, options, sampled)
        for number, group in enumerate(groups)
    ]
    waiting = [shard for shard in shards if not shard.path("json").exists()]
    for done, _ in enumerate(fan_out(clean_shard, waiting), len(shards) - len(waiting) + 1):
        progress(0.8 * done / len(shards), f"{done}/{len(shards)} shards cleaned")
    figures = [json.loads(shard.path("json").read_text()) for shard in shards]
    _require_readable(corpus, figures, rules)
    verdict = _settle(shards, figures, rules)
    _require_both_splits(corpus, figures, verdict, rules)
    for done, _ in enumerate(fan_out(finish_shard, shards), 1):
        progress(0.8 + 0.2 * done / len(shards), f"{done}/{len(shards)} shards written")
    names = [*OTHER_REASONS, *getattr(module, "REASONS", ()), *(rule.name for rule in DROP_RULES if rule.on(rules))]
    summary = laws.count(figures, verdict, pl.scan_parquet(out / "documents" / "*.parquet"), names)
    describe(pl.read_parquet(work / "*.sample"), summary)
    _write_json(summary, work / "report", finished)
    shutil.rmtree(work)
    return summary


def clean_shard(shard: Shard) -> dict:
    """Write a shard's texts (kept or not), keys, samples and, last, figures into the work folder; returns the figures."""
    module, rules = corpora.find(shard.corpus), shard.rules
    raw = read_files(module, shard.files, shard.options)
    rows = raw.height
    raw, malformed = _set_malformed_aside(raw, shard)
    check(raw, module.Raw, f"raw rows of {shard.corpus}")
    texts = module.documents(raw.lazy()).collect()
    del raw
    given = {"n_rows": pl.lit(1, pl.Int64), "reason": pl.lit(None, pl.String)}
    texts = texts.with_columns(
        pl.col("text").fill_null(""), **{k: v for k, v in given.items() if k not in texts.columns}
    )
    kept, own = texts.filter(pl.col("reason").is_null()), texts.filter(pl.col("reason").is_not_null())
    n_texts, n_rows = texts.height, texts["n_rows"].sum()
    before = kept["text"]
    del texts
    after, changed = apply(before, module, rules)
    kept = kept.with_columns(after.alias("text"))
    both = kept.select(before.alias("before"), "text", "source_file", "source_row")
    sample = both.sample(min(shard.sampled, both.height), seed=shard.number)
    del before, both
    text_bytes = _bytes(kept)
    pieces = kept.lazy().drop("n_rows", "reason").pipe(parts.cut, rules.split_chars).collect()
    del kept
    judged = judge(pieces, rules)
    del pieces
    n_pieces, piece_bytes = judged.height, _bytes(judged)
    kept = identify(judged.filter(pl.col("reason").is_null()), rules)
    judged = judged.filter(pl.col("reason").is_not_null())
    keys = kept.select(key=key(pl.col("text_id")), val=pl.col("split") == "val")
    if rules.near_duplicates != "keep":
        keys = pl.concat([keys, near_duplicates.signatures(kept["text"])], how="horizontal")
    rejected = pl.concat([malformed, own, judged], how="diagonal_relaxed")
    texts = pl.concat([kept.drop("text_id"), judged, malformed, own.drop("n_rows")], how="diagonal_relaxed")
    # Soon read again and thrown away: even lz4 would take ten times as long.
    texts.write_ipc(shard.path("texts"), compression="uncompressed")
    _write(keys, shard.path("keys"))
    few = rejected.group_by("reason", maintain_order=True).head(3).select("text", "source_file", "source_row", "reason")
    sample = pl.concat([sample, few], how="diagonal").with_columns(pl.col("before", "text").str.slice(0, SAMPLE_CHARS))
    _write(sample, shard.path("sample"))
    figures = {
        "rows": rows,
        "rows_of_texts": n_rows,
        "malformed": malformed.height,
        "first_malformed": malformed.head(1).select("source_file", "source_row", "text").rows(),
        "texts": n_texts,
        "turned_away": own.height,
        "text_bytes": text_bytes,
        "pieces": n_pieces,
        "piece_bytes": piece_bytes,
        "changed": changed,
        "kept": kept.height,
        "rejected": dict(sorted(rejected.group_by("reason").len().iter_rows())),
    }
    _write_json(figures, shard.path("partial"), shard.path("json"))
    return figures


def finish_shard(shard: Shard) -> None:
    """Write a shard's documents and rejects, as it was settled; nothing, where an interrupted run did."""
    final = {kind: shard.final(kind) for kind in ("documents", "rejects")}
    if all(path.exists() for path in final.values()):
        return
    texts = pl.read_ipc(shard.path("texts"))
    verdict = pl.read_parquet(shard.path("verdict"))
    kept = texts.filter(pl.col("reason").is_null()).with_columns(
        reason=verdict["reason"], split=pl.when(verdict["val"]).then(pl.lit("val")).otherwise(pl.lit("train"))
    )
    rejected = pl.concat([texts.filter(pl.col("reason").is_not_null()), kept.filter(pl.col("reason").is_not_null())])
    for kind, schema, rows in (
        ("rejects", Rejects, rejected),
        ("documents", Documents, kept.filter(pl.col("reason").is_null())),
    ):
        final[kind].parent.mkdir(exist_ok=True)
        frame = check(rows.select(list(schema.to_schema().columns)), schema)
        partial = shard.path(f"{kind}-partial")
        _write(frame, partial)
        partial.replace(final[kind])


def _require_options(module: ModuleType, corpus: str, options: dict) -> None:
    taken = list(inspect.signature(module.read).parameters)[2:]
    if unknown := sorted(set(options) - set(taken)):
        raise DataError(
            f"corpus {corpus!r} takes no option {', '.join(unknown)}; it takes {', '.join(taken) or 'none'}"
        )


def _groups(found: dict[str, Path]) -> Iterator[dict[str, Path]]:
    """Files in order, as many together as make SHARD_BYTES."""
    group, size = {}, 0
    for name, path in found.items():
        group[name] = path
        size += path.stat().st_size
        if size >= SHARD_BYTES:
            yield group
            group, size = {}, 0
    if group:
        yield group


def read_files(module: ModuleType, found: dict[str, str | Path], options: dict[str, str]) -> pl.DataFrame:
    """The raw rows of files, {relative name: path}, one after another, with what is `malformed` of each (null: nothing)."""
    frames = [pl.DataFrame(schema={"malformed": pl.String})]
    for name, path in found.items():
        try:
            rows = module.read(Path(path), name, **options)
            frames.append(rows.collect() if isinstance(rows, pl.LazyFrame) else rows)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{name} cannot be read: {str(error).splitlines()[0]}") from None
    return pl.concat(frames, how="diagonal")


def _set_malformed_aside(raw: pl.DataFrame, shard: Shard) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Readable rows, and the others as rejects. One is too many where the rules allow none: that is said at once."""
    bad = raw.filter(pl.col("malformed").is_not_null()).select(
        "source_file", "source_row", text="malformed", metadata=pl.lit("{}"), reason=pl.lit("malformed")
    )
    if bad.height and not shard.rules.max_malformed:
        _raise_malformed(shard.corpus, bad.height, raw.height, bad.row(0), shard.rules)
    return raw.filter(pl.col("malformed").is_null()).drop("malformed"), bad


def _raise_malformed(corpus: str, bad: int, rows: int, first: tuple, rules: Rules) -> None:
    name, row, what = first[:3]
    raise DataError(
        f"{name} row {row} of {corpus} cannot be read: {what}\n"
        f"{bad} of {rows} records are malformed; clean.max_malformed = {rules.max_malformed} allows "
        f"{f'a share of {rules.max_malformed}' if rules.max_malformed else 'none'}"
    )


def _require_readable(corpus: str, figures: list[dict], rules: Rules) -> None:
    rows, bad = (sum(figure[name] for figure in figures) for name in ("rows", "malformed"))
    if not rows:
        raise DataError(f"{corpus}: its raw files hold no row: empty tables in the source")
    if bad > rules.max_malformed * rows:
        first = next(figure["first_malformed"][0] for figure in figures if figure["malformed"])
        _raise_malformed(corpus, bad, rows, first, rules)


def _bytes(texts: pl.DataFrame) -> int:
    return int(texts["text"].str.len_bytes().cast(pl.Int64).sum())


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.rechunk().write_parquet(path, **PARQUET)


def _write_json(figures: dict, partial: Path, path: Path) -> None:
    """Whole or not at all: that it is there says that all before it is done."""
    partial.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _settle(shards: list[Shard], figures: list[dict], rules: Rules) -> pl.DataFrame:
    """What all kept texts together decide of each: `reason` (duplicate, near_duplicate or null) and `val`; its `key`; and
    `drawn`, what val would be if nothing had to stay together.

    Each shard finds its part in its work folder.
    """

    def column(name: str) -> pl.Series:
        return pl.scan_parquet([shard.path("keys") for shard in shards]).select(name).collect()[name]

    own_place = pl.Series(np.arange(sum(figure["kept"] for figure in figures)))
    first = own_place
    if rules.near_duplicates != "keep":
        first = pl.Series(near_duplicates.groups(lambda: map(column, near_duplicates.BUCKET_NAMES), len(own_place)))
    copy = ~pl.col("key").is_first_distinct() if rules.deduplicate else pl.lit(False)
    near_copy = (first != own_place) & (rules.near_duplicates == "drop")
    verdict = pl.DataFrame({"key": column("key"), "drawn": column("val")}).select(
        "key",
        "drawn",
        # On the side that the group's first text was drawn for.
        val=pl.col("drawn").gather(first),
        reason=pl.when(copy).then(pl.lit("duplicate")).when(near_copy).then(pl.lit("near_duplicate")),
    )
    start = 0
    for shard, figure in zip(shards, figures, strict=True):
        verdict.slice(start, figure["kept"]).write_parquet(shard.path("verdict"))
        start += figure["kept"]
    return verdict


def _require_both_splits(corpus: str, figures: list[dict], verdict: pl.DataFrame, rules: Rules) -> None:
    kept = verdict.filter(pl.col("reason").is_null())
    if kept.is_empty():
        rejected = laws.add_up(figure["rejected"] for figure in figures)
        why = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
        rows = sum(figure["rows"] for figure in figures)
        raise DataError(f"{corpus}: no document is left of {rows} rows ({why}): loosen the rules")
    for split in ("train", "val"):
        if not (kept["val"] == (split == "val")).any():
            if (kept["drawn"] == (split == "val")).any():
                raise DataError(
                    f"{corpus}: none of {kept.height} documents fell to {split}, since texts that are nearly alike stay on one "
                    'side of the split\nchange clean.near_duplicates: "drop" leaves one of each kind, "keep" does not look'
                )
            total = sum(figure["piece_bytes"] for figure in figures)
            length = max(100, total // 100)
            cut = (
                f", or cut long texts: split_chars {length} would give about {total // length}" if total > 2000 else ""
            )
            raise DataError(
                f"{corpus}: {kept.height} documents are too few for val_fraction {rules.val_fraction}: "
                f"none fell to {split}\nadd texts, change val_fraction{cut}"
            )
