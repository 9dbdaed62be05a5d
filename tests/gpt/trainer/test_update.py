"""One training step: the same gradients in one piece and in parts, compiled and not."""

import dataclasses
import functools

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from gpt import GPTError
from gpt.checkpoint import load_model
from gpt.data.dataset import Dataset
from gpt.trainer.loop import train
from gpt.trainer.update import micro_steps
from tests.gpt.conftest import RUNTIME, files


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_gradients_gathered_in_parts_are_those_of_the_whole_batch(packed, tmp_path, shape, schedule, optimizer):
    """Also with the corpus's last, padded sequence in it, so that parts have different numbers of targets."""
    shape = dataclasses.replace(shape, dropout=0.0)
    config = dataclasses.replace(schedule, optimizer=optimizer, batch_size=12, steps=15)
    n = Dataset.open(packed).n_sequences()
    assert config.steps * config.batch_size > 2 * n
    metrics = {rows: [] for rows in (0, 5, 1)}
    for rows, seen in metrics.items():
        runtime = dataclasses.replace(RUNTIME, micro_batch_size=rows, log_every=1)
        train(packed, tmp_path / str(rows), shape, config, runtime, lambda step, m, seen=seen: seen.append(m))
    for rows in (5, 1):
        for mine, whole in zip(metrics[rows], metrics[0], strict=True):
            assert mine["train/loss"] == pytest.approx(whole["train/loss"], rel=1e-4)
            assert mine["train/grad_norm"] == pytest.approx(whole["train/grad_norm"], rel=1e-2)
        mine, whole = (load_model(tmp_path / str(r) / "model")[0].tokens.weight for r in (rows, 0))
        torch.testing.assert_close(mine, whole, rtol=1e-2, atol=1e-4)


def test_a_batch_is_cut_into_the_fewest_equal_parts():
    cases = {(12, 1, 0): 1, (12, 1, 5): 3, (12, 1, 12): 1, (12, 2, 4): 2, (7, 1, 3): 7, (12, 3, 99): 1}
    assert {case: micro_steps(*case) for case in cases} == cases
    with pytest.raises(GPTError, match="batch_size 10 cannot be shared equally by 4"):
        micro_steps(10, 4, 0)


def test_without_a_compiler_it_trains_uncompiled_and_says_so_once(
    whole, packed, tmp_path, shape, schedule, monkeypatch, caplog
):
    def compiled(module, **_):
        def call(*_, **__):
            raise RuntimeError("Failed to find C compiler.\nlong story")

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    train(packed, tmp_path / "out", shape, schedule, dataclasses.replace(RUNTIME, compile="on"))
    assert [record.getMessage() for record in caplog.records] == [
        "torch.compile does not work here, so the training goes on without it (Failed to find C compiler.)"
    ]
    assert files(tmp_path / "out") == files(whole)


def test_compiled_training_comes_close_in_one_graph(packed, tmp_path, shape, schedule, monkeypatch, caplog):
    """By the compiler's front end alone: generating C++ would take a minute."""
    shape = dataclasses.replace(shape, n_layer=1, dropout=0.0)
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    losses = {}
    for how in ("off", "on"):
        runtime = dataclasses.replace(RUNTIME, compile=how, micro_batch_size=2)
        losses[how] = train(packed, tmp_path / how, shape, schedule, runtime).evaluations
    assert not [record for record in caplog.records if record.name.startswith("gpt")]
    assert counter.frame_count == 1
    for mine, theirs in zip(losses["on"], losses["off"], strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
