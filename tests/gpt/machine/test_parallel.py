"""Two processes on gloo must train what one trains."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from gpt import GPTError
from gpt.checkpoint import load_model
from gpt.config import Runtime
from gpt.machine.launch import launch
from gpt.trainer.loop import train

ONE = Runtime(device="cpu", threads=1, log_every=1)


def two(how):
    return dataclasses.replace(ONE, parallel=how, processes=2)


@pytest.fixture
def config(schedule):
    return dataclasses.replace(
        schedule, batch_size=12, steps=18, eval_every=9, checkpoint_every=100, keep_checkpoints=5
    )


@pytest.fixture
def shape(shape):
    """Without dropout, whose random numbers belong to a process."""
    return dataclasses.replace(shape, dropout=0.0)


def listeners(losses):
    """on_step and on_evaluation that note every step's loss and gradient norm, and every evaluation."""

    def on_step(step, metrics):
        losses["train"].append((step, metrics["train/loss"]))
        losses["norm"].append((step, metrics["train/grad_norm"]))

    def on_evaluation(step, metrics, folder, best):
        assert load_model(folder)[1]["step"] == step
        losses["val"].append((step, metrics["val/bpb"]))

    return on_step, on_evaluation


def close(losses, others):
    for kind in losses:
        assert [step for step, _ in losses[kind]] == [step for step, _ in others[kind]]
        for (_, mine), (_, theirs) in zip(losses[kind], others[kind], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-2 if kind == "norm" else 2e-4)


def weights(folder: Path) -> torch.Tensor:
    model, _ = load_model(folder)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_train_what_one_trains(packed, tmp_path, shape, config, how):
    runtime = dataclasses.replace(two(how), micro_batch_size=3)
    together, alone = ({"train": [], "norm": [], "val": []} for _ in range(2))
    result = train(packed, tmp_path / "two", shape, config, runtime, *listeners(together))
    assert (result.steps, result.resumed_from) == (18, 0)
    train(packed, tmp_path / "one", shape, config, ONE, *listeners(alone))
    close(together, alone)
    torch.testing.assert_close(
        weights(tmp_path / "two" / "model"), weights(tmp_path / "one" / "model"), rtol=0, atol=2e-3
    )
    logged = [json.loads(line) for line in (tmp_path / "two" / "log" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logged] == sorted([*range(1, 19), 9, 18])


CHECKED = """
import gc, os
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from gpt.trainer.__main__ import main

def destroy(end=dist.destroy_process_group):
    if any(isinstance(found, DistributedDataParallel) for found in gc.get_objects()):
        os._exit(3)
    end()

dist.destroy_process_group = destroy
raise SystemExit(main())
"""


@pytest.mark.slow
def test_ddp_is_gone_when_its_process_group_ends(packed, tmp_path, shape, config):
    """Else its end may wait for gloo's thread, and that thread for Python's lock."""
    program, task = tmp_path / "program.py", tmp_path / "task.json"
    program.write_text(CHECKED)
    sections = {"model": shape, "train": config, "runtime": two("ddp")}
    task.write_text(json.dumps({name: dataclasses.asdict(section) for name, section in sections.items()}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", program]
    arguments = ["--data", packed, "--config", task, "--out", tmp_path / "out"]
    done = subprocess.run(
        [*command, *arguments],
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_goes_on_with_other_processes_than_it_began_with(packed, tmp_path, shape, config):
    """ddp until SIGTERM, alone until Ctrl-C, then fsdp by torchrun: as if it had been alone all the time."""
    config = dataclasses.replace(config, optimizer="adamw")
    out, steps = tmp_path / "out", []
    code = (
        "import os, signal; from pathlib import Path; from gpt.config import *; from gpt.trainer.loop import train\n"
        f"train(Path({str(packed)!r}), Path({str(out)!r}), {shape!r}, {config!r}, {two('ddp')!r},\n"
        "      lambda step, _: step == 5 and os.kill(os.getpid(), signal.SIGTERM))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == -signal.SIGTERM
    (state,) = (out / "state").glob("step-*")
    first = int(state.name.removeprefix("step-"))
    assert first in (5, 6)

    def press(step, _):
        steps.append(step)
        if step == 11:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(packed, out, shape, config, ONE, press)
    assert steps == list(range(first + 1, 12))

    task = tmp_path / "task.json"
    sections = {"model": shape, "train": config, "runtime": dataclasses.replace(ONE, parallel="fsdp")}
    task.write_text(json.dumps({name: dataclasses.asdict(section) for name, section in sections.items()}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["-m", "gpt.trainer", "--data", packed, "--config", task, "--out", out]
    done = subprocess.run([*torchrun, *arguments], check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step     12  loss") == 1
    assert "step     11  loss" not in done.stdout
    train(packed, tmp_path / "one", shape, config, ONE)
    torch.testing.assert_close(weights(out / "model"), weights(tmp_path / "one" / "model"), rtol=0, atol=2e-3)


def nodes(tmp_path, packed, sections, *outs):
    """Start a torchrun for each out folder, as on so many machines, and return the output and the exit code of each."""
    task = tmp_path / "task.json"
    task.write_text(json.dumps({name: dataclasses.asdict(section) for name, section in sections.items()}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{probe.getsockname()[1]}"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(outs)), "--nproc-per-node", "1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, "--rdzv-id", "test", "-m", "gpt.trainer"]
    agents = [
        subprocess.Popen(
            [*torchrun, "--data", packed, "--config", task, "--out", out],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for out in outs
    ]
    try:
        return [(agent.communicate(timeout=240)[0], agent.returncode) for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()  # it ends what it started
            agent.wait(60)


@pytest.mark.slow
def test_two_machines_train_what_one_process_trains(packed, tmp_path, shape, config):
    sections = {"model": shape, "train": config, "runtime": dataclasses.replace(ONE, parallel="ddp")}
    ended = nodes(tmp_path, packed, sections, tmp_path / "two", tmp_path / "two")
    assert [code for _, code in ended] == [0, 0], ended
    assert sum(words.count("step     18  val loss") for words, _ in ended) == 1  # one of both speaks
    train(packed, tmp_path / "one", shape, config, ONE)
    torch.testing.assert_close(
        weights(tmp_path / "two" / "model"), weights(tmp_path / "one" / "model"), rtol=0, atol=2e-3
    )
    losses = [
        [row["train/loss"] for row in map(json.loads, log.open()) if "train/loss" in row]
        for log in (tmp_path / "two" / "log" / "metrics.jsonl", tmp_path / "one" / "log" / "metrics.jsonl")
    ]
    assert len(losses[0]) == 18
    assert losses[0] == pytest.approx(losses[1], rel=2e-4)


@pytest.mark.slow
def test_machines_that_do_not_share_the_out_folder_are_refused(packed, tmp_path, shape, config):
    sections = {"model": shape, "train": config, "runtime": dataclasses.replace(ONE, parallel="ddp")}
    ended = nodes(tmp_path, packed, sections, tmp_path / "here", tmp_path / "there")
    assert all(code != 0 for _, code in ended)
    assert sum("is not the same folder for all processes" in words for words, _ in ended) == 1
    assert not (tmp_path / "here" / "checkpoints").exists()


@pytest.mark.slow
def test_an_error_of_a_process_is_raised_in_the_caller(packed, tmp_path, shape, config):
    with pytest.raises(GPTError, match="batch_size 3 cannot be shared equally by 2 processes"):
        train(packed, tmp_path / "out", shape, dataclasses.replace(config, batch_size=3), two("ddp"))

    class Stop(Exception):
        pass

    def stop(step, _):
        raise Stop

    with pytest.raises(Stop):
        train(packed, tmp_path / "out", shape, config, two("ddp"), stop)
    assert not [
        line
        for line in subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout.splitlines()
        if "gpt.trainer" in line and str(tmp_path) in line
    ]


def others(tmp_path):
    """The pids of the processes that a run in this folder has started."""
    found = subprocess.run(["ps", "axww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "gpt.trainer" in line and str(tmp_path) in line]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the group is there", "in the training"])
def test_a_process_that_dies_is_named_and_nobody_waits_for_it(packed, tmp_path, shape, config, when):
    def kill(step, _):
        while step == 1 and not (pids := others(tmp_path)):
            time.sleep(0.05)
        if step == 1:
            time.sleep(1 if on_step is None else 0)  # this process waits for the other to come
            os.kill(pids[0], signal.SIGKILL)

    on_step = kill if when == "in the training" else None
    if on_step is None:
        threading.Thread(target=kill, args=(1, {})).start()
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="process 1 of 2 ended with code -9"):
        train(packed, tmp_path / "out", shape, config, two("ddp"), on_step)
    assert time.monotonic() - started < 60
    assert not others(tmp_path)
    assert "WORLD_SIZE" not in os.environ


@pytest.mark.slow
def test_an_error_of_ours_is_told_though_another_process_ended_first(packed, tmp_path, shape, config):
    def fail():
        (pid,) = others(tmp_path)
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # it is looked after already
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        raise GPTError("made here")

    with pytest.raises(GPTError, match="made here"), launch(packed, tmp_path / "out", shape, config, two("ddp")):
        fail()


@pytest.mark.slow
def test_the_others_end_with_the_first_however_it_ends(packed, tmp_path, shape, config):
    code = (
        "import os, signal; from pathlib import Path; from gpt.config import *; from gpt.trainer.loop import train\n"
        f"train(Path({str(packed)!r}), Path({str(tmp_path / 'out')!r}), {shape!r}, {config!r}, {two('fsdp')!r},\n"
        "      lambda step, _: step == 5 and os.kill(os.getpid(), signal.SIGKILL))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == -signal.SIGKILL
    end = time.monotonic() + 20
    while others(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert not others(tmp_path)
