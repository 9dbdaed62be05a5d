"""Bits per byte that can be trusted: the traps that others fell into, on text that is hostile to careless tokenizers.

The traps are those of published trainers: a space without a piece of its own; the space before a document's first word; pieces
that are parts of characters, decoded one by one; text that the tokenizer normalises; a first token that nothing stands before.
"""

import hashlib
import itertools
import random
import unicodedata
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_contracts.clean import clean_corpus
from data_contracts.rules import Rules
from flows.evaluation import scoring
from flows.store.artifacts import to_artifact
from gpt.data.dataset import IGNORE, Dataset, Description, write
from gpt.data.shards import Documents
from gpt.evaluation import baselines
from tokenizers.config import SPACE_SYMBOL
from tokenizers.tokenizer import ROUND_TRIP_TEXTS, Tokenizer
from tokenizers.training import TokenizerConfig, train

TYPES = ("bpe", "unigram", "char")
HOSTILE = [
    *(text for text in ROUND_TRIP_TEXTS if text),
    "nospacesatall" * 5,
    "日本語のテキスト。" * 9,
    "e\u0301" * 30,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 7,
    " a leading space",
    "a leading letter",
]


def packed(folder, texts, model_type, fit_on=None, **changes):
    """A dataset and its tokenizer, by the same steps as the stages tokenize and pack."""
    folder.mkdir()
    fit_on = fit_on or texts
    train(fit_on, sum(len(text.encode()) for text in fit_on), folder, TokenizerConfig(model_type, **changes))
    tokenizer = Tokenizer(folder / "tokenizer.model")
    ids, lengths = tokenizer.encode_flat(texts)
    n_bytes = np.array([len(text.encode()) for text in texts])
    names, rows = [str(number) for number in range(len(texts))], np.arange(len(texts))
    about = Description(tokenizer.vocab_size, 8, tokenizer.eos_id, tokenizer.pad_id, tokenizer.fingerprint)
    some = Documents(names, ids, lengths, n_bytes, ["text"] * len(texts), rows)
    write(folder, {split: [some] for split in ("train", "val")}, about)
    return Dataset.open(folder), tokenizer


def documents_of(data, tokenizer):
    part = data.splits["val"]
    for row in part.index:
        yield tokenizer.decode(part.tokens(int(row["offset"]) + np.arange(row["length"])))


@pytest.fixture(scope="module", params=TYPES)
def hostile(request, tmp_path_factory):
    return packed(tmp_path_factory.mktemp("hostile") / request.param, HOSTILE, request.param)


def test_what_is_counted_is_the_raw_text(hostile):
    data, tokenizer = hostile
    assert list(documents_of(data, tokenizer)) == HOSTILE
    assert data.splits["val"].index["bytes"].tolist() == [len(text.encode()) for text in HOSTILE]


@pytest.mark.parametrize("model_type", TYPES)
def test_a_space_without_a_piece_costs_no_bytes(tmp_path, model_type):
    """Trained on text that has no space, and given some."""
    texts = ["a b", " ", "ab  ab"]
    data, tokenizer = packed(tmp_path / "data", texts, model_type, fit_on=["abab" * 40])
    assert data.splits["val"].n_bytes == 10
    assert list(documents_of(data, tokenizer)) == texts
    assert len(tokenizer.encode([" "])[0]) == 1


def test_the_space_before_a_document_is_neither_added_nor_lost(hostile):
    _, tokenizer = hostile
    bare, spaced = tokenizer.encode(["letter", " letter"])
    assert bare.tolist() != spaced.tolist()
    assert tokenizer.decode(bare) == "letter"


def test_bytes_of_pieces_decoded_one_by_one_would_be_wrong(hostile):
    """It is why they are not derived from tokens: half a character comes out as U+FFFD, which has three bytes."""
    data, tokenizer = hostile
    part = data.splits["val"]
    alone = sum(len(tokenizer.decode([int(token)]).encode()) for token in part.tokens(np.arange(part.n_tokens)))
    assert alone > part.n_bytes == sum(len(text.encode()) for text in HOSTILE)


def test_text_is_not_normalised(hostile):
    _data, tokenizer = hostile
    assert any(unicodedata.normalize(form, text) != text for text in HOSTILE for form in ("NFC", "NFKC"))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        for text in (unicodedata.normalize(form, text) for text in HOSTILE):
            assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_the_first_token_of_every_document_is_scored_from_its_beginning(hostile):
    data, _ = hostile
    seen = {}
    for ids, targets, of in zip(*data.sequences("val", range(data.n_sequences("val"))), strict=True):
        for token, target, number in zip(ids.tolist(), targets.tolist(), of.tolist(), strict=True):
            if target != IGNORE:
                seen.setdefault(number, []).append((token, target))
    for number, text in enumerate(HOSTILE):
        assert seen[number][0][0] == data.eos_id, text
        assert seen[number][-1][1] == data.eos_id
        assert [target for _, target in seen[number]][:-1] == [token for token, _ in seen[number]][1:]


@pytest.mark.parametrize("model_type", ["char", "bpe", "unigram"])
def test_one_bit_a_byte_is_one_bit_a_byte_at_every_level(tmp_path, model_type):
    """A fair coin, written down as letters: whatever the pieces are, no count can say less than a bit for each."""
    coin = random.Random(0)
    texts = ["".join(coin.choice("ab") for _ in range(2000)) for _ in range(60)]
    size = {"vocab_size": 290} if model_type == "bpe" else {}
    data, _tokenizer = packed(tmp_path / "data", texts, model_type, **size)
    assert 0.999 < baselines.counted_bits_per_byte(data)["unigram"] < (1.02 if model_type == "char" else 1.15)
    tokens = data.splits["val"].n_tokens / data.splits["val"].n_bytes
    assert tokens > 0.99 if model_type == "char" else tokens < 0.5


def test_marks_of_spaces_in_the_text_are_text(hostile):
    _data, tokenizer = hostile
    for left, right in itertools.pairwise(["", "a", " ", "  b", SPACE_SYMBOL, "c" + SPACE_SYMBOL]):
        text = left + SPACE_SYMBOL + right
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text


# --- what a model was trained on ---------------------------------------------------------------------------------------


def cleaned(corpus, raw, out, **rules):
    """The clean artifact of a corpus, with all that scoring reads of its manifest."""
    counts = clean_corpus(corpus, raw, out, Rules(**rules))
    digest = hashlib.sha256(repr((str(out), sorted(rules.items()))).encode()).hexdigest()
    return {
        "corpus": corpus,
        "stage": "clean",
        "key": "",
        "digest": digest,
        "path": str(out),
        "counts": counts,
        "seconds": 0.0,
    }


def trained_on(old: dict, new: dict) -> int:
    """Documents of the new artifact's test split that a model of the old one was trained on."""
    model = scoring.TrainedModel("old", Path(), {"corpus": old["corpus"]}, {}, old)
    return len(scoring.trained_on(model, scoring.held_out(to_artifact(new))))


def on_other_sides(artifact: dict, sides: dict[str, str]) -> dict:
    """The artifact with its documents on other sides of the split."""
    folder = Path(artifact["path"]).with_name(Path(artifact["path"]).name + "-before")
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(artifact["path"]) / "documents").iterdir()):
        documents = pl.read_parquet(path).with_columns(pl.col("split").replace(sides))
        documents.write_parquet(folder / "documents" / path.name)
    return artifact | {"path": str(folder), "digest": "before"}


SOCIAL = {"entities": True, "spaces": True, "urls": "drop", "emails": "mask", "near_duplicates": "drop"}


def test_after_a_change_of_rules_no_held_out_tweet_was_trained_on_and_one_that_was_is_found(shared_data, tmp_path):
    raw = shared_data / "kaggle" / "gpreda" / "covid19-tweets"
    rules = SOCIAL | {"mentions": "mask", "val_fraction": 0.05, "test_fraction": 0.05}
    champion = cleaned("covid-tweets", raw, tmp_path / "champion", **rules)
    for name, changed in (("mentions", {"mentions": "drop"}), ("spaces", {"spaces": False})):
        later = cleaned("covid-tweets", raw, tmp_path / name, **rules | changed)
        assert later["counts"]["test_documents"] > 350
        assert trained_on(champion, later) == 0
        # A model that was trained on what is now held out, under the other rules.
        learned = on_other_sides(champion, {"test": "train", "train": "val"})
        found = trained_on(learned, later)
        assert 0.9 * later["counts"]["test_documents"] < found <= later["counts"]["test_documents"]
    other_seed = cleaned("covid-tweets", raw, tmp_path / "seed", **rules | {"mentions": "drop", "seed": 1})
    n, held_out = other_seed["counts"]["test_documents"], scoring.held_out(to_artifact(other_seed)).documents
    before = pl.read_parquet(tmp_path / "champion" / "documents" / "*.parquet").filter(pl.col("split") == "train")
    by_place = held_out["place"].is_in(before["place"].implode()).sum()
    assert 0.7 * n < by_place <= trained_on(champion, other_seed) < n


def test_a_book_that_was_divided_otherwise_was_trained_on(tmp_path):
    (tmp_path / "raw").mkdir()
    book = "".join(f"Line {number} of @somebody and a long book.\n" for number in range(2000))
    (tmp_path / "raw" / "book.txt").write_text(book)
    one, cut_otherwise, divided_otherwise = (
        cleaned("mine", tmp_path / "raw", tmp_path / str(number), near_duplicates="keep", **rules)
        for number, rules in enumerate(
            (
                {"split_chars": 8000},
                {"split_chars": 500, "mentions": "drop"},
                {"split_chars": 8000, "test_fraction": 0.2},
            )
        )
    )
    assert trained_on(one, cut_otherwise) == 0
    assert trained_on(one, divided_otherwise) == divided_otherwise["counts"]["test_documents"]
    (tmp_path / "raw" / "book.txt").write_text(book + book.replace("Line", "Verse"))
    grown = cleaned("mine", tmp_path / "raw", tmp_path / "grown", near_duplicates="keep", split_chars=8000)
    assert trained_on(one, grown) == 0


def test_few_texts_that_were_divided_by_rank_are_known_when_they_are_drawn(tmp_path):
    """Of 13 texts the draws leave val empty, and more fall to test than its share: by rank some of these were trained on."""
    chance, raw = random.Random(1), tmp_path / "raw"
    raw.mkdir()
    for number in range(60):
        words = " ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(40))
        (raw / f"{number:02}.txt").write_text(f"@somebody {words}")
        if number == 12:
            few = cleaned("mine", raw, tmp_path / "few", val_fraction=0.02, test_fraction=0.4, seed=8)
    many = cleaned("mine", raw, tmp_path / "many", val_fraction=0.02, test_fraction=0.4, seed=8, mentions="drop")
    assert "few" in few["counts"]["notes"][-1]
    assert "few" not in many["counts"]["notes"][-1]
    documents = pl.read_parquet(tmp_path / "few" / "documents" / "*.parquet").filter(pl.col("split") == "train")
    again = scoring.held_out(to_artifact(many)).documents
    assert trained_on(few, many) == again["place"].is_in(documents["place"].implode()).sum() > 0
