"""Detects a training whose held-out text gets worse: when it ends early, and what to change."""

from itertools import takewhile
from typing import Any

from gpt.config import TrainConfig
from gpt.trainer.optimizers import lr_ratio

OVERFITTED = 1.05  # of the best bits per byte: 3 % were made good again before the learning rate fell (docs/log.md)
FALLING = 0.9  # of the peak learning rate: from there on a model should improve at every evaluation
LEAST_SHARE = 0.1  # of all steps, without a better evaluation, before a run stops early


def best(evaluations: list[dict[str, float]]) -> dict[str, Any]:
    """The evaluation whose weights are the result: the fewest bits per byte, and the earliest of equals."""
    return min(evaluations, key=lambda evaluation: (evaluation["bpb"], evaluation["step"]))


def worse_in_a_row(evaluations: list[dict[str, float]], config: TrainConfig) -> int:
    """How many of the latest evaluations count against the run: those behind the best one while the learning rate falls, or
    where it never does; clearly over-fitted ones twice, and before it falls as well."""
    falling, chosen = max(FALLING, lr_ratio(config.steps - 1, config)), best(evaluations)

    def counts(found: dict[str, Any]) -> int:
        overfitted = found["bpb"] > OVERFITTED * chosen["bpb"] and found["train_loss"] < chosen["train_loss"]
        falls = found["step"] > config.warmup_steps and lr_ratio(found["step"] - 1, config) <= falling
        return 0 if found["step"] <= chosen["step"] else 2 if overfitted else int(falls)

    return sum(takewhile(bool, map(counts, reversed(evaluations))))


def stops_early(evaluations: list[dict[str, float]], config: TrainConfig) -> bool:
    """Whether a run has got no better for so long that it ends here."""
    if not evaluations or evaluations[-1]["step"] - best(evaluations)["step"] < LEAST_SHARE * config.steps:
        return False
    return 0 < config.patience <= worse_in_a_row(evaluations, config)


def advice(evaluations: list[dict[str, float]]) -> str:
    """What went wrong since the best evaluation, and what to change, in one line."""
    then, now = best(evaluations), evaluations[-1]
    had, has = (f"{found['bpb']:.3f} bits per byte at step {found['step']:,}" for found in (then, now))
    seen, change = f"held-out text had {had}, and has {has}", f"fewer steps (train.steps={then['step']})"
    if now["train_loss"] >= then["train_loss"]:
        return f"{seen}; try {change} or lower learning rates (train.lr, train.matrix_lr)"
    losses = f"from {then['train_loss']:.2f} to {now['train_loss']:.2f}"
    cause = f"while the training loss fell {losses}: the model learns its text by heart"
    return f"{seen}, {cause}; try {change}, more dropout (model.dropout=0.2), a smaller model or more text"
