"""A run, and the same run cut off in every way, must end in the same bytes."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpt import GPTError, checkpoint
from gpt.checkpoint import load_model
from gpt.config import Runtime
from gpt.data import dataset
from gpt.data.dataset import Dataset
from gpt.evaluation.score import evaluate
from gpt.machine.device import prepare
from gpt.model.transformer import GPT
from gpt.trainer.loop import train
from gpt.trainer.update import Learner
from tests.gpt.conftest import RUNTIME, about, documents, files, pack, poisoned, splits


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log" / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_it_promises(packed, tmp_path, shape, schedule):
    steps, evaluations = [], []

    def on_evaluation(step, metrics, folder, best):
        _, metadata = load_model(folder)
        assert (metadata["step"], metadata["val/bpb"]) == (step, metrics["val/bpb"])
        evaluations.append((step, metrics, best))

    out = tmp_path / "out"
    result = train(packed, out, shape, schedule, RUNTIME, lambda step, m: steps.append((step, m)), on_evaluation)
    assert [step for step, _ in steps] == [1, 3, 6, 9, 12, 15, 18, 21, 24]
    names = ("loss", "lr", "grad_norm", "epoch", "tokens_per_second", "mfu", "progress", "eta_seconds")
    assert all(set(metrics) == {f"train/{name}" for name in names} for _, metrics in steps)
    assert 0 < steps[-1][1]["train/mfu"] < 1
    assert steps[3][1]["train/progress"] == 9 / 24
    assert steps[0][1]["train/eta_seconds"] > steps[-1][1]["train/eta_seconds"] == 0
    assert [step for step, _, _ in evaluations] == [8, 16, 24]
    written = json.loads((out / "evaluations.json").read_text())
    assert [(e["step"], e["bpb"]) for e in written] == [(step, m["val/bpb"]) for step, m, _ in evaluations]
    assert written == result.evaluations
    best = min(written, key=lambda e: e["bpb"])
    assert (result.step, result.bits_per_byte, result.loss) == (best["step"], best["bpb"], best["loss"])
    model, metadata = load_model(result.model)
    assert evaluate(model, Dataset.open(packed), batch_size=4).bits_per_byte == pytest.approx(best["bpb"], rel=1e-9)
    assert metadata["tokenizer_fingerprint"] == "rule of three"
    assert (result.steps, result.advice) == (24, "")
    assert result.tokens == 24 * 4 * 16
    assert written[-1]["loss"] < written[0]["loss"] < 3.5
    assert checkpoint.steps_in(out / "state") == [8]  # the last evaluation before the learning rate falls
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
from gpt.model.transformer import GPT
from gpt.trainer.loop import train
from tests.gpt.conftest import poisoned

data, out, model, config, stride = Path(sys.argv[1]), Path(sys.argv[2]), *map(eval, sys.argv[3:6])
GPT.loss = poisoned(data, config, eval(sys.argv[6], {"nan": float("nan")}))
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
        runtime = Runtime(device="cpu", threads=1, log_every=3, micro_batch_size=2)
        train(data, out, model, config, runtime, lambda *_: event(kill_at))
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
def test_killed_anywhere_a_run_ends_in_the_same_bytes(packed, tmp_path, shape, schedule, monkeypatch):
    """With all that has a state: both optimizers, an early stop."""
    config = dataclasses.replace(schedule, steps=56, checkpoint_every=11, patience=1)
    whole, runs = tmp_path / "whole", tmp_path / "runs"
    factors = dict.fromkeys(range(30, 48), -1.0)  # uphill: the evaluation at 40 is no better
    monkeypatch.setattr(GPT, "loss", poisoned(packed, config, factors))
    result = train(packed, whole, shape, config, dataclasses.replace(RUNTIME, micro_batch_size=2))
    assert (bool(result.advice), result.step, result.steps) == (True, 32, 40)
    arguments = [sys.executable, "-c", KILLED, packed, runs, repr(shape), repr(config), "61", repr(factors)]
    subprocess.run([str(argument) for argument in arguments], check=True, timeout=900)
    expected, disturbed = files(whole), list(runs.iterdir())
    assert len(disturbed) > 3
    for out in disturbed:
        assert files(out) == expected, out.name
        assert [(e["step"], e.get("train/loss")) for e in lines(out)] == [
            (e["step"], e.get("train/loss")) for e in lines(whole)
        ], out.name


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.trainer.loop import train
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
        monkeypatch.setattr("gpt.trainer.update.evaluate", lambda *a, **k: (press(8), evaluate(*a, **k))[1])
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
    monkeypatch.setattr("gpt.trainer.loop.prepare", lambda r: (os.kill(os.getpid(), signal.SIGINT), prepare(r))[1])
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


def test_what_is_kept_is_no_part_of_the_run(whole, packed, tmp_path, shape, schedule):
    more = dataclasses.replace(schedule, keep_checkpoints=3)
    assert train(packed, whole, shape, more, RUNTIME).resumed_from == 24  # nothing was left to do
    train(packed, tmp_path / "out", shape, more, RUNTIME)
    made, before = (files(folder) for folder in (tmp_path / "out", whole))
    assert before.items() < made.items()


@pytest.mark.parametrize(("name", "value"), [("vocab_size", 33), ("block_size", 8), ("cross_attention", True)])
def test_a_model_that_does_not_fit_the_data_is_refused(packed, tmp_path, shape, schedule, name, value):
    words = "no memory to attend to" if name == "cross_attention" else f"{name} is {value}"
    with pytest.raises(GPTError, match=words):
        train(packed, tmp_path / "out", dataclasses.replace(shape, **{name: value}), schedule, RUNTIME)
    assert not (tmp_path / "out").exists()


def test_a_state_holds_the_losses_so_far(packed, tmp_path, shape, schedule):
    seen, out = [], tmp_path / "out"

    def press(step, metrics):
        seen.append(metrics["train/loss"])
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(packed, out, shape, schedule, dataclasses.replace(RUNTIME, log_every=1), press)
    assert checkpoint.read_progress(out / "state" / "step-000007")[1]["losses"] == seen
    assert len(seen) == 7


@pytest.mark.parametrize(("factor", "what"), [(math.nan, "loss"), (1e36, "gradient norm")])
def test_training_that_diverges_is_given_up_with_a_remedy(packed, tmp_path, shape, schedule, monkeypatch, factor, what):
    monkeypatch.setattr(GPT, "loss", poisoned(packed, schedule, {20: factor}))
    with pytest.raises(GPTError, match=rf"at step 21 the {what} is not a finite number: .* lower lr"):
        train(packed, tmp_path / "out", shape, schedule, RUNTIME)
    assert checkpoint.steps_in(tmp_path / "out" / "state")[-1] <= 20  # what was good before it is there


def scores(monkeypatch, *bpb):
    """The held-out text has these bits per byte, evaluation by evaluation."""
    left, plain = iter(bpb), Learner.evaluate

    def scored(self, on_batch):
        score = plain(self, on_batch)
        return dataclasses.replace(score, nats=next(left) * score.n_bytes * math.log(2))

    monkeypatch.setattr(Learner, "evaluate", scored)


def test_an_early_stop_keeps_the_best(packed, tmp_path, shape, schedule, monkeypatch, caplog):
    """It says at the first worse evaluation what goes wrong, and at the end what to change."""
    scores(monkeypatch, 3.0, 2.0, 2.5, 2.2, 1.0)
    config = dataclasses.replace(schedule, eval_every=3)
    with caplog.at_level("WARNING", "gpt"):
        result = train(packed, tmp_path / "out", shape, config, RUNTIME)
    assert (result.step, result.steps) == (6, 12)
    assert result.tokens == 12 * 4 * 16
    assert load_model(result.model)[1]["step"] == 6
    first, second, stopped = caplog.messages
    assert first.startswith(
        "held-out text had 2.000 bits per byte at step 6, and has 2.500 bits per byte at step 9, while"
    )
    assert "by heart; try fewer steps (train.steps=6), more dropout" in second == result.advice
    assert stopped == "stopped at step 12 of 24; the best weights are kept"
    monkeypatch.undo()
    again = train(packed, tmp_path / "out", shape, config, RUNTIME)
    assert (again.resumed_from, again.advice) == (12, result.advice)


def test_no_run_is_stopped_before_a_falling_learning_rate_improves_it(packed, tmp_path, shape, schedule, monkeypatch):
    """The rate falls from step 10 on, below FALLING from 13 on: what is a little worse until then is no reason."""
    scores(monkeypatch, 2.0, 2.08, 2.09, 2.05, 2.04, 1.9, 1.95, 1.8)
    result = train(packed, tmp_path / "out", shape, dataclasses.replace(schedule, eval_every=3), RUNTIME)
    assert (result.step, result.steps, result.advice) == (24, 24, "")


def test_the_weights_that_were_scored_are_kept(packed, tmp_path, shape, schedule):
    result = train(packed, tmp_path / "out", shape, schedule, RUNTIME)
    kept, _ = load_model(tmp_path / "out" / "checkpoints" / "step-000024")
    score = evaluate(kept, Dataset.open(packed), batch_size=4)
    assert score.bits_per_byte == pytest.approx(result.evaluations[-1]["bpb"], rel=1e-9)


def test_a_device_that_is_not_here_is_refused(packed, tmp_path, shape, schedule):
    with pytest.raises(GPTError, match="cuda:99"):
        train(packed, tmp_path / "out", shape, schedule, Runtime(device="cuda:99"))


def test_the_result_is_scored_on_test_which_chose_nothing(tmp_path, shape, schedule):
    some = {"train": documents(1, 60), "val": documents(2, 12), "test": documents(3, 12)}
    dataset.write(tmp_path / "data", splits(**some), about())
    result = train(tmp_path / "data", tmp_path / "out", shape, schedule, RUNTIME)
    score = evaluate(load_model(result.model)[0], Dataset.open(tmp_path / "data"), "test", batch_size=4)
    assert result.test == {"loss": pytest.approx(score.loss), "bpb": pytest.approx(score.bits_per_byte)}
    assert result.test["bpb"] != result.bits_per_byte
    test = result.model / "test.json"
    before = test.read_bytes()
    test.unlink()  # as if a kill had come before it
    assert train(tmp_path / "data", tmp_path / "out", shape, schedule, RUNTIME).test == result.test
    assert test.read_bytes() == before
    pack(tmp_path / "without")
    assert train(tmp_path / "without", tmp_path / "other", shape, schedule, RUNTIME).test == {}


def test_a_longer_run_goes_on_from_a_shorter_one_to_the_same_bytes(packed, tmp_path, shape, schedule):
    short = dataclasses.replace(schedule, steps=40, cooldown=0.5)
    longer, runs = dataclasses.replace(short, steps=64), list[int]()
    train(packed, tmp_path / "short", shape, short, RUNTIME)
    train(packed, tmp_path / "undisturbed", shape, longer, RUNTIME)
    train(
        packed, tmp_path / "out", shape, longer, RUNTIME, lambda step, _: runs.append(step), shorter=tmp_path / "short"
    )
    assert checkpoint.steps_in(tmp_path / "short" / "state") == [16]  # the last evaluation before step 20
    assert min(runs) > 16
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")
    losses = [
        [(line["step"], line["train/loss"]) for line in lines(out) if "train/loss" in line]
        for out in (tmp_path / "out", tmp_path / "undisturbed")
    ]
    assert losses[0] == losses[1]
