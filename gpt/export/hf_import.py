"""A decoder of Hugging Face transformers as a model folder of ours: the same logits, and its own tokenizer.

Notable: nothing is downloaded, and nothing unpickled. What the decoder lacks is refused by name, as is a tensor that has no
place in it.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt import GPTError
from gpt.checkpoint import read_tensors, save_model
from gpt.config import ModelConfig
from gpt.data.tokenizer import BYTE_LEVEL, OWN, ByteLevel
from gpt.export.hugging_face import CLASSES, TABLES, architecture, is_transposed, table, their_modules
from gpt.model.transformer import GPT
from gpt.settings import read_json

MEND = "python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('.').save_pretrained('.')\""
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # masks and tables that older versions saved


def import_hf(source: Path, folder: Path, block_size: int = 0) -> GPT:
    """Write the model of a Hugging Face folder as the model folder `folder`, with tokenizer.json; returns the model.

    block_size: T, if it is to be shorter than the model's; 0: the model's.
    Raises GPTError that names the file and what is amiss in it.
    """
    files, where = weight_files(source), str(source / "config.json")
    values = read_json(source / "config.json")
    config, tokenizer, eos = our_config(values, where), ByteLevel(source / BYTE_LEVEL), values.get("eos_token_id")
    T, V = config.block_size, config.vocab_size
    if block_size > T:
        raise GPTError(f"{where}: block_size {block_size} is more than the model's {T}")
    if tokenizer.n_pieces > V:
        raise GPTError(f"{source}: tokenizer.json has {tokenizer.n_pieces} tokens, the embedding {V}: not a pair")
    eos = eos[0] if isinstance(eos, list) else eos
    if not isinstance(eos, int) or not tokenizer.id_to_piece(eos):
        raise GPTError(f"{where}: eos_token_id {eos!r} is no token of tokenizer.json: documents need one to end with")
    theirs = {key: tensor for file in files for key, tensor in read_tensors(file).items() if not key.endswith(BUFFERS)}
    tied = values.get("tie_word_embeddings", "lm_head.weight" not in theirs)
    model = GPT(replace(config, block_size=block_size or T, tied=tied))
    _fill(model, theirs, str(source))
    document = json.dumps(tokenizer.document | {OWN: {"eos_id": eos, "vocab_size": V}})
    fingerprint = hashlib.sha256(document.encode()).hexdigest()
    about = {"tokenizer_fingerprint": fingerprint[:32], "tokenizer_sha256": fingerprint, "eos_id": eos}
    save_model(folder, model, **about, imported_from=source.resolve().name)
    (folder / BYTE_LEVEL).write_text(document, encoding="utf-8")
    return model


def our_config(values: dict[str, Any], where: str) -> ModelConfig:
    """The decoder of a config.json, its head tied. Raises GPTError, which begins with `where`, that names each setting that the
    decoder lacks, with its value."""
    found = (values.get("architectures") or [values.get("model_type")])[0]
    if not (name := CLASSES.get(found)):
        raise GPTError(f"{where}: architecture {found!r} is not known; known are {', '.join(CLASSES)}")
    given = values | (values.get("rope_parameters") or values.get("rope_scaling") or {})
    fixed, activations = TABLES["fixed"], TABLES["activations"]
    problems = [f"{key} = {given[key]!r}" for key in fixed if given.get(key) not in (None, fixed[key])]
    problems += [f"layer_types = {kind!r}" for kind in {*(given.get("layer_types") or ())} - {"full_attention"}]
    # 0 and none are what is usual.
    config: dict[str, Any] = {ours: given.get(theirs) or 0 for theirs, ours in table(name)["settings"].items()}
    activation = activations.get(config["feed_forward"])
    if not activation or (activation == "swiglu") is not (name in ("Llama", "Qwen3")):
        problems.append(f"activation {config['feed_forward']!r}")
    if bool(given.get("attention_bias")) != bool(given.get("mlp_bias")):
        problems.append("attention_bias that is not mlp_bias")
    if problems:
        raise GPTError(f"{where}: the decoder has no {', no '.join(problems)}")
    family = {"positions": "rotary", "qk_norm": name in ("Qwen3", "Apertus"), "bias": bool(given.get("mlp_bias"))}
    if name == "GPT2":
        family = {"positions": "learned", "norm": "layernorm", "qk_norm": False, "bias": True}
    return ModelConfig(**config | family | {"feed_forward": activation, "embedding_norm": False, "zero_init": False})


def weight_files(source: Path) -> list[Path]:
    """The safetensors files of a folder. Raises GPTError that says how to convert pickled ones."""
    index, single = source / "model.safetensors.index.json", source / "model.safetensors"
    if not source.is_dir():
        raise GPTError(f"{source} is no folder")
    if index.is_file():
        return [source / Path(name).name for name in sorted({*read_json(index).get("weight_map", {}).values()})]
    if not single.is_file() and (pickled := sorted(source.glob("pytorch_model*.bin"))):
        what = f"{pickled[0]} is pickled: code in it would run when it is read. If you trust it, convert it, in its folder:"
        raise GPTError(f"{what}\n{MEND}")
    return [single]


@torch.no_grad()
def _fill(model: GPT, theirs: dict[str, Tensor], where: str) -> None:
    """Copy their tensors into the model. Raises GPTError for one that is missing, of another shape, or without a place."""
    name = architecture(model.config)
    inner = "transformer." if name == "GPT2" else "model."  # which a model without its head is saved without
    theirs = {key if key.startswith((inner, "lm_head.")) else inner + key: tensor for key, tensor in theirs.items()}
    modules = their_modules(name, model.config.n_layer)
    for ours, tensor in model.state_dict().items():
        module, _, kind = ours.rpartition(".")
        keys = [f"{target}.{kind}" for target in modules[module]]
        if missing := [key for key in keys if key not in theirs]:
            raise GPTError(f"{where}: the weights have no {missing[0]}")
        found = torch.cat([theirs.pop(key) for key in keys])
        found = found.T if is_transposed(name, ours) else found
        found = found[: len(tensor)] if module == "positions" else found  # of a shorter T
        if found.shape != tensor.shape:
            raise GPTError(f"{where}: {keys[0]} is {tuple(found.shape)}, config.json says {tuple(tensor.shape)}")
        tensor.copy_(found)
    if left := theirs.keys() - ({"lm_head.weight"} if model.config.tied else set()):
        raise GPTError(f"{where}: the decoder has no place for {min(left)}")
