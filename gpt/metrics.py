"""What a run says on its way: a file of lines, and how fast it goes."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class MetricsFile:
    """metrics.jsonl: {"step": ..., name: value ...}, a line each, in order and nothing twice."""

    def __init__(self, path: Path, step: int, evaluated: int):
        """Open for appending after `step`: lines that a killed run wrote beyond it are cut off.

        evaluated: step of the latest evaluation that counts; lines of later ones (val/...) are cut off as well.
        """
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
        self._path = path

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")


class Speed:
    """Tokens per second since the last look, pauses left out."""

    def __init__(self, flops_per_token: int, peak_flops: float):
        self._flops_per_token, self._peak_flops = flops_per_token, peak_flops
        self._tokens, self._since = 0, time.perf_counter()

    def count(self, tokens: int) -> None:
        """Note tokens trained on."""
        self._tokens += tokens

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of a block (an evaluation, a callback) out."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def metrics(self) -> dict[str, float]:
        """train/tokens_per_second and, where the device's peak is known, train/mfu (share of it put to use). Starts anew."""
        now = time.perf_counter()
        rate = self._tokens / max(now - self._since, 1e-9)
        self._tokens, self._since = 0, now
        mfu = {"train/mfu": rate * self._flops_per_token / self._peak_flops} if self._peak_flops else {}
        return {"train/tokens_per_second": rate, **mfu}
