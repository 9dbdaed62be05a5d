"""Which trainings go wrong."""

import pytest

from gpt.config import TrainConfig
from gpt.trainer.stability import advice, stops_early


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
    assert stops_early(evaluations, config) is stops


def test_what_to_change_depends_on_the_cause():
    first, by_heart, lost = evaluated((3.0, 4.0), (3.8, 2.0), (3.8, 4.5))
    assert (
        "fell from 4.00 to 2.00: the model learns its text by heart; try fewer steps (train.steps=100), more"
        in advice([first, by_heart])
    )
    assert "lower learning rates" in advice([first, lost])
