"""Cleaning as a whole: figures add up, errors name their place, and equal files give equal bytes, however the work is spread
over processes and wherever it was interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import polars as pl
import pytest

from data_contracts import DataError, clean, corpora
from data_contracts.clean import clean_corpus
from data_contracts.clean import shard as shard_module
from data_contracts.clean.shard import measured_by
from data_contracts.clean.split import draw, side_of
from data_contracts.contracts import SPLITS, Documents, Rejects, check
from data_contracts.corpora import rick_and_morty
from data_contracts.readers import csv_rows
from data_contracts.rules import Rules
from tests.data_contracts import rows

ROOT = Path(__file__).parents[3]
REDDIT = "title,score,id,url,comms_num,created,body,timestamp\n"
SCRIPT = "index,season no.,episode no.,episode name,name,line\n"
WORDS = (
    "the river bends and old bridge waits for rain while miller counts his sacks of barley with two sons who mended "
    "wheel in shade near market where people came down from hills on friday before snow"
)


@pytest.fixture
def one_a_file(monkeypatch):
    """Every file is a shard of its own."""
    monkeypatch.setattr(clean, "SHARD_BYTES", 1)


def lines(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def prose(seed: int, words: int = 60) -> str:
    draw, known = random.Random(seed), WORDS.split()
    return " ".join(draw.choice(known) + "\n" * (i % 9 == 8) for i in range(words)) + f" {seed}."


def nearly(text: str) -> str:
    """Some 95 % of its five-word sequences."""
    return text.upper() + " indeed"


def some_of_each_kind() -> dict[str, str]:
    """Six files with copies and near copies in other files, records that cannot be read, and texts that rules reject."""
    texts = [prose(seed) for seed in range(240)]
    files = {f"{place}.jsonl": lines(*texts[place * 40 : place * 40 + 40], "too few", "") for place in range(4)}
    files["4.jsonl"] = lines(*texts[30:60], *map(nearly, texts[80:110]), *texts[160:180])
    quoted = "".join(f'"{text}"\n' for text in [*map(nearly, texts[:20]), *texts[170:240]])
    files["5.csv"] = "text\n" + quoted + "a,b\n" + '"book\n' + prose(999, 900) + '"\n'
    return files


RULES = Rules(min_chars=10, split_chars=600, max_malformed=0.01, val_fraction=0.2)


def clean_all(raw: Path, out: Path, **more) -> dict:
    """Clean some_of_each_kind, a file a shard, and keep the sample for the data card: some texts of each shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean, "SHARD_BYTES", 1)
        patch.setattr(clean, "SAMPLED", 60)
        keep = {"describe": lambda sample, _: sample.write_parquet(out / "sample.parquet")}
        return clean_corpus("mine", raw, out, RULES, **keep, **more)


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def found(out: Path, kind: str) -> pl.DataFrame:
    return pl.read_parquet(out / kind / "*.parquet")


# --- what comes out -----------------------------------------------------------------------------------------------------


def test_documents_rejects_and_figures_add_up(folder, tmp_path, one_a_file):
    figures = clean_corpus("mine", folder(some_of_each_kind()), tmp_path, RULES)
    documents, rejects = found(tmp_path, "documents"), found(tmp_path, "rejects")
    check(documents, Documents)
    check(rejects, Rejects)
    assert json.loads((tmp_path / "report.json").read_text()) == figures
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "documents", "rejects", "measured", "report.json"}
    assert [path.name for path in sorted((tmp_path / "documents").iterdir())] == [f"0000{n}.parquet" for n in range(6)]
    assert figures["rows"] == 42 * 4 + 80 + 92
    assert figures["texts"] == figures["rows"] - 1  # one record cannot be read
    assert figures["pieces"] > figures["texts"]  # one text is cut
    assert figures["rejects"] == rejects.height == sum(figures["rejected"].values())
    assert {name: count for name, count in figures["rejected"].items() if count} == {
        "malformed": 1, "leak": 45, "duplicate": 20, "empty": 4, "too_short": 4
    }  # fmt: skip
    assert dict(rejects["reason"].value_counts().iter_rows()) == {
        name: count for name, count in figures["rejected"].items() if count
    }
    assert figures["documents"] == documents.height == figures["pieces"] + 1 - figures["rejects"]
    assert figures["bytes"] == sum(len(text.encode()) for text in documents["text"])
    assert figures["chars"]["total"] == sum(map(len, documents["text"]))
    assert figures["chars"]["max"] == max(map(len, documents["text"]))
    for split in SPLITS:
        of_split = documents.filter(pl.col("split") == split)
        assert figures[f"{split}_documents"] == of_split.height > 0
        assert figures[f"{split}_bytes"] == of_split["n_bytes"].sum()


def test_rows_keep_their_place_and_measures_stay_beside_rejects(folder, tmp_path):
    kept = [prose(seed, words=9) for seed in range(60)]
    raw = folder({"a.jsonl": lines(" \n\t", "short", "x" * 101, kept[0] + " \r\n", kept[0], *kept[1:])})
    clean_corpus("mine", raw, tmp_path / "out", Rules(min_chars=10, max_chars=100))
    rejects, documents = found(tmp_path / "out", "rejects"), found(tmp_path / "out", "documents")
    assert rejects.select("source_row", "reason", "n_chars").rows() == [
        (0, "empty", 0),
        (1, "too_short", 5),
        (2, "too_long", 101),
        (3, "duplicate", len(kept[0])),  # which of two stays is drawn by their places
    ]
    assert documents["text"].to_list() == kept
    assert documents["source_row"].to_list() == [*range(4, 64)]
    assert set(documents["source_file"]) == {"a.jsonl"}


def test_what_the_corpus_itself_turns_away_goes_first(folder, tmp_path):
    bodies = ["[deleted]", "", "hm", *map(prose, range(40))]
    raw = folder({"r.csv": REDDIT + "".join(f'Comment,1,{n},,0,1.0,"{body}",x\n' for n, body in enumerate(bodies))})
    figures = clean_corpus("wsb", raw, tmp_path / "out", Rules(min_chars=10))
    rejects = found(tmp_path / "out", "rejects")
    assert rejects.select("source_row", "reason").sort("source_row").rows() == [
        (0, "deleted"), (1, "no_text"), (2, "too_short")
    ]  # fmt: skip
    assert rejects.filter(pl.col("reason") == "deleted")["n_chars"].to_list() == [None]
    assert figures["rejected"] == {
        "malformed": 0, "leak": 0, "duplicate": 0, "near_duplicate": 0, "deleted": 1, "no_text": 1, "bot": 0, "empty": 0,
        "too_short": 1,
    }  # fmt: skip
    assert figures["texts"] == figures["pieces"] == 43


def test_the_real_scripts_in_parts(shared_data, tmp_path):
    raw = shared_data / "kaggle" / "andradaolteanu" / "rickmorty-scripts"
    figures = clean_corpus("rick-and-morty", raw, tmp_path, Rules(split_chars=2000))
    assert (figures["rows"], figures["texts"], figures["rejects"]) == (1905, 11, 0)
    about = (pl.col("metadata").str.json_path_match(f"$.{name}").cast(pl.Int64) for name in ("at", "part"))
    documents = found(tmp_path, "documents").sort("source_row", *about, maintain_order=True)
    assert figures["documents"] == documents.height > 60
    assert documents["n_chars"].max() < 2000 + 1109 + 30
    spoken = "\n".join(part.rstrip("\n") for part in documents["text"]).split("\n")
    episodes = rows.texts(rick_and_morty, raw, Rules())
    assert spoken == [line for episode in episodes for line in episode.split("\n")]
    assert len(spoken) == 1905
    [file] = raw.glob("*.csv")
    assert csv_rows(file, "x").height == 1905


def test_a_book_can_be_split_when_it_is_cut(folder, tmp_path):
    book = "".join(
        f"Line {'abcdefghij'[number % 10]}{number:b} of a long book.\n".translate({48: "o", 49: "i"})
        for number in range(2000)
    )
    figures = clean_corpus("mine", folder({"book.txt": book}), tmp_path, Rules(split_chars=500))
    assert (figures["rows"], figures["texts"]) == (1, 1)
    assert figures["documents"] == figures["pieces"] > 100
    documents = found(tmp_path, "documents")
    zones = documents.group_by("place", maintain_order=True).agg(pl.col("text").str.join())["text"].to_list()
    assert "\n".join(zones) + "\n" == book  # the line end behind each zone is an edge
    assert figures["bytes"] == len(book) - len(zones)


def test_small_files_share_a_shard(folder, tmp_path, monkeypatch):
    raw = folder({f"{name}.txt": prose(ord(name)) for name in "abcdefgh"} | {"ca.txt": prose(0, 800)})
    monkeypatch.setattr(clean, "SHARD_BYTES", 900)
    clean_corpus("mine", raw, tmp_path / "out", Rules(val_fraction=0.4))
    files = [
        pl.read_parquet(path)["source_file"].to_list() for path in sorted((tmp_path / "out" / "documents").iterdir())
    ]
    assert files == [["a.txt", "b.txt", "c.txt"], ["ca.txt"], ["d.txt", "e.txt", "f.txt"], ["g.txt", "h.txt"]]


def test_progress_grows_to_the_end(folder, tmp_path, one_a_file):
    told = []
    clean_corpus(
        "mine", folder(some_of_each_kind()), tmp_path, RULES, progress=lambda share, text: told.append((share, text))
    )
    assert told == sorted(told, key=lambda one: one[0])
    assert told[0] == (pytest.approx(0.8 / 6), "1/6 shards cleaned")
    assert told[-1] == (pytest.approx(1), "6/6 shards written")


# --- copies, near copies, and the split ---------------------------------------------------------------------------------


def test_of_copies_in_several_shards_one_stays_a_held_out_one_first(folder, tmp_path, one_a_file):
    texts = [prose(seed) for seed in range(50)]
    raw = folder({"b.jsonl": lines(*texts), "a.jsonl": lines(*texts[:20]), "c.jsonl": lines(*texts[30:], texts[30])})
    figures = clean_corpus("mine", raw, tmp_path, Rules())
    documents, rejects = found(tmp_path, "documents"), found(tmp_path, "rejects")
    assert sorted(documents["text"]) == sorted(texts)
    assert set(rejects["reason"]) == {"duplicate", "leak"}
    assert figures["rejected"]["duplicate"] + figures["rejected"]["leak"] == rejects.height == 41
    drawn = draw(pl.Series([f"a.jsonl:{row}" for row in range(20)]), Rules())
    order = [SPLITS[side] for side in pl.select(side_of(pl.lit(drawn), Rules())).to_series()]
    for row, side in enumerate(order):
        kept = documents.filter(pl.col("text") == texts[row])["split"].item()
        assert SPLITS.index(kept) >= SPLITS.index(side)


def test_copies_can_be_kept_with_ids_of_their_own_on_one_side(folder, tmp_path, one_a_file):
    raw = folder({f"{name}.jsonl": lines(*[f"text {number % 50}" for number in range(75)]) for name in "ab"})
    figures = clean_corpus("mine", raw, tmp_path, Rules(deduplicate=False, near_duplicates="keep"))
    documents = found(tmp_path, "documents")
    assert figures["documents"] == documents["doc_id"].n_unique() == 150 - figures["rejected"]["leak"] > 80
    assert figures["rejected"]["leak"] == figures["rejects"] > 10
    assert documents.group_by("text").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 50


def pairs(tmp_path: Path, raw: Path, rules: Rules) -> pl.DataFrame:
    """a.jsonl beside z.jsonl, row by row: splits, reasons."""
    clean_corpus("mine", raw, tmp_path, rules)
    texts = pl.concat([found(tmp_path, "documents"), found(tmp_path, "rejects")], how="diagonal")
    sides = [texts.filter(pl.col("source_file") == name).sort("source_row") for name in ("a.jsonl", "z.jsonl")]
    return sides[0].select("split", "reason").hstack(sides[1].select(other="split", why="reason"))


@pytest.fixture
def near_copies(folder, one_a_file):
    texts = [prose(seed) for seed in range(100)]
    others = {f"{name}.jsonl": lines(*[prose(ord(name) * 1000 + i) for i in range(30)]) for name in "bc"}
    return folder({"a.jsonl": lines(*texts), "z.jsonl": lines(*map(nearly, texts))} | others)


def test_near_copies_are_never_on_two_sides(near_copies, tmp_path):
    kept = pairs(tmp_path / "keep", near_copies, Rules(near_duplicates="keep", val_fraction=0.3))
    assert (kept["split"] != kept["other"]).sum() > 20  # so there is something to keep apart
    together = pairs(tmp_path / "together", near_copies, Rules(near_duplicates="together", val_fraction=0.3))
    for (one, other), (side, why, other_side, other_why) in zip(
        kept.select("split", "other").rows(), together.rows(), strict=True
    ):
        first = SPLITS.index(one) > SPLITS.index(other)
        if one == other:
            assert (side, why, other_side, other_why) == (one, None, other, None)
        else:  # the one that is not held out, or in val only, is taken out; the other stays where it was
            expected = (one, None, None, "leak") if first else (None, "leak", other, None)
            assert (side, why, other_side, other_why) == expected


def test_of_near_copies_one_stays(near_copies, tmp_path):
    dropped = pairs(tmp_path, near_copies, Rules(near_duplicates="drop"))
    assert (dropped["reason"].is_null() != dropped["why"].is_null()).all()
    assert {*dropped["reason"], *dropped["why"]} == {None, "near_duplicate", "leak"}
    assert found(tmp_path, "documents").height == 160


@pytest.mark.parametrize("near", ["keep", "together", "drop"])
def test_a_split_survives_the_growth_of_its_corpus(folder, tmp_path, one_a_file, near):
    """Also where what is added holds copies, and nearly copies, of what was there, and comes before it."""
    texts = [prose(number, words=20) for number in range(400)]
    small = folder({"b.jsonl": lines(*texts[:200])}, "small")
    added = [*reversed(texts[200:]), *texts[:40], *(text + " indeed" for text in texts[40:90])]
    large = folder({"a.jsonl": lines(*added), "b.jsonl": lines(*texts[:200])}, "large")
    frames = []
    for raw in (small, large):
        clean_corpus("mine", raw, tmp_path / f"{raw.name}-out", Rules(near_duplicates=near))
        frames.append(found(tmp_path / f"{raw.name}-out", "documents").select("place", "split"))
    joined = frames[0].join(frames[1], on="place", validate="1:1")
    assert joined.height > 100
    assert joined["split"].equals(joined["split_right"], check_names=False)


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "rules", "said"),
    [
        ({"a.jsonl": lines("one book. " * 300)}, Rules(),
         "mine: 1 documents are too few, .*\nadd texts, cut long ones by clean.split_chars, or"),
        ({"a.jsonl": lines("one", "two")}, Rules(val_fraction=0.89999),
         "mine: 2 documents are too few, or too much alike, to hold some out"),
        ({"a.jsonl": lines(*[f"a line of which only the number changes: {i}" for i in range(60)])}, Rules(),
         "mine: 60 documents are too few, or too much alike, .*\n.*change clean.near_duplicates"),
        ({"a.jsonl": lines("a", "b"), "b.jsonl": lines("", "cc")}, Rules(min_chars=5),
         r"mine: no document is left of 4 rows \(too_short 3, empty 1\): loosen the rules"),
        ({"a.csv": "text,other\n"}, Rules(), "mine: its raw files hold no row: empty tables in the source"),
        ({"a.csv": "text\na,b\n"}, Rules(max_malformed=1.0), r"no document is left of 1 rows \(malformed 1\)"),
        ({"a.csv": "text\nfine\n", "b.csv": "text\nfine\nc,d\n"}, Rules(),
         r"b\.csv row 1 of mine cannot be read: line 3: 2 .*: c,d\n1 of 2 records are .*max_malformed = 0.0 allows fewer"),
        ({"a.csv": "text\n" + "fine\n" * 18, "b.csv": "text\nc,d\ne,f\n"}, Rules(max_malformed=0.05),
         r"b\.csv row 0 of mine cannot be read: line 2: .*\n2 of 20 records .*max_malformed = 0.05 allows fewer"),
    ],
    ids=["one book", "two", "all alike", "all rejected", "no row", "all malformed", "one malformed", "too many malformed"],
)  # fmt: skip
def test_what_cannot_be_used_is_said_and_leaves_nothing_that_looks_finished(
    folder, tmp_path, one_a_file, contents, rules, said
):
    with pytest.raises(DataError, match=said):
        clean_corpus("mine", folder(contents), tmp_path / "out", rules)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["work"]


def test_as_many_malformed_records_as_are_allowed(folder, tmp_path, one_a_file):
    raw = folder(
        {"a.csv": "text\n" + "".join(f"{prose(i).split()[0]} {i}\n" for i in range(38)), "b.csv": "text\nc,d\ne,f\n"}
    )
    figures = clean_corpus("mine", raw, tmp_path / "out", Rules(max_malformed=0.05))
    assert (figures["rows"], figures["documents"], figures["rejected"]["malformed"]) == (40, 38, 2)
    bad = found(tmp_path / "out", "rejects").select("source_file", "source_row", "text", "reason").row(0)
    assert bad == ("b.csv", 0, "line 2: 2 fields where the header has 1: c,d", "malformed")


def test_an_empty_table_among_others_does_no_harm(folder, tmp_path, one_a_file):
    raw = folder({"a.csv": "text\n", "b.csv": "text\n" + "".join(f"text {i}\n" for i in range(50))})
    assert clean_corpus("mine", raw, tmp_path / "out", Rules())["rows"] == 50


def test_a_row_that_breaks_the_contract_is_named_with_its_file(folder, tmp_path, one_a_file):
    good = SCRIPT + "0,1,1,Pilot,Rick,x\n"
    raw = folder({"a.csv": good, "b.csv": good + "1,one,1,Pilot,Rick,x\n"})
    with pytest.raises(DataError, match=r"raw rows of rick-and-morty breaks .*\n  b\.csv row 1  season no\. = 'one'"):
        clean_corpus("rick-and-morty", raw, tmp_path / "out", Rules())


def test_an_option_that_a_corpus_does_not_take(folder, tmp_path):
    with pytest.raises(DataError, match="corpus 'shakespeare' takes no option text_column; it takes none"):
        clean_corpus("shakespeare", folder({"a.txt": "A:\nb"}), tmp_path, Rules(), text_column="x")
    with pytest.raises(DataError, match="corpus 'mine' takes no option encodings; it takes text_column, encoding"):
        clean_corpus("mine", folder({"a.txt": "A:\nb"}), tmp_path, Rules(), encodings="x")


def test_options_reach_the_reader(folder, tmp_path):
    raw = folder(
        {"a.csv": "text,note\n" + "".join(f"same,caf\xe9 {i}\n" for i in range(40)).encode("cp1252").decode("latin-1")}
    )
    (raw / "a.csv").write_bytes(("text,note\n" + "".join(f"same,café {i}\n" for i in range(40))).encode("cp1252"))
    clean_corpus("mine", raw, tmp_path / "out", Rules(), text_column="note", encoding="cp1252")
    assert found(tmp_path / "out", "documents")["text"].sort()[0] == "café 0"


def test_a_broken_law_stops_the_pipeline(folder, tmp_path, monkeypatch):
    raw = folder({"a.jsonl": lines(*[f"text {number}" for number in range(100)])})
    monkeypatch.setattr(shard_module, "cut", lambda texts, limit: texts.head(99))
    with pytest.raises(AssertionError, match="bytes of texts = bytes of pieces"):
        clean_corpus("mine", raw, tmp_path / "cut", Rules())
    monkeypatch.undo()
    own = corpora.find("mine")
    monkeypatch.setattr(own, "documents", lambda raw: raw.head(99).with_columns(metadata=pl.lit("{}")))
    with pytest.raises(AssertionError, match=r"rows = malformed \+ rows of texts': 100 is not 99"):
        clean_corpus("mine", raw, tmp_path / "rows", Rules())
    monkeypatch.undo()
    settle = clean.settle  # as if texts on both sides were one
    monkeypatch.setattr(clean, "settle", lambda *given: settle(*given).with_columns(key=pl.lit(1, pl.Int64)))
    with pytest.raises(AssertionError, match="texts on two sides of the split = 0"):
        clean_corpus("mine", raw, tmp_path / "sides", Rules())
    assert not list(tmp_path.glob("*/report.json"))


# --- equal bytes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for name, content in some_of_each_kind().items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    clean_all(raw, out)
    return contents(out)


def test_twice_the_same_and_in_another_order_of_creation(undisturbed, folder, tmp_path):
    again = folder(dict(reversed(some_of_each_kind().items())), "another")
    clean_all(again, tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_many_processes_give_the_bytes_of_one(undisturbed, raw, tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        clean_all(raw, tmp_path, fan_out=pool.map)
    assert contents(tmp_path) == undisturbed


def test_shards_do_not_change_what_becomes_of_a_text(undisturbed, raw, tmp_path):
    """One shard or six: the same documents, ids, measures and rejects, in the same order."""
    clean_corpus("mine", raw, tmp_path / "one", RULES)
    assert len(list((tmp_path / "one" / "documents").iterdir())) == 1
    for name, content in undisturbed.items():
        path = tmp_path / "six" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for kind in ("documents", "rejects"):
        order = ["source_file", "source_row", "metadata", "reason"][: 3 + (kind == "rejects")]
        one, six = (found(tmp_path / name, kind).sort(order, maintain_order=True) for name in ("one", "six"))
        assert one.equals(six)
    assert found(tmp_path / "one", "documents").equals(found(tmp_path / "six", "documents"))
    assert (tmp_path / "one" / "report.json").read_bytes() == undisturbed["report.json"]


# Cleans one file a shard. Killed when a function of clean/__init__.py or shard.py is called for the n-th time, or a file is
# renamed or removed; or never.
CHILD = """
import os, signal, sys
from pathlib import Path
from data_contracts import clean
from data_contracts.clean import shard
from tests.data_contracts.clean.test_clean import clean_all

raw, out, where, n = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def happened(what, *_):
    global n
    n -= what == where
    if what == where and n == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def watched(function):
    return lambda *given: happened(where) or function(*given)

for module in (clean, shard):
    if hasattr(module, where):
        setattr(module, where, watched(getattr(module, where)))
sys.addaudithook(happened)
clean_all(raw, out)
"""


def child(raw: Path, out: Path, where: str = "nowhere", n: int = 1, **more: str) -> int:
    command = [sys.executable, "-c", CHILD, str(raw), str(out), where, str(n)]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | more, capture_output=True, text=True, timeout=120)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode


@pytest.mark.slow
def test_the_same_bytes_in_another_process_with_one_thread(undisturbed, raw, tmp_path):
    assert child(raw, tmp_path, POLARS_MAX_THREADS="1", PYTHONHASHSEED="7") == 0
    assert contents(tmp_path) == undisturbed


# What happened how often when the run was killed; shards cleaned and shards written by then.
MOMENTS = [
    ("clean_shard", 1, 0, 0),
    ("apply_rules", 1, 0, 0),
    ("write_parquet", 4, 1, 0),  # a shard's keys are written, its sample is not
    ("os.rename", 3, 2, 0),  # its figures are written, but not in their place
    ("clean_shard", 6, 5, 0),
    ("settle", 1, 6, 0),
    ("finish_shard", 1, 6, 0),
    ("write_parquet", 17, 6, 1),  # a shard's rejects are written, its documents are not
    ("os.rename", 13, 6, 2),
    ("finish_shard", 6, 6, 5),
    ("write_json", 7, 6, 6),  # the report
    ("os.remove", 12, None, 6),  # some of the work folder is gone
]


@pytest.fixture(scope="module")
def killed(raw, tmp_path_factory) -> dict[tuple, Path]:
    """What each of MOMENTS leaves, two at a time."""
    folder = tmp_path_factory.mktemp("killed")
    outs = {moment: folder / f"{number}" for number, moment in enumerate(MOMENTS)}
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda moment: child(raw, outs[moment], *moment[:2]), MOMENTS))
    assert codes == [-signal.SIGKILL] * len(MOMENTS)
    return outs


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment[0]} {moment[1]}")
def test_killed_and_continued_gives_the_bytes_of_an_undisturbed_run(killed, raw, undisturbed, moment):
    out, (_, _, cleaned, written) = killed[moment], moment
    finished = sorted(out.glob("work/*.json"))
    stamps = {path: path.stat().st_mtime_ns for path in sorted(out.glob("documents/*"))}
    assert cleaned in (None, len(finished)), len(finished)
    assert written == len(stamps)
    assert (out / "report.json").exists() == (moment[0] == "os.remove")
    begun = []

    def noted(function, waiting):
        for shard in waiting:
            begun.append((function.__name__, shard.number))
            yield function(shard)

    figures = clean_all(raw, out, fan_out=noted)
    assert contents(out) == undisturbed
    assert json.loads(undisturbed["report.json"]) == figures
    again = [number for name, number in begun if name == "clean_shard"]
    assert again == ([] if cleaned is None else list(range(cleaned, 6)))  # finished ones were not done again
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.slow
def test_killed_again_and_again_it_still_gets_there(raw, undisturbed, tmp_path):
    """Each run gets four files further, but a shard's last three are written anew until all are there."""
    kills = 0
    while child(raw, tmp_path, "os.rename", 5):
        kills += 1
    assert kills == 7  # 6 figures; 6 times rejects, documents and measures; a report
    assert contents(tmp_path) == undisturbed


PARALLEL = """
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tests.data_contracts.clean.test_clean import clean_all

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        clean_all(Path(sys.argv[1]), Path(sys.argv[2]), fan_out=pool.map)
"""


@pytest.mark.slow
def test_killed_with_all_its_workers(raw, undisturbed, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PARALLEL)
    out, more = tmp_path / "out", {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(program), str(raw), str(out)], env=os.environ | more, start_new_session=True
    )
    until = time.monotonic() + 60
    while len(list(out.glob("work/*.json"))) < 2:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "report.json").exists()
    clean_all(raw, out)
    assert contents(out) == undisturbed


def test_an_error_in_one_shard_does_not_undo_the_others(folder, tmp_path, one_a_file):
    files = {"a.csv": "text\n" + "".join(f"text {i}\n" for i in range(50)), "c.csv": "text\n" + "more\n"}
    raw = folder(files | {"b.csv": "text\ngood\nbad,record\n"})
    with pytest.raises(DataError, match=r"b\.csv row 1"):
        clean_corpus("mine", raw, tmp_path / "out", Rules())
    [first] = (tmp_path / "out").glob("work/*.json")
    stamp = first.stat().st_mtime_ns
    (raw / "b.csv").write_text("text\ngood\n")
    cleaned = []

    def noted(function, waiting):
        cleaned.extend(shard.number for shard in waiting if function is clean.clean_shard)
        if function is clean.finish_shard:
            assert first.stat().st_mtime_ns == stamp
        return map(function, waiting)

    clean_corpus("mine", raw, tmp_path / "out", Rules(), fan_out=noted)
    assert cleaned == [1, 2]
    clean_corpus("mine", raw, tmp_path / "fresh", Rules())
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"min_chars": 300, "min_words": 60, "max_top_ngrams": 0.05},
        {"min_chars": 1, "deduplicate": False, "near_duplicates": "together"},
        {"languages": ("en",)},
        {"languages": ("en", "fr"), "max_malformed": 0.5},
    ],
)
def test_another_limit_is_decided_from_what_was_measured(folder, tmp_path, monkeypatch, one_a_file, changed):
    raw, first = (
        folder(some_of_each_kind()),
        replace(RULES, max_words=140, languages=changed.get("languages", ()) and ("en", "de")),
    )
    clean_corpus("mine", raw, tmp_path / "first", first)
    rules = replace(first, **changed)
    assert measured_by(rules) == measured_by(first)
    clean_corpus("mine", raw, tmp_path / "fresh", rules)
    monkeypatch.setattr(shard_module, "read_files", None)  # neither this
    monkeypatch.setattr(shard_module, "measure_all", None)  # nor this is called
    again = clean_corpus("mine", raw, tmp_path / "again", rules, earlier=tmp_path / "first")
    assert again["documents"] > 0
    assert contents(tmp_path / "again") == contents(tmp_path / "fresh")
    clean_corpus("mine", raw, tmp_path / "back", first, earlier=tmp_path / "again")
    assert contents(tmp_path / "back") == contents(tmp_path / "first")


def test_what_changes_texts_or_measures_is_measured_again():
    deciding = {"min_words": 7, "max_chars": 900, "deduplicate": False, "max_malformed": 0.1}
    assert measured_by(replace(RULES, **deciding)) == measured_by(RULES)
    for changed in ({"urls": "mask"}, {"spaces": True}, {"split_chars": 0}, {"seed": 1}, {"val_fraction": 0.3},
                    {"near_duplicates": "keep"}, {"languages": ("en",)}):  # fmt: skip
        assert measured_by(replace(RULES, **changed)) != measured_by(RULES)


def test_texts_that_were_damaged_before_cleaning_are_counted(folder, tmp_path):
    damaged = {"a.txt": f"{prose(98)} lost: \ufffd", "b.txt": f"CafÃ© {prose(99)}"}
    raw = folder({f"{seed}.txt": prose(seed) for seed in range(20)} | damaged)
    assert clean_corpus("mine", raw, tmp_path / "out", RULES)["notes"][1].startswith(
        "2 texts hold U+FFFD, or Ã© where é"
    )
