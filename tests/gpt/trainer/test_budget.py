"""A run of so many minutes ends within them, as a run of so many steps."""

import dataclasses
import os
import signal
import types

import pytest

from gpt import GPTError
from gpt.evaluation.score import evaluate
from gpt.trainer.loop import train
from gpt.trainer.update import Learner
from tests.gpt.conftest import RUNTIME, files


def test_a_run_ends_within_its_minutes_as_one_of_so_many_steps(packed, tmp_path, shape, schedule, caplog):
    caplog.set_level("INFO")
    config = dataclasses.replace(schedule, minutes=0.05, warmup_steps=2000, eval_every=40, checkpoint_every=1000)

    def stop(step, *_):
        if step == 4:  # a busy machine has been seen to fit 30
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(packed, tmp_path / "cut", shape, config, dataclasses.replace(RUNTIME, log_every=1), stop)
    result = train(packed, tmp_path / "cut", shape, config, RUNTIME)
    assert result.resumed_from == 4
    assert "steps fit into 0.05 minutes" in caplog.text
    assert result.evaluations[-1]["step"] == result.steps
    fixed = dataclasses.replace(config, minutes=0.0, steps=result.steps, warmup_steps=min(2000, result.steps))
    train(packed, tmp_path / "fixed", shape, fixed, RUNTIME)
    assert files(tmp_path / "cut")["model/model.safetensors"] == files(tmp_path / "fixed")["model/model.safetensors"]


def test_a_run_ends_within_its_minutes(packed, tmp_path, shape, schedule, monkeypatch):
    """By a clock on which an update takes 20 ms and an evaluation 100 ms, whatever else the machine does."""
    now, real_update = 0.0, Learner.update

    def timed_update(learner, step):
        nonlocal now
        now += 0.02
        return real_update(learner, step)

    def timed_evaluate(model, data, split, rows, device, dtype, on_batch):
        def after_each(done, total):
            nonlocal now
            now += 0.1 * min(rows, total) / total
            on_batch(done, total)

        return evaluate(model, data, split, rows, device, dtype, after_each)

    for module in ("budget", "loop"):
        monkeypatch.setattr(f"gpt.trainer.{module}.time", types.SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(Learner, "update", timed_update)
    monkeypatch.setattr("gpt.trainer.update.evaluate", timed_evaluate)
    config = dataclasses.replace(schedule, minutes=0.05, eval_every=40, checkpoint_every=1000)
    result = train(packed, tmp_path / "out", shape, config, RUNTIME)
    assert 2.4 < now <= 3.0
    assert result.steps > 100


def test_a_cosine_has_its_number_of_steps_from_the_start(packed, tmp_path, shape, schedule, caplog):
    caplog.set_level("INFO")
    config = dataclasses.replace(schedule, minutes=0.02, schedule="cosine")
    result = train(packed, tmp_path / "out", shape, config, RUNTIME)
    assert f"{result.steps} steps fit into 0.02 minutes" in caplog.text


def test_too_few_minutes_are_refused_with_the_fewest(packed, tmp_path, shape, schedule):
    with pytest.raises(GPTError, match=r"minutes 0.0001 are too short.*set minutes to at least 0\.\d"):
        train(packed, tmp_path / "out", shape, dataclasses.replace(schedule, minutes=0.0001), RUNTIME)
    assert not list((tmp_path / "out").rglob("*.safetensors"))
