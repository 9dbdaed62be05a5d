"""The split: its shares, its laws (no rule, order, growth or copy moves a document to another side), ids that never change."""

import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from data_contracts import DataError
from data_contracts.clean import clean_corpus, cut, split
from data_contracts.clean.cut import SMALLEST, zones
from data_contracts.clean.near_duplicates import BUCKET_NAMES, signatures
from data_contracts.clean.split import TEST, TRAIN, VAL, draw, key, settle, short_sha256, side_of
from data_contracts.contracts import SPLITS
from data_contracts.rules import Rules

WORDS = "river bend old bridge waits rain miller counts sacks barley while birds cross grey field before night".split()  # noqa: SIM905
LAW = settings(max_examples=25, deadline=None, phases=[Phase.generate])  # shrinking a whole corpus takes minutes


def drawn_sides(ids: pl.Series, asked: Rules) -> pl.Series:
    return pl.select(side_of(pl.lit(draw(ids, asked)), asked)).to_series()


SHARES = {"val_fraction": 0.2, "test_fraction": 0.2}


def test_the_fractions_are_the_shares_and_the_seed_the_choice():
    ids = pl.Series([f"text {number}" for number in range(20_000)])
    half, few, other = (
        drawn_sides(ids, Rules(val_fraction=val, test_fraction=test, seed=seed))
        for val, test, seed in ((0.5, 0.3, 0), (0.05, 0.05, 0), (0.05, 0.05, 1))
    )
    assert abs((half == VAL).mean() - 0.5) < 0.02
    assert abs((half == TEST).mean() - 0.3) < 0.02
    for side in (VAL, TEST):
        assert abs((few == side).mean() - 0.05) < 0.01
        assert ((few == side) & (half != side)).sum() == 0  # a larger share holds the smaller one
        assert ((few == side) & (other == side)).mean() < 0.01


def test_ids_never_change():
    ids = short_sha256(pl.Series(["hello", "Grüße"]))
    assert ids.to_list() == ["2cf24dba5fb0a30e26e83b2ac5b9e29e", "f83e039796c6453a10f5519e39fd1139"]
    assert pl.DataFrame({"id": ids}).select(key(pl.col("id"))).to_series().to_list() == [
        int("2cf24dba5fb0a30", 16),
        int("f83e039796c6453", 16),
    ]
    assert drawn_sides(ids, Rules(val_fraction=0.4)).to_list() == [TRAIN, VAL]
    assert drawn_sides(ids, Rules(test_fraction=0.7)).to_list() == [TEST, TEST]


# --- laws of a whole corpus ---------------------------------------------------------------------------------------------


def corpus(seed: int, pool: int, number: int) -> list[dict]:
    """Rows with ids of their own. Many are copies of others, nearly copies, or differ in a name, spaces or an address alone."""
    chance, rows = random.Random(seed), []
    for name in range(number):
        source = random.Random(chance.randrange(pool))
        words = [source.choice(WORDS) + str(source.randrange(99)) for _ in range(source.choice([12, 40]))]
        variant = chance.choice(["", "", "word", "name", "spaces", "address"])
        words[9] = {"word": "otherwise", "name": "@somebody", "address": "https://a.b/c"}.get(variant, words[9])
        rows.append({"name": f"n{name}", "kind": "topic", "text": ("  " if variant == "spaces" else " ").join(words)})
    return rows


corpora = st.builds(corpus, st.integers(0, 10**6), st.integers(10, 90), st.integers(60, 140))
rules = st.builds(
    Rules,
    near_duplicates=st.sampled_from(["keep", "together", "drop"]),
    deduplicate=st.booleans(),
    mentions=st.sampled_from(["keep", "mask", "drop"]),
    urls=st.sampled_from(["keep", "drop"]),
    spaces=st.booleans(),
    min_chars=st.sampled_from([1, 80]),
    split_chars=st.sampled_from([0, 150]),
    **{name: st.just(share) for name, share in SHARES.items()},
)


def sides(files: list[list[dict]], asked: Rules) -> pl.DataFrame:
    """The documents of a corpus of files of rows."""
    with TemporaryDirectory() as temporary:
        raw, out = Path(temporary) / "raw", Path(temporary) / "out"
        raw.mkdir()
        for number, rows in enumerate(files):
            (raw / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        try:
            assume(
                not clean_corpus("python-docs", raw, out, asked).get("notes")
            )  # so few are divided by rank, and anew
        except DataError as error:
            assume("too few" not in str(error) and "is left of" not in str(error))
            raise
        return pl.read_parquet(out / "documents" / "*.parquet")


def moved(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The places that stand on other sides."""
    both = before.select("place", "split").unique().join(after.select("place", other="split").unique(), on="place")
    return both.filter(pl.col("split") != pl.col("other"))


@LAW
@given(corpora, rules, rules)
def test_another_rule_moves_no_document(rows, one, other):
    before, after = sides([rows], one), sides([rows], other)
    assume(set(before["place"]) & set(after["place"]))
    assert moved(before, after).is_empty()


@LAW
@given(corpora, rules, st.randoms(use_true_random=False), st.integers(1, 4))
def test_another_order_and_other_files_change_nothing(rows, asked, order, n_files):
    shuffled = order.sample(rows, len(rows))
    columns = "place", "split", "text", pl.col("metadata").str.json_path_match("$.part")
    before, after = sides([rows], asked), sides([shuffled[number::n_files] for number in range(n_files)], asked)
    assert before.select(columns).sort(pl.all()).equals(after.select(columns).sort(pl.all()))


@LAW
@given(corpora, rules, st.integers(30, 59))
def test_growth_moves_no_document(rows, asked, first):
    assert moved(sides([rows[:first]], asked), sides([rows[first:], rows[:first]], asked)).is_empty()


@LAW
@given(corpora, rules)
def test_copies_and_near_copies_stand_on_one_side(rows, asked):
    found = sides([rows], asked)
    assert {*SPLITS} == {*found["split"]}
    alike = [found["text"]]
    if asked.near_duplicates != "keep":
        alike += signatures(found["text"]).get_columns()
    for group in alike:
        assert found.group_by(group.alias("group")).agg(pl.col("split").n_unique())["split"].max() == 1


# --- which of copies stays ----------------------------------------------------------------------------------------------

texts = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([TRAIN, VAL, TEST])), min_size=1, max_size=40
)


@settings(max_examples=200, deadline=None)
@given(texts, st.booleans(), st.sampled_from(["keep", "together", "drop"]))
def test_the_verdict_is_that_of_a_plain_search(rows, deduplicate, near):
    """rows: (family, text within it, side). Places are the rows' numbers, from behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "FAMILY", 4)
        frame = pl.DataFrame(
            {
                "key": [10 * family + text for family, text, _ in rows],
                "place": range(len(rows), 0, -1),
                "side": pl.Series([side for *_, side in rows], dtype=pl.UInt8),
                "zone": pl.Series([None] * len(rows), dtype=pl.UInt8),
                "size": [1] * len(rows),
            }
        )
        buckets = {name: pl.Series([family for family, *_ in rows]) for name in BUCKET_NAMES}
        found = settle(frame.with_columns(**buckets).lazy(), Rules(deduplicate=deduplicate, near_duplicates=near), 99)
    family_of = {number: row[0] if near != "keep" else row[:2] for number, row in enumerate(rows)}
    size, wanted, seen = Counter(family_of.values()), {}, set()
    for number in reversed(range(len(rows))):
        family, text, side = family_of[number], rows[number][:2], rows[number][2]
        others = {rows[other][2] for other in family_of if family_of[other] == family}
        stays = TRAIN if size[family] > 4 and TRAIN in others else max(others)
        if side != stays:
            wanted[number] = "leak"
            continue
        wanted[number] = "duplicate" if deduplicate and text in seen else None
        if near == "drop" and family in seen and not wanted[number]:
            wanted[number] = "near_duplicate"
        seen |= {text, family}
    assert found["side"].to_list() == [side for *_, side in rows]
    assert found["reason"].to_list() == [wanted[number] for number in range(len(rows))]


# --- one book -----------------------------------------------------------------------------------------------------------

CUT = Rules(split_chars=100, **SHARES)


def of_zones(text: str, asked: Rules = CUT) -> list[tuple[int, int | None, str]]:
    """(side, text) of each zone."""
    frame = pl.DataFrame({"text": [text], "metadata": ["{}"], "source_id": ["book"], "source_row": [0]})
    return zones(frame, asked).select("zone", "text", "section").rows()


def side_of_each_character(text: str) -> list[int]:
    return [zone for zone, part, _ in of_zones(text) for _ in part]


prose = st.builds(
    lambda seed, n, end: "".join(f"w{random.Random(seed + i).randrange(10**6)}{end if i % 7 == 0 else ' '}" for i in range(n)),
    st.integers(0, 10**6), st.integers(2000, 9000), st.sampled_from(["\n", " ", "\r\n\r\n"]),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(prose, prose)
def test_a_book_is_divided_in_few_pieces_and_keeps_them_when_it_grows(book, more):
    parts = of_zones(book)
    assert "".join(part for _, part, _ in parts) == book
    assert {zone for zone, *_ in parts} == {TRAIN, VAL, TEST}
    assert len(parts) <= 3 * (len(book).bit_length() - SMALLEST + 1)
    for side in (VAL, TEST):
        assert 0.09 < sum(len(part) for zone, part, _ in parts if zone == side) / len(book) < 0.3
    assert len({section for *_, section in parts}) == len(parts)
    assert all(len(part) < 200 or part[-1] in "\n " for _, part, _ in parts[:-1])
    before, after = side_of_each_character(book), side_of_each_character(book + more)
    settled = len(book) - cut.WITHIN
    assert before[:settled] == after[:settled]


def test_no_rule_moves_a_character_of_a_book(tmp_path):
    book = "".join(f"Line {number}  of @somebody and a long book.\n" for number in range(2000))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "book.txt").write_text(book)
    of_line = []
    for number, asked in enumerate(({}, {"split_chars": 1000}, {"mentions": "drop", "spaces": True, "min_chars": 200})):
        out = tmp_path / f"out-{number}"
        clean_corpus("mine", tmp_path / "raw", out, Rules(**{"split_chars": 8000, "near_duplicates": "keep"} | asked))
        documents = pl.read_parquet(out / "documents" / "*.parquet")
        lines = documents.select("split", "place", pl.col("text").str.extract_all(r"Line \d+")).explode("text")
        of_line.append({text: (side, place) for side, place, text in lines.rows()})
        changes = sum(a != b for a, b in pairwise(side for side, _ in of_line[-1].values()))
        assert changes < 3 * 6  # contiguous: 6 octaves from 2**13
    for other in of_line[1:]:
        assert len(other) > 1990
        assert {line: of_line[0][line] for line in other} == other


def test_enough_books_are_drawn_as_wholes_and_short_texts_have_no_zones(tmp_path):
    (tmp_path / "raw").mkdir()
    for book in range(cut.ENOUGH):
        text = "".join(f"Line {number} of book {book}.\n" for number in range(300))
        (tmp_path / "raw" / f"{book}.txt").write_text(text)
    asked = Rules(split_chars=1000, near_duplicates="keep", val_fraction=0.2, test_fraction=0.2)
    clean_corpus("mine", tmp_path / "raw", tmp_path / "out", asked)
    books = pl.read_parquet(tmp_path / "out" / "documents" / "*.parquet").group_by("source_file")
    assert books.agg(pl.col("split").n_unique())["split"].to_list() == [1] * cut.ENOUGH
    assert books.agg(pl.col("place").n_unique())["place"].to_list() == [1] * cut.ENOUGH
    assert [(zone, section) for zone, _, section in of_zones("x" * 1000)] == [(None, "0" * 16)]
    assert of_zones("x" * 9000, Rules())[0][0] is None  # texts are not to be cut


def test_the_laws_hold_for_real_tweets_under_the_rules_that_once_leaked(shared_data, tmp_path):
    raw = Path(shared_data) / "kaggle" / "gpreda" / "covid19-tweets"
    social = {"entities": True, "spaces": True, "urls": "drop", "near_duplicates": "drop", "val_fraction": 0.05}
    found = []
    for number, asked in enumerate(({"mentions": "mask"}, {"mentions": "drop"}, {"mentions": "mask", "spaces": False})):
        clean_corpus("covid-tweets", raw, tmp_path / str(number), Rules(**social | {"test_fraction": 0.05} | asked))
        found.append(pl.read_parquet(tmp_path / str(number) / "documents" / "*.parquet"))
    for other in found[1:]:
        assert moved(found[0], other).is_empty()
        assert other.height > 7000


# --- few texts ----------------------------------------------------------------------------------------------------------


def notes(number: int, seed: int, copies: int = 1) -> dict[str, str]:
    """Texts of words of their own, each in `copies` files."""
    chance = random.Random(seed)
    words = [" ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(60)) for _ in range(number)]
    return {f"{note}-{copy}.txt": f"{words[note]} {copy}" for note in range(number) for copy in range(copies)}


@pytest.mark.parametrize("number", [5, 13, 26])
@pytest.mark.parametrize("seed", range(4))
def test_of_few_texts_an_exact_number_is_held_out(folder, tmp_path, number, seed):
    asked = Rules(split_chars=8000, seed=seed)
    counts = clean_corpus("mine", folder(notes(number, seed)), tmp_path / "out", asked)
    sides = [counts[f"{side}_documents"] for side in SPLITS]
    assert sum(sides) == number
    assert min(sides) >= 1
    if len(counts["notes"]) > 1:  # else the draws themselves left no side empty
        assert sides[1:] == [max(1, round(number / 10))] * 2
        assert counts["notes"][1].startswith(
            f"{number} documents are few: by the order of their draws {sides[1]} are held"
        )


def test_a_side_that_one_short_text_fell_to_gets_its_share_of_bytes(folder, tmp_path):
    names = pl.Series([f"{number}.txt" for number in range(200)])
    drawn = draw(names + ":0", Rules())
    val, train, test = (names.filter(here).to_list() for here in (drawn < 0.1, drawn.is_between(0.1, 0.9), drawn > 0.9))
    words = list(notes(40, 0).values())
    texts = dict(zip([*train[:30], *test[:3]], words, strict=False)) | {
        val[0]: words[-1][:60],
        train[30]: words[-2] * 30,
    }
    counts = clean_corpus("mine", folder(texts), tmp_path / "out", Rules())
    total = sum(map(len, texts.values()))
    assert counts["documents"] == 35
    for side in ("val", "test"):
        assert 0.08 * total < counts[f"{side}_bytes"] < 0.15 * total  # and not the long text, which is 46 %
    assert counts["notes"][1].startswith("35 documents are few")


@pytest.mark.parametrize("seed", range(6))
def test_an_exact_number_keeps_copies_and_the_parts_of_a_text_together(folder, tmp_path, seed):
    raw = folder(notes(4, seed, copies=6))
    counts = clean_corpus("mine", raw, tmp_path / "out", Rules(split_chars=200, seed=seed, deduplicate=False))
    found = pl.read_parquet(tmp_path / "out" / "documents" / "*.parquet")
    assert len(counts["notes"]) > 1 or seed  # at least the first of these draws leaves a side empty
    if len(counts["notes"]) > 1:
        note = found["source_file"].str.slice(0, 1)
        assert found.group_by(note).agg(pl.col("split").n_unique())["split"].max() == 1


def test_a_folder_and_files_with_the_characters_of_patterns(folder, tmp_path):
    pl.DataFrame({"text": list(notes(20, 0).values())}).write_parquet(tmp_path / "table.parquet")
    raw = folder({"[2024] a*?.parquet": (tmp_path / "table.parquet").read_bytes()} | notes(4, 1), "raw [x] 100% #1")
    described = []
    clean_corpus("mine", raw, tmp_path / "out [y]", Rules(), describe=lambda *given: described.append(given))
    assert described[0][0].height == described[0][1]["documents"] == 24
