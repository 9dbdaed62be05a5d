"""Cutting: parts put together are the text, and none is much longer than asked."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.clean.cut import cut


def texts(*values: str, metadata: str = "{}") -> pl.LazyFrame:
    return pl.LazyFrame({"text": values, "source_row": range(len(values)), "metadata": [metadata] * len(values)})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab é\n\n", max_size=400), min_size=1, max_size=5), st.integers(1, 120))
def test_parts_put_together_are_the_text(values, limit):
    cut_up = texts(*values).pipe(cut, limit).collect()
    together = cut_up.group_by("source_row", maintain_order=True).agg(pl.col("text").str.join())
    assert together["text"].to_list() == values
    assert together["source_row"].to_list() == list(range(len(values)))


def test_parts_end_where_lines_end_and_are_of_about_equal_length():
    book = "".join(f"line {number:04d} of a book\n" for number in range(1000))
    cut_up = texts("short", book, metadata='{"title":"Book"}').pipe(cut, 1000).collect()
    assert cut_up["text"][0] == "short"
    assert json.loads(cut_up["metadata"][0]) == {"title": "Book"}
    parts = cut_up["text"][1:]
    assert len(parts) == 20
    assert parts.str.ends_with("\n").all()
    assert parts.str.len_chars().min() > 900
    assert parts.str.len_chars().max() <= 1000 + 20
    assert [json.loads(about) for about in cut_up["metadata"][1:3]] == [
        {"title": "Book", "part": part, "parts": 20} for part in (1, 2)
    ]


def test_a_line_that_is_too_long_is_cut_between_words_and_a_longer_word_anywhere():
    line, word = "word " * 100, "x" * 500
    parts = texts(line, word).pipe(cut, 100).collect()["text"].to_list()
    assert parts == ["word " * 20] * 5 + ["x" * 100] * 5


@pytest.mark.parametrize(
    "sentence",
    [
        "It is 3.14 or so. ",
        "天地玄黄宇宙洪荒日月盈昃。",
        "本当に「静かだ。」",
        "هل هذا صحيح؟ ",
        "यह नदी है। ",
        'He said "no." ',
    ],
)
def test_a_text_without_line_ends_is_cut_where_sentences_end(sentence):
    parts = texts(sentence * 100).pipe(cut, 200).collect()["text"]
    assert parts.str.ends_with(sentence).all()
    assert parts.str.starts_with(sentence).all()
    assert parts.str.len_chars().max() <= 200 + len(sentence)
    assert parts.str.join().item() == sentence * 100


def test_limit_0_cuts_nothing():
    frame = texts("a\n" * 1000)
    assert cut(frame, 0) is frame
