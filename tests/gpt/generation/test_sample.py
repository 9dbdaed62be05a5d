import hashlib
import io

import pytest
import sentencepiece
import torch

from gpt import GPTError
from gpt.checkpoint import save_model
from gpt.config import ModelConfig
from gpt.generation.batch import Batch, choose, token_chances, window
from gpt.generation.cache import KVCache
from gpt.generation.sample import load, stream_texts, text_rows, texts, token_rows
from gpt.generation.text import TextStream, encode
from gpt.model.transformer import GPT
from tests.gpt.plain import generate


def sample_batch(model, contexts, samples=1, **settings):
    """Yields (row, token), where row c * samples + i is sample i of context c."""
    rows = token_rows(model, contexts, samples, **settings)
    drawn = ((rows.index(one.row), one.token) for one in Batch(model).run(rows))
    return (pair for pair in drawn if pair[1] != settings.get("eos_id", -1))


def sample(model, ids, max_tokens=256, **settings):
    """The tokens that continue one list of tokens."""
    return (token for _, token in sample_batch(model, [ids], max_tokens=max_tokens, **settings))


def stream_text(model, tokenizer, prompt="", **settings):
    """The pieces of text that continue one prompt."""
    return (piece for _, piece in stream_texts(model, tokenizer, [prompt], **settings))


TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen jugs",
    "  spaces\n\nand\tlines ",
] * 9


def train_tokenizer(**changes):
    model = io.BytesIO()
    settings = {
        "model_type": "bpe", "vocab_size": 330, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "add_dummy_prefix": False, "allow_whitespace_only_pieces": True,
        "user_defined_symbols": ["\n"], "unk_id": 0, "eos_id": 1, "bos_id": -1, "pad_id": -1, "hard_vocab_limit": False,
        "minloglevel": 2,
    } | changes  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_writer=model, **settings)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


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
    ids = [1, 5, 7]
    expected = generate(model, ids, 40, temperature=0)  # beyond T twice
    assert list(sample(model, ids, 40, temperature=0)) == expected
    assert list(sample(model, ids, 40, top_k=1)) == expected
    assert list(sample(model, ids, 40, top_p=1e-9)) == expected
    assert list(sample(model, ids, 40, top_k=9, top_p=1e-9)) == expected
    assert list(sample(model, ids, 40, temperature=1e-8)) == expected


@pytest.mark.parametrize("T", [1, 2, 7, 16])
def test_the_window_holds_half_of_t_to_t_tokens_and_moves_as_the_text_grows(T):
    starts = [window(n, T) for n in range(1, 5 * T)]
    assert starts[:T] == [0] * T
    assert starts == sorted(starts)
    sizes = [n - start for n, start in zip(range(1, 5 * T), starts, strict=True)]
    assert max(sizes) == T
    assert min(sizes[T:]) > T / 2 - 1
    assert len(set(starts)) <= 1 + 4 * T // max(1, T // 2)


SHAPES = {
    "learned": {"positions": "learned", "norm": "layernorm", "feed_forward": "gelu", "qk_norm": False, "bias": True},
    "sinusoidal": {"positions": "sinusoidal", "feed_forward": "swiglu", "tied": False, "embedding_norm": False},
    "rotary": {},
    "grouped": {"n_head": 4, "n_kv_head": 2},
    "one key head": {"n_head": 4, "n_kv_head": 1, "positions": "learned"},
    "with cross-attention": {"cross_attention": True},
}


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("lengths", [(1,), (6, 6), (5, 1, 12, 30, 13)], ids=str)
@torch.inference_mode()
def test_the_cache_gives_the_logits_of_the_whole_pass(values, lengths):
    """Logits, in batches of equal and unequal length, and past T."""
    torch.manual_seed(2)
    shape = {"vocab_size": 61, "block_size": 12, "n_layer": 3, "n_head": 2, "n_embd": 32, "zero_init": False} | values
    model = GPT(ModelConfig(**shape)).eval()
    written = [torch.randint(61, (length,)).tolist() for length in lengths]
    cache, starts = KVCache(model), [-1] * len(lengths)
    for _ in range(30):
        begin = [window(len(ids), 12) for ids in written]
        if moved := [row for row in range(len(lengths)) if begin[row] != starts[row]]:
            cache.prefill(moved, [written[row][begin[row] : -1] for row in moved])
            starts = begin
        logits_RV = cache.step(torch.tensor([ids[-1] for ids in written]))
        for ids, start, logits_V in zip(written, begin, logits_RV, strict=True):
            torch.testing.assert_close(logits_V, model(torch.tensor([ids[start:]]))[0, -1], atol=1e-5, rtol=1e-4)
            ids.append(int(torch.randint(61, ())))


@pytest.mark.parametrize("values", [{}, {"n_kv_head": 1, "positions": "learned"}])
def test_greedy_batches_of_unequal_prompts_are_the_uncached_texts(values):
    torch.manual_seed(3)
    shape = {"vocab_size": 61, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 32, "zero_init": False} | values
    model = GPT(ModelConfig(**shape)).eval()
    contexts = [torch.randint(61, (length,)).tolist() for length in (5, 1, 12, 30)]
    rows = [[] for _ in contexts]
    for row, token in sample_batch(model, contexts, max_tokens=30, temperature=0):
        rows[row].append(token)
    assert rows == [generate(model, ids, 30, temperature=0) for ids in contexts]


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "settings", [{"temperature": 0}, {}, {"top_k": 9}, {"top_p": 0.8, "temperature": 1.5}], ids=str
)
def test_the_cached_sampling_draws_what_the_plain_one_draws(values, settings):
    """Token by token, and past T."""
    torch.manual_seed(4)
    shape = {"vocab_size": 61, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 32, "zero_init": False} | values
    model = GPT(ModelConfig(**shape)).eval()
    assert list(sample(model, [3, 1, 4], 40, seed=6, **settings)) == generate(model, [3, 1, 4], 40, seed=6, **settings)
    assert generate(model, [3], 0) == []


def test_a_sample_depends_on_seed_and_number_and_on_nothing_else(model, tokenizer):
    settings = {"max_tokens": 25, "temperature": 1.3, "top_k": 40, "top_p": 0.95, "seed": 4}
    prompts = ["the fox", "", "pack my box with five dozen jugs", "the fox"]
    together = texts(model, tokenizer, prompts, 3, **settings)
    assert together[0] == together[3]
    assert len(set(together[0])) == 3
    for prompt, several in zip(prompts, together, strict=True):
        assert texts(model, tokenizer, [prompt], 2, **settings) == [several[:2]]
        assert "".join(stream_text(model, tokenizer, prompt, **settings)) == several[0]
    longer = texts(model, tokenizer, prompts[:1], 1, **settings | {"max_tokens": 35})[0][0]
    assert longer.startswith(together[0][0].rstrip("\ufffd"))


def test_more_rows_than_fit_side_by_side_are_all_written(model, monkeypatch):
    rows = dict.fromkeys(range(7), 0)
    monkeypatch.setattr("gpt.generation.batch.ROWS", 3)
    for row, _ in sample_batch(model, [[1]], 7, max_tokens=4):
        rows[row] += 1
    assert rows == dict.fromkeys(range(7), 4)


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
def test_rows_that_come_and_go_between_steps_are_what_they_are_alone(values):
    """With settings of their own, past T, and where a row that leaves gives its place to another."""
    torch.manual_seed(5)
    shape = {"vocab_size": 61, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 32, "zero_init": False} | values
    model = GPT(ModelConfig(**shape)).eval()
    asked = [
        {"max_tokens": 5 + 6 * n, "temperature": n % 3 / 2, "top_k": 7 * (n % 2), "top_p": 1 - n / 20, "seed": n}
        for n in range(8)
    ]
    contexts = [torch.randint(61, (length,)).tolist() for length in (5, 1, 12, 30, 3, 3, 9, 20)]
    rows = [token_rows(model, [ids], **how)[0] for ids, how in zip(contexts, asked, strict=True)]
    batch, waiting = Batch(model), list(rows)
    for step in range(100):
        if waiting and step % 3 == 0:
            batch.rows.append(waiting.pop(0))
        if step == 10:  # it is not the last
            batch.remove(rows[2])
        if batch.rows:
            batch.step()
    assert not batch.rows
    for ids, how, row in zip(contexts, asked, rows, strict=True):
        alone = generate(model, ids, **how)
        assert row.tokens[len(ids) :] == (alone[:4] if row is rows[2] else alone)
        assert row.finish == ("" if row is rows[2] else "length")


def test_a_token_has_the_chance_that_it_was_drawn_with(model, tokenizer):
    (row,) = text_rows(model, tokenizer, ["pack my box"], max_tokens=60, seed=3, likeliest=3)
    start = len(row.tokens)
    drawn = [one for one in Batch(model).run([row]) if one.token != row.eos_id]
    scored = [chance for some in token_chances(model, row.tokens, 3) for chance in some]
    assert len(scored) == len(row.tokens) - 1
    assert "".join(one.text for one in drawn) == tokenizer.decode(row.tokens[start:])
    for one, (chance, likeliest) in zip(drawn, scored[start - 1 :], strict=False):
        assert one.chance[0] == pytest.approx(chance, abs=1e-4)
        assert list(one.chance[1].values()) == pytest.approx(list(likeliest.values()), abs=1e-4)
        assert len(likeliest) == 3
        assert max(likeliest.values()) >= chance - 1e-6
    logits_V = model(torch.tensor([row.tokens[:5]]))[0, -1]
    assert scored[4][0] == pytest.approx(logits_V.log_softmax(0)[row.tokens[5]].item(), abs=1e-5)


@pytest.mark.parametrize("stop", ["o", "ow", [" t", "fox"], "the lazy dog", "zzz"])
def test_text_ends_before_a_stop_string_and_never_shows_a_part_of_it(tokenizer, stop):
    text = "the quick brown fox jumps over the lazy dog"
    cuts = [text.find(one) for one in ([stop] if isinstance(stop, str) else stop) if one in text]
    for ids in (tokenizer.encode(text), [tokenizer.piece_to_id(f"<0x{byte:02X}>") for byte in text.encode()]):
        stream, shown = TextStream(tokenizer, [stop] if isinstance(stop, str) else stop), ""
        for token in ids:
            shown += stream.add(token)
            assert text[: min(cuts, default=None)].startswith(shown)
            if stream.finished:
                break
        assert stream.finished == bool(cuts)
        assert (shown if stream.finished else shown + stream.end()) == text[: min(cuts, default=None)]


def test_bytes_that_are_no_character_are_shown_with_the_next_that_is_one(tokenizer):
    stream, shown = TextStream(tokenizer), []
    for byte in b"\xff\xe2\xff" + "\u20ac".encode():
        shown.append(stream.add(tokenizer.piece_to_id(f"<0x{byte:02X}>")))
    assert shown == [""] * 5 + ["\ufffd\ufffd\ufffd\u20ac"]


def test_a_stop_string_ends_one_text_and_not_its_neighbours(model, tokenizer):
    settings = {"max_tokens": 30, "seed": 4}
    free = texts(model, tokenizer, ["the"], 4, **settings)[0]
    stop = free[1][3:5]
    stopped = texts(model, tokenizer, ["the"], 4, stop=stop, **settings)[0]
    assert stopped == [text.split(stop)[0] for text in free]
    assert stopped[1] == free[1][: free[1].find(stop)]
    assert "".join(stream_text(model, tokenizer, "the", stop=[stop, "never"], **settings)) == stopped[0]
    with pytest.raises(GPTError, match="stop string is empty"):
        stream_texts(model, tokenizer, ["the"], stop=["a", ""])


@pytest.mark.parametrize(
    "settings", [{}, {"top_p": 0.7}, {"top_k": 5}, {"top_k": 5, "top_p": 0.5}, {"temperature": 2.0}]
)
def test_tokens_are_drawn_with_their_probabilities(settings):
    how = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} | settings
    torch.manual_seed(0)
    logits_V, n = torch.randn(12) * 2, 20_000
    tokens = choose(logits_V.expand(n, -1), **how, uniform_R=torch.linspace(0, 1, n + 1)[:-1])
    p, order = (logits_V / how["temperature"]).softmax(0).sort(descending=True)
    if how["top_k"]:
        p[how["top_k"] :] = 0
        p /= p.sum()
    p[p.cumsum(0) - p >= how["top_p"]] = 0
    expected = torch.zeros(12).scatter(0, order, p / p.sum())
    torch.testing.assert_close(tokens.bincount(minlength=12) / n, expected, atol=2e-4, rtol=0)
    last = choose(logits_V[None], **how, uniform_R=torch.tensor([1.0]))  # a draw that was rounded up
    assert expected[last] > 0


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


def decoded(tokenizer, ids):
    stream = TextStream(tokenizer)
    return [piece for piece in [*(stream.add(token) for token in ids), stream.end()] if piece]


@pytest.mark.parametrize("text", ["the 🙂 fox 世界", "🙂🙃", "é\n\n  é", "👩‍👩‍👧 box", ""])
def test_streamed_pieces_are_whole_characters_and_add_up(tokenizer, text):
    ids = tokenizer.encode(text)
    pieces = decoded(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 1 or len(text) < 2


def test_broken_characters_add_up_to_what_the_tokenizer_shows(tokenizer):
    byte_ids = [n for n in range(tokenizer.vocab_size()) if tokenizer.is_byte(n)]
    torch.manual_seed(0)
    for _ in range(200):
        ids = [byte_ids[n] if n < 256 else int(n) % 60 + 262 for n in torch.randint(100, 300, (12,))]
        assert "".join(decoded(tokenizer, ids)) == tokenizer.decode(ids)
    smiley = tokenizer.encode("🙂")
    assert "".join(decoded(tokenizer, smiley[:-1])) == tokenizer.decode(smiley[:-1])


def test_text_streams_from_a_prompt_and_from_nothing(model, tokenizer):
    ids = list(sample(model, [1, *tokenizer.encode("the fox")], 40, seed=5, eos_id=1))
    assert "".join(stream_text(model, tokenizer, "the fox", max_tokens=40, seed=5)) == tokenizer.decode(ids)
    ids = list(sample(model, [1], 40, seed=5, eos_id=1))
    assert "".join(stream_text(model, tokenizer, max_tokens=40, seed=5)) == tokenizer.decode(ids)


def test_a_tokenizer_of_another_size_is_refused(tokenizer):
    other = GPT(ModelConfig(100, 8, n_layer=1, n_head=1, n_embd=8))
    with pytest.raises(GPTError, match="not a pair"):
        stream_text(other, tokenizer)


@pytest.mark.parametrize("text", ["a\u2581b", "\u2581", " \u2581 \u2581\u2581\n", "the \u0600 fox", "plain"])
def test_a_prompt_is_encoded_so_that_it_comes_back(tokenizer, text):
    assert tokenizer.decode(encode(tokenizer, text)) == text
    assert "".join(decoded(tokenizer, encode(tokenizer, text))) == text
    if "\u2581" not in text:
        assert encode(tokenizer, text) == tokenizer.encode(text)


def test_a_prompt_that_cannot_be_spelled_is_refused(model, tokenizer):
    bare = train_tokenizer(byte_fallback=False, vocab_size=60)
    assert encode(bare, "the fox") == bare.encode("the fox")
    with pytest.raises(GPTError, match="holds '世'"):
        encode(bare, "the 世 fox")
    with pytest.raises(GPTError, match="not text: surrogates not allowed at character 4"):
        stream_text(model, tokenizer, "the \udc80")


def test_of_a_prompt_longer_than_t_the_end_counts(model, tokenizer):
    ids = [1, *tokenizer.encode("pack my box with five dozen jugs " * 5)]
    assert len(ids) > 2 * model.config.block_size
    assert list(sample(model, ids, 20, temperature=0)) == generate(model, ids, 20, temperature=0)
    assert list(sample(model, [7, *ids[1:]], 20, temperature=0)) == generate(model, ids, 20, temperature=0)


def test_a_tokenizer_of_another_corpus_is_refused(tmp_path, model, tokenizer):
    path = tmp_path / "model" / "tokenizer.model"
    for own in (True, False):
        save_model(path.parent, model, tokenizer_sha256=hashlib.sha256(tokenizer.serialized_model_proto()).hexdigest())
        path.write_bytes((tokenizer if own else train_tokenizer(seed_sentencepiece_size=999)).serialized_model_proto())
        if own:
            load(path.parent)
        else:
            with pytest.raises(
                GPTError, match=r"tokenizer\.model is not the tokenizer that this model was trained with"
            ):
                load(path.parent)
