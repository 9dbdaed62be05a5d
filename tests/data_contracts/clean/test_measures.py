"""Measures equal those of plain Python, a text at a time; they depend neither on other texts nor on how blocks are cut."""

import re
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.clean import measures
from data_contracts.clean.measures import COLUMNS, STOP_WORDS, blocks, measure
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


UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"[{UNSPACED}]|[^\x00-\x20{UNSPACED}]+")


def share(part: float, whole: float, plus: float = 0.0) -> float:
    return min(part / whole + plus, 1) if part else 0.0


def repeated(units: list[list[str]]) -> float:
    """Of lines or paragraphs, as lists of words: Gopher's share that repeats an earlier one, or that of characters + 0.1."""
    seen, again = [], []
    for unit in units:
        known = [known_by(word) for word in unit]
        again += [unit] * (known in seen)
        seen.append(known)
    chars = [sum(len(word) for unit in some for word in unit) for some in (again, units)]
    return max(share(len(again), len(units)), share(chars[0], chars[1], 0.1)) if again else 0.0


def top(words: list[str], n: int) -> float:
    """Gopher's share of characters within the most frequent sequence of n words; of two as frequent the longer one."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    counts = Counter(tuple(map(known_by, gram)) for gram in grams)
    found = [(counts[tuple(map(known_by, gram))], sum(map(len, gram))) for gram in grams]
    times, chars = max(found, default=(0, 0))
    return share(times * chars if times > 1 else 0, sum(map(len, words)) or 1, 0.02 * (n - 2))


def duplicate(words: list[str], n: int) -> float:
    """Gopher's share of characters within sequences of n words that repeat an earlier one, each character once."""
    seen, covered = set(), set()
    for i in range(len(words) - n + 1):
        gram = tuple(map(known_by, words[i : i + n]))
        covered |= set(range(i, i + n)) if gram in seen else set()
        seen.add(gram)
    return share(sum(len(words[i]) for i in covered), sum(map(len, words)) or 1, 0.01 * (n - 5))


def plain(text: str) -> dict:
    """COLUMNS of one text, word by word."""
    words = WORD.findall(text)
    lines = [line for line in text.split("\n") if WORD.search(line)]
    paragraphs, blank = [], True
    for line in text.split("\n"):
        if found := WORD.findall(line):
            paragraphs += [[]] * blank
            paragraphs[-1] = [*paragraphs[-1], *found]
        blank = not found
    n = max(1, len(words))
    return {
        "n_chars": len(text),
        "n_bytes": len(text.encode()),
        "n_words": len(words),
        "word_chars": sum(map(len, words)) / n,
        "letter_words": sum(map(has_letter, words)) / n,
        "symbols": max(text.count("#"), len(re.findall(r"\.\.\.|…", text))) / n,
        "bullets": sum(bool(re.match(r"[\x00-\x20]*[-*•‣▪◦–]", line)) for line in lines) / max(1, len(lines)),
        "ellipses": sum(bool(re.search(r"(?:\.\.\.|…)[\x00-\x20]*\Z", line)) for line in lines) / max(1, len(lines)),
        "stop_words": sum(bool(re.search(rf"(?i)\b{word}\b", text)) for word in STOP_WORDS),
        "repeated_lines": repeated([WORD.findall(line) for line in lines]),
        "repeated_paragraphs": repeated(paragraphs),
        "top_ngrams": max(top(words, size) for size in (2, 3, 4)),
        "repeated_ngrams": max(duplicate(words, size) for size in range(5, 11)),
    }


def assert_as_plain(texts: list[str]) -> None:
    expected = pl.DataFrame([plain(text) for text in texts], schema=COLUMNS)
    found = measure(pl.Series(texts, dtype=pl.String))
    assert found.schema == pl.Schema(COLUMNS)
    for name in COLUMNS:
        assert found[name].to_list() == pytest.approx(expected[name].to_list(), rel=1e-6), name


WORDS = ("a", "the", "of", "Of", "12", "#", "...", "…", "é", "ÄÖ", "@[`{", "漢字", "漢", "ไทย字x", "😀", "•", "-", "a...",
          "\u00a0", "\u2003x", "fifteen-letters",
         "sixteen--letters", "eight--8", "nine----9", "\x7f", "-1.5%")  # fmt: skip
# Whether a superscript, a circled letter or a mark is part of a word, regular expressions of Python and Rust do not agree.
LETTERS = st.characters(exclude_categories=["Cs", "No", "Nl", "So", "Mn", "Mc", "Me"])
words = st.sampled_from(WORDS) | st.text(LETTERS, min_size=1, max_size=9)
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
    assert_as_plain(raw[:: 1 + sum(map(len, raw)) // 120_000])


def test_no_text_one_text_and_only_empty_ones():
    for texts in ([], [""], ["a"], ["", "", ""], [" \n\t"], ["\n"], ["", "a b\na b", ""]):
        assert_as_plain(texts)


def test_a_text_larger_than_a_block_and_neighbours_that_end_with_it():
    long = "the mill of the river " * 200
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "BLOCK_BYTES", 1000)
        assert_as_plain(["a b c d e", long, "a b c d e", "", long[:1000], "a b c d e"])


def test_words_of_much_the_same_letters_are_kept_apart():
    """Every pair of short numbers a line, and every sequence of two words: what a weak sum would take for repeats."""
    pairs = "\n".join(f"{i} {j}" for i in range(50) for j in range(50))
    sequences = " ".join(f"{number:08b}".replace("0", "a ").replace("1", "b ") for number in range(1 << 8))
    assert measure(pl.Series([pairs]))["repeated_lines"].item() == 0
    assert_as_plain([pairs, sequences, *("" for _ in range(1000)), "aa dd\nab dc\nba cd"])


def test_repeats_are_those_of_a_text_itself():
    line = "one two three four five six"
    found = measure(pl.Series([line, line, f"{line}\n{line}", f"{line}\nsix five four three two one"]))
    assert found["repeated_lines"].to_list() == pytest.approx(
        [0, 0, 0.6, 0]
    )  # one of two lines, half of the characters + 0.1
    assert found["repeated_ngrams"].to_list() == pytest.approx([0, 0, 0.51, 0])  # within sequences of 6 words, + 0.01


@pytest.mark.parametrize(
    ("text", "n_words"),
    [
        ("今天天气很好", 6),
        ("วันนี้อากาศดี", 13),
        ("今日はiPhone を買った。", 9),
        ("오늘 날씨", 2),
        ("привет мир", 2),
        ("don't stop", 2),
    ],
    ids=["Chinese", "Thai", "Japanese", "Korean", "Russian", "English"],
)
def test_words_by_script(text, n_words):
    """Where no spaces stand between words, each character is one."""
    assert measure(pl.Series([text]))["n_words"].item() == n_words


@pytest.mark.parametrize("text", ["The mill (of it).", "TO BE: the\nof", "bet they're «the» 2", "thé bé withé"])
def test_stop_words_stand_at_any_boundary(text):
    assert measure(pl.Series([text]))["stop_words"].item() == plain(text)["stop_words"]
    assert measure(pl.Series(["The mill (of it)."]))["stop_words"].item() == 2


def test_a_letter_in_a_word_is_seen_for_every_byte():
    every = [chr(number) for number in range(33, 128)]
    found = measure(pl.Series([f"1{char}2" for char in every] + [f"{'1' * 20}{char}" for char in every]))[
        "letter_words"
    ]
    assert found.to_list() == [float(char.isalpha()) for char in every] * 2


def test_long_words_that_differ_only_in_the_middle_are_taken_for_one():
    """The price of whole numbers for words: known, and small where texts are language."""
    assert measure(pl.Series(["abcdefgh-1-abcdefgh\nabcdefgh-2-abcdefgh"]))["repeated_lines"].item() > 0.5
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
