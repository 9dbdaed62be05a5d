"""What a run is asked to do, as its folder records it, and whether a folder belongs to it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpt import GPTError
from gpt.config import ModelConfig, TrainConfig
from gpt.data.dataset import Dataset


def describe(dataset: Dataset, model: ModelConfig, config: TrainConfig) -> dict[str, Any]:
    """All that determines a run's numbers, as JSON. Raises GPTError when data and model do not fit."""
    for name, of_data in (("vocab_size", dataset.vocab_size), ("block_size", dataset.block_size)):
        if getattr(model, name) != of_data:
            raise GPTError(
                f"the model's {name} is {getattr(model, name)}, that of {dataset.folder} is {of_data}: make them equal"
            )
    # How often the state is saved decides what a kill costs, not what comes out.
    numbers = {name: value for name, value in asdict(config).items() if name != "checkpoint_every"}
    return {"model": asdict(model), "train": numbers, "data": dataset.digest()}


def check_same(folder: Path, found: Any, task: dict[str, Any]) -> None:
    """Refuse to go on in a folder that another configuration or other data started: GPTError that says what differs."""
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
