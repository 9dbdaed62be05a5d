import io

import pytest
import sentencepiece
import torch

from gpt import GPTError
from gpt.config import ModelConfig
from gpt.generate import _decode, sample, stream_text
from gpt.model import GPT

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen jugs",
    "  spaces\n\nand\tlines ",
] * 9


@pytest.fixture(scope="module")
def tokenizer():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, model_type="bpe", vocab_size=330, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
        allow_whitespace_only_pieces=True, user_defined_symbols=["\n"], unk_id=0, eos_id=1, bos_id=-1, pad_id=-1,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(1)
    return GPT(ModelConfig(tokenizer.vocab_size(), 16, n_layer=1, n_head=2, n_embd=16, zero_init=False)).eval()


def test_a_seed_gives_the_same_tokens_and_another_gives_others(model):
    def draw(seed):
        state = torch.get_rng_state()
        tokens = list(sample(model, [1], 30, seed=seed))
        assert torch.equal(state, torch.get_rng_state())
        torch.rand(1)  # the global generator has no say
        return tokens

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_greedy_is_the_likeliest_token_and_so_are_top_k_one_and_a_tiny_top_p(model):
    ids, expected = [1, 5, 7], []
    for _ in range(24):  # beyond T: only the last T count
        expected.append(int(model(torch.tensor([(ids + expected)[-16:]]))[0, -1].argmax()))
    assert list(sample(model, ids, 24, temperature=0)) == expected
    assert list(sample(model, ids, 24, top_k=1)) == expected
    assert list(sample(model, ids, 24, top_p=1e-9)) == expected
    assert list(sample(model, ids, 24, temperature=1e-8)) == expected


def test_top_k_and_top_p_keep_to_the_likeliest(model):
    order = model(torch.tensor([[1]]))[0, -1].softmax(0).sort(descending=True)
    firsts = {next(sample(model, [1], 1, top_k=3, seed=seed)) for seed in range(60)}
    assert firsts == set(order.indices[:3].tolist())
    reached = int((order.values.cumsum(0) < 0.02).sum()) + 1
    firsts = {next(sample(model, [1], 1, top_p=0.02, seed=seed)) for seed in range(200)}
    assert firsts == set(order.indices[:reached].tolist())


def test_it_stops_at_the_end_of_the_document(model):
    tokens = list(sample(model, [1], 20, temperature=0))
    assert list(sample(model, [1], 20, temperature=0, eos_id=tokens[5])) == tokens[: tokens.index(tokens[5])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": []}, "no token to continue"),
        ({"ids": [9999]}, "token 9999"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_bad_arguments_are_refused_before_the_first_token(model, arguments, message):
    with pytest.raises(GPTError, match=message):
        sample(model, **{"ids": [1]} | arguments)


@pytest.mark.parametrize("text", ["the 🙂 fox 世界", "🙂🙃", "é\n\n  é", "👩‍👩‍👧 box", ""])
def test_streamed_pieces_are_whole_characters_and_add_up(tokenizer, text):
    ids = tokenizer.encode(text)
    pieces = list(_decode(tokenizer, iter(ids)))
    assert "".join(pieces) == tokenizer.decode(ids) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 1 or len(text) < 2


def test_broken_characters_add_up_to_what_the_tokenizer_shows(tokenizer):
    byte_ids = [n for n in range(tokenizer.vocab_size()) if tokenizer.is_byte(n)]
    torch.manual_seed(0)
    for _ in range(200):
        ids = [byte_ids[n] if n < 256 else int(n) % 60 + 262 for n in torch.randint(100, 300, (12,))]
        assert "".join(_decode(tokenizer, iter(ids))) == tokenizer.decode(ids)
    smiley = tokenizer.encode("🙂")
    assert "".join(_decode(tokenizer, iter(smiley[:-1]))) == tokenizer.decode(smiley[:-1])


def test_text_streams_from_a_prompt_and_from_nothing(model, tokenizer):
    ids = list(sample(model, [1, *tokenizer.encode("the fox")], 40, seed=5, eos_id=1))
    assert "".join(stream_text(model, tokenizer, "the fox", 40, seed=5)) == tokenizer.decode(ids)
    ids = list(sample(model, [1], 40, seed=5, eos_id=1))
    assert "".join(stream_text(model, tokenizer, max_tokens=40, seed=5)) == tokenizer.decode(ids)


def test_a_tokenizer_of_another_size_is_refused(tokenizer):
    other = GPT(ModelConfig(100, 8, n_layer=1, n_head=1, n_embd=8))
    with pytest.raises(GPTError, match="not a pair"):
        stream_text(other, tokenizer)
