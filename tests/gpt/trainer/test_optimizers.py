"""Feeding: the batches that an update gets are those of the dataset."""

import threading

import numpy as np
import pytest
import torch

from gpt import GPTError
from gpt.data.dataset import Dataset
from gpt.data.feeding import Feeder


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
