"""Start the processes of a run on this machine, one a device, and call back from the first, as if the run were in this process.

The processes run the command line of `torchrun -m gpt.trainer`, with torchrun's environment variables. The first one also
sends its callbacks through a pipe and waits for each to return, so that checkpoints do not change while a callback reads them.
torch's own elastic launcher would not do: after a signal it ends the other processes as soon as one has ended, though the
first may still be saving the state; and it replaces the caller's signal handlers.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from gpt import GPTError
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.machine.interruption import Interruption

POLL = 0.1  # seconds between checks of the processes
REPORT_TIMEOUT = 5.0  # seconds in which the first process may report why another one failed
GRACE = 60.0  # seconds for the processes to save the state

Callback = Callable[..., object]
Process = subprocess.Popen[bytes]


def launch(
    data: Path, out: Path, model: ModelConfig, config: TrainConfig, runtime: Runtime, on_step: Callback,
    on_evaluation: Callback, interruption: Interruption,
) -> int:  # fmt: skip
    """Train in runtime.processes processes until they end. Returns the step that they resumed from.

    on_step, on_evaluation: see `gpt.trainer.loop.train`; called in this thread. A signal in `interruption` is passed on.
    Raises GPTError as the first process did, and RuntimeError when one failed otherwise (its traceback is on stderr).
    """
    resumed_from: list[int] = []
    callbacks = {"step": on_step, "evaluation": on_evaluation, "end": resumed_from.append}
    ours, theirs = Pipe()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.json"
        task.write_text(json.dumps({"model": asdict(model), "train": asdict(config), "runtime": asdict(runtime)}))
        command = [sys.executable, "-m", "gpt.trainer", "--config", str(task)]
        command += ["--data", str(Path(data).resolve()), "--out", str(out.resolve())]
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        world |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(runtime.processes))
        processes = [
            subprocess.Popen(
                [*command, "--caller", str(theirs.fileno())] if rank == 0 else command,
                env=os.environ | world | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)),
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()] if rank == 0 else [],
                start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which passes it on
                cwd=Path(__file__).parents[2],
            )
            for rank in range(runtime.processes)
        ]
        theirs.close()
        try:
            _follow(ours, processes, callbacks, interruption)
            return resumed_from[0] if resumed_from else 0
        finally:
            ours.close()  # so that the first process no longer waits for a callback to return
            _end(processes)


class Caller:
    """The first process's end of the pipe to the process that called `launch`."""

    def __init__(self, descriptor: int):
        self._parent = os.getppid()
        self._pipe = Connection(descriptor)

    def call(self, name: str, *values: Any) -> None:
        """Have the callback of that name called with these values; returns when it has returned."""
        try:
            self._pipe.send((name, values))
            self._pipe.recv()
        except (OSError, EOFError):
            if os.getppid() != self._parent:  # the caller was killed: end as if it had passed on a signal
                signal.raise_signal(signal.SIGTERM)


def _follow(
    pipe: Connection, processes: list[Process], callbacks: dict[str, Callback], interruption: Interruption
) -> None:
    """Call back and pass signals on until every process has ended. Raises RuntimeError if one failed."""
    passed_on, connected, deadline = 0, True, math.inf
    while connected or any(process.poll() is None for process in processes):
        if interruption.signal != passed_on:
            passed_on = interruption.signal
            for process in processes:
                process.send_signal(passed_on)
        if not connected:
            time.sleep(POLL)
        elif pipe.poll(POLL):
            connected = _answer(pipe, callbacks)
        expected = (None, 0, -passed_on, 128 + passed_on)
        codes = [process.poll() for process in processes]
        if failed := [(rank, code) for rank, code in enumerate(codes) if code not in expected]:
            deadline = min(deadline, time.monotonic() + REPORT_TIMEOUT)
            if not connected or time.monotonic() > deadline:
                raise RuntimeError(f"process {failed[0][0]} of {len(processes)} ended with code {failed[0][1]}")


def _answer(pipe: Connection, callbacks: dict[str, Callback]) -> bool:
    """Make the call that the first process has sent. Returns False if that process has ended."""
    try:
        name, values = pipe.recv()
    except (OSError, EOFError):
        return False
    if name == "error":
        raise GPTError(*values)
    callbacks[name](*values)
    with suppress(OSError):  # it was killed meanwhile
        pipe.send(None)
    return True


def _end(processes: list[Process]) -> None:
    """Let the processes save their state and end; after a failure, which they would wait for in vain, kill them."""
    failed = any(process.poll() not in (None, 0) for process in processes)
    for process in processes:
        process.kill() if failed else process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        process.kill()
        process.wait()
