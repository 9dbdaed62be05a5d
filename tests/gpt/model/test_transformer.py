import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from gpt import GPTError
from gpt.config import ModelConfig, TrainConfig, preset
from gpt.model.loss import CHUNK, IGNORE, TILE, cross_entropy
from gpt.model.positions import rotate, rotations, sinusoids
from gpt.model.transformer import GPT
from gpt.trainer.muon import Muon, orthogonalize
from gpt.trainer.optimizers import build_optimizers, lr_ratio

VARIANTS = [
    {
        "positions": positions,
        "norm": norm,
        "feed_forward": feed_forward,
        "qk_norm": modern,
        "bias": not modern,
        "tied": modern,
        "embedding_norm": modern,
        "n_kv_head": int(modern),
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


@pytest.mark.parametrize(("size", "parameters"), [("small", 124_439_808), ("medium", 354_823_168), ("large", 774_030_080),
                                                  ("xl", 1_557_611_200)])  # fmt: skip
def test_sizes_are_those_of_gpt2(size, parameters):
    with torch.device("meta"):
        assert GPT(ModelConfig(50257, 1024, **preset(f"classic-{size}"))).n_parameters == parameters
        assert GPT(ModelConfig(50257, 1024, **preset(f"modern-{size}"))).n_parameters == pytest.approx(
            parameters, rel=0.01
        )


def test_nano_is_a_million_parameters():
    with torch.device("meta"):
        assert GPT(ModelConfig(2048, 256, **preset("modern-nano"))).n_parameters == pytest.approx(1e6, rel=0.1)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_packed_documents_are_as_if_each_stood_alone(positions):
    model = build(positions=positions)
    lengths = (5, 1, 4, 2)
    ids_BT = torch.randint(61, (3, 12))
    documents_BT = torch.repeat_interleave(torch.tensor([4, 0, 7, 5]), torch.tensor(lengths)).expand(3, -1)
    alone = [model(ids) for ids in ids_BT.split(lengths, dim=1)]
    torch.testing.assert_close(model(ids_BT, documents_BT.clone()), torch.cat(alone, dim=1))
    assert not torch.allclose(model(ids_BT), torch.cat(alone, dim=1), atol=1e-3)


def test_grouped_queries_are_full_attention_with_repeated_keys_and_values():
    grouped, full = build(n_head=4, n_kv_head=2), build(n_head=4)
    weights = grouped.state_dict()
    for name in (name for name in weights if "qkv" in name):
        q, k, v = weights[name].split((32, 16, 16))
        k, v = (x.unflatten(0, (2, 8)).repeat_interleave(2, dim=0).flatten(0, 1) for x in (k, v))
        weights[name] = torch.cat((q, k, v))
    full.load_state_dict(weights)
    assert grouped.n_parameters < full.n_parameters
    ids_BT = torch.randint(61, (2, 12))
    torch.testing.assert_close(grouped(ids_BT), full(ids_BT))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_head": 4, "n_kv_head": 3}, "n_head 4 is not a multiple of n_kv_head 3"),
        ({"n_head": 2, "n_kv_head": 4}, "n_head 2 is not a multiple of n_kv_head 4"),
        ({"n_kv_head": -1}, "n_kv_head is -1"),
        ({"n_head": 3, "positions": "sinusoidal"}, "n_embd 32 is not a multiple of n_head 3"),
        ({"n_embd": 33, "n_head": 1, "positions": "sinusoidal"}, "even n_embd"),
        ({"cross_attention": "yes"}, "cross_attention is 'yes'; it must be true or false"),
    ],
)
def test_shapes_that_cannot_be_are_refused(values, message):
    with pytest.raises(GPTError, match=message):
        build(**values)


def remembering(**values) -> tuple[GPT, torch.Tensor]:
    """A model whose attention over a memory has been trained, as it were, and a memory."""
    model = build(cross_attention=True, **values)
    for block in model.blocks:
        torch.nn.init.normal_(block.cross_attention.out.weight)
    return model, torch.randn(3, 5, 32)


def test_cross_attention_changes_nothing_until_it_is_trained():
    without = build()
    model = build(cross_attention=True)
    missing, unexpected = model.load_state_dict(without.state_dict(), strict=False)
    assert not unexpected
    assert all("cross_attention" in name for name in missing)
    ids_BT, memory_BSC = torch.randint(61, (3, 12)), torch.randn(3, 5, 32)
    assert torch.equal(model(ids_BT, memory_BSC=memory_BSC), without(ids_BT))
    assert torch.equal(model(ids_BT), without(ids_BT))


@pytest.mark.parametrize("values", [{}, {"n_kv_head": 1, "bias": True, "qk_norm": False}])
def test_a_memory_is_seen_where_its_mask_lets_it_be_and_nowhere_else(values):
    model, memory_BSC = remembering(**values)
    ids_BT, mask_BS = (
        torch.randint(61, (3, 12)),
        torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool(),
    )
    masked = model(ids_BT, memory_BSC=memory_BSC, memory_mask_BS=mask_BS)
    changed_BSC = memory_BSC.where(mask_BS[..., None], torch.randn(3, 5, 32))
    torch.testing.assert_close(model(ids_BT, memory_BSC=changed_BSC, memory_mask_BS=mask_BS), masked)
    torch.testing.assert_close(model(ids_BT[:1], memory_BSC=memory_BSC[:1, [0, 1, 3]]), masked[:1])
    torch.testing.assert_close(model(ids_BT[2:], memory_BSC=memory_BSC[2:]), masked[2:])
    assert not torch.allclose(model(ids_BT, memory_BSC=memory_BSC)[0], masked[0], atol=1e-3)
    assert masked.isfinite().all()
    if not values:  # without a bias, nothing seen is nothing added
        torch.testing.assert_close(masked[1:2], model(ids_BT[1:2]))
    changed_BSC = memory_BSC.clone()
    changed_BSC[0, 3] += 1
    assert not torch.allclose(model(ids_BT, memory_BSC=changed_BSC, memory_mask_BS=mask_BS)[0], masked[0], atol=1e-3)


def test_the_gradient_reaches_cross_attention_and_what_made_the_memory():
    model = build(cross_attention=True)
    ids_BT, memory_BSC = torch.randint(61, (3, 12)), torch.randn(3, 5, 32, requires_grad=True)
    mask_BS = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    optimizer = torch.optim.SGD([*model.parameters(), memory_BSC], lr=0.1)
    for _ in range(2):  # at first only the projection that is zero
        optimizer.zero_grad()
        model.loss(ids_BT, ids_BT.roll(-1, 1), memory_BSC=memory_BSC, memory_mask_BS=mask_BS).backward()
        assert model.blocks[0].cross_attention.out.weight.grad.any()
        optimizer.step()
    assert all(p.grad.any() and p.grad.isfinite().all() for p in model.parameters())
    assert torch.equal(memory_BSC.grad.any(-1), mask_BS)


def test_a_memory_without_cross_attention_is_refused():
    with pytest.raises(GPTError, match="cross_attention = true"):
        build()(torch.zeros(2, 3, dtype=torch.int64), memory_BSC=torch.randn(2, 5, 32))


@pytest.mark.parametrize("values", [{"tied": True}, {"tied": False, "n_kv_head": 1}])
def test_recomputed_activations_give_the_same_gradients(values):
    gradients = []
    for recompute in (False, True):
        model = build(dropout=0.2, **values).train()
        model.recompute = recompute
        torch.manual_seed(5)
        ids_BT = torch.randint(61, (2, 12))
        model.loss(ids_BT, ids_BT.roll(-1, 1)).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_recomputing_keeps_less():
    def kept(recompute: bool) -> int:
        model, sizes = build(n_layer=4).train(), []
        model.recompute = recompute
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            model.loss(torch.zeros(2, 12, dtype=torch.int64), torch.zeros(2, 12, dtype=torch.int64))
        return sum(sizes)

    assert kept(True) < kept(False) / 3


def test_dropout_is_of_training_alone():
    model, ids_BT = build(dropout=0.5), torch.randint(61, (2, 12))
    assert torch.equal(model(ids_BT), model(ids_BT))
    model.train()
    assert not torch.equal(model(ids_BT), model(ids_BT))


def test_rotary_scores_depend_on_distance_only():
    cos_TD, sin_TD = rotations(20, 8)
    q_TD, k_TD = rotate(torch.randn(8), cos_TD, sin_TD), rotate(torch.randn(8), cos_TD, sin_TD)
    scores_TT = q_TD @ k_TD.T
    torch.testing.assert_close(scores_TT[5:, 5:], scores_TT[:-5, :-5])


def test_padding_is_no_target():
    model = build()
    ids_BT, targets_BT = torch.randint(61, (2, 12)), torch.randint(61, (2, 12))
    targets_BT[1] = IGNORE
    torch.testing.assert_close(model.loss(ids_BT, targets_BT), model.loss(ids_BT[:1], targets_BT[:1]))


def test_nothing_but_padding_costs_nothing():
    model = build()
    loss = model.loss(torch.zeros(2, 12, dtype=torch.int64), torch.full((2, 12), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("chunk", [1, 61 * 5, 61 * 24, 2**26])
@pytest.mark.parametrize("tile", [1, 64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_loss_in_chunks_and_padded_is_torchs_own(chunk, tile, reduction, monkeypatch):
    monkeypatch.setitem(CHUNK, "cpu", chunk)
    monkeypatch.setitem(TILE, "cpu", tile)
    torch.manual_seed(0)
    x_NC, weight_VC = torch.randn(24, 8, requires_grad=True), torch.randn(61, 8, requires_grad=True)
    targets_N = torch.randint(61, (24,))
    targets_N[[3, 17]] = IGNORE
    expected = F.cross_entropy(F.linear(x_NC, weight_VC), targets_N, ignore_index=IGNORE, reduction=reduction)
    given = cross_entropy(x_NC, weight_VC, targets_N, reduction)
    torch.testing.assert_close(given, expected)
    upstream = torch.rand_like(expected)
    gradients = (torch.autograd.grad(loss, (x_NC, weight_VC), upstream) for loss in (given, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(cross_entropy(x_NC, weight_VC, targets_N, reduction), expected)


def test_the_loss_never_holds_more_logits_than_a_chunk(monkeypatch):
    monkeypatch.setitem(CHUNK, "cpu", 5000)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            largest = max([largest, *(x.numel() for x in (result,) if isinstance(x, torch.Tensor))])
            return result

    x_NC, weight_VC = torch.randn(400, 8, requires_grad=True), torch.randn(100, 8, requires_grad=True)
    with Watch():
        cross_entropy(x_NC, weight_VC, torch.zeros(400, dtype=torch.int64)).backward()
    assert largest == 5000


def test_the_loss_follows_autocast():
    model, ids_BT = build().train(), torch.randint(61, (4, 12))
    exact = model.loss(ids_BT, ids_BT.roll(-1, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.loss(ids_BT, ids_BT.roll(-1, 1))
    rounded.backward()
    assert rounded.dtype == torch.float32
    assert rounded.item() != exact.item()
    assert rounded.item() == pytest.approx(exact.item(), abs=0.02)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


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
    matrices = {id(p) for p in model.blocks.parameters() if p.ndim > 1}
    assert in_muon == (matrices if optimizer == "muon" else set())
    assert id(model.tokens.weight) not in matrices


def test_the_learning_rate_rises_stays_and_falls():
    wsd = TrainConfig(steps=100, warmup_steps=10, schedule="wsd", cooldown=0.5, min_lr_ratio=0.1, lr=2.0)
    rates = [wsd.lr * lr_ratio(step, wsd) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:51] == pytest.approx([2.0] * 42)
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[75] == pytest.approx(1.1)
    assert 0.2 < rates[99] < 0.24
    cosine = TrainConfig(steps=100, warmup_steps=10, schedule="cosine")
    assert [lr_ratio(step, cosine) for step in (9, 10, 55)] == pytest.approx([1, 1, 0.5])
    assert lr_ratio(99, cosine) < 0.001


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
