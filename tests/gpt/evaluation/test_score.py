import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import GPTError
from gpt.config import ModelConfig
from gpt.data.dataset import Dataset, write
from gpt.evaluation.baselines import bits_per_byte, counted_bits_per_byte
from gpt.evaluation.score import evaluate
from gpt.model.transformer import GPT
from tests.gpt.conftest import EOS, VOCAB, about, splits


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


class Rigged(GPT):
    """Says what a table says of the token before, whatever came earlier."""

    def __init__(self, log_p_VV):
        V = len(log_p_VV)
        super().__init__(ModelConfig(vocab_size=V, block_size=2**20, n_layer=1, n_head=1, n_embd=2))
        self.log_p_VV = log_p_VV

    def loss(self, ids_BT, targets_BT, documents_BT=None, reduction="none"):
        losses = -self.log_p_VV[ids_BT, targets_BT.clamp(min=0)]
        return losses.where(targets_BT >= 0, 0).flatten()


def dataset_of_bytes(folder, texts, **changes):
    some = [(str(n), np.frombuffer(text.encode(), np.uint8), len(text.encode())) for n, text in enumerate(texts)]
    write(folder, splits(train=some, val=some), about(vocab_size=257, eos_id=256, pad_id=256, **changes))
    return Dataset.open(folder)


TEXTS = ["Grüße, 世界!", "🙂" * 9, "plain text, " * 50, "", "x"]


def test_a_uniform_model_of_bytes_gets_eight_bits_per_byte(tmp_path):
    blind = torch.zeros(257, 257)
    blind[:, 256] = -torch.inf  # nothing is wasted on the end of a document, which is not scored
    data = dataset_of_bytes(tmp_path, TEXTS, block_size=8)
    assert evaluate(Rigged(blind.log_softmax(1)), data).bits_per_byte == pytest.approx(8, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(T=st.integers(2, 90), batch_size=st.integers(1, 40), mask=st.booleans())
def test_only_context_can_change_the_score(tmp_path_factory, T, batch_size, mask):
    """A model that looks at one token gets the same from every T, batch and mask: each pair is scored exactly once."""
    torch.manual_seed(0)
    log_p_VV = torch.randn(257, 257).log_softmax(1)
    folder = tmp_path_factory.mktemp("data")
    data = dataset_of_bytes(folder, TEXTS, block_size=T, document_mask=mask)
    by_hand = []
    for text in TEXTS:
        tokens = [256, *text.encode()]
        by_hand.append(-sum(log_p_VV[v, w].item() for v, w in itertools.pairwise(tokens)))
    score = evaluate(Rigged(log_p_VV), data, batch_size=batch_size)
    assert score.document_nats == pytest.approx(by_hand, rel=1e-4)
    assert score.nats == pytest.approx(sum(by_hand), rel=1e-5)
    assert score.n_bytes == sum(len(text.encode()) for text in TEXTS)


def test_with_a_document_mask_each_document_scores_as_if_it_were_alone(tmp_path):
    torch.manual_seed(0)
    T = 64
    model = GPT(ModelConfig(vocab_size=257, block_size=T, n_layer=2, n_head=2, n_embd=16, zero_init=False))
    # Two to a sequence, with their ends, so that none is cut.
    texts = [("plain text, " * 9)[number : number + n] for number, n in enumerate([19, T - 21] * 4)]
    masked = dataset_of_bytes(tmp_path / "masked", texts, block_size=T, document_mask=True)
    together = dataset_of_bytes(tmp_path / "together", texts, block_size=T)
    alone = []
    for text in texts:
        tokens = torch.tensor([[256, *text.encode()][: T + 1]])
        losses = model.eval().loss(tokens[:, :-1], tokens[:, 1:], reduction="none")
        alone.append(losses.sum().item())
    assert evaluate(model, masked).document_nats == pytest.approx(alone, rel=1e-4)
    assert evaluate(model, together).document_nats != pytest.approx(alone, rel=1e-4)


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
    stream = data.splits["val"].tokens(np.arange(data.splits["val"].n_tokens)).tolist()
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
    write(tmp_path, splits(train=some, val=none), about(block_size=4))
    with pytest.raises(GPTError, match="no text to evaluate on"):
        evaluate(model, Dataset.open(tmp_path))


def test_training_and_evaluation_have_the_same_loss_on_the_same_text(tmp_path):
    """Texts of a token or two, each with an end: half of all targets. Evaluation once left the ends out of its loss."""
    some = [(str(n), np.full(1 + n % 2, 1 + n % (VOCAB - 1)), 2) for n in range(40)]
    write(tmp_path, splits(train=some, val=some), about())
    data, V = Dataset.open(tmp_path), VOCAB
    torch.manual_seed(3)
    likely = torch.randn(V, V) * 4
    likely[:, EOS] += 12  # the ends are easy, the text is not
    rigged = Rigged(likely.log_softmax(1))
    everything = data.batch(0, data.n_sequences(), seed=0)
    ids_BT, targets_BT, _ = map(torch.from_numpy, everything)
    losses, is_target = rigged.loss(ids_BT, targets_BT), (targets_BT >= 0).flatten()
    score = evaluate(rigged, data)
    assert score.loss == pytest.approx(losses[is_target].mean().item(), rel=1e-5)
    assert score.nats / score.n_tokens > 1.5 * score.loss  # so leaving them out would be seen
    assert score.bits_per_byte == pytest.approx(score.document_nats.sum() / math.log(2) / 80)


def test_bits_per_byte_are_nats_in_bits():
    assert bits_per_byte(8 * math.log(2), 2) == 4


@pytest.mark.parametrize("chunk", [4_000_000, 7])
def test_the_count_baselines_are_what_a_plain_loop_gives(packed, monkeypatch, chunk):
    monkeypatch.setattr("gpt.evaluation.baselines.CHUNK", chunk)
    data = Dataset.open(packed)
    train, val = ([EOS, *part.tokens(np.arange(part.n_tokens)).tolist()] for part in data.splits.values())
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
    assert counted_bits_per_byte(data) == {
        "unigram": pytest.approx(-sum(math.log2(unigram[w]) for _, w in scored) / n_bytes),
        "bigram": pytest.approx(-sum(math.log2(bigram(v, w)) for v, w in scored) / n_bytes),
    }
