"""The tokenizer: lossless, the same everywhere, with errors in the recipe's words."""

import hashlib
import pydoc_data.topics
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenizers import TokenizerError, training
from tokenizers import tokenizer as module
from tokenizers.config import END_OF_DOCUMENT, PADDING, SPACE_SYMBOL
from tokenizers.tokenizer import ROUND_TRIP_TEXTS, Tokenizer
from tokenizers.training import TokenizerConfig, automatic, train

TEXTS = [text for _, text in sorted(pydoc_data.topics.topics.items())][:40]
SIZE = sum(len(text.encode()) for text in TEXTS)


def fit(folder: Path, texts=TEXTS, **changes) -> tuple[Tokenizer, dict]:
    folder.mkdir(exist_ok=True)
    config = TokenizerConfig(**({"vocab_size": 800} | changes))
    counts, _ = train(iter(texts), sum(len(text.encode()) for text in texts), folder, config)
    return Tokenizer(folder / "tokenizer.model"), counts


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    return fit(tmp_path_factory.mktemp("bpe"))[0]


TYPES = ["bpe", "unigram", "char"]
HOSTILE = st.lists(
    st.sampled_from(
        [
            *"ab z09.\t\n\r\0\u2581\u0301\u200d\ufeff\u00e9世🙂",
            "<0x0A>",
            "  ",
            "\n\n",
            SPACE_SYMBOL * 2,
            END_OF_DOCUMENT,
        ]
    )
    | st.characters(exclude_categories=["Cs"])
).map("".join)


@pytest.fixture(scope="module", params=TYPES)
def any_type(request, tmp_path_factory) -> Tokenizer:
    return fit(tmp_path_factory.mktemp(request.param), model_type=request.param, vocab_size="auto")[0]


@given(HOSTILE)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip_is_exact(any_type, text):
    assert any_type.decode(any_type.encode([text])[0]) == text


@pytest.mark.parametrize("text", [*ROUND_TRIP_TEXTS, *TEXTS[:5]])
def test_round_trip_of_known_texts_is_exact(any_type, text):
    assert any_type.decode(any_type.encode([text])[0]) == text


def test_what_the_types_make_of_a_sentence(tmp_path):
    made = {}
    for model_type in TYPES:
        made[model_type], _ = fit(
            tmp_path / model_type, ["the cat sat on the mat\n"] * 9, model_type=model_type, vocab_size="auto"
        )
    pieces = {
        name: [t.processor.id_to_piece(int(i)) for i in t.encode(["the cat\nsat"])[0]] for name, t in made.items()
    }
    assert pieces["char"] == [*"the", SPACE_SYMBOL, *"cat", "\n", *"sat"]
    assert len(pieces["bpe"]) < len(pieces["char"]) > len(pieces["unigram"])


def test_special_pieces_stand_where_expected(any_type):
    named = [any_type.processor.id_to_piece(number) for number in range(4)]
    assert named == ["<unk>", END_OF_DOCUMENT, PADDING, "\n"]
    assert (any_type.eos_id, any_type.pad_id) == (1, 2)
    for ids in any_type.encode([END_OF_DOCUMENT, PADDING, *ROUND_TRIP_TEXTS]):
        assert (ids > any_type.pad_id).all()  # text cannot forge the end of a document
        assert (ids < any_type.vocab_size).all()


def test_symbols_of_the_user_are_one_piece_each(tmp_path):
    tokenizer, _ = fit(tmp_path / "symbols", user_defined_symbols=("<|speaker|>", "==>"))
    pieces = [tokenizer.processor.id_to_piece(int(number)) for number in tokenizer.encode(["a==><|speaker|>b"])[0]]
    assert pieces == ["a", "==>", "<|speaker|>", "b"]
    for symbols in (("a", "a"), ("",), ("a b",), ("\n",), (SPACE_SYMBOL,), (PADDING,)):
        with pytest.raises(TokenizerError, match="user_defined_symbols"):
            TokenizerConfig(user_defined_symbols=symbols)


MASKS = ("<url>", "<email>", "<user>", "<ip>", "<phone>")


@pytest.mark.parametrize("model_type", TYPES)
def test_masks_are_one_piece_each_and_lose_nothing(tmp_path, model_type):
    tokenizer, _ = fit(tmp_path / "masks", model_type=model_type, vocab_size="auto", user_defined_symbols=MASKS)
    for mask in MASKS:
        assert len(tokenizer.encode([mask])[0]) == 1
    pieces = [
        tokenizer.processor.id_to_piece(int(number)) for number in tokenizer.encode(["<user>/<user>:see<url>."])[0]
    ]
    assert pieces.count("<user>") == 2
    assert "<url>" in pieces
    awkward = [
        "<user",
        "<<user>>",
        "user>",
        "< user>",
        " <user> <user>",
        "<USER>",
        "\u2581<url>\u2581",
        "<url>\n<url>é<url",
    ]
    tokenizer.check([*awkward, "".join(awkward), *ROUND_TRIP_TEXTS])


@pytest.mark.parametrize("model_type", ["bpe", "char"])
def test_a_long_document_is_what_the_library_makes_of_it_whole(tmp_path, model_type, monkeypatch):
    long = "\n".join(TEXTS) + " " * 9000 + "".join(TEXTS).replace("\n", " ")
    tokenizer, _ = fit(tmp_path / "a", model_type=model_type, vocab_size="auto")
    whole = tokenizer.processor.encode(long, return_type="numpy")
    monkeypatch.setattr(module, "SEGMENT", 50)
    monkeypatch.setattr(module, "BATCH", 140)
    short, ours, empty = tokenizer.encode(["a b", long, ""])
    assert (ours == whole).all()
    assert (short == tokenizer.processor.encode("a b", return_type="numpy")).all()
    assert not empty.size
    assert tokenizer.encode([]) == []


def test_a_document_without_a_place_to_cut_loses_nothing(any_type):
    text = "ab" * 200_000
    assert any_type.decode(any_type.encode([text])[0]) == text


@pytest.mark.parametrize("model_type", TYPES)
def test_same_text_same_model_other_text_other_fingerprint(tmp_path, model_type):
    first, counts = fit(tmp_path / "a", model_type=model_type, vocab_size="auto")
    second, _ = fit(tmp_path / "b", model_type=model_type, vocab_size="auto")
    other, _ = fit(tmp_path / "c", TEXTS[:30], model_type=model_type, vocab_size="auto")
    files = [hashlib.sha256((tmp_path / name / "tokenizer.model").read_bytes()).hexdigest() for name in "ab"]
    assert files[0] == files[1]
    assert first.fingerprint == second.fingerprint == counts["fingerprint"] != other.fingerprint


def test_the_library_may_use_any_number_of_threads(tmp_path, monkeypatch):
    """bpe's pieces do not depend on it; unigram's do, and so the number is no setting."""
    found = set()
    for threads in (1, 2, 4):
        monkeypatch.setattr(training, "THREADS", threads)
        found.add(fit(tmp_path / str(threads))[0].fingerprint)
    assert len(found) == 1
    assert not [name for name in TokenizerConfig.__annotations__ if "thread" in name]


def test_threads_do_not_change_the_ids(tokenizer):
    one, two = tokenizer.encode(TEXTS, threads=1), tokenizer.encode(TEXTS, threads=2)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_the_sample_is_bounded_and_counted(tmp_path):
    _, counts = fit(tmp_path / "a", sample_bytes=SIZE // 4, vocab_size=400)
    assert 0 < counts["sampled_bytes"] < SIZE // 2
    assert (counts["seen_bytes"], counts["seen_documents"]) == (SIZE, len(TEXTS))
    assert counts["sampled_bytes"] + counts["skipped_bytes"] == SIZE
    assert fit(tmp_path / "b", sample_bytes=SIZE // 4, vocab_size=400)[1] == counts
    assert fit(tmp_path / "c", sample_bytes=SIZE // 4, vocab_size=400, seed=1)[1] != counts


def test_one_huge_document_is_drawn_in_parts():
    text = "one line of many\n" * 1_000_000
    sample = training.draw([text], 0.25, seed=0)
    assert 0.1 * len(text) < sample.sampled < 0.5 * len(text)
    assert [len(kept) for kept in sample.checked] == [training.CHECKED_CHARS]


def test_the_checked_documents_are_drawn_from_all(monkeypatch):
    monkeypatch.setattr(training, "CHECKED", 50)
    kept = [int(text) for text in training.draw(map(str, range(5000)), 1, seed=0).checked]
    assert len(set(kept)) == 50
    assert 1500 < sum(kept) / 50 < 3500


def test_an_automatic_vocabulary_grows_with_the_text_and_takes_what_there_is(tmp_path):
    assert [automatic(size) for size in (0, 1000, 200_000, 3_000_000, 10**8, 10**12)] == [
        512,
        512,
        1024,
        4096,
        16384,
        32768,
    ]
    assert fit(tmp_path / "small", ["to be or not to be"], vocab_size="auto")[0].vocab_size < 300
    chinese = ["".join(chr(0x4E00 + n) for n in range(2000))]
    assert fit(tmp_path / "many", chinese, vocab_size="auto", character_coverage=1.0)[0].vocab_size > 2000


def test_lines_longer_than_the_library_takes_are_not_skipped(tmp_path):
    _, counts = fit(tmp_path / "long", [" ".join(TEXTS).replace("\n", " ")], vocab_size=500)
    assert counts["sampled_bytes"] > SIZE // 2
    assert counts["vocab_size"] == 500


@pytest.mark.parametrize(
    ("texts", "changes", "message"),
    [
        (
            TEXTS[:5],
            {"vocab_size": 100_000},
            r"vocab_size 100000 is larger than the text supports; the largest possible is \d+",
        ),
        (
            TEXTS[:5],
            {"vocab_size": 5000, "model_type": "char"},
            r"vocab_size 5000 is larger than the text supports; the largest possible is \d+",
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
def test_refusals_say_what_is_possible(tmp_path, texts, changes, message):
    with pytest.raises(TokenizerError, match=message):
        fit(tmp_path / "bad", texts, **changes)


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


def test_a_lossy_tokenizer_would_be_caught(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "decode", lambda ids: tokenizer.processor.decode(ids.tolist()).replace(" ", ""))
    with pytest.raises(TokenizerError, match="loses text"):
        tokenizer.check(["a space between"])
