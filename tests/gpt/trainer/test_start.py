"""A training that starts from a trained model: the same bytes after an interruption, and what does not fit."""

import dataclasses
import json
import os
import shutil
import signal

import pytest
import torch

from gpt import GPTError
from gpt.checkpoint import load_model
from gpt.config import Runtime, Start
from gpt.trainer.__main__ import main
from gpt.trainer.loop import train
from tests.gpt.conftest import RUNTIME, files, pack


@pytest.fixture
def base(whole):
    return whole / "model"


@pytest.fixture
def other(tmp_path):
    """Other documents of the same tokens."""
    pack(tmp_path / "other", n_train=40)
    return tmp_path / "other"


@pytest.fixture
def tuning(schedule):
    return dataclasses.replace(schedule, seed=3, lr=1e-3, matrix_lr=1e-3)


def test_the_first_weights_are_those_of_the_model(base, other, tmp_path, shape, tuning):
    still = dataclasses.replace(tuning, lr=1e-12, matrix_lr=1e-12, weight_decay=0.0)
    train(other, tmp_path / "out", dataclasses.replace(shape, dropout=0.3), still, RUNTIME, start=Start(str(base)))
    made, model = (load_model(folder)[0] for folder in (tmp_path / "out" / "model", base))
    assert made.config.dropout == 0.3
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(made.state_dict()[name], weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["crash", "signal"])
def test_stopped_and_continued_it_ends_in_the_same_bytes(base, other, tmp_path, shape, tuning, how):
    train(other, tmp_path / "undisturbed", shape, tuning, RUNTIME, start=Start(str(base)))
    scratch = train(other, tmp_path / "scratch", shape, tuning, RUNTIME)

    def stop(step, _):
        if step == 12 and how == "crash":  # after the state of step 10
            raise RuntimeError("stop")
        if step == 12:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        train(other, tmp_path / "out", shape, tuning, RUNTIME, stop, start=Start(str(base)))
    result = train(other, tmp_path / "out", shape, tuning, RUNTIME, start=Start(str(base)))
    assert result.resumed_from == (10 if how == "crash" else 12)
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")
    assert result.loss < scratch.loss


def test_it_goes_on_only_from_the_same_model(base, other, tmp_path, shape, tuning):
    train(other, tmp_path / "out", shape, tuning, RUNTIME, start=Start(str(base)))
    for start in (None, Start(str(tmp_path / "out" / "model"))):
        with pytest.raises(GPTError, match=r"differs in start \("):
            train(other, tmp_path / "out", shape, tuning, RUNTIME, start=start)


def test_what_does_not_fit_is_refused_before_anything_is_made(base, other, tmp_path, shape, tuning):
    pack(tmp_path / "foreign", tokenizer_fingerprint="another")
    shutil.copytree(base, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    wider, out = dataclasses.replace(shape, n_embd=32), tmp_path / "out"
    for data, model, start, words in (
        (other, wider, base, "n_embd=16.*n_embd=32.*leave all but dropout to it"),
        (tmp_path / "foreign", shape, base, "another tokenizer than .*foreign: pack the data with its tokenizer"),
        (other, shape, tmp_path / "cut", "cut/model.safetensors is cut"),
        (other, shape, tmp_path / "nowhere", "nowhere/config.json is missing"),
    ):
        with pytest.raises(GPTError, match=words):
            train(data, out, model, tuning, RUNTIME, start=Start(str(start)))
        assert not out.exists()


def test_the_command_line_takes_the_shape_from_the_model(base, other, tmp_path, shape, capsys):
    config, out = tmp_path / "run.json", tmp_path / "out"
    settings = {"model": {"dropout": 0.2}, "train": {"steps": 4}, "runtime": {"device": "cpu", "threads": 1}}
    settings["start"] = {"folder": str(base)}
    config.write_text(json.dumps(settings))
    asked = ["--data", str(other), "--config", str(config), "--out", str(out)]
    assert main(asked) == 0
    assert load_model(out / "model")[0].config == dataclasses.replace(shape, dropout=0.2)
    config.write_text(json.dumps(settings | {"model": {"n_layer": 3}}))
    assert main([*asked[:-1], str(tmp_path / "wider")]) == 2
    assert "leave all but dropout to it" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_start_where_one_does(base, other, tmp_path, shape, tuning):
    model = dataclasses.replace(shape, dropout=0.0)  # whose random numbers belong to a process
    alone = train(other, tmp_path / "one", model, tuning, RUNTIME, start=Start(str(base)))
    two = Runtime(device="cpu", threads=1, parallel="ddp", processes=2)
    together = train(other, tmp_path / "two", model, tuning, two, start=Start(str(base)))
    assert together.loss == pytest.approx(alone.loss, rel=2e-4)
