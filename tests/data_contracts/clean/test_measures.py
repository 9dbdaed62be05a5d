"""Measures equal those of plain Python, a text at a time; they depend neither on other texts nor on how blocks are cut."""

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.clean import measures
from data_contracts.clean.measures import COLUMNS, NGRAM, STOP_WORDS, blocks, measure
from data_contracts.corpora import qanon, rick_and_morty, wiki
from tests.data_contracts.rows import documents

REAL = {
    wiki: "kaggle/ltcmdrdata/plain-text-wikipedia-202011",
    qanon: "kaggle/jkingsman/qanondrops",
    rick_and_morty: "kaggle/andradaolteanu/rickmorty-scripts",
}


def known_by(word: str) -> tuple[int, bytes, bytes]:
    """What is left of a word: of more than 16 bytes the middle is not looked at, so two such words may be taken for one."""
    raw = word.encode()
    return len(raw), raw[:8], raw[-8:]


def has_letter(word: str) -> bool:
    _, head, tail = known_by(word)
    return any(byte >= 128 or chr(byte).isalpha() for byte in head + tail)


def repeats(values: list) -> int:
    return len(values) - len(set(values))


def plain(text: str) -> dict:
    """COLUMNS of one text, word by word."""
    words = re.findall(r"[^\x00-\x20]+", text)
    lines = [sorted(map(known_by, found)) for line in text.split("\n") if (found := re.findall(r"[^\x00-\x20]+", line))]
    grams = [tuple(map(known_by, words[i : i + NGRAM])) for i in range(len(words) - NGRAM + 1)]
    n = max(1, len(words))
    return {
        "n_chars": len(text),
        "n_bytes": len(text.encode()),
        "n_words": len(words),
        "word_chars": sum(map(len, words)) / n,
        "letter_words": sum(map(has_letter, words)) / n,
        "symbols": len(re.findall(r"#|\.\.\.|…", text)) / n,
        "stop_words": sum(f" {word} " in text for word in STOP_WORDS),
        "repeated_lines": repeats([tuple(line) for line in lines]) / max(1, len(lines)),
        "repeated_ngrams": repeats(grams) / max(1, len(grams)),
    }


def assert_as_plain(texts: list[str]) -> None:
    expected = pl.DataFrame([plain(text) for text in texts], schema=COLUMNS)
    found = measure(pl.Series(texts, dtype=pl.String))
    assert found.schema == pl.Schema(COLUMNS)
    assert found.equals(expected), found.with_row_index().join(
        expected.with_row_index(), on=[*COLUMNS, "index"], how="anti"
    )


WORDS = ("a", "the", "of", "Of", "12", "#", "...", "…", "é", "ÄÖ", "@[`{", "漢字", "😀", "\u00a0", "\u2003x", "fifteen-letters",
         "sixteen--letters", "eight--8", "nine----9", "\x7f", "-1.5%")  # fmt: skip
words = st.sampled_from(WORDS) | st.text(min_size=1, max_size=9)
made_of_words = st.lists(st.tuples(words, st.sampled_from([" ", "  ", "\n", "\n\n", "\t", ""])), max_size=40).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(made_of_words | st.just(""), max_size=8), st.sampled_from([1, 20, 64, 1 << 18]))
def test_as_plain_python_has_it_wherever_blocks_are_cut(texts, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "BLOCK_BYTES", block_bytes)
        assert_as_plain(texts)


@pytest.mark.parametrize("corpus", REAL, ids=lambda corpus: corpus.__name__.rsplit(".")[-1])
def test_as_plain_python_has_it_on_real_texts(shared_data, corpus):
    raw = documents(corpus, shared_data / REAL[corpus])["text"].to_list()
    assert_as_plain(raw[:: 1 + sum(map(len, raw)) // 1_000_000])


def test_no_text_one_text_and_only_empty_ones():
    for texts in ([], [""], ["a"], ["", "", ""], [" \n\t"], ["\n"], ["", "a b\na b", ""]):
        assert_as_plain(texts)


def test_a_text_larger_than_a_block_and_neighbours_that_end_with_it():
    long = "the mill of the river\n" * 20_000
    assert len(long) > measures.BLOCK_BYTES
    assert_as_plain(["a b c d e", long, "a b c d e", "", long[: measures.BLOCK_BYTES], "a b c d e"])


def test_words_of_much_the_same_letters_are_kept_apart():
    """Every pair of short numbers a line, and every sequence of two words: what a weak sum would take for repeats."""
    pairs = "\n".join(f"{i} {j}" for i in range(120) for j in range(i))
    sequences = " ".join(f"{number:014b}".replace("0", "a ").replace("1", "b ") for number in range(1 << 14))
    assert measure(pl.Series([pairs]))["repeated_lines"].item() == 0
    assert_as_plain([pairs, sequences, *("" for _ in range(1000)), "aa dd\nab dc\nba cd"])


def test_repeats_are_those_of_a_text_itself():
    line = "one two three four five six"
    found = measure(pl.Series([line, line, f"{line}\n{line}", f"{line}\nsix five four three two one"]))
    assert found["repeated_lines"].to_list() == [0, 0, 0.5, 0.5]  # the words of a line, in whatever order
    assert found["repeated_ngrams"].to_list() == pytest.approx([0, 0, 2 / 8, 0])


def test_a_letter_in_a_word_is_seen_for_every_byte():
    every = [chr(number) for number in range(33, 128)]
    found = measure(pl.Series([f"1{char}2" for char in every] + [f"{'1' * 20}{char}" for char in every]))[
        "letter_words"
    ]
    assert found.to_list() == [float(char.isalpha()) for char in every] * 2


def test_long_words_that_differ_only_in_the_middle_are_taken_for_one():
    """The price of whole numbers for words: known, and small where texts are language."""
    assert measure(pl.Series(["abcdefgh-1-abcdefgh\nabcdefgh-2-abcdefgh"]))["repeated_lines"].item() == 0.5
    assert measure(pl.Series(["abcdefgh1abcdefg\nabcdefgh2abcdefg"]))["repeated_lines"].item() == 0


def test_blocks_hold_every_text_once_in_order():
    texts = pl.Series([f"text {number}" * (number % 7) for number in range(5000)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "BLOCK_BYTES", 1000)
        found = list(blocks(texts))
    assert len(found) > 50
    held = b"\n".join(block.data[measures.PAD + 1 : -measures.PAD - 1].tobytes() for block in found)
    assert held.decode().split("\n") == texts.to_list()


def test_the_example_in_the_docstring():
    [block] = blocks(pl.Series(["Hi you", "a\nb"]))
    assert block.data.tobytes() == b" " * 8 + b"\nHi you\na\nb\n" + b" " * 8
    assert block.starts.tolist() == [9, 12, 16, 18]
    assert block.ends.tolist() == [11, 15, 17, 19]
    assert block.first.tolist() == [0, 2, 4]
    head = int.from_bytes(block.data[9:17].tobytes(), "little")
    assert head == 0x610A_756F_7920_6948
    assert (head << 48) % 2**64 >> 48 == 0x6948
