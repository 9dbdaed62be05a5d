"""The contracts: a bad frame fails, a lazy one too."""

import pickle

import polars as pl
import pytest

from data_contracts import DataError, corpora
from data_contracts.clean.judge import DROP_RULES, OTHER_REASONS
from data_contracts.clean.measures import measure
from data_contracts.contracts import COLUMNS, Documents, Rejects, check, raw_rows

GOOD = {
    "doc_id": ["0" * 32, "1" * 32],
    "text": ["é", "ab"],
    "split": ["train", "val"],
    "place": ["0" * 32, "0" * 32],
    "source_file": ["a.txt", "b.csv"],
    "source_row": [0, 7],
    "metadata": ["{}", "{}"],
} | measure(pl.Series(["é", "ab"])).to_dict()
REJECT = {"text": ["x"], "source_file": ["a"], "source_row": [0], "metadata": ["{}"], "reason": ["empty"]}
BAD = {
    "an id twice": ({"doc_id": ["0" * 32] * 2}, "doc_id: field_uniqueness"),
    "an id of another kind": ({"doc_id": ["0" * 32, "x"]}, "doc_id"),
    "an empty text": ({"text": ["é", ""]}, "text: str_length"),
    "no text": ({"text": ["é", None]}, "text: not_nullable"),
    "bytes that are characters": ({"n_bytes": [1, 2]}, "lengths_are_those_of_the_text"),
    "a wrong length": ({"n_chars": [1, 3]}, "lengths_are_those_of_the_text"),
    "a fourth split": ({"split": ["train", "dev"]}, "split"),
    "a negative row": ({"source_row": [0, -1]}, "source_row"),
    "a wrong type": ({"source_row": ["0", "1"]}, "source_row: dtype"),
    "a share above one": ({"letter_words": pl.Series([0.5, 1.5], dtype=pl.Float32)}, "letter_words"),
    "no measure": ({"stop_words": [0, None]}, "stop_words: not_nullable"),
    "one column more": ({"label": [1, 2]}, "column_in_schema"),
}


def test_good_frames_come_back_as_they_are():
    frame = pl.LazyFrame(GOOD)
    assert check(frame, Documents) is frame
    assert check(frame.collect(), Documents).equals(pl.DataFrame(GOOD))


@pytest.mark.parametrize("kind", [pl.LazyFrame, pl.DataFrame])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_fails_lazy_or_not(name, kind):
    change, said = BAD[name]
    with pytest.raises(DataError, match=said):
        check(kind(GOOD | change), Documents)


def test_every_broken_rule_is_said_with_file_and_row():
    frame = pl.LazyFrame(GOOD | {"text": ["é", ""], "split": ["train", "dev"]})
    with pytest.raises(DataError) as error:
        check(frame, Documents, "documents of mine")
    message = str(error.value)
    assert message.startswith("documents of mine breaks its contract: ")
    assert "text: str_length" in message
    assert "split: isin" in message
    assert "b.csv row 7  split = 'dev'" in message


def test_a_missing_column_lists_those_found():
    with pytest.raises(DataError, match=r"Documents: no column 'split'; found 'doc_id', 'text'"):
        check(pl.LazyFrame(GOOD).drop("split"), Documents)


def test_a_reject_needs_a_reason_and_may_lack_measures():
    unmeasured = pl.DataFrame({name: [None] for name in COLUMNS}, schema=COLUMNS)
    for measures in (unmeasured, measure(pl.Series(["x"]))):
        row = pl.DataFrame(REJECT).hstack(measures)
        check(row.lazy(), Rejects)
        for reason in (None, "", "Too short"):
            with pytest.raises(DataError, match="reason"):
                check(row.with_columns(reason=pl.lit(reason, pl.String)).lazy(), Rejects)


def test_every_reason_that_there_is_fits_the_contract():
    modules = [corpora.find(name) for name in [*corpora.names(), "my own"]]
    own = {name for module in modules for name in getattr(module, "REASONS", ())}
    known = [rule.name for rule in DROP_RULES] + list(OTHER_REASONS)
    assert len(set(known)) == len(known)
    assert not own & set(known)
    rows = pl.DataFrame({"reason": [*known, *sorted(own)]}).join(pl.DataFrame(REJECT).drop("reason"), how="cross")
    check(rows.hstack(measure(rows["text"])).lazy(), Rejects)


def test_the_first_broken_rows_are_shown():
    rows = [n if n % 2 else -n for n in range(1, 121)]
    with pytest.raises(DataError) as error:
        check(pl.LazyFrame({"source_file": ["b.csv"] * 120, "source_row": rows}), raw_rows(), "rows")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    assert str(error.value).count("\n  b.csv row -") == 5
