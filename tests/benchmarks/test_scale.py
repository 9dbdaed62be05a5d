"""The estimate of docs/scale.md is what its constants give, and they agree with the code that they stand for."""

import torch

from benchmarks import scale
from gpt.config import ModelConfig, preset
from gpt.machine.hardware import PEAK_FLOPS
from gpt.model.transformer import GPT
from tests.conftest import ROOT


def test_the_document_has_the_computed_tables():
    assert scale.show() in (ROOT / "docs" / "scale.md").read_text()


def test_operations_are_those_that_the_model_counts():
    with torch.device("meta"):
        model = GPT(ModelConfig(vocab_size=scale.VOCABULARY, block_size=scale.BLOCK_SIZE, **preset("modern-small")))
    assert abs(scale.flops_per_token("small") / model.flops_per_token - 1) < 1e-3
    assert PEAK_FLOPS["H200"] == scale.PEAK
