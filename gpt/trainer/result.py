"""What a finished run gives, as its folder tells it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt import checkpoint


@dataclass(frozen=True)
class Result:
    """What a finished run gives."""

    model: Path
    """Folder of the best weights (`gpt.checkpoint.load_model`)."""
    step: int
    """Updates after which they were best."""
    loss: float
    """Their nats per scored token of val."""
    bits_per_byte: float
    """Their bits per byte of val."""
    evaluations: list[dict[str, float]]
    """Every evaluation: step, loss, bpb."""
    steps: int
    """Updates that the run went through: those asked for, or fitting into `minutes`, or fewer after an early stop."""
    stopped_early: bool
    """Whether `patience` ended it."""
    skipped: list[int]
    """Numbers (from 0) of the updates left out after a loss spike; usually none."""
    n_parameters: int
    """Trained numbers of the model."""
    tokens: int
    """Target positions trained on: (steps - skipped) x B x T."""
    resumed_from: int
    """Step this call went on from; 0 for a fresh start, `steps` if there was nothing left to do."""
    seconds: float
    """Wall time of this call."""


def read_result(out: Path, tokens_per_step: int, first: int | None, seconds: float) -> Result:
    """The result of the finished run in `out`.

    tokens_per_step: B x T. first: the step that this call went on from, None if there was nothing left to do.
    """
    evaluations, run = (
        json.loads((out / name).read_text(encoding="utf-8")) for name in ("evaluations.json", "run.json")
    )
    chosen, steps = best(evaluations), evaluations[-1]["step"]
    return Result(
        model=out / "model", step=chosen["step"], loss=chosen["loss"], bits_per_byte=chosen["bpb"], evaluations=evaluations,
        steps=steps, stopped_early=run["stopped_early"], skipped=run["skipped"],
        n_parameters=checkpoint.load_model(out / "model")[0].n_parameters,
        tokens=(steps - len(run["skipped"])) * tokens_per_step,
        resumed_from=steps if first is None else first, seconds=seconds,
    )  # fmt: skip


def best(evaluations: list[dict[str, float]]) -> dict[str, Any]:
    """The evaluation whose weights are the result: the fewest bits per byte, and the earlier of equals."""
    return min(evaluations, key=lambda evaluation: (evaluation["bpb"], evaluation["step"]))
