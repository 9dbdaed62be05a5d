"""What a run says on its way: a file of lines, and how fast it goes."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt.machine.parallel import is_main


class MetricsFile:
    """metrics.jsonl: {"step": ..., name: value ...}, a line each, in order and nothing twice; the first process writes."""

    def __init__(self, path: Path, step: int, evaluated: int):
        """Open for appending after `step`: lines that a killed run wrote beyond it are cut off.

        evaluated: step of the latest evaluation that counts; lines of later ones (val/...) are cut off as well.
        """
        self._path = path
        if not is_main():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if step and path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a killed run
                continue
            if entry["step"] <= (evaluated if "val/loss" in entry else step):
                kept.append(line + "\n")
        path.write_text("".join(kept), encoding="utf-8")

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append a line."""
        if is_main():
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **metrics}) + "\n")


class Speed:
    """How fast a run goes: tokens per second since the last look, pauses left out, and when it will end."""

    def __init__(self, flops_per_token: int, peak_flops: float, step: int):
        """flops_per_token, peak_flops: of all devices together. step: updates done already."""
        self._flops_per_token, self._peak_flops = flops_per_token, peak_flops
        self._tokens, self._since = 0, time.perf_counter()
        self._started, self._first_step = self._since, step

    def count(self, tokens: int) -> None:
        """Note tokens trained on."""
        self._tokens += tokens

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of a block (an evaluation, a callback) out of the rate; the end it does put off."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def metrics(self, step: int, steps: int) -> dict[str, float]:
        """Of the time since the last look, which starts anew.

        train/tokens_per_second; train/mfu, the share of the devices' peak FLOP/s put to use; train/progress, the share of the
        steps done; train/eta_seconds until the last step at the pace of this whole call, evaluations included.
        """
        now = time.perf_counter()
        rate = self._tokens / max(now - self._since, 1e-9)
        self._tokens, self._since = 0, now
        pace = (now - self._started) / max(1, step - self._first_step)
        return {
            "train/tokens_per_second": rate,
            "train/mfu": rate * self._flops_per_token / self._peak_flops,
            "train/progress": step / steps,
            "train/eta_seconds": pace * (steps - step),
        }
