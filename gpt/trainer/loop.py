"""train(): from a packed dataset to the best weights; it can be killed anywhere and called again.

Notable:
- `_Run.train` is the loop, `gpt.trainer.update` one step of it, `gpt.trainer.run_folder` the files
- independent of trackers and schedulers, which come in by the callbacks `on_step` and `on_evaluation`
- on CPU, a run that was killed and started again ends in the same bytes as one left alone (but for out/log/)
- every evaluation scores all of val; the best weights by bits per byte are the result, which is then scored on test, once
"""

import logging
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from gpt import GPTError, checkpoint
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.data.dataset import Dataset
from gpt.evaluation.score import evaluate
from gpt.machine import parallel
from gpt.machine.device import Machine, prepare
from gpt.machine.interruption import Interrupted, Interruption, held_back
from gpt.machine.launch import launch
from gpt.model.cpu_kernels import use_cpu_kernels
from gpt.trainer.run_folder import Result, RunFolder, best
from gpt.trainer.schedule import lr_ratio
from gpt.trainer.stability import Losses, advice, stops_early, worse_in_a_row
from gpt.trainer.update import Learner, micro_steps

log = logging.getLogger(__name__)

OnStep = Callable[[int, dict[str, float]], object]
OnEvaluation = Callable[[int, dict[str, float], Path, bool], object]


def train(
    data: Path,
    out: Path,
    model: ModelConfig,
    config: TrainConfig,
    runtime: Runtime = Runtime(),
    on_step: OnStep | None = None,
    on_evaluation: OnEvaluation | None = None,
    start: Path | None = None,
) -> Result:
    """Train a model, or resume where an earlier call with the same `out` was cut off.

    data: folder of a packed dataset. out: folder for the run (`gpt.trainer.run_folder`).
    on_step(step, metrics): every `log_every` steps; train/loss, train/lr, train/grad_norm, train/epoch, and those of
        `_Speed`.
    on_evaluation(step, {"val/loss", "val/bpb"}, folder, best): every `eval_every` steps and at the end; `folder` holds these
        weights. After a kill, the steps since the last saved state are repeated, and so are their calls.
    start: folder of a model of the same shape and tokenizer, whose weights are the first; None: random ones.
    Raises GPTError when data and model do not fit, the device's memory does not hold the batch, `out` belongs to another run,
    or the training diverges.
    SIGINT and SIGTERM (in the main thread): the step is finished, the state saved, and the signal raised again for the
    caller's own handler; SystemExit(128 + signal) if that handler returns.
    """
    started, out, dataset = time.perf_counter(), Path(out), Dataset.open(data)
    folder = RunFolder(out, dataset, model, config, start)
    on_step, on_evaluation = on_step or _ignore, on_evaluation or _ignore
    resumed_from = None
    with held_back() as interruption:
        if folder.is_finished():
            checkpoint.keep_only(folder.states, set())  # a kill may have come between the model and this
        else:
            starts = runtime.processes > 1 and parallel.launched() == 1
            with launch(data, out, model, config, runtime, start) if starts else nullcontext():
                machine = prepare(runtime)
                with parallel.group(machine.device):
                    if not parallel.is_main():
                        on_step = on_evaluation = _ignore
                    # No name holds the run, so that nothing of it is left when the group ends.
                    resumed_from = _Run(
                        dataset, folder, model, config, runtime, machine, interruption, on_step, on_evaluation
                    ).train()
    if interruption.signal:
        signal.raise_signal(interruption.signal)
        raise SystemExit(128 + interruption.signal)
    if parallel.is_main():  # also where a kill came between the model and these lines
        if dataset.tokenizer.is_file():
            shutil.copy(dataset.tokenizer, out / "model")
        if "test" in dataset.splits and not folder.test.is_file():
            _score_test(folder, dataset, config, runtime)
    return folder.result(resumed_from, time.perf_counter() - started)


class _Run:
    """One training run in progress, after `step` updates."""

    def __init__(
        self, dataset: Dataset, folder: RunFolder, model: ModelConfig, config: TrainConfig, runtime: Runtime,
        machine: Machine, interruption: Interruption, on_step: OnStep, on_evaluation: OnEvaluation,
    ):  # fmt: skip
        self.dataset, self.folder, self.model, self.config = dataset, folder, model, config
        self.runtime, self.machine, self.interruption = runtime, machine, interruption
        self.on_step, self.on_evaluation = on_step, on_evaluation
        self.step = 0

    def train(self) -> int:
        """Run to the end, or until a signal arrives: then save the state. Returns the step that the run resumed from."""
        resumed_from = 0
        try:
            self._resume()
            self._check_shared()
            resumed_from = self.step
            evaluated = int(self.evaluations[-1]["step"]) if self.evaluations else 0
            if self._is_due(self.config.eval_every) and evaluated < self.step:  # a signal cut it short
                self._evaluate()
            peak_flops = self.machine.peak_flops * parallel.world_size()
            speed = _Speed(self.learner.model.flops_per_token, peak_flops, self.step)
            while not self._ended():
                if parallel.world_size() == 1 or self.step % self.runtime.log_every == 0:
                    self._check_interruption()  # with many processes not at every step: it makes a GPU wait
                loss, grad_norm = self.learner.update(self.step)
                self.losses.record(self.step, loss, grad_norm)
                speed.tokens += self.config.batch_size * self.dataset.block_size
                self.step += 1

                logs = self.step == 1 or self._is_due(self.runtime.log_every)
                evaluates, saves = self._is_due(self.config.eval_every), self._is_due(self.config.checkpoint_every)
                if not (logs or evaluates or saves):
                    continue  # nothing that needs the loss's value, for which a GPU would have to wait
                self.losses.read()
                if logs:
                    self._log(loss.item(), grad_norm.item(), speed.metrics(self.step, self.config.steps))
                if evaluates:
                    self._evaluate()  # which saves the state as well
                elif saves:
                    self._save_state()
                speed.restart()
            if self.step < self.config.steps:
                log.warning("stopped at step %d of %d; the best weights are kept", self.step, self.config.steps)
            self.folder.finish(self.evaluations)
            parallel.barrier()
        except Interrupted:
            # Before the first step there is nothing that a fresh start would not do again.
            if self.step:
                self._save_state()
        return resumed_from

    def _is_due(self, every: int) -> bool:
        """Whether `step` is the last, or one in `every`."""
        return self.step == self.config.steps or self.step % every == 0

    def _ended(self) -> bool:
        """After the last step, or after `patience` evaluations that were no better."""
        found = self.evaluations
        return self.step == self.config.steps or (bool(found) and stops_early(found, best(found), self.config))

    def _resume(self) -> None:
        """Load the newest state; without one, start from the seed."""
        self.learner = Learner(self.dataset, self.model, self.config, self.runtime, self.machine, self.folder.start)
        self.evaluations, self.losses = [], Losses()
        if saved := self.folder.newest_state():
            folder, self.step, progress = saved
            checkpoint.load_state(folder, self.learner.model, self.learner.optimizers)
            self.losses, self.evaluations = Losses(progress["losses"]), progress["evaluations"]
            self.folder.keep_latest(self.evaluations)  # a kill may have come before it was done
        self.folder.rewind_log(self.step)
        parallel.barrier()  # before the first process deletes what another still reads

    def _check_shared(self) -> None:
        """Raise GPTError if a process does not see what the first one writes: it would start from the seed."""
        seen = self.step if self.folder.log.is_file() else -1
        last, first = (parallel.all_max(sign * seen, self.machine.device) for sign in (1, -1))
        if last != -first:
            where = f"{self.folder.path} is not the same folder for all processes"
            raise GPTError(f"{where}: name one on a disk that the machines share")

    def _log(self, loss: float, grad_norm: float, speed: dict[str, float]) -> None:
        metrics = {
            "train/loss": loss,
            "train/lr": self.config.lr * lr_ratio(self.step - 1, self.config),  # of AdamW
            "train/grad_norm": grad_norm,
            "train/epoch": self.step * self.config.batch_size / self.dataset.n_sequences(),
            **speed,
        }
        self.folder.append_log(self.step, metrics)
        self.on_step(self.step, metrics)

    def _evaluate(self) -> None:
        """Score val, write weights, call back; save the state last, so that after a kill before that all is repeated."""
        score = self.learner.evaluate(on_batch=lambda _done, _total: self._check_interruption())
        found = {"step": self.step, "loss": score.loss, "bpb": score.bits_per_byte}
        self.evaluations.append(found | {"train_loss": statistics.fmean(self.losses.read() or [score.loss])})
        if worse_in_a_row(self.evaluations, best(self.evaluations), self.config):
            log.warning(advice(self.evaluations[-1], best(self.evaluations)))
        metrics = {"val/loss": score.loss, "val/bpb": score.bits_per_byte}
        folder = checkpoint.step_folder(self.folder.checkpoints, self.step)
        about = {"tokenizer_fingerprint": self.dataset.tokenizer_fingerprint, "eos_id": self.dataset.eos_id}
        about["tokenizer_sha256"] = checkpoint.sha256(self.dataset.tokenizer)
        checkpoint.save_model(folder, self.learner.model, step=self.step, **metrics, **about, task=self.folder.task)
        checkpoint.write_json(self.folder.path / "evaluations.json", self.evaluations)
        self.folder.append_log(self.step, metrics)
        self.on_evaluation(self.step, metrics, folder, best(self.evaluations)["step"] == self.step)
        self._save_state()

    def _save_state(self) -> None:
        """Save what `_resume` loads."""
        progress = {"task": self.folder.task, "evaluations": self.evaluations, "losses": self.losses.read()}
        learner, folder = self.learner, checkpoint.step_folder(self.folder.states, self.step)
        checkpoint.save_state(folder, learner.model, learner.optimizers, step=self.step, progress=progress)
        self.folder.keep_latest(self.evaluations)

    def _check_interruption(self) -> None:
        """Raise Interrupted if a signal has arrived; many processes stop at the same step."""
        self.interruption.signal = int(parallel.all_max(self.interruption.signal, self.machine.device))
        if self.interruption.signal:
            raise Interrupted


class _Speed:
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


def _score_test(folder: RunFolder, dataset: Dataset, config: TrainConfig, runtime: Runtime) -> None:
    """Score the result on the documents that nothing was chosen by, as many rows at a time as a process trained on."""
    world, machine = max(runtime.processes, parallel.launched()), prepare(runtime)
    rows = config.batch_size // (world * micro_steps(config.batch_size, world, runtime.micro_batch_size))
    model, _ = checkpoint.load_model(folder.path / "model", machine.device)
    use_cpu_kernels(model)
    score = evaluate(model, dataset, "test", rows, machine.device, machine.dtype)
    checkpoint.write_json(folder.test, {"loss": score.loss, "bpb": score.bits_per_byte})


def _ignore(*_: object) -> None:
    """The callback where there is none."""
