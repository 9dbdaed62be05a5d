import pytest
import torch

from gpt import GPTError
from gpt.config import ModelConfig
from gpt.evaluation.attention_maps import attention_maps
from gpt.model.transformer import GPT


@pytest.fixture(
    params=[{}, {"n_head": 4, "n_kv_head": 2}, {"positions": "learned", "qk_norm": False, "bias": True}], ids=str
)
def model(request):
    torch.manual_seed(0)
    return GPT(
        ModelConfig(61, 12, n_layer=2, n_embd=32, zero_init=False, dropout=0.3, **{"n_head": 2} | request.param)
    ).eval()


def test_the_maps_times_the_values_are_what_attention_gives(model):
    ids_BT, seen = torch.randint(61, (2, 12)), []
    for block in model.blocks:
        block.attention.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs, output)))
    maps = attention_maps(model, ids_BT)
    H = model.config.n_head
    assert maps.shape == (2, 2, H, 12, 12)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, H, 12))
    assert not maps.triu(1).any()
    for map_BHTT, (attention, (x_BTC, rotary, _), expected) in zip(maps, seen, strict=True):
        v_BKTD = attention.project(x_BTC, rotary)[2]
        y_BHTD = map_BHTT @ v_BKTD.repeat_interleave(H // v_BKTD.shape[1], dim=1)
        torch.testing.assert_close(attention.out(y_BHTD.transpose(1, 2).flatten(2)), expected)


def test_the_model_is_left_as_it_was(model):
    ids_BT = torch.randint(61, (1, 12))
    attention_maps(model, ids_BT)
    assert not any(block.attention._forward_pre_hooks for block in model.blocks)
    with pytest.raises(GPTError, match="13 tokens"):
        attention_maps(model, torch.zeros(1, 13, dtype=torch.int64))
    assert not any(block.attention._forward_pre_hooks for block in model.blocks)
