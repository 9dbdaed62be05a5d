"""A run's folder: what the run was asked to do, its saved states, weights and log, and the result.

    out/state/step-NNNNNN/         to resume from; the latest, and one before. Of a finished run, that of the last evaluation
                                   before the learning rate falls, from which a run of more steps goes on
    out/checkpoints/step-NNNNNN/   weights after each evaluation: the latest `keep_checkpoints` and the best
    out/evaluations.json           [{"step", "loss", "bpb", "train_loss": mean of the latest}]
    out/log/metrics.jsonl          {"step", name: value ...}, a line for each logged step and each evaluation
    out/model/                     the best weights, written last, and the dataset's tokenizer; adapters beside them
    out/model/test.json            {"loss", "bpb"} of these weights on test
    out/test_nats.npy              float64, of each document of test, in its order

With many processes every one calls these methods; only the first writes or deletes anything.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt import GPTError, checkpoint
from gpt.config import ModelConfig, Start, TrainConfig
from gpt.data.dataset import Dataset
from gpt.machine.parallel import is_main
from gpt.trainer.stability import advice, best


@dataclass(frozen=True)
class Result:
    """What a finished run gives."""

    model: Path  # folder of the best weights (`gpt.checkpoint.load_model`)
    step: int  # updates after which they were best
    loss: float  # their nats per target of val
    bits_per_byte: float  # their bits per byte of val
    test: dict[str, float]  # their loss and bpb on test, by which nothing was chosen; empty if the data have no test
    evaluations: list[dict[str, float]]  # every evaluation: step, loss, bpb, train_loss
    steps: int  # updates gone through: those asked for, or fewer after an early stop
    advice: str  # if it stopped early, why, and what to change; else empty
    n_parameters: int  # trained numbers of the model
    tokens: int  # target positions trained on: steps x B x T
    resumed_from: int  # step that this call resumed from; 0 for a fresh start, `steps` if there was nothing left to do
    seconds: float  # wall time of this call


class RunFolder:
    """The files of one run. Raises GPTError when `path` belongs to another run."""

    def __init__(self, path: Path, dataset: Dataset, model: ModelConfig, config: TrainConfig, start: Start | None):
        self.path, self.dataset, self.model, self.config, self.start = path, dataset, model, config, start
        self.states, self.checkpoints, self.log = path / "state", path / "checkpoints", path / "log" / "metrics.jsonl"
        self.test, self.test_nats = path / "model" / "test.json", path / "test_nats.npy"
        self.task = self._describe()
        stable = int((config.steps - config.decay_steps) // config.eval_every * config.eval_every)
        self.stable = {stable} if stable else set()

    def is_finished(self) -> bool:
        """Whether the run has its result, which must be this task's."""
        if not (self.path / "model" / "config.json").is_file():
            return False
        self._check_task(self.path / "model", checkpoint.load_model(self.path / "model")[1].get("task"))
        return True

    def newest_state(self) -> tuple[Path, int, dict[str, Any]] | None:
        """Folder, step and progress of the newest saved state; None if there is none."""
        steps = checkpoint.steps_in(self.states)
        if not steps:
            return None
        folder = checkpoint.step_folder(self.states, steps[-1])
        step, progress = checkpoint.read_progress(folder)
        self._check_task(folder, progress.get("task"))
        return folder, step, progress

    def keep_latest(self, evaluations: list[dict[str, float]]) -> None:
        """Keep the latest state and one before, and the weights that were the latest or the best at one of them."""
        saved = checkpoint.steps_in(self.states)[-2:]
        checkpoint.keep_only(self.states, {*saved} | self.stable)
        kept = (self._kept([found for found in evaluations if found["step"] <= step]) for step in saved)
        checkpoint.keep_only(self.checkpoints, set().union(*kept))

    def finish(self, evaluations: list[dict[str, float]]) -> None:
        """Make the best weights the result, and delete the states."""
        checkpoint.keep_only(self.checkpoints, self._kept(evaluations))
        chosen = checkpoint.step_folder(self.checkpoints, best(evaluations)["step"])
        if is_main():
            with checkpoint.atomic_folder(self.path / "model") as temporary:
                shutil.copytree(chosen, temporary, dirs_exist_ok=True)
        checkpoint.keep_only(self.states, self.stable)

    def go_on_from(self, shorter: Path) -> None:
        """Begin with the last state of a shorter run before its learning rate fell, which is this run's own at that step. Not
        where an earlier evaluation was better, whose weights are gone."""
        for step in checkpoint.steps_in(shorter / "state")[-1:] if is_main() and not self.newest_state() else ():
            theirs, ours = (checkpoint.step_folder(path, step) for path in (shorter / "state", self.states))
            _, progress = checkpoint.read_progress(theirs)
            if best(progress["evaluations"])["step"] < step or step > max(self.stable, default=0):
                return
            shutil.copytree(shorter / "log", self.path / "log", dirs_exist_ok=True)
            with checkpoint.atomic_folder(ours) as temporary:
                shutil.copytree(theirs, temporary, dirs_exist_ok=True)
                # The last evaluation is made again, since it also writes the weights.
                progress |= {"task": self.task, "evaluations": progress["evaluations"][:-1]}
                checkpoint.write_progress(temporary, step, progress)

    def rewind_log(self, step: int) -> None:
        """Before a run goes on after `step`, cut off what an interrupted run logged beyond it."""
        if not is_main():
            return
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True) if step and self.log.exists() else []
        # The last line of a killed run may be cut.
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("".join(kept), encoding="utf-8")

    def append_log(self, step: int, metrics: dict[str, float]) -> None:
        if is_main():
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **metrics}) + "\n")

    def result(self, resumed_from: int | None, seconds: float) -> Result:
        """The result of the finished run. resumed_from: None if there was nothing left to do."""
        evaluations = json.loads((self.path / "evaluations.json").read_text(encoding="utf-8"))
        chosen, steps = best(evaluations), evaluations[-1]["step"]
        test = json.loads(self.test.read_text(encoding="utf-8")) if self.test.is_file() else {}
        return Result(
            model=self.path / "model", step=chosen["step"], loss=chosen["loss"], bits_per_byte=chosen["bpb"], test=test,
            evaluations=evaluations, steps=steps, advice=advice(evaluations) if steps < self.config.steps else "",
            n_parameters=checkpoint.load_model(self.path / "model")[0].n_parameters,
            tokens=steps * self.config.batch_size * self.model.block_size,
            resumed_from=steps if resumed_from is None else resumed_from, seconds=seconds,
        )  # fmt: skip

    def _describe(self) -> dict[str, Any]:
        """All that determines the run's numbers, as JSON. Raises GPTError when data and model do not fit."""
        data, model = self.dataset, self.model
        for name, of_data in (("vocab_size", data.vocab_size), ("block_size", data.block_size)):
            if (of_model := getattr(model, name)) != of_data:
                raise GPTError(f"the model's {name} is {of_model}, that of {data.folder} is {of_data}: make them equal")
        if model.cross_attention:
            raise GPTError(
                "model.cross_attention: a dataset has no memory to attend to, so it is not trained; set false"
            )
        # What a kill costs and what is kept decide no number. Records have the default of keep_checkpoints, as they always had.
        numbers = asdict(self.config) | {"keep_checkpoints": TrainConfig.keep_checkpoints}
        del numbers["checkpoint_every"]
        if start := self.start:
            numbers |= {"start": checkpoint.sha256(Path(start.folder) / "model.safetensors")}
            numbers |= {"adapter": start.adapter} if start.rank else {}
        return {"model": model.as_dict(), "train": numbers, "data": data.digest()}

    def _kept(self, evaluations: list[dict[str, float]]) -> set[int]:
        """Steps whose weights are kept after these evaluations."""
        kept = [best(evaluations), *evaluations[-self.config.keep_checkpoints :]] if evaluations else []
        return {int(evaluation["step"]) for evaluation in kept}

    def _check_task(self, folder: Path, found: Any) -> None:
        """Refuse a folder that another configuration or other data wrote: GPTError that names the differences."""
        if found != self.task:
            theirs, ours = (task.get("model", {}) | task.get("train", {}) for task in (found or {}, self.task))
            changed = [key for key in theirs | ours if theirs.get(key) != ours.get(key)]
            differing = ", ".join(f"{key} ({theirs.get(key)}, now {ours.get(key)})" for key in changed) or "the data"
            raise GPTError(f"{folder} belongs to a run that differs in {differing}: name another folder, or delete it")
