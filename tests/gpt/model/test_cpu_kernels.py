"""Gradients written out must be those of the functions that they stand for."""

import copy

import pytest
import torch
import torch.nn.functional as F

from gpt.config import ModelConfig
from gpt.model import cpu_kernels
from gpt.model.cpu_kernels import use_cpu_kernels
from gpt.model.positions import rotations
from gpt.model.transformer import GPT
from gpt.trainer.muon import NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, orthogonalize


def test_their_gradients_are_those_that_differences_give():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    cos_TD, sin_TD = (table.double() for table in rotations(5, 8))
    assert torch.autograd.gradcheck(lambda x, weight: cpu_kernels._RMSNorm.apply(x, weight, 1e-6), (x, weight))
    assert torch.autograd.gradcheck(lambda x: cpu_kernels._Rotation.apply(x, cos_TD, sin_TD), (x,))


def test_a_norm_of_nothing_but_zeros_has_a_finite_gradient():
    x = torch.zeros(2, 8, requires_grad=True)
    cpu_kernels._RMSNorm.apply(x, torch.ones(8), 1e-6).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_model_has_the_loss_and_gradients_of_the_plain_forms(recompute):
    torch.manual_seed(0)
    plain = GPT(ModelConfig(vocab_size=50, block_size=16, n_layer=2, n_embd=32, n_head=2, zero_init=False))
    fast = copy.deepcopy(plain)
    use_cpu_kernels(fast)
    ids_BT, targets_BT = torch.randint(50, (2, 4, 16))
    found = []
    for model in (plain, fast):
        model.recompute = recompute
        loss = model.loss(ids_BT, targets_BT)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_kernels_change_neither_names_nor_what_is_computed_without_gradients():
    torch.manual_seed(0)
    plain = GPT(ModelConfig(vocab_size=50, block_size=16, n_layer=2, n_embd=32, n_head=2, zero_init=False))
    fast = copy.deepcopy(plain)
    use_cpu_kernels(fast)
    assert {type(module) for module in fast.modules()} >= set(cpu_kernels.CPU_CLASSES.values())
    assert list(fast.state_dict()) == list(plain.state_dict())
    ids_BT = torch.randint(50, (4, 16))
    with torch.no_grad():
        assert torch.equal(fast(ids_BT), plain(ids_BT))
    assert not torch.equal(fast(ids_BT), plain(ids_BT))  # with gradients, the rounding of the kernels differs


@pytest.mark.parametrize("worst", [1.0, 1e-3, 1e-6])
def test_the_iteration_on_gram_matrices_is_the_plain_one(worst):
    """worst: the smallest singular value, the largest being one."""
    torch.manual_seed(0)
    u, v = torch.linalg.qr(torch.randn(3, 32, 32))[0], torch.linalg.qr(torch.randn(3, 96, 32))[0].mT
    x = u @ torch.diag_embed(torch.logspace(0, float(torch.tensor(worst).log10()), 32).expand(3, 32)) @ v
    a, b, c = NEWTON_SCHULZ
    plain = x.double() / x.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = plain @ plain.mT
        plain = a * plain + (b * gram + c * gram @ gram) @ plain
    assert F.mse_loss(orthogonalize(x).double(), plain) < 1e-9
    assert F.mse_loss(orthogonalize(x.mT).double(), plain.mT) < 1e-9
