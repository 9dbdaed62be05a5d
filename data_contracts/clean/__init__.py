"""Raw files -> clean documents, shard by shard: `clean_corpus` is the whole of it.

A shard is one raw file, or several small ones. What happens to its rows, in order:

    shard.py             raw records are read and checked; the corpus makes texts of them
    change.py            rules change the characters of texts (personal.py: addresses and names)
    cut.py               long texts are cut into pieces (before the rules into zones, if sources are few)
    measures.py          the pieces are measured
    judge.py             pieces out of bounds are rejected: all reasons are listed there
    split.py             the others get ids and a side, train, val or test
                         then, over all shards: copies are rejected, and near copies (near_duplicates.py) on another side
    shard.py, laws.py    documents and rejects are written, and must add up

What is written:

    documents/00000.parquet ...   one per shard, Documents
    rejects/00000.parquet ...     the same, Rejects: nothing disappears
    measured/00000.parquet ...    what a cleaning by other limits needs to know of each row, so that it reads no raw file
    report.json                   the counts
    work/                         what the passes leave for each other, and a killed run for the next; removed at the end

Equal files and rules give equal bytes, however many shards are cleaned at a time, and on whichever machine.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from data_contracts import DataError, corpora
from data_contracts.clean import laws
from data_contracts.clean.judge import DROP_RULES, OTHER_REASONS
from data_contracts.clean.shard import Shard, clean_shard, finish_shard, malformed_error, write_json
from data_contracts.clean.split import has_all_sides, require_all_sides, settle
from data_contracts.rules import Rules
from data_contracts.sources import files
from data_contracts.sources.files import Progress, bytes_below, require_space

SHARD_BYTES = 32 << 20
DISK_NEEDED = 1.4  # times the raw bytes, while it works: texts uncompressed, and then as zstd
ENOUGH_OF_SHARE = 0.25  # of the bytes that should be held out: with less, chance decides what a figure says
SAMPLED = 4000  # texts of the whole corpus that the data card samples

Map = Callable[[Callable, list[Shard]], Iterable]


def clean_corpus(
    corpus: str,
    raw_folder: Path,
    out: Path,
    rules: Rules,
    *,
    fan_out: Map = map,
    progress: Progress = lambda share, text: None,
    describe: Callable[[pl.DataFrame, dict], None] = lambda sample, counts: None,
    earlier: Path | None = None,
    **options: str,
) -> dict:
    """Clean a corpus into `out`, which may hold what an interrupted run of the same left; returns the counts of report.json.

    corpus: a known name, or a user's own. fan_out: calls a function on each of many shards and returns the results in order;
    the built-in `map` does so in this process. describe: is called at the end with a sample of the texts and the counts (see
    facts.describe), and `nulls`, the share of rows without a value in each column of the raw files: not in report.json, as it
    may change where no document does. earlier: the folder of a cleaning of the same files by the same code and options, with
    rules of the same `measured_by`: texts and measures are taken from there. options: what the corpus's `read` takes, such as
    text_column. Raises DataError naming file and row for raw data that breaks its contract, and if train, val or test would
    have no document.
    """
    module = corpora.find(corpus)
    corpora.require_options(corpus, options)
    found = files.require(raw_folder, module.FILES)
    work, report = out / "work", out / "report.json"
    if report.exists():  # the run before was killed while it removed its work folder
        shutil.rmtree(work, ignore_errors=True)
        return json.loads(report.read_text(encoding="utf-8"))
    work.mkdir(parents=True, exist_ok=True)
    raw_bytes = sum(path.stat().st_size for path in found.values())
    require_space(out, int(DISK_NEEDED * raw_bytes) - bytes_below(out), f"cleaning {corpus}")

    shards = _shards(found, corpus, work, rules, options, str(earlier or ""))
    waiting = [shard for shard in shards if not shard.path("json").exists()]  # the others, an interrupted run cleaned
    for done, _ in enumerate(fan_out(clean_shard, waiting), len(shards) - len(waiting) + 1):
        progress(0.8 * done / len(shards), f"{done}/{len(shards)} shards cleaned")
    counts = [json.loads(shard.path("json").read_text()) for shard in shards]
    total = laws.add_up(counts)
    if not total["rows"]:
        raise DataError(f"{corpus}: its raw files hold no row: empty tables in the source")
    if total["malformed"] > rules.max_malformed * total["rows"]:
        raise malformed_error(corpus, total["malformed"], total["rows"], total["first_malformed"][0], rules)
    keys, n_sources = pl.scan_parquet([shard.path("keys") for shard in shards], glob=False), len(set(total["sources"]))
    verdict = settle(keys, rules, n_sources)
    if exact := corpus != corpora.MIX and not has_all_sides(verdict, rules, ENOUGH_OF_SHARE):
        verdict = settle(keys, rules, n_sources, exact=True)
    require_all_sides(verdict, total, corpus, rules)
    start = 0
    for shard, one in zip(shards, counts, strict=True):
        verdict.slice(start, one["kept"]).write_parquet(shard.path("verdict"))
        start += one["kept"]
    for done, _ in enumerate(fan_out(finish_shard, shards), 1):
        progress(0.8 + 0.2 * done / len(shards), f"{done}/{len(shards)} shards written")

    reasons = [*OTHER_REASONS, *getattr(module, "REASONS", ()), *(rule.name for rule in DROP_RULES if rule.on(rules))]
    summary = laws.summarise(total, verdict, pl.scan_parquet(out / "documents", glob=False), reasons)
    notes = module.describe(total["understood"]) if total["understood"] else []
    if damaged := total["damaged"]:
        lost = "characters were lost before, in a wrong encoding"
        notes.append(f"{damaged} texts hold U+FFFD, or Ã© where é was meant: {lost}")
    if exact:
        held_out = f"{summary['val_documents']} are held out to choose by, and {summary['test_documents']} to report on"
        notes.append(f"{summary['documents']} documents are few: by the order of their draws {held_out}")
    summary |= {"notes": notes} if notes else {}
    readable = max(1, total["rows"] - total["malformed"])
    nulls = {name: 1 - values / readable for name, values in total["columns"].items()}
    describe(pl.read_parquet(sorted(work.glob("*.sample")), glob=False), summary | {"nulls": nulls})
    write_json(summary, work / "report", report)
    shutil.rmtree(work)
    return summary


def _shards(
    found: dict[str, Path], corpus: str, work: Path, rules: Rules, options: dict[str, str], earlier: str
) -> list[Shard]:
    """Files in order, as many together in a shard as make SHARD_BYTES."""
    groups: list[dict[str, str]] = []
    size = SHARD_BYTES
    for name, path in found.items():
        if size >= SHARD_BYTES:
            groups.append({})
            size = 0
        groups[-1][name] = str(path)
        size += path.stat().st_size
    sampled = -(-SAMPLED // len(groups))
    shared = str(work), rules, options, sampled, earlier
    return [Shard(corpus, number, group, *shared) for number, group in enumerate(groups)]
