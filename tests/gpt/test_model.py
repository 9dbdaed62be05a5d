import itertools
import math

import pytest
import torch

from gpt import GPTError
from gpt.config import ModelConfig, TrainConfig, preset
from gpt.model import GPT, rotate, rotations, sinusoids
from gpt.muon import Muon, orthogonalize
from gpt.optim import build_optimizers, learning_rate, parameter_groups, schedule

VARIANTS = [
    {
        "positions": positions,
        "norm": norm,
        "feed_forward": feed_forward,
        "qk_norm": modern,
        "bias": not modern,
        "tied": modern,
        "embedding_norm": modern,
    }
    for (positions, modern), (norm, feed_forward) in zip(
        itertools.product(("learned", "sinusoidal", "rotary"), (True, False)),
        itertools.cycle((("layernorm", "gelu"), ("rmsnorm", "relu2"), ("rmsnorm", "swiglu"))),
        strict=False,
    )
]


def build(**values) -> GPT:
    torch.manual_seed(0)
    config = {"vocab_size": 61, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 32, "zero_init": False} | values
    return GPT(ModelConfig(**config)).eval()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_a_later_token_changes_nothing_before_it(variant):
    model = build(**variant)
    ids_BT = torch.randint(61, (3, 12))
    changed_BT = ids_BT.clone()
    changed_BT[:, 7] = (ids_BT[:, 7] + 1) % 61
    before, after = model(ids_BT), model(changed_BT)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_order_of_the_past_matters(variant):
    model = build(**variant, n_layer=1)  # from two on, the causal mask alone gives order away
    ids_BT = torch.arange(12)[None]
    swapped_BT = ids_BT[:, [1, 0, *range(2, 12)]]
    assert not torch.allclose(model(ids_BT)[:, -1], model(swapped_BT)[:, -1], atol=1e-6)


@pytest.mark.parametrize("name", ["classic-nano", "modern-nano"])
@pytest.mark.parametrize("tied", [True, False])
def test_an_untrained_model_is_as_good_as_guessing(name, tied):
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=512, block_size=32, **preset(name) | {"tied": tied}))
    ids_BT = torch.randint(512, (8, 32))
    assert model.loss(ids_BT, ids_BT.roll(-1, 1)).item() == pytest.approx(math.log(512), abs=0.15)


def test_sizes_are_those_of_gpt2():
    with torch.device("meta"):
        assert GPT(ModelConfig(50257, 1024, **preset("classic-small"))).n_parameters == 124_439_808
        assert GPT(ModelConfig(2048, 256, **preset("modern-nano"))).n_parameters == pytest.approx(1e6, rel=0.1)


def test_rotary_scores_depend_on_distance_only():
    cos_TD, sin_TD = rotations(20, 8)
    q_TD, k_TD = rotate(torch.randn(8), cos_TD, sin_TD), rotate(torch.randn(8), cos_TD, sin_TD)
    scores_TT = q_TD @ k_TD.T
    torch.testing.assert_close(scores_TT[5:, 5:], scores_TT[:-5, :-5])


def test_padding_is_no_target():
    model = build()
    ids_BT, targets_BT = torch.randint(61, (2, 12)), torch.randint(61, (2, 12))
    targets_BT[1] = -1
    torch.testing.assert_close(model.loss(ids_BT, targets_BT), model.loss(ids_BT[:1], targets_BT[:1]))


def test_too_long_a_context_is_refused():
    with pytest.raises(GPTError, match="13 tokens"):
        build()(torch.zeros(1, 13, dtype=torch.int64))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("variant", VARIANTS[:3], ids=lambda v: "-".join(map(str, v.values())))
def test_every_parameter_is_updated_by_exactly_one_group(optimizer, variant):
    model = build(**variant)
    optimizers = build_optimizers(model, TrainConfig(optimizer=optimizer))
    handled = [parameter for one in optimizers for group in one.param_groups for parameter in group["params"]]
    assert len(handled) == len({id(p) for p in handled}) == len(list(model.parameters()))
    decayed = {id(p) for one in optimizers for g in one.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(p) for p in model.parameters() if p.ndim > 1}
    in_muon = {
        id(p) for one in optimizers if type(one).__name__ == "Muon" for g in one.param_groups for p in g["params"]
    }
    matrices = {id(p) for p in parameter_groups(model)["matrices"].values()}
    assert in_muon == (matrices if optimizer == "muon" else set())
    assert id(model.tokens.weight) not in matrices


def test_the_learning_rate_rises_stays_and_falls():
    wsd = TrainConfig(steps=100, warmup_steps=10, schedule="wsd", cooldown=0.5, min_lr_ratio=0.1, lr=2.0)
    rates = [learning_rate(step, wsd) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:51] == pytest.approx([2.0] * 42)
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[75] == pytest.approx(1.1)
    assert 0.2 < rates[99] < 0.24
    cosine = TrainConfig(steps=100, warmup_steps=10, schedule="cosine")
    assert [schedule(step, cosine) for step in (9, 10, 55)] == pytest.approx([1, 1, 0.5])
    assert schedule(99, cosine) < 0.001


def test_muon_is_torchs_own_but_for_rounding():
    shapes = [(8, 24), (24, 8), (8, 8), (8, 24)]
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    settings = {"lr": 0.02, "weight_decay": 0.3}
    pair = Muon(ours, **settings), torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in pair:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=4e-3, rtol=0.02)  # torch works in bfloat16


def test_an_orthogonalized_matrix_has_singular_values_of_about_one():
    singular = torch.linalg.svdvals(orthogonalize(torch.randn(3, 8, 24)))
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_position_tables_are_the_rounded_true_values():
    """Exactly: a table that differs in a last bit from one process to the next trains other weights."""
    (cos_TD, sin_TD), sines_TC = rotations(64, 16), sinusoids(64, 16)
    for position, pair in itertools.product(range(64), range(8)):
        angle = position * 10_000.0 ** (-2 * pair / 16)
        cos, sin = torch.tensor([math.cos(angle), math.sin(angle)]).tolist()
        assert {
            cos_TD[position, pair].item(),
            cos_TD[position, pair + 8].item(),
            sines_TC[position, pair + 8].item(),
        } == {cos}
        assert {-sin_TD[position, pair].item(), sin_TD[position, pair + 8].item(), sines_TC[position, pair].item()} == {
            sin
        }
