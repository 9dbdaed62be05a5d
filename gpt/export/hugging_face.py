"""A trained model as a folder that Hugging Face transformers loads (5.0 or newer), with the same logits and token ids.

Notable: no code of this project is needed to read it. The architecture is a published one with exactly the same arithmetic:

    learned or sinusoidal positions, layernorm, gelu or relu2       GPT-2
    rotary, rmsnorm, swiglu, with qk_norm / without                 Qwen3 / Llama
    rotary, rmsnorm, gelu or relu2, with qk_norm / without          Apertus / Arcee

What none of them has becomes part of their tables, where it can: normalized embeddings (with rotary positions a function of
the token alone), and sines as positions. Any other setting that they lack is refused by name.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from gpt import GPTError
from gpt.checkpoint import atomic_folder, load_model
from gpt.config import ModelConfig
from gpt.export.hf_tokenizer import hf_tokenizer
from gpt.generation.sample import load
from gpt.model.transformer import EPS, GPT

ACTIVATIONS = {"gelu": "gelu_pytorch_tanh", "relu2": "relu2", "swiglu": "silu"}


def export_hf(model_folder: Path, out: Path) -> None:
    """Write config.json, model.safetensors, tokenizer.json, tokenizer_config.json and a model card, atomically.

    model_folder: with weights and tokenizer.model. out: a new folder.
    Raises GPTError for a folder that exists, or a setting that no published architecture has.
    """
    if out.exists():
        raise GPTError(f"{out} exists: name a new folder")
    (model, tokenizer), (_, metadata) = load(model_folder), load_model(model_folder)
    if (test := model_folder / "test.json").is_file():
        metadata |= {"test/bpb": json.loads(test.read_text(encoding="utf-8"))["bpb"]}
    files = {
        "config.json": hf_config(model.config, tokenizer.eos_id()),
        "tokenizer.json": hf_tokenizer(tokenizer),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
            "model_max_length": model.config.block_size,
            **dict.fromkeys(("bos_token", "eos_token"), tokenizer.id_to_piece(tokenizer.eos_id())),
        },
    }  # fmt: skip
    with atomic_folder(out) as temporary:
        for name, value in files.items():
            text = json.dumps(value, indent=1, ensure_ascii=False)
            (temporary / name).write_text(text + "\n", encoding="utf-8")
        save_file(hf_weights(model), temporary / "model.safetensors", metadata={"format": "pt"})
        card = model_card(model, metadata)
        (temporary / "README.md").write_text(card, encoding="utf-8")


def architecture(config: ModelConfig) -> str:
    """GPT2, Qwen3, Llama, Apertus or Arcee. Raises GPTError that names the settings that none of them has."""
    required: dict[str, Any] = {"cross_attention": False}
    if config.positions == "rotary":
        required |= {"norm": "rmsnorm"} | ({"bias": False} if config.qk_norm else {})
        names = ("Llama", "Qwen3") if config.feed_forward == "swiglu" else ("Arcee", "Apertus")
        name = names[config.qk_norm]
    else:
        required |= {"norm": "layernorm", "qk_norm": False, "embedding_norm": False, "kv_heads": config.n_head}
        required |= {"feed_forward": "gelu"} if config.feed_forward == "swiglu" else {}
        name = "GPT2"
    if wrong := [f"{key} = {value!r}" for key, value in required.items() if getattr(config, key) != value]:
        remedy = ", ".join(wrong).replace("kv_heads", "n_kv_head")
        raise GPTError(
            f"no architecture of transformers has these settings: with positions {config.positions!r} the nearest, {name}, "
            f"wants {remedy}; train with that to export"
        )
    return name


def untied(config: ModelConfig) -> bool:
    """Whether embedding and head are separate tables in the export."""
    return not config.tied or config.embedding_norm or config.positions == "sinusoidal"


def hf_config(config: ModelConfig, eos_id: int) -> dict[str, Any]:
    """The content of config.json for the model's `architecture`, which may raise GPTError."""
    name = architecture(config)
    common = {
        "architectures": ["GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"], "model_type": name.lower(),
        "dtype": "float32", "vocab_size": config.vocab_size, "bos_token_id": eos_id, "eos_token_id": eos_id,
        "pad_token_id": None, "tie_word_embeddings": not untied(config),
    }  # fmt: skip
    if name == "GPT2":
        return common | {
            "n_positions": config.block_size, "n_embd": config.n_embd, "n_layer": config.n_layer, "n_head": config.n_head,
            "activation_function": ACTIVATIONS[config.feed_forward], "layer_norm_epsilon": 1e-5,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop"), config.dropout), "attn_pdrop": 0.0,
        }  # fmt: skip
    return common | {
        "hidden_size": config.n_embd, "intermediate_size": config.feed_forward_size, "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head, "num_key_value_heads": config.kv_heads, "head_dim": config.head_size,
        "max_position_embeddings": config.block_size, "hidden_act": ACTIVATIONS[config.feed_forward],
        "rms_norm_eps": EPS, "rope_theta": 10_000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "attention_bias": config.bias, "mlp_bias": config.bias, "attention_dropout": 0.0,
    }  # fmt: skip


@torch.no_grad()
def hf_weights(model: GPT) -> dict[str, Tensor]:
    """The model's tensors by the names of its `architecture`, which may raise GPTError."""
    name = architecture(model.config)
    weights = _gpt2_weights(model) if name == "GPT2" else _llama_weights(model, name == "Apertus")
    if untied(model.config):
        weights["lm_head.weight"] = model.head_weight_VC
    return {key: tensor.detach().cpu().clone().contiguous() for key, tensor in weights.items()}


def _gpt2_weights(model: GPT) -> dict[str, Tensor]:
    config = model.config
    weights: dict[str, Tensor] = {}

    def put(target: str, module: Any) -> None:
        """module: a linear layer (whose products are x W in GPT-2: transposed) or a LayerNorm."""
        weight = module.weight.T if isinstance(module, nn.Linear) else module.weight
        weights[f"transformer.{target}.weight"] = weight
        weights[f"transformer.{target}.bias"] = torch.zeros(weight.shape[-1]) if module.bias is None else module.bias

    learned = config.positions == "learned"
    weights["transformer.wte.weight"] = model.tokens.weight * (1 if learned else math.sqrt(config.n_embd))
    weights["transformer.wpe.weight"] = model.positions.weight if learned else model.sines_TC
    for n, block in enumerate(model.blocks):
        put(f"h.{n}.ln_1", block.attention_norm)
        put(f"h.{n}.attn.c_attn", block.attention.qkv)
        put(f"h.{n}.attn.c_proj", block.attention.out)
        put(f"h.{n}.ln_2", block.feed_forward_norm)
        put(f"h.{n}.mlp.c_fc", block.feed_forward.up)
        put(f"h.{n}.mlp.c_proj", block.feed_forward.down)
    put("ln_f", model.norm)
    return weights


def _llama_weights(model: GPT, apertus: bool) -> dict[str, Tensor]:
    config, tokens = model.config, model.tokens.weight
    norms = ("attention", "feedforward") if apertus else ("input", "post_attention")
    if config.embedding_norm:
        tokens = F.rms_norm(tokens, tokens.shape[1:], eps=EPS)
    weights = {"model.embed_tokens.weight": tokens, "model.norm.weight": model.norm.get_parameter("weight")}
    for n, block in enumerate(model.blocks):
        attention, sizes = block.attention, [heads * config.head_size for heads in block.attention.heads]
        for kind, tensor in attention.qkv.named_parameters():
            for letter, part in zip("qkv", torch.split(tensor, sizes), strict=True):
                weights[f"model.layers.{n}.self_attn.{letter}_proj.{kind}"] = part
        modules = {
            f"{norms[0]}_layernorm": block.attention_norm, f"{norms[1]}_layernorm": block.feed_forward_norm,
            "self_attn.o_proj": attention.out, "self_attn.q_norm": attention.q_norm, "self_attn.k_norm": attention.k_norm,
            **{f"mlp.{part}_proj": module for part, module in block.feed_forward.named_children()},
        }  # fmt: skip
        for target, module in modules.items():
            weights |= {f"model.layers.{n}.{target}.{kind}": tensor for kind, tensor in module.named_parameters()}
    return weights


def model_card(model: GPT, metadata: dict[str, Any]) -> str:
    """README.md: what the model is, how good it is, and how to use it."""
    about = {"tokenizer_fingerprint": "not recorded", "step": "not recorded", "score": "not recorded"} | metadata
    for name, text in (("val/bpb", "the documents that its step was chosen by"), ("test/bpb", "held-out documents")):
        if name in metadata:
            about["score"] = f"{metadata[name]:.4f} bits per byte on {text}"
    template = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
    return template.format(architecture=architecture(model.config), model=model, **about)
