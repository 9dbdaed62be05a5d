"""Wall time: how many steps fit into a number of minutes, and how fast a run goes.

The schedule needs to know the last step, so the steps are counted before the run proper starts, by what updates, evaluation and
saving take on this machine. The updates made to measure are thrown away: a run of `minutes` gives the weights of a run of that
many `steps`.
"""

import contextlib
import math
import shutil
import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import torch

from gpt import GPTError, checkpoint
from gpt.config import TrainConfig
from gpt.machine import parallel
from gpt.machine.interruption import Interrupted
from gpt.trainer.update import Learner

SHARE = 0.02  # of the time to spend on measuring updates, and as much on measuring evaluation
AT_LEAST = 3  # updates to measure, after a first that is slow
SPARE = 0.1  # of the time, for what varies


def steps_that_fit(
    learner: Learner, config: TrainConfig, scratch: Path, started: float, check_interruption: Callable[[], None]
) -> int:
    """The most steps whose updates, evaluations and saving end within config.minutes of `started` (time.perf_counter()).

    learner: one to throw away. scratch: a folder to write a checkpoint to, and to delete. check_interruption(): raises to leave
    early. Raises GPTError if not even one step fits.
    """
    limit, device = config.minutes * 60, learner.machine.device
    first, update = _update_seconds(learner, limit, check_interruption)
    scoring = _evaluation_seconds(learner, SHARE * limit)
    before = _clock(device)
    checkpoint.save_state(scratch, learner.model, learner.optimizers, step=1, progress={})
    saving = _clock(device) - before
    if parallel.is_main():
        shutil.rmtree(scratch)

    def seconds(steps: int) -> float:
        evaluations = -(-steps // config.eval_every)  # each writes the weights and the state
        return steps * update + evaluations * (scoring + 2 * saving) + steps // config.checkpoint_every * saving

    prepared = _clock(device) - started
    remaining = (1 - SPARE) * limit - prepared - first  # `first`: the model is built and compiled once more
    most = bisect_right(range(2**31), remaining, key=seconds) - 1
    steps = -int(parallel.all_max(-most, device))  # the fewest of all processes' counts
    if steps < 1:
        needed = prepared + first + seconds(1)
        raise GPTError(
            f"minutes {config.minutes:g} are too short: preparing, a step, an evaluation and saving take {needed:.1f} s here; "
            f"set minutes to at least {math.ceil(needed / (1 - SPARE) / 60 * 100) / 100:g}"
        )
    return steps


def _update_seconds(learner: Learner, limit: float, check_interruption: Callable[[], None]) -> tuple[float, float]:
    """Seconds that the first update takes, and that each later one takes on average."""
    device = learner.machine.device
    before = _clock(device)
    learner.update(0)
    after_first, n, taken = _clock(device), 0, 0.0
    while taken <= limit and (n < AT_LEAST or taken <= SHARE * limit):
        n += 1
        learner.update(n)
        check_interruption()
        taken = parallel.all_max(_clock(device) - after_first, device)
    return after_first - before, taken / n


def _evaluation_seconds(learner: Learner, limit: float) -> float:
    """Seconds that an evaluation takes; if that is over `limit`, extrapolated from its beginning."""
    before, share = time.perf_counter(), 1.0

    def on_batch(done: int, total: int) -> None:
        nonlocal share
        share = done / total
        if parallel.all_max(time.perf_counter() - before, learner.machine.device) > limit:
            raise Interrupted

    with contextlib.suppress(Interrupted):
        learner.evaluate(on_batch)
    return (time.perf_counter() - before) / share


def _clock(device: torch.device) -> float:
    """The time when all that was queued on the device has been computed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Speed:
    """Tokens per second since the last `restart`, and the time until the end."""

    def __init__(self, flops_per_token: int, peak_flops: float, step: int):
        """peak_flops: of all devices together. step: updates done already."""
        self._flops_per_token, self._peak_flops = flops_per_token, peak_flops
        self._started, self._first_step = time.perf_counter(), step
        self.restart()

    def restart(self) -> None:
        """Leave out of the rate what came before (an evaluation, a callback); it does count towards the time left."""
        self.tokens, self._since = 0, time.perf_counter()  # trained on since then

    def metrics(self, step: int, steps: int) -> dict[str, float]:
        """The speed since the last restart.

        train/tokens_per_second; train/mfu, the share of the devices' peak FLOP/s put to use; train/progress, the share of the
        steps done; train/eta_seconds until the last step at the pace of this whole call, evaluations included.
        """
        now = time.perf_counter()
        rate = self.tokens / max(now - self._since, 1e-9)
        pace = (now - self._started) / max(1, step - self._first_step)
        return {
            "train/tokens_per_second": rate,
            "train/mfu": rate * self._flops_per_token / self._peak_flops,
            "train/progress": step / steps,
            "train/eta_seconds": pace * (steps - step),
        }
