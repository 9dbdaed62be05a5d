"""train(): from a packed dataset to the best weights; it can be killed anywhere and called again.

Notable:
- `_Run.train` is the loop, `gpt.trainer.update` one step of it, `gpt.trainer.run_folder` the files
- independent of trackers and schedulers, which come in by the callbacks `on_step` and `on_evaluation`
- on CPU, a run that was killed and started again ends in the same bytes as one left alone (but for out/log/)
- every evaluation scores all of val; the best weights by bits per byte are the result, which is then scored on test, once
"""

import logging
import math
import shutil
import signal
import statistics
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt import GPTError, checkpoint
from gpt.config import ModelConfig, Runtime, Start, TrainConfig
from gpt.data.dataset import Dataset
from gpt.evaluation.score import evaluate
from gpt.machine import parallel
from gpt.machine.device import Machine, prepare
from gpt.machine.interruption import Interrupted, Interruption
from gpt.machine.launch import launch
from gpt.trainer.optimizers import lr_ratio
from gpt.trainer.run_folder import Result, RunFolder
from gpt.trainer.stability import advice, best, stops_early, worse_in_a_row
from gpt.trainer.update import Learner, micro_steps

log = logging.getLogger(__name__)

LATEST = 100  # losses whose mean stands beside an evaluation
DIVERGED = "the training diverged; lower lr and matrix_lr, or raise warmup_steps"

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
    start: Start | None = None,
    shorter: Path | None = None,
) -> Result:
    """Train a model, or resume where an earlier call with the same `out` was cut off.

    data: folder of a packed dataset. out: folder for the run (`gpt.trainer.run_folder`).
    on_step(step, metrics): every `log_every` steps; the metrics are those of `_Run._log`.
    on_evaluation(step, {"val/loss", "val/bpb"}, folder, best): every `eval_every` steps and at the end; `folder` holds these
        weights. After a kill, the steps since the last saved state are repeated, and so are their calls.
    start: a model of the same shape and tokenizer, whose weights are the first; None: random ones.
    shorter: folder of a finished run that differs in nothing but its fewer steps: what is the same in both is not done again.
    Raises GPTError when data and model do not fit, the device's memory does not hold the batch, `out` belongs to another run,
    or the training diverges.
    SIGINT and SIGTERM (in the main thread): the step is finished, the state saved, and the signal raised again for the
    caller's own handler; SystemExit(128 + signal) if that handler returns.
    """
    started, out, dataset = time.perf_counter(), Path(out), Dataset.open(data)
    folder = RunFolder(out, dataset, model, config, start)
    resumed_from = None
    with Interruption() as interruption:
        if folder.is_finished():
            checkpoint.keep_only(folder.states, folder.stable)  # a kill may have come between the model and this
        else:
            if shorter:
                folder.go_on_from(shorter)
            starts = runtime.processes > 1 and parallel.launched() == 1
            with launch(data, out, model, config, runtime, start) if starts else nullcontext():
                machine = prepare(runtime)
                with parallel.group(machine.device):
                    # No name holds the run, so that nothing of it is left when the group ends.
                    resumed_from = _Run(folder, runtime, machine, interruption, on_step, on_evaluation).train()
    if interruption.signal:
        signal.raise_signal(interruption.signal)
        raise SystemExit(128 + interruption.signal)
    if parallel.is_main():  # also where a kill came between the model and these lines
        if dataset.tokenizer.is_file():
            shutil.copy(dataset.tokenizer, out / "model")
        if "test" in dataset.splits and not folder.test.is_file():
            _score_test(folder, runtime)
    return folder.result(resumed_from, time.perf_counter() - started)


class _Run:
    """One training run in progress, after `step` updates."""

    def __init__(
        self, folder: RunFolder, runtime: Runtime, machine: Machine, interruption: Interruption,
        on_step: OnStep | None, on_evaluation: OnEvaluation | None,
    ):  # fmt: skip
        self.folder, self.config, self.dataset = folder, folder.config, folder.dataset
        self.runtime, self.machine, self.interruption = runtime, machine, interruption
        self.on_step, self.on_evaluation = on_step, on_evaluation
        self.step, self.evaluations = 0, list[dict[str, float]]()
        self.losses = deque[float](maxlen=LATEST)
        # Losses and gradient norms that are still on the device, because reading each would make a GPU wait.
        self.unread = list[Tensor]()

    def train(self) -> int:
        """Run to the end, or until a signal arrives: then save the state. Returns the step that the run resumed from."""
        self._resume()
        self._check_shared()
        resumed_from = self.step
        try:
            evaluated = self.evaluations[-1]["step"] if self.evaluations else 0
            if self._is_due(self.config.eval_every) and evaluated < self.step:  # a signal cut it short
                self._evaluate()
            self.began = self.since = self.step, time.perf_counter()
            while self.step < self.config.steps and not stops_early(self.evaluations, self.config):
                if parallel.world_size() == 1 or self.step % self.runtime.log_every == 0:
                    self._check_interruption()  # with many processes not at every step: it makes a GPU wait
                self.unread.append(torch.stack(self.learner.update(self.step)))
                self.step += 1
                logs = self.step == 1 or self._is_due(self.runtime.log_every)
                evaluates, saves = self._is_due(self.config.eval_every), self._is_due(self.config.checkpoint_every)
                if not (logs or evaluates or saves):
                    continue
                grad_norm = self._read_losses()
                if logs:
                    self._log(grad_norm)
                if evaluates:
                    self._evaluate()  # which saves the state as well
                elif saves:
                    self._save_state()
                self.since = self.step, time.perf_counter()
            if self.step < self.config.steps:
                log.warning("stopped at step %d of %d; the best weights are kept", self.step, self.config.steps)
            self.folder.finish(self.evaluations)
            parallel.all_max(0, self.machine.device)  # until the first process has written it
        except Interrupted:
            # Before the first step there is nothing that a fresh start would not do again.
            if self.step:
                self._save_state()
        return resumed_from

    def _is_due(self, every: int) -> bool:
        """Whether `step` is the last, or one in `every`."""
        return self.step == self.config.steps or self.step % every == 0

    def _resume(self) -> None:
        """Load the newest state; without one, start from the seed."""
        folder, model = self.folder, self.folder.model
        self.learner = Learner(self.dataset, model, self.config, self.runtime, self.machine, folder.start)
        if saved := folder.newest_state():
            state, self.step, progress = saved
            checkpoint.load_state(state, self.learner.model, self.learner.optimizers)
            self.losses.extend(progress["losses"])
            self.evaluations = progress["evaluations"]
            folder.keep_latest(self.evaluations)  # a kill may have come before it was done
        folder.rewind_log(self.step)
        parallel.all_max(0, self.machine.device)  # before the first process deletes what another still reads

    def _check_shared(self) -> None:
        """Raise GPTError if a process does not see what the first one writes: it would start from the seed."""
        seen = self.step if self.folder.log.is_file() else -1
        last, first = (parallel.all_max(sign * seen, self.machine.device) for sign in (1, -1))
        if last != -first:
            where = f"{self.folder.path} is not the same folder for all processes"
            raise GPTError(f"{where}: name one on a disk that the machines share")

    def _read_losses(self) -> float:
        """Take the losses since the last call from the device; returns the last gradient norm. Raises GPTError if a loss or a
        gradient is not finite."""
        grad_norm, first = 0.0, self.step - len(self.unread)
        for step, (loss, grad_norm) in enumerate(torch.stack(self.unread).tolist() if self.unread else (), first + 1):
            for name, value in (("loss", loss), ("gradient norm", grad_norm)):
                if not math.isfinite(value):
                    raise GPTError(f"at step {step} the {name} is not a finite number: {DIVERGED}")
            self.losses.append(loss)
        self.unread.clear()
        return grad_norm

    def _log(self, grad_norm: float) -> None:
        """The metrics of the latest step. tokens_per_second: since what was logged, evaluated or saved before, and without it.
        mfu: the share of the devices' peak FLOP/s put to use. eta_seconds: at the pace of this call, evaluations included.
        """
        now, config, dataset = time.perf_counter(), self.config, self.dataset
        steps_per_second, pace = ((self.step - step) / max(now - then, 1e-9) for step, then in (self.since, self.began))
        tokens_per_second = steps_per_second * config.batch_size * dataset.block_size
        flops = tokens_per_second * self.learner.model.flops_per_token
        metrics = {
            "train/loss": self.losses[-1],
            "train/lr": config.lr * lr_ratio(self.step - 1, config),  # of AdamW
            "train/grad_norm": grad_norm,
            "train/epoch": self.step * config.batch_size / dataset.n_sequences(),
            "train/tokens_per_second": tokens_per_second,
            "train/mfu": flops / (self.machine.peak_flops * parallel.world_size()),
            "train/progress": self.step / config.steps,
            "train/eta_seconds": (config.steps - self.step) / pace,
        }
        self.folder.append_log(self.step, metrics)
        if self.on_step and parallel.is_main():
            self.on_step(self.step, metrics)

    def _evaluate(self) -> None:
        """Score val, write weights, call back; save the state last, so that after a kill before that all is repeated."""
        score = self.learner.evaluate(on_batch=lambda _done, _total: self._check_interruption())
        found = {"step": self.step, "loss": score.loss, "bpb": score.bits_per_byte}
        self.evaluations.append(found | {"train_loss": statistics.fmean(self.losses or [score.loss])})
        if worse_in_a_row(self.evaluations, self.config):
            log.warning(advice(self.evaluations))
        metrics = {"val/loss": score.loss, "val/bpb": score.bits_per_byte}
        folder = checkpoint.step_folder(self.folder.checkpoints, self.step)
        about = {"tokenizer_fingerprint": self.dataset.tokenizer_fingerprint, "eos_id": self.dataset.eos_id}
        about["tokenizer_sha256"] = checkpoint.sha256(self.dataset.tokenizer)
        checkpoint.save_model(folder, self.learner.model, step=self.step, **metrics, **about, task=self.folder.task)
        checkpoint.write_json(self.folder.path / "evaluations.json", self.evaluations)
        self.folder.append_log(self.step, metrics)
        if self.on_evaluation and parallel.is_main():
            self.on_evaluation(self.step, metrics, folder, best(self.evaluations)["step"] == self.step)
        self._save_state()

    def _save_state(self) -> None:
        """Save what `_resume` loads."""
        self._read_losses()
        progress = {"task": self.folder.task, "evaluations": self.evaluations, "losses": list(self.losses)}
        learner, folder = self.learner, checkpoint.step_folder(self.folder.states, self.step)
        checkpoint.save_state(folder, learner.model, learner.optimizers, step=self.step, progress=progress)
        self.folder.keep_latest(self.evaluations)

    def _check_interruption(self) -> None:
        """Raise Interrupted if a signal has arrived; many processes stop at the same step."""
        self.interruption.signal = int(parallel.all_max(self.interruption.signal, self.machine.device))
        if self.interruption.signal:
            raise Interrupted


def _score_test(folder: RunFolder, runtime: Runtime) -> None:
    """Score the result on the documents that nothing was chosen by, as many rows at a time as a process trained on."""
    world, machine = max(runtime.processes, parallel.launched()), prepare(runtime)
    rows = folder.config.batch_size // (world * micro_steps(folder.config.batch_size, world, runtime.micro_batch_size))
    model, _ = checkpoint.load_model(folder.path / "model", machine.device)
    score = evaluate(model, folder.dataset, "test", rows, machine.device, machine.dtype)
    np.save(folder.test_nats, score.document_nats)
    checkpoint.write_json(folder.test, {"loss": score.loss, "bpb": score.bits_per_byte})
