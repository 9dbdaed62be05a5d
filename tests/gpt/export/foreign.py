"""Hugging Face folders as others have them: of random weights, with a byte-level tokenizer that is trained here."""

import json
from pathlib import Path

import torch

from gpt.checkpoint import save_model
from gpt.config import ModelConfig
from gpt.data.tokenizer import OWN, ByteLevel, _library
from gpt.export.hugging_face import export_hf
from gpt.model.transformer import GPT

END = "<|endoftext|>"
TEXTS = ["the quick brown fox jumps over the lazy dog", "pack my box with 12 jugs\n\n世界"] * 20
GPT2 = {"positions": "learned", "norm": "layernorm", "feed_forward": "gelu", "qk_norm": False, "bias": True}
LLAMA = {"feed_forward": "swiglu", "qk_norm": False, "n_kv_head": 1, "tied": False, "norm_eps": 1e-5, "rope_theta": 5e4}
QWEN3 = {"feed_forward": "swiglu", "n_kv_head": 2, "head_dim": 16, "intermediate_size": 100, "rope_theta": 1e6}
SHAPES = {"GPT2": GPT2, "Llama": LLAMA, "Qwen3": QWEN3, "Arcee": {"qk_norm": False, "bias": True}, "Apertus": {}}


def byte_level(normalizer: object = None) -> dict:
    """The content of a tokenizer.json."""
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    special = {"special_tokens": [END, "<|im_start|>"], "show_progress": False}
    trainer = library.trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, **special)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return json.loads(tokenizer.to_str()) | {"normalizer": normalizer}


def write_model(folder: Path, shape: dict, vocab_size: int = 340) -> tuple[GPT, ByteLevel]:
    """A model of ours with a byte-level tokenizer, whose embedding has rows to spare."""
    torch.manual_seed(0)
    usual = {"n_layer": 2, "n_head": 4, "n_embd": 32, "zero_init": False, "embedding_norm": False}
    model = GPT(ModelConfig(vocab_size, 24, **usual | shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_model(folder, model)
    about = {OWN: {"eos_id": 0, "vocab_size": vocab_size}}
    (folder / "tokenizer.json").write_text(json.dumps(byte_level() | about))
    return model, ByteLevel(folder / "tokenizer.json")


def write_foreign(folder: Path, shape: dict) -> GPT:
    """The same as others would have it."""
    model, tokenizer = write_model(folder.with_name(f"{folder.name}-ours"), shape)
    export_hf(folder.with_name(f"{folder.name}-ours"), folder, tokenizer.document)
    return model
