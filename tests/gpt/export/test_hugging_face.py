"""Exported models, read by transformers itself where there is one: GPT_HF_PYTHON names a Python that has it."""

import io
import json
import math
import os
import subprocess
from pathlib import Path

import pytest
import sentencepiece
import torch
import torch.nn.functional as F

from gpt import GPTError
from gpt.checkpoint import save_model
from gpt.config import ModelConfig, preset
from gpt.export.hugging_face import architecture, export_hf, hf_config, hf_weights
from gpt.model.transformer import GPT
from tests.gpt.plain import generate
from tokenizers.hugging_face import hf_tokenizer
from tokenizers.tokenizer import Tokenizer

BENCH = Path(__file__).resolve().parents[3] / ".venv-bench" / "bin" / "python"
ROTARY = {"n_layer": 2, "n_head": 4, "n_embd": 32, "zero_init": False}
GPT2 = ROTARY | {"positions": "learned", "norm": "layernorm", "qk_norm": False, "embedding_norm": False}
SHAPES = {
    "classic": preset("classic-nano") | {"n_layer": 2, "n_embd": 32},
    "modern": preset("modern-nano") | {"n_layer": 2, "n_embd": 32, "zero_init": False},
    "gpt2, untied, relu2, no biases": GPT2 | {"tied": False},
    "gpt2 by sines": GPT2 | {"positions": "sinusoidal", "feed_forward": "gelu", "bias": True},
    "qwen3": ROTARY | {"feed_forward": "swiglu", "embedding_norm": False, "n_kv_head": 2},
    "llama": ROTARY | {"feed_forward": "swiglu", "qk_norm": False, "bias": True, "tied": False, "n_kv_head": 1},
    "apertus": ROTARY | {"feed_forward": "gelu", "n_kv_head": 2},
    "arcee": ROTARY | {"qk_norm": False, "bias": True, "embedding_norm": False},
}
FITS = dict(zip(SHAPES, ("GPT2", "Apertus", "GPT2", "GPT2", "Qwen3", "Llama", "Apertus", "Arcee"), strict=True))
TEXTS = ["the quick brown fox jumps over the lazy dog", "pack my box with 12 jugs", "  spaces\n\nand\tlines "] * 9
PROMPTS = [
    "the quick brown fox", "", " the  lazy\n\n dog\n", "世界 🙂 zebra", "<0x0A> <unk> 12345\ttab", "caf\u00e9 cafe\u0301",
    "dogfox",
]  # fmt: skip
READ = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, asked = sys.argv[1], json.load(sys.stdin)
tokenizer, (model, found) = (AutoTokenizer.from_pretrained(folder),
                             AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True))
with torch.no_grad():
    logits = model(torch.tensor(asked["ids"])).logits
greedy = model.generate(torch.tensor(asked["ids"][:1])[:, :5], max_new_tokens=8, do_sample=False)[0, 5:]
texts = [tokenizer(text)["input_ids"] for text in asked["texts"]]
print(json.dumps({"logits": logits.tolist(), "greedy": greedy.tolist(), "texts": texts, "class": type(model).__name__,
                  "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in texts],
                  "amiss": sorted(map(str, [*found["missing_keys"], *found["unexpected_keys"]]))}))
"""


def train_tokenizer(kind: str) -> sentencepiece.SentencePieceProcessor:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, model_type=kind, vocab_size=340, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False, split_digits=True,
        allow_whitespace_only_pieces=True, user_defined_symbols=["\n"], unk_id=0, eos_id=1, bos_id=-1, pad_id=2,
        eos_piece="<|endofdocument|>", pad_piece="<|padding|>", hard_vocab_limit=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def write(folder: Path, shape: dict, kind: str = "bpe") -> tuple[GPT, sentencepiece.SentencePieceProcessor]:
    """A model as if it had been trained: no tensor is what it began as."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(kind)
    model = GPT(ModelConfig(tokenizer.vocab_size(), 24, **shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter) * (parameter.std() if parameter.ndim > 1 else 1)
    save_model(folder, model, step=7, tokenizer_fingerprint="abc", **{"val/bpb": 1.25})
    (folder / "tokenizer.model").write_bytes(tokenizer.serialized_model_proto())
    return model, tokenizer


def export(model: Path, out: Path) -> None:
    export_hf(model, out, hf_tokenizer(Tokenizer(model / "tokenizer.model")))


@pytest.mark.parametrize("name", SHAPES)
def test_tensors_keep_their_numbers_and_find_their_names(name):
    torch.manual_seed(0)
    model = GPT(ModelConfig(61, 24, **SHAPES[name]))
    weights, config = hf_weights(model), hf_config(model.config, 1)
    assert architecture(model.config) == FITS[name]
    assert ("lm_head.weight" in weights) is not config["tie_word_embeddings"]
    n = sum(tensor.numel() for tensor in weights.values())
    extra = model.tokens.weight.numel() * (model.config.tied and "lm_head.weight" in weights)
    extra += 24 * 32 * (model.config.positions == "sinusoidal")
    if FITS[name] == "GPT2" and not model.config.bias:  # GPT-2 has biases: zeros
        extra += 2 * (32 + 32 + 3 * 32 + 32 + 128 + 32) + 32
    assert n == model.n_parameters + extra
    if FITS[name] == "GPT2":
        w = weights["transformer.h.1.mlp.c_fc.weight"]
        torch.testing.assert_close(w, model.blocks[1].feed_forward.up.weight.T)
    else:
        sizes = [heads * 8 for heads in model.blocks[1].attention.heads]
        q, k, v = (weights[f"model.layers.1.self_attn.{letter}_proj.weight"] for letter in "qkv")
        assert [len(q), len(k), len(v)] == sizes
        torch.testing.assert_close(torch.cat((q, k, v)), model.blocks[1].attention.qkv.weight)
        tokens = model.tokens.weight
        entering = F.rms_norm(tokens, (32,), eps=1e-6) if model.config.embedding_norm else tokens
        torch.testing.assert_close(weights["model.embed_tokens.weight"], entering)
    if model.config.positions == "sinusoidal":
        torch.testing.assert_close(weights["transformer.wte.weight"], model.tokens.weight * math.sqrt(32))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (GPT2 | {"norm": "rmsnorm"}, "norm = 'layernorm'"),
        (GPT2 | {"feed_forward": "swiglu", "qk_norm": True}, "qk_norm = False, feed_forward = 'gelu'"),
        (GPT2 | {"n_kv_head": 2}, "n_kv_head = 4"),
        (ROTARY | {"norm": "layernorm"}, "norm = 'rmsnorm'"),
        (ROTARY | {"bias": True}, "bias = False"),
        (ROTARY | {"cross_attention": True}, "cross_attention = False"),
    ],
)
def test_what_no_architecture_has_is_refused_by_name(values, message):
    with pytest.raises(GPTError, match=message):
        hf_config(ModelConfig(61, 24, **values), 1)


def test_a_folder_that_exists_is_refused(tmp_path):
    write(tmp_path / "model", ROTARY)
    with pytest.raises(GPTError, match="exists: name a new folder"):
        export(tmp_path / "model", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_folder_has_a_card_that_says_what_the_model_is(tmp_path):
    model, _ = write(tmp_path / "model", SHAPES["modern"])
    export(tmp_path / "model", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for words in (f"{model.n_parameters:,}", "1.2500 bits per byte", "Apertus", "24 tokens", "abc", "| 7 |"):
        assert words in card
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files


@pytest.fixture(scope="session")
def python():
    """The interpreter that has transformers."""
    path = os.environ.get("GPT_HF_PYTHON") or str(BENCH)
    found = Path(path).exists() and subprocess.run(
        [path, "-c", "import transformers"], capture_output=True, check=False
    )
    if not found or found.returncode:
        pytest.skip(f"{path} has no transformers; GPT_HF_PYTHON may name a Python that has")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "bpe") for name in SHAPES), ("classic", "unigram"), ("modern", "char")]
)
def test_transformers_gives_the_same_logits_tokens_and_texts(tmp_path, python, name, kind):
    model, tokenizer = write(tmp_path / "model", SHAPES[name], kind)
    export(tmp_path / "model", tmp_path / "out")
    ids_BT = torch.randint(model.config.vocab_size, (2, 24))
    asked = json.dumps({"ids": ids_BT.tolist(), "texts": PROMPTS})
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python, "-c", READ, str(tmp_path / "out")]
    answer = subprocess.run(
        command, input=asked, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert answer.returncode == 0, answer.stderr
    given = json.loads(answer.stdout.splitlines()[-1])
    assert given["class"] == ("GPT2LMHeadModel" if FITS[name] == "GPT2" else f"{FITS[name]}ForCausalLM")
    assert given["amiss"] == []
    torch.testing.assert_close(torch.tensor(given["logits"]), model(ids_BT), atol=1e-4, rtol=0)
    assert given["greedy"] == generate(model, ids_BT[0, :5].tolist(), 8, temperature=0)[: len(given["greedy"])]
    assert given["texts"] == [[1, *tokenizer.encode(text)] for text in PROMPTS]
    assert given["decoded"] == PROMPTS
