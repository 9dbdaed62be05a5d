"""train(): from a packed dataset to the best weights; it can be killed anywhere and called again.

    python -m gpt.trainer --data DIR --config FILE.toml --out DIR           (or torchrun -m gpt.trainer ...)

Notable:
- knows no tracker and no scheduler: `on_step` and `on_evaluation` call back
- on CPU, a run that was killed and started again ends in the same bytes as one left alone (but for out/log/)
- every evaluation scores all of val; the best weights by bits per byte are the result
- a loss that is no number, or jumps and stays up: the run goes back to its last sound state, once, and goes on without the
  batches around; what comes out depends on data and configuration alone, not on where that state was

    out/run.json                   {"steps": to do, "stopped_early", "skipped": steps without an update}
    out/state/step-NNNNNN/         to resume from; the latest, and one before; gone when the run has finished
    out/checkpoints/step-NNNNNN/   weights after each evaluation: the latest `keep_checkpoints` and the best
    out/evaluations.json           [{"step", "loss", "bpb"}]
    out/log/metrics.jsonl          a line a logged step, with timings
    out/model/                     the best weights, written last, and the dataset's tokenizer.model
"""

import logging
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt import GPTError, checkpoint
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.data.dataset import Dataset
from gpt.machine import parallel
from gpt.machine.device import Machine, prepare
from gpt.machine.interruption import Interrupted, Interruption, held_back
from gpt.machine.launch import launch
from gpt.trainer.budget import revised, steps_that_fit
from gpt.trainer.metrics import MetricsFile, Speed
from gpt.trainer.optimizers import flat_until, learning_rate
from gpt.trainer.result import Result, best, read_result
from gpt.trainer.run_folder import check_same, describe
from gpt.trainer.stability import APART, SKIPPED_BEFORE, Watch
from gpt.trainer.update import Learner

log = logging.getLogger(__name__)

OnStep = Callable[[int, dict[str, float]], None]
OnEvaluation = Callable[[int, dict[str, float], Path, bool], None]


def train(
    data: Path,
    out: Path,
    model: ModelConfig,
    config: TrainConfig,
    runtime: Runtime = Runtime(),
    on_step: OnStep | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> Result:
    """Train a model, or go on where an earlier call with the same `out` was cut off.

    data: folder of a packed dataset. out: folder for everything listed above.
    on_step(step, metrics): every `log_every` steps; train/loss, train/lr, train/grad_norm, train/epoch, and what
        `gpt.trainer.metrics.Speed` tells.
    on_evaluation(step, {"val/loss", "val/bpb"}, folder, best): every `eval_every` steps and at the end; `folder` holds these
        weights. After a kill, the steps since the last saved state are done again, and so are their calls.
    Raises GPTError when data and model do not fit, the batch does not fit the memory, `out` belongs to another run, or the
    training diverges a second time.
    SIGINT and SIGTERM (in the main thread): the step is finished, the state saved, and the signal raised again for the
    caller's own handler; SystemExit(128 + signal) if that one lets the program go on.
    """
    started, out, dataset = time.perf_counter(), Path(out), Dataset.open(data)
    task, first = describe(dataset, model, config), None
    on_step, on_evaluation = on_step or _ignore, on_evaluation or _ignore
    with held_back() as interruption:
        if (out / "model" / "config.json").is_file():
            check_same(out / "model", checkpoint.load_model(out / "model")[1].get("task"), task)
            checkpoint.remove(out / "state")  # a kill between the model and this line left it
        elif runtime.processes > 1 and parallel.launched() == 1:
            first = launch(data, out, model, config, runtime, on_step, on_evaluation, interruption)
        else:
            machine = prepare(runtime)
            with parallel.group(machine.device):
                if not parallel.is_main():
                    on_step = on_evaluation = _ignore
                run = _Run(dataset, out, task, model, config, runtime, machine, interruption)
                first = run.train(started, on_step, on_evaluation)
    if interruption.signal:
        signal.raise_signal(interruption.signal)
        raise SystemExit(128 + interruption.signal)
    if dataset.tokenizer.is_file() and parallel.is_main():
        shutil.copy(dataset.tokenizer, out / "model")  # also where a kill came between the model and this line
    return read_result(out, config.batch_size * model.block_size, first, time.perf_counter() - started)


class _Run:
    """One training run in progress: `step` updates done (or skipped), `evaluations` made."""

    def __init__(
        self, dataset: Dataset, out: Path, task: dict[str, Any], model: ModelConfig, config: TrainConfig,
        runtime: Runtime, machine: Machine, interruption: Interruption,
    ):  # fmt: skip
        self.dataset, self.out, self.task, self.config = dataset, out, task, config
        self.runtime, self.machine, self.interruption = runtime, machine, interruption
        self.new_learner = lambda: Learner(dataset, model, self.config, runtime, machine)
        self.step, self.watch, self.skipped, self.revision = 0, Watch(), list[int](), 0

    def train(self, started: float, on_step: OnStep, on_evaluation: OnEvaluation) -> int:
        """Run to the end, or until a signal arrives; then the state is saved. Returns the step that it went on from."""
        first = 0
        try:
            self._plan(started)
            self._resume()
            self._check_shared()
            first = self.step
            peak_flops = self.machine.peak_flops * parallel.world()
            speed = Speed(self.learner.model.flops_per_token, peak_flops, self.step)
            while True:
                if self._evaluation_due():
                    with speed.paused():
                        self._evaluate(on_evaluation)
                if self._ended():
                    self._finish()
                    return first
                if parallel.world() == 1 or self.step % self.runtime.log_every == 0:  # asking the others stops a GPU
                    self._check_interruption()
                if self.step not in self.skipped:
                    loss, grad_norm = self.learner.update(self.step)
                    self.watch.note(self.step, loss, grad_norm)
                    speed.count(self.config.batch_size * self.dataset.block_size)
                self.step += 1
                if self.step == first + 1:
                    began = time.perf_counter()  # the first may have been compiled
                if not (self._log_due() or self._evaluation_due() or self._save_due()):
                    continue  # nothing that needs to know the loss, for which a GPU would have to stop
                if self._went_back():
                    continue
                if self.step == self.revision:
                    self._revise(began, started)
                if self._log_due() and self.step - 1 not in self.skipped:
                    metrics = {
                        "train/loss": loss.item(),
                        "train/lr": learning_rate(self.step - 1, self.config),
                        "train/grad_norm": grad_norm.item(),
                        "train/epoch": self.step * self.config.batch_size / self.dataset.n_sequences(),
                        **speed.metrics(self.step, self.config.steps),
                    }
                    with speed.paused():
                        self.metrics.write(self.step, metrics)
                        on_step(self.step, metrics)
                if self._save_due():
                    with speed.paused():
                        self._save_state()
        except Interrupted:
            # Before the first step there is nothing that a fresh start would not do again.
            if self.step and not self._went_back():
                self._save_state()
            return first

    def _plan(self, started: float) -> None:
        """With `minutes`, find the number of steps; a run that has a state keeps the number that it found then."""
        saved = self._newest_state()
        if self.config.minutes and saved:
            self._set_steps(saved[2]["steps"])
        elif self.config.minutes:
            learner, scratch = self.new_learner(), self.out / "state" / ".measured"
            fit, self.evaluation_seconds = steps_that_fit(
                learner, self.config, scratch, started, self._check_interruption
            )
            self._set_steps(fit)
            learner.close()
            log.info("%d steps fit into %g minutes", self.config.steps, self.config.minutes)
            flat = flat_until(self.config)
            self.revision = int(flat / 2) if flat >= 4 and self.config.warmup_steps < self.config.steps else 0
        self._write_run(stopped_early=False)

    def _revise(self, began: float, started: float) -> None:
        """Set the number of steps right, by the time that those so far really took."""
        now = time.perf_counter()
        taken, elapsed = (parallel.agreed(now - since, self.machine.device) for since in (began, started))
        update = max(0.0, taken - len(self.evaluations) * self.evaluation_seconds) / (self.step - 1)
        self._set_steps(revised(self.config, self.step, update, self.evaluation_seconds, elapsed))
        self.learner.config = self.config
        self._write_run(stopped_early=False)
        log.info("after %d of them, %d", self.step, self.config.steps)

    def _set_steps(self, steps: int) -> None:
        self.config = replace(self.config, steps=steps, warmup_steps=min(self.config.warmup_steps, steps))

    def _newest_state(self) -> tuple[Path, int, dict[str, Any]] | None:
        """Folder, step and progress; None if there is none. Raises GPTError if it is another run's."""
        saved = checkpoint.steps_in(self.out / "state")
        if not saved:
            return None
        folder = checkpoint.step_folder(self.out / "state", saved[-1])
        step, progress = checkpoint.read_progress(folder)
        check_same(folder, progress.get("task"), self.task)
        return folder, step, progress

    def _resume(self) -> None:
        """Take up the newest state; without one, start from the seed."""
        self.learner = self.new_learner()
        self.step, self.watch, self.evaluations = 0, Watch(), []
        if saved := self._newest_state():
            folder, self.step, progress = saved
            checkpoint.load_state(folder, self.learner.model, self.learner.optimizers, self.learner.ema)
            self.watch, self.evaluations = Watch(progress["losses"]), progress["evaluations"]
            self.skipped = sorted({*self.skipped, *progress["skipped"]})
            self._prune()  # a kill may have come before it was done
        parallel.barrier()  # before the first process deletes what another still reads
        self.metrics = MetricsFile(self.out / "log" / "metrics.jsonl", self.step, self._evaluated())

    def _check_shared(self) -> None:
        """Processes on other machines must see the state that the first one writes, or some would begin anew."""
        seen = self.step if (self.out / "run.json").is_file() else -1
        last, first = (parallel.agreed(sign * seen, self.machine.device) for sign in (1, -1))
        if last != -first:
            raise GPTError(
                f"{self.out} is not the same folder for all processes: name one on a disk that the machines share"
            )

    def _went_back(self) -> bool:
        """Whether an update since the last look was unsound; if so, the run is back at a state before it."""
        bad = self.watch.first_bad()
        if bad is None:
            return False
        step, why = bad
        if self.skipped and step - self.skipped[-1] < APART:
            raise GPTError(
                f"at step {step + 1} {why}, soon after a first such trouble at step {self.skipped[-1] + 1}: the training "
                "diverged; lower lr and matrix_lr, or raise warmup_steps"
            )
        first = max(0, step - SKIPPED_BEFORE)
        self.skipped = [*self.skipped, *range(first, step + 1)]
        checkpoint.keep_only(self.out / "state", {s for s in checkpoint.steps_in(self.out / "state") if s <= first})
        parallel.barrier()
        self.learner.close()
        del self.learner  # its memory, before another is built
        self._resume()
        text = "at step %d %s: back to step %d, and on without the steps from %d to there"
        log.warning(text, step + 1, why, self.step, first + 1)
        return True

    def _evaluate(self, on_evaluation: OnEvaluation) -> None:
        """Score val, write weights, call back; save the state only then, so that a kill on the way repeats it all."""
        score = self.learner.evaluate(on_batch=lambda _done, _total: self._check_interruption())
        self.evaluations.append({"step": self.step, "loss": score.loss, "bpb": score.bits_per_byte})
        metrics = {"val/loss": score.loss, "val/bpb": score.bits_per_byte}
        folder = checkpoint.step_folder(self.out / "checkpoints", self.step)
        about = {"tokenizer_fingerprint": self.dataset.tokenizer_fingerprint, "eos_id": self.dataset.eos_id}
        about["tokenizer_sha256"] = checkpoint.sha256(self.dataset.tokenizer)
        with self.learner.weights_that_count():
            checkpoint.save_model(folder, self.learner.model, step=self.step, **metrics, **about, task=self.task)
        checkpoint.write_json(self.out / "evaluations.json", self.evaluations)
        self.metrics.write(self.step, metrics)
        on_evaluation(self.step, metrics, folder, best(self.evaluations)["step"] == self.step)
        self._save_state()
        self._prune()

    def _prune(self) -> None:
        """Keep the latest weights and the best, also what an earlier state, which the run may go back to, calls the best."""
        if not parallel.is_main():
            return
        root = self.out / "state"
        folders = [checkpoint.step_folder(root, step) for step in checkpoint.steps_in(root)]
        known = [checkpoint.read_progress(folder)[1]["evaluations"] for folder in folders]
        kept = (self._kept(evaluations) for evaluations in [*known, self.evaluations] if evaluations)
        checkpoint.keep_only(self.out / "checkpoints", set().union(*kept))

    def _kept(self, evaluations: list[dict[str, float]]) -> set[int]:
        latest = [int(evaluation["step"]) for evaluation in evaluations][-self.config.keep_checkpoints :]
        return {best(evaluations)["step"], *latest}

    def _save_state(self) -> None:
        root = self.out / "state"
        progress = {
            "task": self.task, "steps": self.config.steps, "evaluations": self.evaluations, "skipped": self.skipped,
            "losses": self.watch.losses(),
        }  # fmt: skip
        learner, folder = self.learner, checkpoint.step_folder(root, self.step)
        checkpoint.save_state(folder, learner.model, learner.optimizers, learner.ema, step=self.step, progress=progress)
        steps = checkpoint.steps_in(root)
        far = [step for step in steps if step <= self.step - SKIPPED_BEFORE]  # to go back to, if this one is too late
        checkpoint.keep_only(root, {*steps[len(far) :], *far[-1:]})

    def _finish(self) -> None:
        self.learner.close()
        # There is no state to go back to any more.
        checkpoint.keep_only(self.out / "checkpoints", self._kept(self.evaluations))
        self._write_run(stopped_early=self.step < self.config.steps)
        chosen = checkpoint.step_folder(self.out / "checkpoints", best(self.evaluations)["step"])
        checkpoint.copy_folder(chosen, self.out / "model")
        checkpoint.remove(self.out / "state")
        parallel.barrier()

    def _write_run(self, stopped_early: bool) -> None:
        run = {"steps": self.config.steps, "stopped_early": stopped_early, "skipped": self.skipped}
        checkpoint.write_json(self.out / "run.json", run)

    def _log_due(self) -> bool:
        return self.step % self.runtime.log_every == 0 or self.step in (1, self.config.steps)

    def _evaluation_due(self) -> bool:
        due = self.step > 0 and (self.step % self.config.eval_every == 0 or self.step == self.config.steps)
        return due and self._evaluated() < self.step

    def _save_due(self) -> bool:
        due = self.step % self.config.checkpoint_every == 0 or self.step == self.revision
        return due and not self._evaluation_due()

    def _ended(self) -> bool:
        """After the last step, or after `patience` evaluations none of which was the best."""
        found = self.evaluations
        since_best = len(found) - 1 - found.index(best(found)) if found else 0
        return self.step == self.config.steps or 0 < self.config.patience <= since_best

    def _evaluated(self) -> int:
        """The step of the latest evaluation."""
        return int(self.evaluations[-1]["step"]) if self.evaluations else 0

    def _check_interruption(self) -> None:
        """Raise Interrupted if a signal has arrived; many processes stop at the same step."""
        self.interruption.signal = int(parallel.agreed(self.interruption.signal, self.machine.device))
        self.interruption.check()


def _ignore(*_: object) -> None:
    """The callback of those who want none."""
