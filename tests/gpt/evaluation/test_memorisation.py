import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.evaluation import memorisation
from gpt.evaluation.memorisation import overlaps, repeated_share

LETTERS = st.text("ab\U0001f642", max_size=24)


def brute_force(samples, documents):
    """Length of the longest stretch, by looking for every stretch in every document."""
    for sample in samples:
        stretches = (sample[start:end] for start in range(len(sample)) for end in range(start + 1, len(sample) + 1))
        yield max((len(one) for one in stretches if any(one in document for document in documents)), default=0)


@settings(deadline=None, max_examples=300)
@given(st.lists(LETTERS, max_size=5), st.lists(LETTERS, max_size=6), st.sampled_from([1, 5, 64]))
def test_text_gets_what_brute_force_gets(samples, documents, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorisation, "BLOCK", block)  # documents straddle blocks, and blocks hold several documents
        found = overlaps(samples, iter(documents))
    assert [*map(len, found)] == [*brute_force(samples, documents)]
    for one, sample in zip(found, samples, strict=True):
        assert one in sample
        assert not one or any(one in document for document in documents)


def test_a_long_copy_among_noise_is_found_whole_wherever_blocks_end(monkeypatch):
    draw = np.random.default_rng(0)
    document = "".join(map(chr, draw.integers(97, 123, 60_000)))
    copy = document[31_000:31_777]
    samples = ["0" * 50 + copy + "1" * 50, copy[:400] + "|" + copy[400:], "", "0123"]
    for block in (1, 1000, 31_400, 1 << 20):
        monkeypatch.setattr(memorisation, "BLOCK", max(block, 500))
        assert overlaps(samples, ["short", document, "other"]) == [copy, copy[:400], "", ""]


def test_a_stretch_does_not_run_from_one_document_into_the_next():
    assert overlaps(["abcdef"], ["xabc", "defx"]) == ["abc"]
    assert overlaps(["abc\U0010ffffdef"], ["xabc", "defx"]) == ["abc"]


def test_anagrams_are_no_overlap():
    """Windows are the same only if their symbols are, in order."""
    assert overlaps(["tars live", "evil"], ["rats evil", "star"]) == ["tar", "evil"]


def test_memory_is_that_of_the_samples_and_a_block(monkeypatch):
    """A stream a hundred times a block passes through without being kept."""
    tracemalloc = pytest.importorskip("tracemalloc")
    monkeypatch.setattr(memorisation, "BLOCK", 1 << 12)
    draw = np.random.default_rng(1)
    stream = ("".join(map(chr, draw.integers(40, 90, 4000))) for _ in range(100))
    overlaps(["1"], ["1"])  # numpy imports parts of itself on their first use
    tracemalloc.start()
    overlaps(["".join(map(chr, draw.integers(40, 90, 200)))], stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_it_is_quick_enough_for_a_corpus():
    """5 MB in a second or so on one busy core; a loop over characters takes minutes. Here with room for a slow machine."""
    draw = np.random.default_rng(2)
    words = ["".join(map(chr, draw.integers(97, 123, n))) for n in draw.integers(2, 9, 3000)]
    ranks = draw.zipf(1.3, 1_000_000) % 3000
    text = " ".join(words[rank] for rank in ranks)
    samples = [" ".join(words[rank] for rank in draw.zipf(1.3, 200) % 3000) for _ in range(20)]
    started = time.perf_counter()
    found = overlaps(samples, (text[n : n + 5000] for n in range(0, len(text), 5000)))
    assert time.perf_counter() - started < 30
    assert all(20 < len(one) < 300 for one in found)


def test_nothing_overlaps_with_nothing():
    assert overlaps([], ["text"]) == []
    assert overlaps(["text", ""], []) == ["", ""]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(LETTERS, min_size=1, max_size=5),
    st.lists(LETTERS, max_size=6),
    st.integers(1, 7),
    st.sampled_from([1, 5, 64]),
)
def test_the_repeated_share_is_what_brute_force_gets(texts, documents, width, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorisation, "BLOCK", block)
        found = repeated_share(texts, iter(documents), width)
    covered = total = 0
    for text in texts:
        places = {
            place
            for start in range(len(text) - width + 1)
            if any(text[start : start + width] in document for document in documents)
            for place in range(start, start + width)
        }
        covered += sum(len(text[place].encode()) for place in places)
        total += len(text.encode())
    assert found == covered / max(1, total)


def test_the_repeated_share_is_of_bytes():
    copied, new = "Ünïcödé über alles, und noch einmal fünfzig Zeichen lang ", "0123456789" * 9
    texts = [copied + "|" + new, "short"]
    share = len(copied.encode()) / sum(len(text.encode()) for text in texts)
    assert repeated_share(texts, ["x" + copied + "y", new[:49], new[49:]], 50) == share


def test_windows_that_share_a_hash_are_compared(monkeypatch):
    hashes = memorisation._Windows.hashes
    monkeypatch.setattr(memorisation._Windows, "hashes", lambda self, width: hashes(self, 1)[: self.size - width + 1])
    assert repeated_share(["abc"], ["abx", "axc"], 3) == 0.0
    assert repeated_share(["abc"], ["abx", "zabcd"], 3) == 1.0


def test_the_repeated_share_of_megabytes_takes_seconds(monkeypatch):
    """Every window of 3 MB of held-out text is looked for in 10 MB; a loop over places takes minutes."""
    draw = np.random.default_rng(3)
    text = draw.integers(97, 101, 10_000_000, np.uint8).tobytes().decode()
    documents = [text[n : n + 5000] for n in range(0, len(text), 5000)]
    texts = [text[n : n + 1500] + "." + "e" * 1499 for n in range(0, len(text), 10_000)]  # half of each is a copy
    started = time.perf_counter()
    assert repeated_share(texts, documents, 50) == pytest.approx(0.5, abs=0.01)
    assert time.perf_counter() - started < 60
