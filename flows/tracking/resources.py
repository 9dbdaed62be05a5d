"""CPU, memory and GPU in use, logged as system/* metrics while a run goes on.

MLflow's own thread sends two requests a sample, and takes none in a short run.
"""

import threading
from collections.abc import Callable, Mapping

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

FIRST_AFTER = 1.0  # seconds
EVERY = 10.0  # seconds


class ResourceMonitor:
    """A thread that calls `put(metrics, sample)` every few seconds until `stop`, and once then."""

    def __init__(self, run_id: str, first_sample: int, put: Callable[[Mapping[str, float], int], None]):
        self._run_id, self._sample, self._put = run_id, first_sample, put
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="resources", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        monitor = SystemMetricsMonitor(self._run_id)
        pause, stopping = FIRST_AFTER, False
        while not stopping:
            stopping = self._stopping.wait(pause)
            monitor.collect_metrics()
            found = monitor.aggregate_metrics()
            for part in monitor.monitors:
                part.clear_metrics()
            self._put({f"system/{name}": value for name, value in found.items()}, self._sample)
            self._sample += 1
            pause = EVERY
