"""Intervals against known answers: how often they hold the truth, and what they say where there is nothing to say."""

import math

import numpy as np
import pytest

from gpt.evaluation.confidence import interval

BIT = math.log(2)


def documents(generator, n, sigma=1.0):
    """Lengths over two orders of magnitude; bits per byte that differ between documents and grow with length."""
    n_bytes = np.ceil(np.exp(generator.normal(6, sigma, n)))
    rate = 2 + 0.3 * generator.standard_normal(n) + 0.1 * (np.log(n_bytes) - 6)
    return rate * n_bytes * BIT, n_bytes


def coverage(n, sigma, trials=200):
    """Share of trials in which the interval holds the bits per byte of very many documents."""
    generator = np.random.default_rng(3)
    nats, n_bytes = documents(generator, 2_000_000, sigma)
    truth = nats.sum() / BIT / n_bytes.sum()
    found = [interval(*documents(generator, n, sigma), seed=trial) for trial in range(trials)]
    return sum(low <= truth <= high for _, low, high in found) / trials


def test_the_value_is_all_bits_over_all_bytes():
    found = interval(np.array([10.0, 2.0, 30.0]) * BIT, np.array([5, 2, 9]))
    assert found.value == pytest.approx(42 / 16)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(("n", "sigma", "least"), [(8, 0.3, 0.9), (30, 0.3, 0.91), (100, 0.3, 0.91), (100, 1.0, 0.88)])
def test_an_interval_holds_the_truth_as_often_as_it_says(n, sigma, least):
    """95 %, of few documents too. 200 trials scatter by 1.5 %; very uneven lengths cost some."""
    assert least <= coverage(n, sigma) <= 0.99


def test_a_pair_is_told_apart_where_each_alone_is_not():
    """Documents differ far more than two models on the same documents do."""
    nats, n_bytes = documents(np.random.default_rng(0), 60)
    better = nats - 0.01 * n_bytes * BIT * np.random.default_rng(1).uniform(0.5, 1.5, 60)
    one, other, gap = interval(nats, n_bytes), interval(better, n_bytes), interval(better - nats, n_bytes)
    assert other.low < one.value < other.high
    assert gap.low < gap.value < gap.high < 0
    assert gap.value == pytest.approx(other.value - one.value)
    assert interval(nats - better, n_bytes).low > 0


def test_two_models_of_equal_worth_are_seldom_told_apart():
    generator, told = np.random.default_rng(5), 0
    for trial in range(200):
        _, n_bytes = documents(generator, 30, 0.5)
        gap = interval(0.02 * generator.standard_normal(30) * n_bytes, n_bytes, seed=trial)
        told += not gap.low <= 0 <= gap.high
    assert told <= 0.1 * 200


def test_equal_models_differ_by_nothing():
    _, n_bytes = documents(np.random.default_rng(0), 12)
    assert interval(np.zeros(12), n_bytes) == (0, 0, 0)


def test_equal_documents_leave_no_doubt():
    n_bytes = np.array([3.0, 50.0, 7.0, 1000.0])
    assert interval(2 * BIT * n_bytes, n_bytes) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_documents_tell_nothing(n):
    nats, n_bytes = documents(np.random.default_rng(0), n)
    value, low, high = interval(nats, n_bytes)
    assert (low, high) == (-math.inf, math.inf)
    assert value == pytest.approx(nats.sum() / BIT / n_bytes.sum())


def test_every_document_has_nats_and_bytes():
    with pytest.raises(ValueError, match="3 documents have nats, and 1 have bytes"):
        interval(np.ones(3), np.ones(1))


def test_the_same_seed_gives_the_same_interval():
    nats, n_bytes = documents(np.random.default_rng(0), 40)
    once = interval(nats, n_bytes)
    assert interval(nats, n_bytes, seed=1) != once
    assert interval(nats, n_bytes) == once
