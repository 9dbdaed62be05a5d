"""Which losses count as a spike."""

import json
import math

import numpy as np
import torch

from gpt.trainer.stability import LossMonitor


def test_a_jump_that_stays_is_a_spike_and_an_odd_batch_is_none():
    generator = np.random.default_rng(0)
    losses = 3 + 0.1 * generator.standard_normal(300) - np.arange(300) / 300
    losses[150] += 4
    for jump, expected in ((0.0, None), (2.0, 202)):
        monitor, verdicts = LossMonitor(), []
        for step, loss in enumerate(losses + jump * (np.arange(300) >= 200)):
            monitor.record(step, torch.tensor(loss), torch.tensor(1.0))
            if step % 40 == 39 and not verdicts:
                verdicts += filter(None, [monitor.first_bad()])
        assert [step for step, _ in verdicts] == ([expected] if expected else [])
    first, second = LossMonitor(), None
    for step, loss in enumerate(losses[:250] + 2.0 * (np.arange(250) >= 200)):  # cut off amid the jump and gone on with
        monitor = second or first
        monitor.record(step, torch.tensor(loss), torch.tensor(1.0))
        if step == 200:
            assert monitor.first_bad() is None
            second = LossMonitor(json.loads(json.dumps(first.losses())))
    assert second.first_bad()[0] == 202
    monitor = LossMonitor()
    monitor.record(0, torch.tensor(2.0), torch.tensor(math.nan))
    assert monitor.first_bad() == (0, "the gradient norm is not a finite number")
