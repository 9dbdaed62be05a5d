"""CPU, memory and GPU in use, logged as system/* metrics while a run goes on.

MLflow's own thread sends two requests a sample, and takes none in a short run.
"""

import threading
from collections.abc import Callable, Mapping

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

FIRST_AFTER = 1.0  # seconds
EVERY = 10.0  # seconds


def watch_resources(run_id: str, sample: int, put: Callable[[Mapping[str, float], int], None]) -> Callable[[], None]:
    """Call `put(metrics, sample)` from a thread every few seconds, until the returned function is called, and once then."""
    stopping = threading.Event()

    def work(sample: int) -> None:
        monitor, pause, stopped = SystemMetricsMonitor(run_id), FIRST_AFTER, False
        while not stopped:
            stopped = stopping.wait(pause)
            monitor.collect_metrics()
            found = monitor.aggregate_metrics()
            for part in monitor.monitors:
                part.clear_metrics()
            put({f"system/{name}": value for name, value in found.items()}, sample)
            sample, pause = sample + 1, EVERY

    def stop() -> None:
        stopping.set()
        thread.join()

    thread = threading.Thread(target=work, args=(sample,), name="resources", daemon=True)
    thread.start()
    return stop
