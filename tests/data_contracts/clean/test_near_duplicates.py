"""Near copies: a signature is the text's own, alike texts meet in a bucket as often as theory says, groups are connected."""

import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.clean import measures, near_duplicates
from data_contracts.clean.measures import NGRAM
from data_contracts.clean.near_duplicates import BUCKET_NAMES, BUCKETS, HASHES, groups, signatures


def together(texts: list[str]) -> list[int]:
    """For each text the number of the first of its group."""
    found = signatures(pl.Series(texts))
    return groups(lambda: found.iter_columns(), len(texts)).tolist()


def grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def spell(number: int) -> str:
    """A word for a number: digits are all the same to a signature."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def alike(count: int, changed_words: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of texts of 200 words; the second has some other words, far enough apart to change NGRAM sequences each."""
    draw, pairs = random.Random(seed), []
    for _ in range(count):
        words = [spell(draw.randrange(10**6)) for _ in range(200)]
        other = list(words)
        for place in range(changed_words):
            other[5 + place * (195 // max(1, changed_words))] = "x" + spell(draw.randrange(10**6))
        pairs.append((" ".join(words), " ".join(other)))
    return pairs


@pytest.mark.parametrize(
    ("changed_words", "low", "high"), [(0, 1, 1), (2, 0.98, 1), (5, 0.8, 1), (14, 0, 0.15), (40, 0, 0)]
)
def test_alike_texts_are_found_as_often_as_theory_says(changed_words, low, high):
    pairs = alike(300, changed_words, seed=changed_words)
    shared = [len(grams(a) & grams(b)) / len(grams(a) | grams(b)) for a, b in pairs]
    theory = np.mean([1 - (1 - share**HASHES) ** BUCKETS for share in shared])
    found = together([text for pair in pairs for text in pair])
    share = np.mean([found[i] == found[i + 1] for i in range(0, len(found), 2)])
    assert low <= share <= high
    assert abs(share - theory) < 0.09  # 3 standard deviations of 300 draws, at the most
    assert [found[i] for i in range(0, len(found), 2)] == list(range(0, len(found), 2))  # no pair met another


def test_alike_in_nine_tenths_is_alike():
    """The promise, in figures: which number of changed words it means."""
    (a, b), *_ = alike(1, 2, seed=0)
    assert len(grams(a) & grams(b)) / len(grams(a) | grams(b)) > 0.9


WORDS = ["the", "River", "OLD", "bridge", "é", "Ä", "漢字", "12", "...", "sixteen--letters", "twenty-one-letters-xx"]
words = st.lists(st.sampled_from(WORDS), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(words.map(" ".join), min_size=1, max_size=12), st.sampled_from([1, 50, 1 << 18]))
def test_a_signature_knows_nothing_of_other_texts_and_blocks(texts, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "BLOCK_BYTES", block_bytes)
        at_once = signatures(pl.Series(texts))
    alone = pl.concat([signatures(pl.Series([text])) for text in texts])
    assert at_once.schema == pl.Schema(dict.fromkeys(BUCKET_NAMES, pl.UInt64))
    assert at_once.equals(alone)


def test_no_texts_have_no_signatures():
    assert signatures(pl.Series([], dtype=pl.String)).shape == (0, BUCKETS)
    assert groups(lambda: signatures(pl.Series([], dtype=pl.String)).iter_columns(), 0).tolist() == []


def test_case_and_spaces_do_not_matter_and_the_end_of_a_long_text_neither():
    text = "The River bends and the old BRIDGE waits for rain"
    other = "Zoë an der Spree: 17.5 Grad, 3 Boote"
    same = [other.upper(), "ZOE AN DER SPREE 9 Grad... 12 Boote!", "zoe\u0308 an “der” Spree — 1,000 Grad 4 Boote"]
    assert together([text, text.upper(), text.replace(" ", "\n  "), other, *same]) == [0, 0, 0, 3, 3, 3, 3]
    long = " ".join(f"word{spell(number)}" for number in range(3000))
    assert len(long) > 2 * near_duplicates.SIGNED_CHARS
    assert together([long, long[: near_duplicates.SIGNED_CHARS] + " and so on", long[5000:]]) == [0, 0, 2]


def test_texts_too_short_for_a_sequence_are_compared_exactly():
    texts = ["dog bites man", "man bites dog", "GME 420", "GME 69", "one", "One", "?", "!", "今天天气", "今天天好"]
    assert together([*texts, *texts]) == [*range(len(texts))] * 2
    assert together(["one two three four five", "one two three four six"]) == [0, 1]


def test_texts_in_a_script_without_spaces_are_compared_by_their_characters():
    one, half, most = (
        "今天的天气非常好我们去公园散步吧",
        "今天的天气非常坏我们留在家里看书",
        "我们昨天在公园里散步，今天的天气非常好我们去公园散步吧",
    )
    assert together([one, half, one + "。", most]) == [0, 1, 0, 3]


def test_groups_are_all_that_is_connected_also_by_a_chain_over_passes():
    """Each text shares one bucket with the next; the buckets come in the order that needs most passes."""
    n = 40
    links = [(i, i + 1) for i in range(n - 1)]
    columns = []
    for a, b in links:
        column = np.arange(1000, 1000 + n, dtype=np.uint64)
        column[b] = column[a]
        columns.append(pl.Series(column))
    passes = 0

    def backwards():
        nonlocal passes
        passes += 1
        return reversed(columns)

    assert groups(backwards, n).tolist() == [0] * n
    assert passes > 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=1, max_size=40))
def test_groups_are_those_of_a_plain_search(rows):
    first = list(range(len(rows)))
    for start in range(len(rows)):
        if first[start] == start:
            reached = [start]
            for i in reached:
                reached += [j for j in range(len(rows)) if j not in reached and any(map(int.__eq__, rows[i], rows[j]))]
            for i in reached:
                first[i] = start
    columns = [pl.Series(column, dtype=pl.UInt64) for column in zip(*rows, strict=True)]
    assert groups(lambda: columns, len(rows)).tolist() == first
