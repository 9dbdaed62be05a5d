"""Which losses count as a spike."""

import json
import math

import numpy as np
import pytest
import torch

from gpt.config import TrainConfig
from gpt.trainer.stability import LossMonitor, advice, stops_early


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


def evaluated(*pairs: tuple[float, float], every: int = 100) -> list[dict]:
    """Evaluations, of their bits per byte and training losses."""
    return [{"step": every * n, "bpb": bpb, "train_loss": loss} for n, (bpb, loss) in enumerate(pairs, start=1)]


@pytest.mark.parametrize(
    ("settings", "found", "stops"),
    [
        ({}, [(3.0, 4), (3.8, 2), (4.5, 1)], True),  # wsb's recipe on a small sample
        ({}, [(3.0, 4), (3.8, 2)], False),
        ({"patience": 0}, [(3.0, 4), (3.8, 2), (4.5, 1)], False),
        ({}, [(3.0, 4), (3.8, 4), (4.5, 5)], False),  # worse, but not by learning by heart
        ({}, [(3.0, 4), (3.1, 3), (3.1, 2)], False),  # the fall of the rate may make good for it
        ({}, [(3.0, 4), (3.8, 2), (2.9, 1), (3.0, 1)], False),
        ({"schedule": "cosine"}, [(3.0, 4)] + [(3.1, 3)] * 2, False),
        ({"schedule": "cosine"}, [(3.0, 4)] + [(3.1, 3)] * 4, True),
        ({"cooldown": 0.0}, [(3.0, 4)] + [(3.1, 5)] * 3, True),  # no fall is to come
        ({"min_lr_ratio": 1.0}, [(3.0, 4)] + [(3.1, 5)] * 3, True),
        ({"steps": 400}, [(3.0, 4)] + [(3.1, 3)] * 2, False),  # the rate falls from step 160 on
        ({"steps": 400}, [(3.0, 4)] + [(3.1, 3)] * 3, True),
        ({"warmup_steps": 300}, [(3.0, 4)] + [(3.1, 5)] * 3, False),  # nor does a low rate at the start count
        ({"steps": 2001}, [(3.0, 4), (3.8, 2), (4.5, 1)], False),  # less than a tenth of the steps
        ({"steps": 2000}, [(3.0, 4), (3.8, 2), (4.5, 1)], True),
    ],
)
def test_when_a_run_stops_early(settings, found, stops):
    config, evaluations = TrainConfig(**({"steps": 1000} | settings)), evaluated(*found)
    best = min(evaluations, key=lambda one: one["bpb"])
    assert stops_early(evaluations, best, config) is stops


def test_what_to_change_depends_on_the_cause():
    first, by_heart, lost = evaluated((3.0, 4.0), (3.8, 2.0), (3.8, 4.5))
    assert (
        "fell from 4.00 to 2.00: the model learns its text by heart; try fewer steps (train.steps=100), more"
        in advice(by_heart, first)
    )
    assert "lower learning rates" in advice(lost, first)
