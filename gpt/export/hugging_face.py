"""A trained model as a folder that Hugging Face transformers loads (5.0 or newer), with the same logits and token ids.

Notable: no code of this project is needed to read it. The architecture is a published one with exactly the same arithmetic:

    learned or sinusoidal positions, layernorm, gelu or relu2       GPT-2
    rotary, rmsnorm, swiglu, with qk_norm / without                 Qwen3 / Llama
    rotary, rmsnorm, gelu or relu2, with qk_norm / without          Apertus / Arcee

What none of them has becomes part of their tables, where it can: normalized embeddings (with rotary positions a function of
the token alone), and sines as positions. Any other setting that they lack is refused by name. What they call settings and
tensors is in architectures.toml, by which `gpt.export.hf_import` reads their models, too.
"""

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from gpt import GPTError
from gpt.checkpoint import atomic_folder, load_model
from gpt.config import ModelConfig
from gpt.generation.sample import load
from gpt.model.transformer import EPS, GPT

TABLES = tomllib.loads(Path(__file__).with_name("architectures.toml").read_text(encoding="utf-8"))
CLASSES = {"GPT2LMHeadModel": "GPT2"} | {f"{name}ForCausalLM": name for name in ("Llama", "Qwen3", "Apertus", "Arcee")}


def export_hf(model_folder: Path, out: Path, tokenizer_json: dict[str, Any]) -> None:
    """Write config.json, model.safetensors, tokenizer.json, tokenizer_config.json and a model card, atomically.

    model_folder: with weights and tokenizer. out: a new folder. tokenizer_json: the content of that file.
    Raises GPTError for a folder that exists, or a setting that no published architecture has.
    """
    if out.exists():
        raise GPTError(f"{out} exists: name a new folder")
    (model, tokenizer), (_, metadata) = load(model_folder), load_model(model_folder)
    if (test := model_folder / "test.json").is_file():
        metadata |= {"test/bpb": json.loads(test.read_text(encoding="utf-8"))["bpb"]}
    files = {
        "config.json": hf_config(model.config, tokenizer.eos_id()),
        "tokenizer.json": tokenizer_json,
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
    name, required = "GPT2", dict[str, Any](cross_attention=False)
    if config.positions == "rotary":
        required |= {"norm": "rmsnorm"} | ({"bias": False} if config.qk_norm else {})
        names = ("Llama", "Qwen3") if config.feed_forward == "swiglu" else ("Arcee", "Apertus")
        name = names[config.qk_norm]
    else:
        required |= {"norm": "layernorm", "qk_norm": False, "embedding_norm": False, "kv_heads": config.n_head}
        required |= {"head_dim": 0} | ({"feed_forward": "gelu"} if config.feed_forward == "swiglu" else {})
    if wrong := [f"{key} = {value!r}" for key, value in required.items() if getattr(config, key) != value]:
        remedy = ", ".join(wrong).replace("kv_heads", "n_kv_head")
        what = f"no architecture of transformers has these settings: with positions {config.positions!r} the nearest, {name},"
        raise GPTError(f"{what} wants {remedy}; train with that to export")
    return name


def untied(config: ModelConfig) -> bool:
    """Whether embedding and head are separate tables in the export."""
    return not config.tied or config.embedding_norm or config.positions == "sinusoidal"


def hf_config(config: ModelConfig, eos_id: int) -> dict[str, Any]:
    """The content of config.json for the model's `architecture`, which may raise GPTError."""
    name, activations = architecture(config), {ours: theirs for theirs, ours in TABLES["activations"].items()}
    ours = config.as_dict() | {
        "n_kv_head": config.kv_heads, "head_dim": config.head_size, "intermediate_size": config.feed_forward_size,
        "rope_theta": config.rope_theta or 10_000.0, "norm_eps": config.norm_eps or (1e-5 if name == "GPT2" else EPS),
        "feed_forward": activations[config.feed_forward],
    }  # fmt: skip
    common = {
        "architectures": [key for key, known in CLASSES.items() if known == name], "model_type": name.lower(),
        "dtype": "float32", "bos_token_id": eos_id, "eos_token_id": eos_id, "pad_token_id": None,
        "tie_word_embeddings": not untied(config),
        **{theirs: ours[setting] for theirs, setting in table(name)["settings"].items()},
    }  # fmt: skip
    if name == "GPT2":
        return common | dict.fromkeys(("resid_pdrop", "embd_pdrop"), config.dropout) | {"attn_pdrop": 0.0}
    return common | {
        "rope_parameters": {"rope_type": "default", "rope_theta": ours["rope_theta"]},
        "attention_bias": config.bias, "mlp_bias": config.bias, "attention_dropout": 0.0,
    }  # fmt: skip


@torch.no_grad()
def hf_weights(model: GPT) -> dict[str, Tensor]:
    """The model's tensors by the names of its `architecture`, which may raise GPTError."""
    config, name, weights = model.config, architecture(model.config), dict[str, Tensor]()
    modules = their_modules(name, config.n_layer)
    sizes = [heads * config.head_size for heads in model.blocks[0].attention.heads]
    for ours, tensor in model.state_dict().items():
        module, _, kind = ours.rpartition(".")
        targets = modules[module]
        tensor = tensor.T if is_transposed(name, ours) else tensor
        parts = tensor.split(sizes) if len(targets) > 1 else [tensor]
        weights |= {f"{target}.{kind}": part for target, part in zip(targets, parts, strict=True)}
    tokens = f"{modules['tokens'][0]}.weight"
    if config.embedding_norm:
        weights[tokens] = F.rms_norm(weights[tokens], weights[tokens].shape[1:], eps=EPS)
    if config.positions == "sinusoidal":
        weights[tokens] = weights[tokens] * math.sqrt(config.n_embd)
        weights["transformer.wpe.weight"] = model.sines_TC
    if name == "GPT2" and not config.bias:  # it has them
        matrices = [key for key in weights if key.startswith("transformer.h.") or ".ln_f." in key]
        weights |= {key.replace(".weight", ".bias"): torch.zeros(weights[key].shape[-1]) for key in matrices}
    if untied(config):
        weights["lm_head.weight"] = model.head_weight_VC
    return {key: tensor.detach().cpu().clone().contiguous() for key, tensor in weights.items()}


def table(name: str) -> dict[str, dict[str, str]]:
    """What an architecture calls settings, and modules outside and inside of blocks."""
    common: dict[str, dict[str, str]] = TABLES["GPT2" if name == "GPT2" else "Llama"]
    return common | {"block": common["block"] | TABLES.get(name, {}).get("block", {})}


def their_modules(name: str, n_layer: int) -> dict[str, list[str]]:
    """The modules of an architecture by ours."""
    names = table(name)
    found = {ours: [theirs] for ours, theirs in names["modules"].items()}
    for ours, theirs in names["block"].items():
        found |= {f"blocks.{n}.{ours}": theirs.format(n).split() for n in range(n_layer)}
    return found


def is_transposed(name: str, ours: str) -> bool:
    """Whether this tensor of ours is theirs transposed: a product is x W in GPT-2."""
    return name == "GPT2" and ours.endswith(("qkv.weight", "out.weight", "up.weight", "down.weight"))


def model_card(model: GPT, metadata: dict[str, Any]) -> str:
    """README.md: what the model is, how good it is, and how to use it."""
    about = {"tokenizer_fingerprint": "not recorded", "step": "not recorded", "score": "not recorded"} | metadata
    for name, text in (("val/bpb", "the documents that its step was chosen by"), ("test/bpb", "held-out documents")):
        if name in metadata:
            about["score"] = f"{metadata[name]:.4f} bits per byte on {text}"
    template = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
    return template.format(architecture=architecture(model.config), model=model, **about)
