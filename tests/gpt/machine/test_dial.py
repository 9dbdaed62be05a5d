"""The dial follows the corpus, the time and the device; what is given wins; no setting leaves the limits that it states."""

import pytest
from hypothesis import given as holds_for
from hypothesis import settings
from hypothesis import strategies as st

from gpt.config import ModelConfig, TrainConfig
from gpt.machine.dial import (
    BATCH_TOKENS,
    CHOSEN,
    CPU_FLOPS,
    DROPOUT,
    MOST_EPOCHS,
    SHAPES,
    Budget,
    _parameters,
    choose,
    device_flops,
    reason,
)  # fmt: skip
from gpt.model.transformer import GPT

H100 = 0.35 * 989e12


def model(vocab_size=4096, **more):
    return ModelConfig(vocab_size=vocab_size, block_size=256, **more)


def layers(train_bytes, minutes, flops):
    return choose({}, model(), Budget(int(train_bytes), minutes, flops))["model.n_layer"]


@pytest.mark.parametrize(
    ("train_bytes", "minutes", "flops", "expected"),
    [
        (1e6, 60, H100, 2),  # a megabyte is learned by heart, whatever the device
        (200e6, 4, CPU_FLOPS, 2),
        (200e6, 60, CPU_FLOPS, 4),
        (200e6, 24 * 60, CPU_FLOPS, 6),
        (20e9, 60, H100, 12),
        (20e9, 24 * 60, H100, 36),
        (20e9, 0.01, CPU_FLOPS, 2),  # there is none smaller
    ],
)
def test_the_shape_follows_corpus_device_and_time(train_bytes, minutes, flops, expected):
    assert layers(train_bytes, minutes, flops) == expected


@settings(max_examples=200, deadline=None)
@holds_for(
    st.integers(1000, 10**11), st.floats(0.05, 10_000), st.sampled_from([CPU_FLOPS, H100, 8 * H100]), st.integers(9, 15)
)
def test_every_choice_is_a_valid_training_within_the_limits(train_bytes, minutes, flops, power):
    of = model(2**power)
    budget = Budget(train_bytes, minutes, flops)
    chosen = choose({}, of, budget)
    assert chosen.keys() == set(CHOSEN)
    sections = {section: {} for section in ("pack", "model", "train")}
    for name, value in chosen.items():
        section, _, key = name.partition(".")
        sections[section][key] = value
    ModelConfig(vocab_size=2**power, **sections["pack"], **sections["model"])
    TrainConfig(**sections["train"])
    T, B, steps = (chosen[name] for name in ("pack.block_size", "train.batch_size", "train.steps"))
    epoch = train_bytes * 3.6 / power
    assert steps * B * T <= (MOST_EPOCHS * epoch + B * T) * 1.01
    assert B == 1 or BATCH_TOKENS[1] * 1.5 >= B * T
    assert (chosen["model.n_layer"], chosen["model.n_embd"]) in SHAPES
    assert chosen["model.dropout"] in (0.0, *(rate for _, rate in DROPOUT))
    assert f"{steps:,} steps" in reason(chosen, of, budget)


def test_what_is_given_wins_and_the_rest_follows_from_it():
    budget = Budget(1_000_000, 4, CPU_FLOPS)
    usual = choose({}, model(), budget)
    given = {"train.steps": 20, "model.n_embd": 192, "model.n_head": 6, "pack.block_size": 64}
    chosen = choose(given, model(), budget)
    assert chosen | given == chosen
    assert usual["model.dropout"] > chosen["model.dropout"] == 0  # 20 steps are far from an epoch
    assert chosen["train.lr"] < usual["train.lr"]  # of a wider model
    tuned = choose({}, model(), Budget(1_000_000, 4, CPU_FLOPS, tunes=True))
    shape = ("pack.block_size", "model.n_layer", "model.n_head", "model.n_embd", "train.batch_size")
    assert all(usual[name] == tuned[name] for name in shape)
    assert tuned["train.matrix_lr"] < usual["train.matrix_lr"]
    assert tuned["train.steps"] * 5 < usual["train.steps"]
    adapted = choose({}, model(), Budget(1_000_000, 4, CPU_FLOPS, tunes=True, adapts=True))
    assert (adapted["train.steps"], adapted["train.matrix_lr"]) == (tuned["train.steps"], usual["train.matrix_lr"])
    assert chosen["train.batch_size"] * 64 >= BATCH_TOKENS[0]
    assert chosen["train.eval_every"] == 2


@pytest.mark.parametrize(("width", "heads"), [(32, 4), (64, 4), (192, 4), (384, 6), (500, 4), (1600, 25)])
@pytest.mark.parametrize("layers", [{}, {"model.n_layer": 3}])
def test_heads_follow_from_a_width_that_is_given(width, heads, layers):
    chosen = choose({"model.n_embd": width, **layers}, model(), Budget(2_000_000, 4, CPU_FLOPS))
    assert (chosen["model.n_head"], chosen["model.n_embd"]) == (heads, width)


def test_parameters_are_those_of_the_model_but_for_its_vectors_and_positions():
    shape = {"model.n_layer": 2, "model.n_head": 4, "model.n_embd": 96}
    for values in ({}, {"feed_forward": "swiglu"}, {"n_kv_head": 2}, {"tied": False}):
        config = ModelConfig(vocab_size=100, block_size=16, n_layer=2, n_head=4, n_embd=96, **values)
        real = GPT(config)
        matrices = sum(p.numel() for p in real.blocks.parameters() if p.ndim > 1) + real.head_weight_VC.numel()
        assert _parameters(shape, config) == matrices


def test_every_machine_without_a_gpu_chooses_the_same():
    assert device_flops("cpu") == CPU_FLOPS
