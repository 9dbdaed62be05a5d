"""--size auto follows the corpus, the time and the device, and never leaves the limits that it states."""

import pytest

from gpt.config import ModelConfig, TrainConfig, preset
from gpt.machine.sizing import device_flops, parameters, sized
from gpt.model.transformer import GPT

CPU, H100 = 2 * 60e9, 989e12


def chosen(train_bytes: float, minutes: float, flops: float, **of_model) -> str:
    model = ModelConfig(**({"vocab_size": 8192, "block_size": 256} | preset("modern-nano") | of_model))
    return sized(model, TrainConfig(minutes=minutes), int(train_bytes), flops)[0]


@pytest.mark.parametrize(
    ("train_bytes", "minutes", "flops", "size"),
    [
        (1e6, 60, H100, "nano"),  # a megabyte is learned by heart, whatever the device
        (200e6, 5, CPU, "nano"),  # five minutes of two cores
        (200e6, 4 * 24 * 60, CPU, "tiny"),
        (200e6, 60, H100, "small"),
        (20e9, 60, H100, "small"),
        (20e9, 24 * 60, H100, "medium"),
        (20e9, 0.01, CPU, "nano"),  # there is none smaller
    ],
)
def test_the_size_follows_corpus_device_and_time(train_bytes, minutes, flops, size):
    assert chosen(train_bytes, minutes, flops) == size


def test_without_minutes_the_tokens_of_the_steps_count():
    model = ModelConfig(vocab_size=1000, block_size=256, **preset("classic-nano"))
    few, many = (TrainConfig(steps=steps, batch_size=64) for steps in (1000, 20_000))
    assert sized(model, few, 10**9, CPU)[0] == "nano"
    name, larger = sized(model, many, 10**9, CPU)
    assert (name, larger.n_layer, larger.n_embd, larger.positions) == ("tiny", 6, 384, "learned")  # its family stays


def test_parameters_are_those_of_the_model_but_for_its_vectors_and_positions():
    for values in ({}, {"feed_forward": "swiglu"}, {"n_kv_head": 2}, {"tied": False}):
        model = GPT(ModelConfig(vocab_size=100, block_size=16, n_layer=2, n_head=4, n_embd=32, **values))
        matrices = sum(p.numel() for p in model.blocks.parameters() if p.ndim > 1) + model.head_weight_VC.numel()
        assert parameters(model.config) == matrices


def test_a_cpu_counts_by_its_threads():
    assert device_flops("cpu", threads=3) == 3 * device_flops("cpu", threads=1)
