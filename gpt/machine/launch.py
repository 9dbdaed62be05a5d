"""The processes of a run on this machine, one a device: this one is the first, and starts the others.

The others run `python -m gpt.trainer`; all have torchrun's environment variables. Signals, callbacks and errors are those of
this process, as in a run of one. The others learn of a signal in the training (`gpt.trainer.loop`). Only this process writes,
so they can be killed when it is done. torch's own elastic launcher would not do: after a signal it ends the other processes as
soon as one has ended, though the first may still be saving the state.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch.distributed as dist

from gpt import GPTError
from gpt.config import ModelConfig, Runtime, Start, TrainConfig

POLL = 0.1  # seconds between checks of the processes


@contextmanager
def launch(
    data: Path, out: Path, model: ModelConfig, config: TrainConfig, runtime: Runtime, start: Start | None = None
) -> Iterator[None]:
    """Within the block, this is the first of runtime.processes processes. Raises RuntimeError if another one failed."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    world |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(runtime.processes))
    ended = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.json"
        sections = {"model": asdict(model), "train": asdict(config), "runtime": asdict(runtime)}
        sections |= {"start": start.adapter | {"folder": str(Path(start.folder).resolve())}} if start else {}
        task.write_text(json.dumps(sections))
        command = [sys.executable, "-m", "gpt.trainer", "--config", str(task), "--ends-with-stdin"]
        command += ["--data", str(Path(data).resolve()), "--out", str(out.resolve())]
        others = [
            subprocess.Popen(
                command,
                env=os.environ | world | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)),
                stdin=subprocess.PIPE,  # closed when this process ends, however it does
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal reaches this process alone
                cwd=Path(__file__).parents[2],
            )
            for rank in range(1, runtime.processes)
        ]
        watch = threading.Thread(target=_watch, args=(others, store, ended), daemon=True)
        watch.start()
        del store  # held by the thread alone
        os.environ |= world | dict.fromkeys(("RANK", "LOCAL_RANK"), "0")
        try:
            yield
        except Exception as error:
            for rank, process in enumerate(others, 1):
                if process.poll() and not isinstance(error, GPTError):  # such an error is every process's own
                    failed = f"process {rank} of {runtime.processes} ended with code {process.returncode}"
                    raise RuntimeError(failed) from error
            raise
        finally:
            for name in (*world, "RANK", "LOCAL_RANK"):
                del os.environ[name]
            ended.set()
            watch.join()
            for process in others:
                process.kill()
                process.communicate()


def _watch(others: list[subprocess.Popen[bytes]], _store: dist.TCPStore, ended: threading.Event) -> None:
    """Where one of the others fails, end what this process waits for in vain: the group, and with this call the store."""
    while not ended.wait(POLL):
        if any(process.poll() for process in others):
            if group := dist.group.WORLD:
                group.abort()
            return
