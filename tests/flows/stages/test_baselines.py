"""The figures of compressors that a model is compared with, on folders of the clean stage."""

import math
import random
from pathlib import Path

import numpy as np
import polars as pl
import pyppmd
import pytest

from flows.stages import baselines
from flows.stages.baselines import BETWEEN, MEMORY, ORDERS, PPMD, best_ppmd, over_ppmd
from flows.stages.documents import read_texts
from gpt.data import dataset
from gpt.data.shards import Documents

WORDS = [
    "the",
    "river",
    "bends",
    "and",
    "old",
    "bridge",
    "waits",
    "for",
    "rain",
    "while",
    "miller",
    "counts",
    "sacks",
    "of",
    "barley",
]


def cleaned(folder: Path, train: list[str], val: list[str]) -> Path:
    """A folder as the clean stage leaves it."""
    texts, splits = [*train, *val], ["train"] * len(train) + ["val"] * len(val)
    frame = pl.DataFrame({"doc_id": [f"{n:032}" for n in range(len(texts))], "text": texts, "split": splits})
    frame = frame.with_columns(n_bytes=pl.col("text").str.len_bytes(), source_file=pl.lit("a"), source_row=pl.lit(0))
    (folder / "documents").mkdir()
    frame.write_parquet(folder / "documents" / "00000.parquet")
    return folder


def written(seed: int, documents: int, words: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(words)) for _ in range(documents)]


def size(order: int, *texts: bytes) -> int:
    encoder = pyppmd.Ppmd8Encoder(order, MEMORY, pyppmd.PPMD8_RESTORE_METHOD_CUT_OFF)
    return sum(len(encoder.encode(text)) for text in texts) + len(encoder.flush())


def test_ppmd_has_read_the_training_text_and_pays_for_no_end_of_a_document(tmp_path):
    """Against whole compressed sizes: of both texts without the training text's, and with the line ends between documents."""
    train, val = written(1, 60, 200), written(2, 40, 100)
    of_each, order = best_ppmd(cleaned(tmp_path, train, val), "val")
    found = sum(of_each)
    known, held_out = BETWEEN.join(text.encode() for text in train), [text.encode() for text in val]
    alone = size(order, BETWEEN.join(held_out))
    both = size(order, known, *(BETWEEN + text for text in held_out)) - size(order, known)
    ends = 2 * len(val)  # bytes: a line end is foreseen about as well as a word
    assert both - ends < found < both < alone
    assert 8 * found == pytest.approx(math.log2(len(WORDS)) * 100 * len(val), rel=0.15)  # the entropy of the draw


def test_the_best_order_is_taken_however_much_of_the_text_it_is_chosen_by(tmp_path, monkeypatch):
    """Sentences that come again whole are foreseen by what stands far before."""
    sentences, draw = written(3, 40, 9), random.Random(4)
    texts = [" ".join(draw.choice(sentences) for _ in range(12)) for _ in range(80)]
    folder = cleaned(tmp_path, texts[:60], texts[60:])
    of_each, order = best_ppmd(folder, "val")
    found = sum(of_each)
    monkeypatch.setattr(baselines, "ORDERS", (4,))
    assert order > 4
    assert found < sum(best_ppmd(folder, "val")[0])
    monkeypatch.setattr(baselines, "ORDERS", ORDERS)
    monkeypatch.setattr(baselines, "HELD_OUT_BYTES", 1)  # one document
    again, order = best_ppmd(folder, "val")
    assert sum(again) == pytest.approx(found, rel=0.1)  # of all of them all the same
    monkeypatch.setattr(baselines, "READ_BYTES", 1)
    assert sum(best_ppmd(folder, "val")[0]) > 1.2 * found


def test_only_the_first_texts_are_read(tmp_path):
    folder = cleaned(tmp_path, ["ab", "cde", "f", "g"], ["h"])
    assert [list(read_texts(folder, "train", limit)) for limit in (0, 1, 2, 3, 99)] == [
        [], ["ab"], ["ab"], ["ab", "cde"], ["ab", "cde", "f", "g"],
    ]  # fmt: skip


def test_the_interval_over_ppmd_is_of_the_differences_document_by_document(tmp_path):
    """However much the documents differ, a model that needs a tenth more of each is surely worse."""
    sizes = np.random.default_rng(1).integers(30, 3000, 40)

    def over(times: np.ndarray) -> list[float] | None:
        """Of a model that needs so many times PPMd's bytes for each document."""
        n, packed = len(times), tmp_path / f"{len(times)}"
        names, of_each = [f"{number:032}" for number in range(n)], sizes[:n]
        rows = [Documents(names, np.full(4 * n, 5), np.full(n, 4), 4 * of_each, ["a"] * n, np.arange(n))]
        dataset.write(packed, dict.fromkeys(dataset.SPLITS, rows), dataset.Description(9, 2, 1, 1, "any"))
        np.save(packed / PPMD, of_each)
        np.save(tmp_path / "nats.npy", times * 8 * math.log(2) * of_each)
        return over_ppmd(tmp_path / "nats.npy", packed, "test")

    value, low, high = over(np.full(40, 1.1))
    assert value == pytest.approx(0.2) == pytest.approx(low) == pytest.approx(high)  # PPMd has 2 bits per byte
    value, low, high = over(np.random.default_rng(2).normal(1, 0.3, 40))
    assert low < 0 < high
    assert over(np.ones(1)) is None
