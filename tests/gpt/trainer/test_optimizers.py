"""Schedules, averages and feeding: what the trainer is made of."""

import threading

import numpy as np
import pytest
import torch

from gpt import GPTError
from gpt.data.dataset import Dataset
from gpt.data.feeding import Feeder
from gpt.model.ema import EMA


def test_an_average_takes_the_place_of_the_weights_and_leaves_it():
    model = torch.nn.Linear(3, 2)
    ema = EMA(model, decay=0.5)
    first = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    own = model.weight.detach().clone()
    ema.update(1000)
    with ema.in_place():
        torch.testing.assert_close(model.weight.detach(), first + 0.5)
    assert torch.equal(model.weight, own)
    ema.update(1)  # early, the average forgets faster than its decay
    torch.testing.assert_close(ema.average["weight"], first + 0.5 + 0.5 * (1 - 2 / 11))


@pytest.mark.parametrize("ahead", [False, True])
def test_what_is_fed_is_the_dataset_whatever_was_prepared(packed, ahead):
    data, cpu = Dataset.open(packed), torch.device("cpu")
    feeder = Feeder(data, 12, 3, cpu, first=2, n=2, parts=4, ahead=ahead)
    last = data.n_sequences() // 12  # with the padded sequence in its epoch, or the next
    for step in (0, 1, last, 5, 0, 1):
        batches, n_targets = feeder.take(step)
        rows = np.concatenate([data.batch(step, 12, 3, part, 4).targets_BT for part in (2, 3)])
        assert (torch.cat([targets_BT for _, targets_BT in batches]).numpy() == rows).all()
        assert n_targets == (rows >= 0).sum()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("feeder")]
    assert len(threads) == ahead
    del feeder  # its thread ends with it
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_what_goes_wrong_in_the_feeding_thread_is_raised(packed):
    data = Dataset.open(packed)
    data.vocab_size = 3
    feeder = Feeder(data, 4, 1, torch.device("cpu"), ahead=True)
    with pytest.raises(GPTError, match="over vocab_size 3"):
        feeder.take(0)
