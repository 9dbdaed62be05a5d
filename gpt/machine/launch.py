"""Start the processes of a run on this machine, one a device, and hear from them, as if the run were in this process.

What torchrun does for one machine (a store to meet at, and the variables that name each process), so the processes run the very
command line of `torchrun -m gpt.trainer`. In addition, the first one tells its callbacks through a socket and waits for each to
return: checkpoints stand still while a callback looks at them.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from gpt import GPTError
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.machine.interruption import Interruption

GRACE = 60.0  # seconds to save the state in, when a listener has failed
LAST_WORDS = 5.0  # seconds for the first to say why

Listener = Callable[..., None]


def launch(
    data: Path, out: Path, model: ModelConfig, config: TrainConfig, runtime: Runtime, on_step: Listener,
    on_evaluation: Listener, interruption: Interruption,
) -> int:  # fmt: skip
    """Train in runtime.processes processes until they end. Returns the step that they went on from.

    on_step, on_evaluation: see `gpt.trainer.loop.train`; called here. A signal in `interruption` is passed on.
    Raises GPTError as the first process did, and RuntimeError when one ended otherwise (its words are on stderr).
    """
    listeners = {"step": on_step, "evaluation": lambda n, m, folder, best: on_evaluation(n, m, Path(folder), best)}
    here, there = socket.socketpair()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder, here:
        task = Path(folder) / "task.json"
        task.write_text(json.dumps({"model": asdict(model), "train": asdict(config), "runtime": asdict(runtime)}))
        command = [sys.executable, "-m", "gpt.trainer", "--config", str(task)]
        command += ["--data", str(Path(data).resolve()), "--out", str(out.resolve())]
        processes = [
            subprocess.Popen(
                [*command, "--line", str(there.fileno())] if rank == 0 else command,
                env=os.environ | _place(rank, runtime.processes, store.port),
                stdout=subprocess.DEVNULL,
                pass_fds=[there.fileno()] if rank == 0 else [],
                start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which passes it on
                cwd=Path(__file__).parents[2],
            )
            for rank in range(runtime.processes)
        ]
        there.close()
        try:
            return _listen(here, processes, listeners, interruption)
        finally:
            here.close()  # who waits for a listener to return need not
            _end(processes)


class Line:
    """The first process's end of the socket."""

    def __init__(self, descriptor: int):
        self._parent = os.getppid()
        self._file = socket.socket(fileno=descriptor).makefile("rw", encoding="utf-8")

    def tell(self, name: str, *values: Any) -> None:
        """Have the listener of that name called with these values (JSON, and paths); returns when it has returned."""
        try:
            print(json.dumps([name, values], default=str), file=self._file, flush=True)
            heard = self._file.readline()
        except OSError:
            heard = ""
        if not heard and os.getppid() != self._parent:  # whoever started the run is gone: end as if asked to
            signal.raise_signal(signal.SIGTERM)


def _place(rank: int, processes: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip


def _listen(
    here: socket.socket, processes: list[subprocess.Popen], listeners: dict[str, Listener], interruption: Interruption
) -> int:
    passed_on, first, buffer, connected, failed_at = 0, 0, b"", True, 0.0
    while connected or any(process.poll() is None for process in processes):
        if interruption.signal != passed_on:
            passed_on = interruption.signal
            for process in processes:
                process.send_signal(passed_on)
        if connected and select.select([here], [], [], 0.1)[0]:
            received = here.recv(65536)
            connected = bool(received)
            *lines, buffer = (buffer + received).split(b"\n")
            for name, values in map(json.loads, lines):
                if name == "error":
                    raise GPTError(*values)
                if name == "end":
                    first = values[0]
                else:
                    listeners[name](*values)
                here.sendall(b"\n")
        elif not connected:
            time.sleep(0.1)
        expected = (None, 0, -passed_on, 128 + passed_on)
        if failed := [(rank, code) for rank, code in enumerate(p.poll() for p in processes) if code not in expected]:
            failed_at = failed_at or time.monotonic()
            if not connected or time.monotonic() > failed_at + LAST_WORDS:
                raise RuntimeError(f"process {failed[0][0]} of {len(processes)} ended with code {failed[0][1]}")
    return first


def _end(processes: list[subprocess.Popen]) -> None:
    """Let those that still run save their state and end; where one has failed the others wait for it in vain, so at once."""
    failed = any(process.poll() not in (None, 0) for process in processes)
    for process in processes:
        process.kill() if failed else process.terminate()
    for process in processes:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
