"""Decoders of others: written by our own exporter, and by transformers itself where there is one (GPT_HF_PYTHON)."""

import json
import os
import subprocess
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt import GPTError
from gpt.config import ModelConfig
from gpt.data.tokenizer import ByteLevel
from gpt.export.hf_import import import_hf
from gpt.export.hugging_face import export_hf
from gpt.generation.sample import load, texts
from gpt.generation.text import TextStream, encode
from gpt.model.transformer import GPT
from tests.gpt.export.foreign import END, GPT2, LLAMA, QWEN3, SHAPES, TEXTS, byte_level, write_foreign, write_model
from tests.gpt.export.test_hugging_face import python  # noqa: F401 (a fixture)
from tests.gpt.plain import generate

try:
    distribution("tokenizers")
except PackageNotFoundError:
    pytest.skip("the extra `import` is not installed", allow_module_level=True)

PROMPTS = [
    "the quick brown fox",
    "",
    " the  lazy\n\n dog\n",
    "世界 🙂 zebra",
    f"{END} 12345\ttab <|im_start|>",
    "caf\u00e9 \u2581",
]
# Hugging Face folders of random weights, one saved in parts and in bfloat16, with a tokenizer that is trained there.
MAKE = """
import json, sys, torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast,
                          Qwen3Config, Qwen3ForCausalLM)
out, kind, prompts = sys.argv[1], sys.argv[2], json.load(sys.stdin)
tokenizer, bytes_ = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "Qwen3")
tokenizer.pre_tokenizer, tokenizer.decoder = bytes_, decoders.ByteLevel()
if kind == "Qwen3":
    pattern = Regex(r"[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), bytes_])
    tokenizer.normalizer = normalizers.NFC()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog, 12 times", "caf\u00e9 世界"] * 20, trainer)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
fast.save_pretrained(out)
llama = {"vocab_size": 340, "hidden_size": 32, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 24, "eos_token_id": 0}
rope = {"rope_type": "default", "rope_theta": 5e4}
if kind == "GPT2":
    model = GPT2LMHeadModel(GPT2Config(vocab_size=340, n_positions=24, n_embd=32, n_layer=2, n_head=4, eos_token_id=0))
elif kind == "Llama":
    model = LlamaForCausalLM(LlamaConfig(**llama, rms_norm_eps=1e-5, rope_parameters=rope))
else:
    model = Qwen3ForCausalLM(Qwen3Config(**llama, head_dim=16, tie_word_embeddings=True, rope_parameters=rope))
torch.manual_seed(0)
for parameter in model.parameters():
    parameter.data += 0.1 * torch.randn_like(parameter)
model.to(torch.bfloat16 if kind == "Qwen3" else torch.float32).save_pretrained(out, max_shard_size="40KB")
model = type(model).from_pretrained(out, dtype=torch.float32).eval()
ids = torch.randint(330, (2, 24))
with torch.no_grad():
    logits = model(ids).logits
encoded = [fast(prompt, split_special_tokens=True)["input_ids"] for prompt in prompts]
print(json.dumps({"ids": ids.tolist(), "logits": logits.tolist(), "encoded": encoded}))
"""


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for file in folder.glob("*.safetensors") for key, tensor in load_file(file).items()}


def assert_same_tensors(mine: Path, theirs: Path) -> None:
    mine, theirs = tensors(mine), tensors(theirs)
    assert mine.keys() == theirs.keys()
    for key, tensor in mine.items():
        assert torch.equal(tensor, theirs[key].float()), key


@pytest.mark.parametrize("name", SHAPES)
def test_an_export_is_imported_with_the_same_logits_and_exported_with_the_same_tensors(tmp_path, name):
    model = write_foreign(tmp_path / "theirs", SHAPES[name])
    assert json.loads((tmp_path / "theirs" / "config.json").read_text())["architectures"][0].startswith(name)
    import_hf(tmp_path / "theirs", tmp_path / "ours")
    imported, tokenizer = load(tmp_path / "ours")
    ids_BT = torch.randint(330, (2, 24))
    assert torch.equal(imported(ids_BT), model(ids_BT))
    export_hf(tmp_path / "ours", tmp_path / "again", tokenizer.document)
    assert_same_tensors(tmp_path / "again", tmp_path / "theirs")
    for file in ("config.json", "tokenizer.json"):
        assert (tmp_path / "again" / file).read_text() == (tmp_path / "theirs" / file).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Qwen3"])
def test_logits_and_ids_are_those_of_transformers(tmp_path, python, kind):  # noqa: F811
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [python, "-c", MAKE, str(tmp_path / "theirs"), kind]
    made = subprocess.run(
        command, input=json.dumps(PROMPTS), capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert made.returncode == 0, made.stderr
    given = json.loads(made.stdout.splitlines()[-1])
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    import_hf(tmp_path / "theirs", tmp_path / "ours")
    model, tokenizer = load(tmp_path / "ours")
    torch.testing.assert_close(model(torch.tensor(given["ids"])), torch.tensor(given["logits"]), atol=1e-4, rtol=0)
    assert [tokenizer.encode(prompt) for prompt in PROMPTS] == given["encoded"]
    export_hf(tmp_path / "ours", tmp_path / "again", tokenizer.document)
    assert_same_tensors(tmp_path / "again", tmp_path / "theirs")


def test_a_shorter_context_is_the_same_up_to_its_end(tmp_path):
    model = write_foreign(tmp_path / "theirs", GPT2)
    import_hf(tmp_path / "theirs", tmp_path / "ours", 8)
    short, _ = load(tmp_path / "ours")
    assert short.config.block_size == 8
    torch.testing.assert_close(short(torch.arange(8)[None]), model(torch.arange(8)[None]))


def test_weights_in_parts_and_without_the_prefix_are_read_and_buffers_left_out(tmp_path):
    model = write_foreign(tmp_path / "theirs", GPT2)
    path = tmp_path / "theirs" / "model.safetensors"
    found = {key.removeprefix("transformer."): tensor for key, tensor in load_file(path).items()}
    found["h.0.attn.bias"] = torch.ones(1, 1, 24, 24)
    names = dict.fromkeys(found, "one.safetensors") | {"wte.weight": "two.safetensors"}
    for file in ("one.safetensors", "two.safetensors"):
        save_file({key: found[key].half() for key in names if names[key] == file}, path.with_name(file))
    path.unlink()
    path.with_name("model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    import_hf(tmp_path / "theirs", tmp_path / "ours")
    imported, _ = load(tmp_path / "ours")
    torch.testing.assert_close(imported(torch.arange(9)[None]), model(torch.arange(9)[None]), atol=0.01, rtol=0)


@pytest.mark.parametrize("normalizer", [None, {"type": "NFC"}])
def test_every_text_comes_back_and_is_never_an_end(tmp_path, normalizer):
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_level(normalizer)))
    tokenizer = ByteLevel(tmp_path / "tokenizer.json")
    for text in [*PROMPTS, "cafe\u0301", "\x00\ufffd\U0010ffff", *TEXTS[:2]]:
        ids = encode(tokenizer, text)
        assert tokenizer.decode(ids) == text
        assert not {0, 1} & set(ids)
        stream = TextStream(tokenizer)
        shown = [*(stream.add(token) for token in ids), stream.end()]
        assert "".join(shown) == text
        assert "\ufffd" in text or not any("\ufffd" in piece for piece in shown)  # no half of a character
        pieces = [tokenizer.id_to_piece(token) for token in ids if not tokenizer.is_byte(token)]
        assert len(pieces) < len(ids) or "".join(pieces).replace("\u2581", " ") == text.replace("\u2581", " ")
    assert tokenizer.id_to_piece(0) == END
    assert tokenizer.is_control(0)
    assert not tokenizer.is_control(5)


def test_broken_characters_are_not_held_back(tmp_path):
    write_foreign(tmp_path / "theirs", QWEN3)
    import_hf(tmp_path / "theirs", tmp_path / "ours")
    model, tokenizer = load(tmp_path / "ours")
    (several,) = texts(model, tokenizer, ["the quick"], 3, max_tokens=40, temperature=2.0)
    assert all(several)
    assert len(set(several)) == 3


def edit(**changes):
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def edit_tokenizer(**changes):
    def spoil(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def edit_weights(change):
    def spoil(folder: Path) -> None:
        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")

    return spoil


def pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


SCALED = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5}
# As SentencePiece's is in this format.
FALLBACK = {"type": "BPE", "byte_fallback": True, "vocab": {"<unk>": 0, "a": 1}, "merges": [], "unk_token": "<unk>"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (edit(architectures=["MambaForCausalLM"]), "'MambaForCausalLM' is not known; known are GPT2LMHeadModel, Llama"),
        (pickle, r"pytorch_model.bin is pickled: .*\npython -c \"from transformers"),
        (cut, "model.safetensors is cut"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (edit_tokenizer(model=FALLBACK, pre_tokenizer=None, decoder=None), "is not of a byte-level BPE"),
        (edit(vocab_size=260), r"tokenizer.json has \d+ tokens, the embedding 260: not a pair"),
        (edit(vocab_size=335), r"embed_tokens.weight is \(340, 32\), config.json says \(335, 32\)"),
        (edit(eos_token_id=None), "eos_token_id None is no token"),
        (edit(eos_token_id=335), "eos_token_id 335 is no token"),
        (edit(rope_parameters=SCALED), "the decoder has no rope_type = 'llama3'"),
        (edit(rope_parameters=None, rope_scaling={"type": "linear"}), "the decoder has no type = 'linear'"),
        (edit(use_sliding_window=True), "no use_sliding_window = True"),
        (edit(layer_types=["full_attention", "sliding_attention"]), "no layer_types = 'sliding_attention'"),
        (edit(hidden_act="gelu"), "no activation 'gelu'"),
        (edit(attention_bias=True), "no attention_bias that is not mlp_bias"),
        (edit(quantization_config={"bits": 4}), "no quantization_config"),
        (edit(num_hidden_layers=3), "the weights have no model.layers.2.input_layernorm.weight"),
        (edit(num_hidden_layers=1), "the decoder has no place for model.layers.1.input_layernorm.weight"),
        (edit_weights(lambda found: found | {"model.extra": torch.ones(1)}), "no place for model.extra"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_refused_by_name(tmp_path, spoil, message):
    write_foreign(tmp_path / "theirs", LLAMA)
    spoil(tmp_path / "theirs")
    with pytest.raises(GPTError, match=message):
        import_hf(tmp_path / "theirs", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_context_that_the_model_has_not_is_refused(tmp_path):
    write_foreign(tmp_path / "theirs", GPT2)
    with pytest.raises(GPTError, match="block_size 25 is more than the model's 24"):
        import_hf(tmp_path / "theirs", tmp_path / "ours", 25)


def test_the_settings_of_imported_models_count_and_are_not_written_where_they_are_usual(tmp_path):
    model, _ = write_model(tmp_path / "model", QWEN3)
    ids_BT = torch.arange(20)[None]
    for name, value in (("rope_theta", 0.0), ("norm_eps", 0.1)):
        other = GPT(replace(model.config, **{name: value})).eval()
        other.load_state_dict(model.state_dict())
        assert not torch.allclose(other(ids_BT), model(ids_BT), atol=1e-3)
    angle = torch.tensor(1e6 ** (-2 / 16))  # of the second of 8 pairs, at position 1
    torch.testing.assert_close(model.cos_TD[1, 1], angle.cos())
    assert model.config.as_dict()["head_dim"] == 16
    usual = ModelConfig(340, 24)
    assert not {"head_dim", "intermediate_size", "rope_theta", "norm_eps"} & usual.as_dict().keys()
    assert ModelConfig(**usual.as_dict()) == usual


def test_the_cache_continues_as_the_plain_decoder_where_heads_are_wider(tmp_path):
    model, tokenizer = write_model(tmp_path / "model", QWEN3)
    ids = tokenizer.encode("the quick")
    (written,) = texts(model, tokenizer, ["the quick"], max_tokens=9, temperature=0)
    assert written == [tokenizer.decode(generate(model, [0, *ids], 9, temperature=0))]
