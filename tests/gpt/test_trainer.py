"""A run, and the same run cut off in every way, must end in the same bytes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpt import GPTError
from gpt.checkpoint import load_model
from gpt.config import Runtime
from gpt.dataset import Dataset
from gpt.evaluate import evaluate
from gpt.main import main
from gpt.runtime import prepare
from gpt.trainer import train
from tests.gpt.conftest import pack

RUNTIME = Runtime(device="cpu", threads=1, log_every=3)


def files(out: Path) -> dict[str, bytes]:
    """Everything that must be the same, by relative path."""
    every = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in every if path.relative_to(out).parts[0] != "log"}


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def whole(packed, tmp_path, shape, schedule):
    """A run that nobody disturbed."""
    train(packed, tmp_path / "whole", shape, schedule, RUNTIME)
    return tmp_path / "whole"


def test_a_run_leaves_what_it_promises(packed, tmp_path, shape, schedule):
    steps, evaluations = [], []

    def on_evaluation(step, metrics, folder, best):
        _, metadata = load_model(folder)
        assert (metadata["step"], metadata["val/bpb"]) == (step, metrics["val/bpb"])
        evaluations.append((step, metrics, best))

    out = tmp_path / "out"
    result = train(packed, out, shape, schedule, RUNTIME, lambda step, m: steps.append((step, m)), on_evaluation)
    assert [step for step, _ in steps] == [1, 3, 6, 9, 12, 15, 18, 21, 24]
    keys = {"train/loss", "train/lr", "train/grad_norm", "train/tokens_per_second", "train/epoch"}
    assert all(set(metrics) == keys for _, metrics in steps)
    assert [step for step, _, _ in evaluations] == [8, 16, 24]
    written = json.loads((out / "evaluations.json").read_text())
    assert [(e["step"], e["bpb"]) for e in written] == [(step, m["val/bpb"]) for step, m, _ in evaluations]
    assert written == result.evaluations
    best = min(written, key=lambda e: e["bpb"])
    assert (result.step, result.bits_per_byte, result.loss) == (best["step"], best["bpb"], best["loss"])
    model, metadata = load_model(result.model)
    assert evaluate(model, Dataset.open(packed), batch_size=4).bits_per_byte == pytest.approx(best["bpb"], rel=1e-9)
    assert metadata["tokenizer_fingerprint"] == "rule of three"
    assert result.tokens == 24 * 4 * 16
    assert written[-1]["loss"] < written[0]["loss"] < 3.5
    assert not (out / "state").exists()
    assert {p.name for p in (out / "checkpoints").iterdir()} == {f"step-{s:06d}" for s in {24, best["step"]}}
    logged = lines(out)
    assert [e["step"] for e in logged if "train/loss" in e] == [step for step, _ in steps]
    assert [e["step"] for e in logged if "val/bpb" in e] == [8, 16, 24]


def test_the_same_run_gives_the_same_bytes_and_a_finished_one_is_left_alone(whole, packed, tmp_path, shape, schedule):
    train(packed, tmp_path / "again", shape, schedule, dataclasses.replace(RUNTIME, log_every=1))
    assert files(whole) == files(tmp_path / "again")
    result = train(packed, whole, shape, schedule, RUNTIME, on_step=lambda *_: pytest.fail("trained again"))
    assert result.resumed_from == 24
    train(packed, tmp_path / "other", shape, dataclasses.replace(schedule, seed=2), RUNTIME)
    assert files(whole)["model/model.safetensors"] != files(tmp_path / "other")["model/model.safetensors"]


# Forks, so that torch is imported once: each child trains and kills itself at its n-th write to disk.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from gpt import checkpoint
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.trainer import train

data, out, model, config, stride = Path(sys.argv[1]), Path(sys.argv[2]), *map(eval, sys.argv[3:6])
flush, rmtree, events = checkpoint._flush, checkpoint.shutil.rmtree, 0

def event(kill_at):
    global events
    events += 1
    if events == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

def child(out, kill_at):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        checkpoint._flush = lambda path: (flush(path), event(kill_at))
        checkpoint.shutil.rmtree = lambda *a, **k: (rmtree(*a, **k), event(kill_at))
        train(data, out, model, config, Runtime(device="cpu", threads=1, log_every=3), lambda *_: event(kill_at))
        os._exit(0)
    finally:
        os._exit(1)

kill_at = 1
while child(out / str(kill_at), kill_at):
    assert child(out / str(kill_at), kill_at + 7) in (0, signal.SIGKILL)  # and once more, on the way
    assert child(out / str(kill_at), 0) == 0
    kill_at += stride
"""


@pytest.mark.slow
def test_killed_anywhere_a_run_ends_in_the_same_bytes(whole, packed, tmp_path, shape, schedule):
    runs = tmp_path / "runs"
    arguments = [sys.executable, "-c", KILLED, packed, runs, repr(shape), repr(schedule), "41"]
    subprocess.run([str(argument) for argument in arguments], check=True, timeout=300)
    expected, disturbed = files(whole), list(runs.iterdir())
    assert len(disturbed) > 4
    for out in disturbed:
        assert files(out) == expected, out.name
        assert [(e["step"], e.get("train/loss")) for e in lines(out)] == [
            (e["step"], e.get("train/loss")) for e in lines(whole)
        ], out.name


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.trainer import train
data, out, model, config = Path(sys.argv[1]), Path(sys.argv[2]), *map(eval, sys.argv[3:5])
number = getattr(signal, sys.argv[5])
train(data, out, model, config, Runtime(device="cpu", threads=1, log_every=1),
      lambda step, _: step == 11 and os.kill(os.getpid(), number))
"""


@pytest.mark.slow
def test_sigterm_ends_the_process_as_it_would_have_with_the_state_saved(whole, packed, tmp_path, shape, schedule):
    out = tmp_path / "out"
    arguments = [sys.executable, "-c", INTERRUPTED, packed, out, repr(shape), repr(schedule), "SIGTERM"]
    done = subprocess.run([str(argument) for argument in arguments], check=False, timeout=120)
    assert done.returncode == -signal.SIGTERM
    assert "step-000011" in {path.name for path in (out / "state").iterdir()}
    assert train(packed, out, shape, schedule, RUNTIME).resumed_from == 11
    assert files(out) == files(whole)


@pytest.mark.parametrize("where", ["step", "evaluation"])
def test_ctrl_c_reaches_the_caller_after_the_state_is_saved(
    whole, packed, tmp_path, shape, schedule, where, monkeypatch
):
    out = tmp_path / "out"
    handler = signal.getsignal(signal.SIGINT)

    def press(step, *_):
        if step == 8:
            os.kill(os.getpid(), signal.SIGINT)

    if where == "evaluation":  # the signal comes in the midst of scoring: val is left for later
        monkeypatch.setattr("gpt.trainer.evaluate", lambda *a, **k: (press(8), evaluate(*a, **k))[1])
    with pytest.raises(KeyboardInterrupt):
        train(
            packed, out, shape, schedule, dataclasses.replace(RUNTIME, log_every=1), press if where == "step" else None
        )
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.undo()
    result = train(packed, out, shape, schedule, RUNTIME)
    assert result.resumed_from == 8
    assert files(out) == files(whole)
    assert [e["step"] for e in lines(out) if "val/bpb" in e] == [8, 16, 24]


def test_a_caller_that_swallows_the_signal_is_left_by_system_exit(packed, tmp_path, shape, schedule):
    heard = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(SystemExit) as caught:
            train(packed, tmp_path / "out", shape, schedule, RUNTIME, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert heard == [signal.SIGTERM]
    assert caught.value.code == 143


def test_a_signal_before_the_first_step_leaves_a_fresh_start(whole, packed, tmp_path, shape, schedule, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr("gpt.trainer.prepare", lambda r: (os.kill(os.getpid(), signal.SIGINT), prepare(r))[1])
    with pytest.raises(KeyboardInterrupt):
        train(packed, out, shape, schedule, RUNTIME)
    monkeypatch.undo()
    assert train(packed, out, shape, schedule, RUNTIME).resumed_from == 0
    assert files(out) == files(whole)


def test_bfloat16_comes_close(whole, packed, tmp_path, shape, schedule):
    result = train(packed, tmp_path / "out", shape, schedule, dataclasses.replace(RUNTIME, dtype="bfloat16"))
    exact = json.loads((whole / "evaluations.json").read_text())
    assert result.evaluations != exact
    assert result.evaluations[-1]["loss"] == pytest.approx(exact[-1]["loss"], rel=0.02)


def test_a_folder_of_another_run_is_refused(packed, tmp_path, shape, schedule):
    class Stop(Exception):
        pass

    def stop(step, *_):
        if step == 9:
            raise Stop

    out, other = tmp_path / "out", dataclasses.replace(schedule, lr=0.5)
    with pytest.raises(Stop):
        train(packed, out, shape, schedule, RUNTIME, stop)
    with pytest.raises(GPTError, match=r"state.*lr \(0\.003, now 0\.5\)"):
        train(packed, out, shape, other, RUNTIME)
    pack(tmp_path / "more", n_train=61)
    with pytest.raises(GPTError, match="differs in the data"):
        train(tmp_path / "more", out, shape, schedule, RUNTIME)
    train(packed, out, shape, schedule, RUNTIME)
    with pytest.raises(GPTError, match=r"out/model.*lr"):
        train(packed, out, shape, other, RUNTIME)


def test_a_damaged_state_is_named_and_the_one_before_serves(whole, packed, tmp_path, shape, schedule):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(packed, out, shape, schedule, RUNTIME, lambda step, _: step == 18 and os.kill(os.getpid(), signal.SIGINT))
    latest = out / "state" / "step-000018"
    weights = latest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(GPTError, match=r"step-000018/model\.safetensors is cut"):
        train(packed, out, shape, schedule, RUNTIME)
    (latest / "config.json").unlink()  # now it is half a folder
    assert train(packed, out, shape, schedule, RUNTIME).resumed_from == 16
    assert files(out) == files(whole)


@pytest.mark.parametrize(("name", "value"), [("vocab_size", 33), ("block_size", 8)])
def test_a_model_that_does_not_fit_the_data_is_refused(packed, tmp_path, shape, schedule, name, value):
    with pytest.raises(GPTError, match=f"{name} is {value}"):
        train(packed, tmp_path / "out", dataclasses.replace(shape, **{name: value}), schedule, RUNTIME)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite_is_named_with_its_step(packed, tmp_path, shape, schedule, monkeypatch):
    plain, calls = torch.nn.functional.cross_entropy, []

    def diverge(*arguments, **settings):
        calls.append(1)
        return plain(*arguments, **settings) * (float("nan") if len(calls) == 5 else 1)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", diverge)
    with pytest.raises(GPTError, match="loss of step 5 is not a finite number"):
        train(packed, tmp_path / "out", shape, schedule, RUNTIME)
    assert not (tmp_path / "out" / "state").exists()


def test_a_device_that_is_not_here_is_refused(packed, tmp_path, shape, schedule):
    with pytest.raises(GPTError, match="cuda:99"):
        train(packed, tmp_path / "out", shape, schedule, Runtime(device="cuda:99"))


def test_from_the_command_line(packed, tmp_path, capsys):
    config = tmp_path / "run.toml"
    config.write_text(
        '[model]\npreset = "classic-nano"\nn_layer = 1\nn_head = 2\nn_embd = 16\n'
        '[train]\nsteps = 4\noptimizer = "adamw"\n[runtime]\ndevice = "cpu"\nlog_every = 2\n'
    )
    arguments = ["--data", str(packed), "--config", str(config), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "step      4  loss" in said
    assert "bits per byte at step 4 of 4" in said
    assert load_model(tmp_path / "out" / "model")[0].config.positions == "learned"
    for text, message in [
        ("[train]\nstepps = 3\n", "did you mean 'steps'"),
        ("[training]\n", "sections are model, train and runtime"),
        ("[model]\npreset = 'nano'\n", "known are"),
        ("[model\n", "cannot be read"),
        ("[model]\nblock_size = 8\n", "block_size is 8"),
    ]:
        config.write_text(text)
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
