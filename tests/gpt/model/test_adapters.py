"""Low-rank adapters: what is trained, and that they merge into the same model."""

import dataclasses
import json
import shutil

import pytest
import torch

from gpt import GPTError
from gpt.checkpoint import load_model
from gpt.config import Runtime, Start
from gpt.model.adapters import adapt, merged, trained
from gpt.model.transformer import GPT
from gpt.trainer.loop import train
from tests.gpt.conftest import RUNTIME, files, pack


@pytest.fixture
def start(whole):
    return Start(str(whole / "model"), rank=2, alpha=6.0)


@pytest.fixture
def tuning(schedule):
    return dataclasses.replace(schedule, seed=3, lr=1e-2, matrix_lr=3e-2)


@pytest.mark.parametrize(("matrices", "trained_values"), [("all", 2), ("attention", 1), ("feed_forward", 1)])
def test_adapters_alone_are_trained_and_merge_into_the_same_logits(shape, matrices, trained_values):
    torch.manual_seed(5)
    model = GPT(dataclasses.replace(shape, bias=True, dropout=0.0, zero_init=False)).eval()
    before, ids = model(torch.arange(8)[None]), torch.arange(8)[None]
    adapt(model, Start(rank=2, alpha=6.0, matrices=matrices))
    torch.testing.assert_close(model(ids), before, rtol=0, atol=0)
    parameters = trained(model)
    assert {name.rpartition(".")[2] for name in parameters} == {"A", "B"}
    assert len(parameters) == 2 * 2 * 2 * trained_values  # A and B, of two matrices in two blocks
    for parameter in parameters.values():
        torch.nn.init.normal_(parameter, std=0.3)
    changed = model(ids)
    assert not torch.allclose(changed, before, atol=0.1)
    alone = GPT(model.config).eval()
    alone.load_state_dict(merged(model))
    torch.testing.assert_close(alone(ids), changed, rtol=1e-5, atol=1e-5)


def test_a_training_keeps_the_base_and_writes_adapters_beside_the_merged_weights(start, tmp_path, shape, tuning, whole):
    pack(tmp_path / "other", n_train=40)
    result = train(tmp_path / "other", tmp_path / "out", shape, tuning, RUNTIME, start=start)
    (model, about), (base, _) = load_model(result.model), load_model(whole / "model")
    assert torch.equal(model.tokens.weight, base.tokens.weight)
    moved = model.blocks[0].feed_forward.up.weight - base.blocks[0].feed_forward.up.weight
    assert torch.linalg.matrix_rank(moved, atol=1e-4) == 2
    assert about["task"]["train"]["adapter"] == {"rank": 2, "alpha": 6.0, "matrices": "all"}
    assert result.evaluations[-1]["loss"] < result.evaluations[0]["loss"]

    small = tmp_path / "small"  # the adapters alone, beside the base
    shutil.copytree(result.model, small, ignore=lambda *_: ["model.safetensors"])
    again, _ = load_model(small, base=whole / "model")
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weights)
    with pytest.raises(GPTError, match="has no adapters that were trained for"):
        load_model(small, base=result.model)
    with pytest.raises(GPTError, match=r"model.safetensors is missing"):
        load_model(small)


def test_a_stopped_training_of_adapters_ends_in_the_same_bytes(start, tmp_path, shape, tuning, packed):
    train(packed, tmp_path / "undisturbed", shape, tuning, RUNTIME, start=start)

    def stop(step, _):
        if step == 12:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        train(packed, tmp_path / "out", shape, tuning, RUNTIME, stop, start=start)
    assert train(packed, tmp_path / "out", shape, tuning, RUNTIME, start=start).resumed_from == 10
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")
    with pytest.raises(GPTError, match="differs in adapter"):
        train(packed, tmp_path / "out", shape, tuning, RUNTIME, start=dataclasses.replace(start, alpha=8.0))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_train_the_same_adapters_as_one(start, tmp_path, shape, tuning, packed, how):
    model = dataclasses.replace(shape, dropout=0.0)  # whose random numbers belong to a process
    alone = train(packed, tmp_path / "one", model, tuning, RUNTIME, start=start)
    two = Runtime(device="cpu", threads=1, parallel=how, processes=2)
    together = train(packed, tmp_path / "two", model, tuning, two, start=start)
    assert together.loss == pytest.approx(alone.loss, rel=2e-4)
    assert json.loads((together.model / "config.json").read_text())["metadata"]["task"]["train"]["adapter"]
