import json

import pytest
import torch

from gpt import GPTError, checkpoint
from gpt.config import ModelConfig, TrainConfig
from gpt.model.transformer import GPT
from gpt.trainer.optimizers import build_optimizers


@pytest.fixture
def model(shape):
    torch.manual_seed(0)
    return GPT(shape)


def trained(model, optimizers, steps):
    for step in steps:
        torch.manual_seed(step)
        ids_BT = torch.randint(model.config.vocab_size, (2, 8))
        model.loss(ids_BT, ids_BT).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_a_model_comes_back_as_it_was(model, tmp_path):
    checkpoint.save_model(tmp_path / "m", model, step=7, tokenizer_fingerprint="abc")
    state = torch.get_rng_state()
    loaded, metadata = checkpoint.load_model(tmp_path / "m")
    assert torch.equal(state, torch.get_rng_state())
    assert metadata == {"step": 7, "tokenizer_fingerprint": "abc"}
    assert loaded.config == model.config
    assert not loaded.training
    ids_BT = torch.randint(model.config.vocab_size, (2, 8))
    assert torch.equal(loaded(ids_BT), model.eval()(ids_BT))


def test_equal_models_are_equal_files_and_a_new_one_replaces_the_old(model, tmp_path):
    checkpoint.save_model(tmp_path / "a", model, step=1)
    checkpoint.save_model(tmp_path / "b", GPT(model.config), step=2)
    checkpoint.save_model(tmp_path / "b", model, step=1)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_state_goes_on_exactly(model, tmp_path, optimizer):
    config = TrainConfig(optimizer=optimizer)
    optimizers = build_optimizers(model, config)
    trained(model, optimizers, range(3))
    checkpoint.save_state(tmp_path / "s", model, optimizers, step=3, progress={"x": 1})
    trained(model, optimizers, range(3, 6))
    torch.manual_seed(99)
    other = GPT(model.config)
    other_optimizers = build_optimizers(other, config)
    assert checkpoint.read_progress(tmp_path / "s") == (3, {"x": 1})
    checkpoint.load_state(tmp_path / "s", other, other_optimizers)
    trained(other, other_optimizers, range(3, 6))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_damaged_model_file_is_named(model, tmp_path, name, damage):
    checkpoint.save_model(tmp_path, model)
    whole = (tmp_path / name).read_bytes()
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(whole[:-3] if damage == "cut" else b"\x80\x04K\x01.")
    with pytest.raises(GPTError, match=name):
        checkpoint.load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_state_file_is_named(model, tmp_path, name):
    optimizers = build_optimizers(model, TrainConfig())
    trained(model, optimizers, range(1))
    checkpoint.save_state(tmp_path / "s", model, optimizers, step=1, progress={})
    path = tmp_path / "s" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(GPTError, match=name):
        checkpoint.load_state(tmp_path / "s", model, optimizers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "has version 2; this program reads version 1"),
        ({"metadata": ...}, r"config\.json has no metadata"),
        ({"format": "llama"}, "another program"),
        ({"model": {"vocab_size": 32}}, "block_size is missing"),
        ({"model": None}, "table of settings"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(model, tmp_path, changes, message):
    checkpoint.save_model(tmp_path, model)
    document = json.loads((tmp_path / "config.json").read_text())
    whole = document | changes
    (tmp_path / "config.json").write_text(json.dumps({name: whole[name] for name in whole if whole[name] is not ...}))
    with pytest.raises(GPTError, match=message):
        checkpoint.load_model(tmp_path)


def test_weights_of_another_shape_are_refused(model, tmp_path):
    checkpoint.save_model(tmp_path / "a", model)
    for values, message in [
        ({"n_layer": 3}, r"blocks\.2"),
        ({"n_embd": 32}, "config.json says"),
        ({"tied": False}, "head"),
    ]:
        other = ModelConfig(**{"vocab_size": 32, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16} | values)
        checkpoint.save_model(tmp_path / "b", GPT(other))
        (tmp_path / "b" / "model.safetensors").write_bytes((tmp_path / "a" / "model.safetensors").read_bytes())
        with pytest.raises(GPTError, match=message):
            checkpoint.load_model(tmp_path / "b")


def test_a_state_of_another_model_is_refused(model, tmp_path):
    optimizers = build_optimizers(model, TrainConfig())
    trained(model, optimizers, range(1))
    checkpoint.save_state(tmp_path / "s", model, optimizers, step=1, progress={})
    other = GPT(ModelConfig(32, 16, n_layer=1, n_head=2, n_embd=16))
    with pytest.raises(GPTError, match=r"model\.safetensors"):
        checkpoint.load_state(tmp_path / "s", other, build_optimizers(other, TrainConfig()))
    adamw = build_optimizers(model, TrainConfig(optimizer="adamw"))
    checkpoint.save_state(tmp_path / "empty", model, adamw, step=0, progress={})
    with pytest.raises(GPTError, match="nothing for"):
        checkpoint.load_state(tmp_path / "empty", model, adamw)


def test_half_written_folders_do_not_count(model, tmp_path):
    for step in (10, 1_000_000, 200):
        checkpoint.save_model(checkpoint.step_folder(tmp_path, step), model)
    (tmp_path / ".step-000300.partial").mkdir()
    (tmp_path / "step-000400").mkdir()
    assert checkpoint.steps_in(tmp_path) == [10, 200, 1_000_000]
    checkpoint.keep_only(tmp_path, {200})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000200"]
