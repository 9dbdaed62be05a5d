import subprocess
import sys

import pytest

from gpt import GPTError
from gpt.config import PRESETS, ModelConfig, Runtime, TrainConfig, preset
from gpt.settings import from_dict


def test_configuration_is_read_without_torch():
    code = "import sys, gpt, gpt.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_problem_is_named_in_one_message():
    with pytest.raises(GPTError) as caught:
        ModelConfig(vocab_size=0, block_size=0, dropout=1.5, n_layer=0)
    for name in ("vocab_size", "block_size", "dropout", "n_layer"):
        assert name in str(caught.value)
    with pytest.raises(GPTError, match=r"steps is 'many'.*did you mean 'adamw'.*lr is 'fast'"):
        TrainConfig(steps="many", lr="fast", optimizer="adam")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_embd": 130}, "not a multiple of n_head"),
        ({"n_embd": 12, "n_head": 4}, "even head width"),
        ({"positions": "rotating"}, "rotary"),
        ({"qk_norm": 1}, "true or false"),
        ({"dropout": float("nan")}, "nan; it must be from 0.0"),
    ],
)
def test_impossible_shapes_are_refused(values, message):
    with pytest.raises(GPTError, match=message):
        ModelConfig(vocab_size=10, block_size=8, **values)


def test_training_and_runtime_are_checked():
    with pytest.raises(GPTError, match="warmup_steps 20 is more than steps 10"):
        TrainConfig(steps=10, warmup_steps=20)
    with pytest.raises(GPTError, match="device is 'gpu'"):
        Runtime(device="gpu")
    with pytest.raises(GPTError, match="processes 2 need parallel ddp or fsdp"):
        Runtime(processes=2)
    with pytest.raises(GPTError, match=r"cooldown is 1\.5"):
        TrainConfig(cooldown=1.5)
    with pytest.raises(GPTError, match="steps is True"):
        TrainConfig(steps=True)


def test_a_whole_number_is_the_same_configuration_as_its_float():
    assert repr(TrainConfig(cooldown=1)) == repr(TrainConfig(cooldown=1.0))


def test_unknown_and_missing_settings_are_named_with_the_nearest_known():
    with pytest.raises(GPTError, match=r"a\.toml.*'n_layers'; did you mean 'n_layer'.*vocab_size is missing"):
        from_dict(ModelConfig, {"n_layers": 3, "block_size": 4}, "a.toml")


def test_presets_are_whole_and_misspelt_ones_are_guessed():
    for name in PRESETS:
        ModelConfig(vocab_size=50257, block_size=1024, **preset(name))
    with pytest.raises(GPTError, match="did you mean 'modern-nano'"):
        preset("modern-nanno")
