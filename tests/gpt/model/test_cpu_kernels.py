"""Gradients written out must be those of the functions that they stand for."""

import pytest
import torch
import torch.nn.functional as F

from gpt.config import ModelConfig
from gpt.model import cpu_kernels
from gpt.model.positions import rotations
from gpt.model.transformer import GPT
from gpt.trainer.muon import NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, orthogonalize


def test_their_gradients_are_those_that_differences_give():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    cos_TD, sin_TD = (table.double() for table in rotations(5, 8))
    assert torch.autograd.gradcheck(lambda x, weight: cpu_kernels.RMSNormKernel.apply(x, weight, 1e-6), (x, weight))
    assert torch.autograd.gradcheck(lambda x: cpu_kernels.RotationKernel.apply(x, cos_TD, sin_TD), (x,))


def test_a_norm_of_nothing_but_zeros_has_a_finite_gradient():
    x = torch.zeros(2, 8, requires_grad=True)
    cpu_kernels.RMSNormKernel.apply(x, torch.ones(8), 1e-6).sum().backward()
    assert x.grad.isfinite().all()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(ModelConfig(vocab_size=50, block_size=16, n_layer=2, n_embd=32, n_head=2, zero_init=False))


@pytest.mark.parametrize("recompute", [False, True])
def test_a_model_has_the_loss_and_gradients_of_the_plain_forms(model, recompute, monkeypatch):
    ids_BT, targets_BT = torch.randint(50, (2, 4, 16))
    model.recompute, found = recompute, []
    for pay in (cpu_kernels.pay, lambda _: False):
        monkeypatch.setattr(cpu_kernels, "pay", pay)
        model.zero_grad()
        loss = model.loss(ids_BT, targets_BT)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not all(torch.equal(*pair) for pair in zip(*found, strict=True))  # the rounding of the kernels differs


def test_kernels_do_not_change_what_is_computed_without_gradients(model, monkeypatch):
    ids_BT = torch.randint(50, (4, 16))
    with torch.no_grad():
        found = model(ids_BT)
        monkeypatch.setattr(cpu_kernels, "pay", lambda _: False)
        assert torch.equal(model(ids_BT), found)


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
