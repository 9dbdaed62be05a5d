"""How many steps fit into a number of minutes: measured on the machine at hand, before the run proper starts.

A schedule must know its end, and the updates made to measure are thrown away, so that a run of `minutes` gives the weights of a
run of that many `steps`. With wsd the number is set right once more, amid the flat part, which is the same whatever the end.
"""

import contextlib
import math
import shutil
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from gpt import GPTError, checkpoint
from gpt.config import TrainConfig
from gpt.machine import parallel
from gpt.trainer.optimizers import flat_until
from gpt.trainer.update import Learner

SHARE = 0.02  # of the time to spend on measuring steps, and as much on measuring evaluation
AT_LEAST = 3  # steps to measure, after a first that is slow
SPARE = 0.1  # of the time, for what varies


def steps_that_fit(
    learner: Learner, config: TrainConfig, scratch: Path, started: float, interrupted: Callable
) -> tuple[int, float]:
    """The most steps whose updates, evaluations and savings end within config.minutes of `started` (time.perf_counter()).

    Returns them, and the seconds that an evaluation takes with its savings.

    learner: one to spend. scratch: a folder to write a checkpoint to; deleted. interrupted(): raises to leave early.
    Raises GPTError if not even one step fits.
    """
    limit, device = config.minutes * 60, learner.machine.device

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    before = clock()
    learner.update(0)
    first, before = clock() - before, clock()
    for n in range(1, 2**31):
        learner.update(n)
        interrupted()
        taken = parallel.agreed(clock() - before, device)
        if taken > limit or (n >= AT_LEAST and taken > SHARE * limit):
            break
    update = taken / n
    scoring = _evaluation_seconds(learner, SHARE * limit)
    before = clock()
    checkpoint.save_state(scratch, learner.model, learner.optimizers, learner.ema, step=1, progress={})
    saving = clock() - before
    evaluation = scoring + 2 * saving
    if parallel.is_main():
        shutil.rmtree(scratch)
    left = (1 - SPARE) * limit - (clock() - started) - first  # to build the model and compile, once more

    def seconds(steps: int) -> float:
        evaluations = -(-steps // config.eval_every)
        return steps * update + evaluations * evaluation + steps // config.checkpoint_every * saving

    most = bisect_right(range(2**31), left, key=seconds) - 1
    steps = -int(parallel.agreed(-most, device))  # the fewest of all processes' counts
    if steps < 1:
        needed = (clock() - started + first + seconds(1)) / (1 - SPARE) / 60
        raise GPTError(
            f"minutes {config.minutes:g} are too short: one step, an evaluation and saving take {seconds(1):.1f} s here after "
            f"{clock() - started:.1f} s of preparation; set minutes to at least {math.ceil(needed * 100) / 100:g}"
        )
    return steps, evaluation


def revised(config: TrainConfig, step: int, update: float, evaluation: float, elapsed: float) -> int:
    """The number of steps set right after `step` of them; never so few that the fall should have begun already.

    update, evaluation: seconds that one takes. elapsed: seconds of config.minutes that are gone.
    """
    left = (1 - SPARE) * config.minutes * 60 - elapsed - evaluation  # the last may come out of turn
    steps = max(step + int(left / (update + evaluation / config.eval_every)), step)
    while flat_until(replace(config, steps=max(steps, config.warmup_steps))) < step:
        steps += 1
    return max(steps, config.warmup_steps)


class _Enough(Exception):
    pass


def _evaluation_seconds(learner: Learner, limit: float) -> float:
    """Seconds that an evaluation takes; if that is over `limit`, extrapolated from its beginning."""
    before, share = time.perf_counter(), 1.0

    def on_batch(done: int, total: int) -> None:
        nonlocal share
        share = done / total
        if parallel.agreed(time.perf_counter() - before, learner.machine.device) > limit:
            raise _Enough

    with contextlib.suppress(_Enough):
        learner.evaluate(on_batch)
    return (time.perf_counter() - before) / share
