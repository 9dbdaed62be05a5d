import itertools
import math

import numpy as np
import pytest
import torch

from gpt import GPTError
from gpt.baselines import bigram_bits_per_byte, bits_per_byte, unigram_bits_per_byte
from gpt.dataset import Dataset, write
from gpt.evaluate import evaluate
from gpt.model import GPT
from tests.gpt.conftest import EOS, VOCAB


@pytest.fixture
def model(shape):
    torch.manual_seed(0)
    return GPT(shape)


def uniform(model):
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return model


def test_a_uniform_model_gets_the_bits_of_a_blind_guess(model, packed):
    data = Dataset.open(packed)
    part = data.splits["val"]
    score = evaluate(uniform(model), data)
    assert score.n_tokens == part.n_tokens - part.n_documents
    assert score.loss == pytest.approx(math.log(VOCAB), rel=1e-6)
    assert score.bits_per_byte == pytest.approx(math.log2(VOCAB) * score.n_tokens / part.n_bytes, rel=1e-6)


def test_a_uniform_model_of_bytes_gets_eight_bits_per_byte(tmp_path):
    texts = ["Grüße, 世界!", "🙂" * 9, "plain text, " * 5]
    some = [(str(n), np.frombuffer(t.encode(), np.uint8), len(t.encode())) for n, t in enumerate(texts)]
    about = {"vocab_size": 257, "eos_id": 256, "block_size": 8, "tokenizer_fingerprint": "bytes"}
    write(tmp_path, {"train": some, "val": some}, **about)

    class Blind(torch.nn.Module):
        def forward(self, ids_BT):
            logits_BTV = torch.zeros(*ids_BT.shape, 257)
            logits_BTV[..., 256] = -torch.inf
            return logits_BTV

    assert evaluate(Blind(), Dataset.open(tmp_path)).bits_per_byte == pytest.approx(8, rel=1e-6)


def test_every_token_is_scored_once_whatever_the_batch(model, packed):
    data = Dataset.open(packed)
    scores = [evaluate(model, data, "val", batch_size) for batch_size in (1, 3, 64)]
    assert len({score.n_tokens for score in scores}) == 1
    for score in scores[1:]:
        assert score.nats == pytest.approx(scores[0].nats, rel=1e-5)
    assert evaluate(model, data, "val", 3).nats == scores[1].nats


def test_the_score_is_the_sum_over_tokens_in_their_windows(model, packed):
    """The same number by a plain loop over the stream."""
    data, T = Dataset.open(packed), model.config.block_size
    stream = data.splits["val"].tokens.astype(int).tolist()
    model.eval()
    nats = 0.0
    for position, token in enumerate(stream):
        first = position // T * T
        context = ([EOS, *stream])[first : position + 1]
        if token != EOS:
            nats -= model(torch.tensor([context]))[0, -1].log_softmax(0)[token].item()
    assert evaluate(model, data).nats == pytest.approx(nats, rel=1e-5)


def test_the_model_is_left_as_it_was(model, packed):
    model.train()
    state = torch.get_rng_state()
    evaluate(model, Dataset.open(packed))
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_a_split_without_text_is_refused(model, tmp_path):
    some, none = [("a", np.ones(40, int), 40)], [(str(n), np.empty(0, int), 0) for n in range(20)]
    write(tmp_path, {"train": some, "val": none}, vocab_size=VOCAB, eos_id=EOS, block_size=4, tokenizer_fingerprint="")
    with pytest.raises(GPTError, match="no text to evaluate on"):
        evaluate(model, Dataset.open(tmp_path))


def test_bits_per_byte_needs_bytes():
    assert bits_per_byte(8 * math.log(2), 2) == 4
    with pytest.raises(ValueError, match="at least one byte"):
        bits_per_byte(1.0, 0)


@pytest.mark.parametrize("chunk", [4_000_000, 7])
def test_the_count_baselines_are_what_a_plain_loop_gives(packed, monkeypatch, chunk):
    monkeypatch.setattr("gpt.baselines.CHUNK", chunk)
    data = Dataset.open(packed)
    train = [EOS, *data.splits["train"].tokens.astype(int).tolist()]
    val = [EOS, *data.splits["val"].tokens.astype(int).tolist()]
    unigram = {w: (train[1:].count(w) + 1) / (len(train) - 1 + VOCAB) for w in range(VOCAB)}
    assert sum(unigram.values()) == pytest.approx(1)
    followers: dict[int, list[int]] = {v: [] for v in range(VOCAB)}
    for v, w in itertools.pairwise(train):
        followers[v].append(w)

    def bigram(v, w):
        kinds = max(1, len(set(followers[v])))
        return (followers[v].count(w) + kinds * unigram[w]) / (len(followers[v]) + kinds)

    assert sum(bigram(3, w) for w in range(VOCAB)) == pytest.approx(1)
    scored = [(v, w) for v, w in itertools.pairwise(val) if w != EOS]
    n_bytes = data.splits["val"].n_bytes
    assert unigram_bits_per_byte(data) == pytest.approx(-sum(math.log2(unigram[w]) for _, w in scored) / n_bytes)
    assert bigram_bits_per_byte(data) == pytest.approx(-sum(math.log2(bigram(v, w)) for v, w in scored) / n_bytes)
