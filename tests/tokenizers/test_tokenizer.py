"""The tokenizer: lossless, the same everywhere, with errors in the recipe's words."""

import hashlib
import pydoc_data.topics
from pathlib import Path

import pytest

from tokenizers import TokenizerError
from tokenizers.tokenizer import END_OF_DOCUMENT, NASTY, Tokenizer
from tokenizers.training import TokenizerConfig, train

TEXTS = [text for _, text in sorted(pydoc_data.topics.topics.items())][:40]
SIZE = sum(len(text.encode()) for text in TEXTS)


def fit(folder: Path, texts=TEXTS, **settings) -> tuple[Tokenizer, dict]:
    folder.mkdir(exist_ok=True)
    config = TokenizerConfig(**({"vocab_size": 800} | settings))
    counts = train(iter(texts), sum(len(text.encode()) for text in texts), folder, config)
    return Tokenizer(folder / "tokenizer.model"), counts


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    return fit(tmp_path_factory.mktemp("bpe"))[0]


@pytest.mark.parametrize("text", [*NASTY, *TEXTS[:5]])
def test_round_trip_is_exact(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_special_pieces_stand_where_expected(tokenizer):
    assert tokenizer.vocab_size == 800
    assert tokenizer.processor.id_to_piece(tokenizer.eos_id) == END_OF_DOCUMENT
    for ids in tokenizer.encode([END_OF_DOCUMENT, *NASTY]):
        assert tokenizer.eos_id not in ids  # text cannot forge the end of a document
        assert (ids < tokenizer.vocab_size).all()


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_same_text_same_model_other_text_other_fingerprint(tmp_path, model_type):
    first, counts = fit(tmp_path / "a", model_type=model_type)
    second, _ = fit(tmp_path / "b", model_type=model_type)
    other, _ = fit(tmp_path / "c", TEXTS[:30], model_type=model_type)
    files = [hashlib.sha256((tmp_path / name / "tokenizer.model").read_bytes()).hexdigest() for name in "ab"]
    assert files[0] == files[1]
    assert first.fingerprint == second.fingerprint == counts["fingerprint"] != other.fingerprint


def test_threads_do_not_change_the_ids(tokenizer):
    one, two = tokenizer.encode(TEXTS, threads=1), tokenizer.encode(TEXTS, threads=2)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_the_sample_is_bounded_and_counted(tmp_path):
    _, counts = fit(tmp_path / "a", sample_bytes=SIZE // 4, vocab_size=400)
    assert 0 < counts["sampled_bytes"] < SIZE // 2
    assert fit(tmp_path / "b", sample_bytes=SIZE // 4, vocab_size=400)[1] == counts
    assert fit(tmp_path / "c", sample_bytes=SIZE // 4, vocab_size=400, seed=1)[1] != counts


def test_lines_longer_than_the_library_takes_are_not_skipped(tmp_path):
    _, counts = fit(tmp_path / "long", [" ".join(TEXTS).replace("\n", " ")], vocab_size=500)
    assert counts["sampled_bytes"] > SIZE // 2
    assert counts["vocab_size"] == 500


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        (
            TEXTS[:5],
            {"vocab_size": 100_000},
            r"vocab_size 100000 is larger than the text supports; the largest possible is \d+",
        ),
        (
            TEXTS,
            {"vocab_size": 261},
            r"vocab_size 261 is smaller than the text's characters need; the smallest possible is \d+",
        ),
        ([], {}, "no text to train a tokenizer on"),
        (["\n"], {}, "no text to train a tokenizer on"),
    ],
)
def test_refusals_say_what_is_possible(tmp_path, texts, settings, message):
    with pytest.raises(TokenizerError, match=message):
        fit(tmp_path / "bad", texts, **settings)


def test_bad_settings_are_told_together():
    with pytest.raises(TokenizerError, match=r"vocab_size 10.*character_coverage 2.*sample_bytes 1"):
        TokenizerConfig(vocab_size=10, character_coverage=2, sample_bytes=1)


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_a_foreign_or_cut_model_is_refused_by_name(tmp_path, tokenizer, content):
    path = tmp_path / "tokenizer.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model"):
        Tokenizer(path)


def test_a_lossy_tokenizer_would_be_caught(tokenizer):
    with pytest.raises(TokenizerError, match="loses text"):
        tokenizer.check_round_trip(["U+2581 \u2581 comes back as a space"])
