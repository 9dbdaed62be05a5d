"""train(): from a packed dataset to the best weights; it can be killed anywhere and called again.

    python -m gpt.trainer --data DIR --config FILE.toml --out DIR

Notable:
- knows no tracker and no scheduler: `on_step` and `on_evaluation` call back
- on CPU, a run that was killed and started again ends in the same bytes as one left alone (but for out/log/)
- every evaluation scores all of val; the best weights by bits per byte are the result

    out/state/step-NNNNNN/         to resume from; the latest two; gone when the run has finished
    out/checkpoints/step-NNNNNN/   weights after each evaluation: the latest `keep_checkpoints` and the best
    out/evaluations.json           [{"step", "loss", "bpb"}]
    out/log/metrics.jsonl          a line a logged step, with timings
    out/model/                     the best weights; written last
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt import GPTError, checkpoint
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.dataset import Dataset
from gpt.evaluate import evaluate
from gpt.interruption import Interrupted, Interruption, held_back
from gpt.metrics import MetricsFile, Speed
from gpt.model import GPT
from gpt.optim import build_optimizers, learning_rate, set_learning_rate
from gpt.runtime import Machine, prepare

KEPT_STATES = 2

OnStep = Callable[[int, dict[str, float]], None]
OnEvaluation = Callable[[int, dict[str, float], Path, bool], None]


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
    n_parameters: int
    """Trained numbers of the model."""
    tokens: int
    """Target positions trained on: steps x B x T."""
    resumed_from: int
    """Step this call went on from; 0 for a fresh start, `steps` if there was nothing left to do."""
    seconds: float
    """Wall time of this call."""


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
    on_step(step, metrics): every `log_every` steps; train/loss, train/lr, train/grad_norm, train/tokens_per_second,
        train/epoch, and train/mfu where the device's peak is known.
    on_evaluation(step, {"val/loss", "val/bpb"}, folder, best): every `eval_every` steps and at the end; `folder` holds these
        weights. After a kill, the steps since the last saved state are done again, and so are their calls.
    Raises GPTError when data and model do not fit, when `out` belongs to another run, or when the loss is not finite.
    SIGINT and SIGTERM (in the main thread): the step is finished, the state saved, and the signal raised again for the
    caller's own handler; SystemExit(128 + signal) if that one lets the program go on.
    """
    started, out, dataset = time.perf_counter(), Path(out), Dataset.open(data)
    _check_fit(dataset, model)
    # How often the state is saved decides what a kill costs, not what comes out.
    numbers = {name: value for name, value in asdict(config).items() if name != "checkpoint_every"}
    task = {"model": asdict(model), "train": numbers, "data": dataset.digest()}
    with held_back() as interruption:
        if (out / "model" / "config.json").is_file():
            _check_same_task(out / "model", checkpoint.load_model(out / "model")[1].get("task"), task)
            checkpoint.remove(out / "state")  # a kill between the model and this line left it
            first = config.steps
        else:
            run = _Run(dataset, out, task, model, config, prepare(runtime), runtime, interruption)
            first = run.step
            run.train(on_step or _ignore, on_evaluation or _ignore)
    if interruption.signal:
        signal.raise_signal(interruption.signal)
        raise SystemExit(128 + interruption.signal)
    evaluations = json.loads((out / "evaluations.json").read_text(encoding="utf-8"))
    best = _best(evaluations)
    n_parameters = checkpoint.load_model(out / "model")[0].n_parameters
    tokens = config.steps * config.batch_size * model.block_size
    seconds = time.perf_counter() - started
    return Result(
        out / "model", best["step"], best["loss"], best["bpb"], evaluations, n_parameters, tokens, first, seconds
    )


class _Run:
    """One training run in progress: `step` updates done, `evaluations` made."""

    def __init__(
        self, dataset: Dataset, out: Path, task: dict[str, Any], model: ModelConfig, config: TrainConfig,
        machine: Machine, runtime: Runtime, interruption: Interruption,
    ):  # fmt: skip
        self.dataset, self.out, self.task, self.config = dataset, out, task, config
        self.machine, self.runtime, self.interruption = machine, runtime, interruption
        torch.manual_seed(config.seed)
        self.model = GPT(model).to(machine.device)
        self.optimizers = build_optimizers(self.model, config)
        self.step = 0
        self.evaluations: list[dict[str, float]] = []
        self.unchecked: list[Tensor] = []  # losses of the latest steps, on the device: reading each would stall a GPU
        if saved := checkpoint.steps_in(out / "state"):
            folder = checkpoint.step_folder(out / "state", saved[-1])
            self.step, progress = checkpoint.read_progress(folder)
            _check_same_task(folder, progress.get("task"), task)
            checkpoint.load_state(folder, self.model, self.optimizers)
            self.evaluations = progress["evaluations"]
            if self.evaluations:
                self._prune()  # a kill may have come before it was done
        self.metrics = MetricsFile(out / "log" / "metrics.jsonl", self.step, self._evaluated())

    def train(self, on_step: OnStep, on_evaluation: OnEvaluation) -> None:
        """Run to the end, or until a signal arrives; then the state is saved."""
        speed = Speed(self.model.flops_per_token, self.machine.peak_flops)
        try:
            while True:
                if self._evaluation_due() and self._evaluated() < self.step:
                    with speed.paused():
                        self._evaluate(on_evaluation)
                if self.step == self.config.steps:
                    return self._finish()
                self.interruption.check()
                loss, grad_norm = self._update()
                self.step += 1
                speed.count(self.config.batch_size * self.dataset.block_size)
                if self.step % self.runtime.log_every == 0 or self.step in (1, self.config.steps):
                    self._check_finite()
                    metrics = {
                        "train/loss": loss.item(),
                        "train/lr": learning_rate(self.step - 1, self.config),
                        "train/grad_norm": grad_norm.item(),
                        "train/epoch": self.step * self.config.batch_size / self.dataset.n_sequences(),
                        **speed.metrics(),
                    }
                    with speed.paused():
                        self.metrics.write(self.step, metrics)
                        on_step(self.step, metrics)
                if self.step % self.config.checkpoint_every == 0 and not self._evaluation_due():
                    with speed.paused():
                        self._save_state()
        except Interrupted:
            if self.step:  # before the first there is nothing that a fresh start would not do again
                self._save_state()

    def _update(self) -> tuple[Tensor, Tensor]:
        """One update of the weights. Returns loss and gradient norm, on the device."""
        device = self.machine.device
        batch = self.dataset.batch(self.step, self.config.batch_size, self.config.seed)
        ids_BT, targets_BT, documents_BT = (torch.from_numpy(array).to(device, non_blocking=True) for array in batch)
        set_learning_rate(self.optimizers, self.step, self.config)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.machine.dtype == torch.bfloat16):
            loss = self.model.loss(ids_BT, targets_BT, documents_BT if self.dataset.document_mask else None)
        loss.backward()
        limit = self.config.grad_clip or float("inf")
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.unchecked.append(loss.detach())
        return loss.detach(), grad_norm

    def _evaluate(self, on_evaluation: OnEvaluation) -> None:
        """Score val, write weights, call back; save the state only then, so that a kill on the way repeats it all."""
        self._check_finite()
        score = evaluate(
            self.model, self.dataset, "val", max(self.config.batch_size, 1), self.machine.device, self.machine.dtype,
            on_batch=lambda _done, _total: self.interruption.check(),
        )  # fmt: skip
        self.evaluations.append({"step": self.step, "loss": score.loss, "bpb": score.bits_per_byte})
        best = _best(self.evaluations)["step"]
        metrics = {"val/loss": score.loss, "val/bpb": score.bits_per_byte}
        folder = checkpoint.step_folder(self.out / "checkpoints", self.step)
        about = {"tokenizer_fingerprint": self.dataset.tokenizer_fingerprint, "eos_id": self.dataset.eos_id}
        checkpoint.save_model(folder, self.model, step=self.step, **metrics, **about, task=self.task)
        checkpoint.write_json(self.out / "evaluations.json", self.evaluations)
        self.metrics.write(self.step, metrics)
        on_evaluation(self.step, metrics, folder, best == self.step)
        self._save_state()
        self._prune()

    def _prune(self) -> None:
        """Only once a state knows of the evaluation: what an earlier state calls the best must still be there for it."""
        latest = [evaluation["step"] for evaluation in self.evaluations][-self.config.keep_checkpoints :]
        checkpoint.keep_only(self.out / "checkpoints", {_best(self.evaluations)["step"], *latest})

    def _save_state(self) -> None:
        self._check_finite()
        root = self.out / "state"
        progress = {"task": self.task, "evaluations": self.evaluations}
        folder = checkpoint.step_folder(root, self.step)
        checkpoint.save_state(folder, self.model, self.optimizers, step=self.step, progress=progress)
        checkpoint.keep_only(root, set(checkpoint.steps_in(root)[-KEPT_STATES:]))

    def _finish(self) -> None:
        best = _best(self.evaluations)["step"]
        checkpoint.copy_folder(checkpoint.step_folder(self.out / "checkpoints", best), self.out / "model")
        checkpoint.remove(self.out / "state")

    def _evaluation_due(self) -> bool:
        return self.step > 0 and (self.step % self.config.eval_every == 0 or self.step == self.config.steps)

    def _evaluated(self) -> int:
        """The step of the latest evaluation."""
        return int(self.evaluations[-1]["step"]) if self.evaluations else 0

    def _check_finite(self) -> None:
        if self.unchecked:
            finite = torch.isfinite(torch.stack(self.unchecked)).tolist()
            first, self.unchecked = self.step - len(finite) + 1, []
            if False in finite:
                raise GPTError(
                    f"the loss of step {first + finite.index(False)} is not a finite number: the training diverged; "
                    "lower lr and matrix_lr, or raise warmup_steps"
                )


def _best(evaluations: list[dict[str, float]]) -> dict[str, Any]:
    return min(evaluations, key=lambda evaluation: (evaluation["bpb"], evaluation["step"]))


def _check_fit(dataset: Dataset, model: ModelConfig) -> None:
    for name, of_data in (("vocab_size", dataset.vocab_size), ("block_size", dataset.block_size)):
        if getattr(model, name) != of_data:
            raise GPTError(
                f"the model's {name} is {getattr(model, name)}, that of {dataset.folder} is {of_data}: make them equal"
            )


def _check_same_task(folder: Path, found: Any, task: dict[str, Any]) -> None:
    """Refuse to go on in a folder that another configuration or other data started."""
    if found == task:
        return
    differing = [f"the {part}" for part in task if not isinstance(found, dict) or found.get(part) != task[part]]
    for part in ("model", "train"):
        theirs = found.get(part) if isinstance(found, dict) else None
        if isinstance(theirs, dict) and theirs != task[part]:
            differing = [
                f"{key} ({theirs.get(key)}, now {value})"
                for key, value in task[part].items()
                if theirs.get(key) != value
            ]
            break
    raise GPTError(
        f"{folder} belongs to a run that differs in {', '.join(differing)}: use another out folder, or delete it"
    )


def _ignore(*_: object) -> None:
    """The callback of those who want none."""


if __name__ == "__main__":
    from gpt.main import main

    sys.exit(main())
