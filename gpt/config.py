"""What a model, a training run and a machine are: three frozen dataclasses, checked once at the door.

Notable: no torch here (a command line that only reads configuration starts in milliseconds); every problem is collected
and raised in one message; `ModelConfig` and `TrainConfig` hold everything that determines the numbers, `Runtime` holds what
does not (so it is no part of a model's identity).
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from gpt import GPTError

# Of generation, what a reader wants of a small model: lively, yet without the unlikeliest tokens.
DEFAULTS = {"max_tokens": 200, "temperature": 0.8, "top_k": 50, "top_p": 1.0, "seed": 0, "samples": 1}

Config = TypeVar("Config")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT. With the weights, this is the model. Raises GPTError that lists every problem."""

    vocab_size: int
    """V: rows of the embedding and of the head; token ids are 0..V-1."""
    block_size: int
    """T: the longest context, in tokens."""
    n_layer: int = 4
    """Blocks of attention and feed-forward."""
    n_head: int = 4
    """Attention heads; each is n_embd / n_head wide."""
    n_kv_head: int = 0
    """Heads of keys and values, each read by n_head / n_kv_head heads of queries (Ainslie 2023); 0: one for each."""
    n_embd: int = 128
    """C: the width of the residual stream."""
    positions: Literal["learned", "sinusoidal", "rotary"] = "rotary"
    """How order is told: a learned table (GPT-2), fixed sines (Vaswani 2017), or rotated queries and keys (Su 2021)."""
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    """Normalization before each branch and before the head."""
    feed_forward: Literal["gelu", "relu2", "swiglu"] = "relu2"
    """gelu and relu squared: C -> 4C -> C. swiglu: gated, 8C/3 wide, so that parameters stay about equal."""
    qk_norm: bool = True
    """RMS-normalize queries and keys of each head: keeps attention logits in range at high learning rates."""
    bias: bool = False
    """Biases in linear layers and LayerNorm."""
    tied: bool = True
    """Share one matrix between token embedding and head."""
    dropout: float = 0.0
    """Share of activations dropped after the embedding and at the end of each residual branch, in training only."""
    zero_init: bool = True
    """Start the projections back into the residual stream at zero, so that every block starts as the identity."""
    embedding_norm: bool = True
    """RMS-normalize what enters the first block: small initial embeddings are not drowned by the first branches."""
    cross_attention: bool = False
    """A branch in every block that looks at a `memory`, such as an encoder's output (Vaswani 2017, section 3.2.3)."""

    def __post_init__(self) -> None:
        problems = _coerce(self)
        if not problems:
            problems += _out_of_range(
                self,
                vocab_size=(2, 2**31),
                block_size=(1, 2**20),
                n_layer=(1, 1000),
                n_head=(1, 1000),
                n_kv_head=(0, 1000),
                n_embd=(1, 10**6),
            )
            if not 0 <= self.dropout < 1:
                problems.append(f"dropout is {self.dropout}; it must be at least 0 and less than 1")
        if not problems:
            if self.n_embd % self.n_head:
                problems.append(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
            elif self.positions == "rotary" and self.head_size % 2:
                problems.append(f"rotary positions need an even head width; n_embd / n_head is {self.head_size}")
            if self.n_head % self.kv_heads:
                problems.append(f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}")
            if self.positions == "sinusoidal" and self.n_embd % 2:
                problems.append(f"sinusoidal positions need an even n_embd; it is {self.n_embd}")
        _raise("model", problems)

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def feed_forward_size(self) -> int:
        """Width of the feed-forward layer: 4C; gated, 8C/3 rounded up to 32."""
        return -(-8 * self.n_embd // 3 // 32) * 32 if self.feed_forward == "swiglu" else 4 * self.n_embd

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_kv_head or self.n_head


@dataclass(frozen=True)
class TrainConfig:
    """Everything but data and model that determines the numbers of a run. Raises GPTError that lists every problem."""

    steps: int = 1000
    """Updates of the weights."""
    batch_size: int = 16
    """B: sequences of T tokens a step."""
    optimizer: Literal["adamw", "muon"] = "muon"
    """muon: Muon for the matrices inside blocks, AdamW for the rest. adamw: AdamW for all."""
    lr: float = 3e-3
    """Peak learning rate of AdamW."""
    matrix_lr: float = 1e-2
    """Peak learning rate of Muon, on AdamW's scale (an update's RMS is about the same). No effect with optimizer adamw."""
    min_lr_ratio: float = 0.0
    """The learning rate at the end, as a share of the peak."""
    warmup_steps: int = 0
    """Steps of linear rise to the peak."""
    schedule: Literal["cosine", "wsd"] = "wsd"
    """After warm-up: half a cosine to the end, or flat and then linear ("warm-up, stable, decay")."""
    cooldown: float = 0.6
    """Share of all steps in wsd's linear fall. No effect with schedule cosine."""
    weight_decay: float = 0.1
    """Decoupled decay (times learning rate) of matrices and embeddings; never of norms and biases."""
    beta1: float = 0.9
    """AdamW: decay of the mean gradient."""
    beta2: float = 0.95
    """AdamW: decay of the mean squared gradient."""
    grad_clip: float = 1.0
    """Largest norm of the whole gradient; 0 leaves it as it is."""
    eval_every: int = 200
    """Steps between evaluations on all of val; the last step is always evaluated."""
    checkpoint_every: int = 200
    """Steps between savings of the state that a killed run resumes from (each evaluation saves it too)."""
    keep_checkpoints: int = 2
    """Latest weights to keep, beside the best."""
    seed: int = 1
    """Of initial weights, order of data and dropout."""

    def __post_init__(self) -> None:
        problems = _coerce(self)
        if not problems:
            most = 2**31
            problems += _out_of_range(
                self, steps=(1, most), batch_size=(1, most), warmup_steps=(0, most), eval_every=(1, most),
                checkpoint_every=(1, most), keep_checkpoints=(1, most), seed=(0, 2**63 - 1), lr=(1e-12, 100.0),
                matrix_lr=(1e-12, 100.0), min_lr_ratio=(0.0, 1.0), cooldown=(0.0, 1.0), weight_decay=(0.0, 100.0),
                beta1=(0.0, 0.99999), beta2=(0.0, 0.99999), grad_clip=(0.0, 1e9),
            )  # fmt: skip
            if self.warmup_steps > self.steps:
                problems.append(f"warmup_steps {self.warmup_steps} is more than steps {self.steps}")
        _raise("train", problems)


@dataclass(frozen=True)
class Runtime:
    """Hardware and logging: what may differ between two runs of the same model. Raises GPTError."""

    device: str = "auto"
    """auto (CUDA where there is one, else CPU), cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products (weights stay float32). auto: bfloat16 on CUDA that has it, else float32."""
    threads: int = 0
    """CPU threads; 0 takes every core this process may use."""
    log_every: int = 10
    """Steps between log lines."""

    def __post_init__(self) -> None:
        problems = _coerce(self)
        if not problems:
            problems += _out_of_range(self, threads=(0, 4096), log_every=(1, 2**31))
            if self.device.split(":")[0] not in ("auto", "cpu", "cuda", "mps"):
                problems.append(f"device is {self.device!r}; known are auto, cpu, cuda, cuda:<number>, mps")
        _raise("runtime", problems)


_CLASSIC = {
    "positions": "learned", "norm": "layernorm", "feed_forward": "gelu", "qk_norm": False, "bias": True, "tied": True,
    "dropout": 0.0, "zero_init": False, "embedding_norm": False,
}  # fmt: skip
_MODERN = {
    "positions": "rotary", "norm": "rmsnorm", "feed_forward": "relu2", "qk_norm": True, "bias": False, "tied": True,
    "dropout": 0.0, "zero_init": True, "embedding_norm": True,
}  # fmt: skip
# GPT-2's own shapes from small (124M with its 50,257 tokens) on; nano is about 1M parameters with 2,048 tokens.
_SIZES = {
    "nano": (4, 4, 128),
    "tiny": (6, 6, 384),
    "small": (12, 12, 768),
    "medium": (24, 16, 1024),
    "large": (36, 20, 1280),
    "xl": (48, 25, 1600),
}

PRESETS: dict[str, dict[str, Any]] = {
    f"{family}-{size}": {"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd, **parts}
    for family, parts in (("classic", _CLASSIC), ("modern", _MODERN))
    for size, (n_layer, n_head, n_embd) in _SIZES.items()
}


def preset(name: str) -> dict[str, Any]:
    """The ModelConfig fields of a named shape: all but vocab_size and block_size. Raises GPTError for an unknown name."""
    if name not in PRESETS:
        raise GPTError(f"preset {name!r} is not known{_nearest(name, PRESETS)}; known are {', '.join(PRESETS)}")
    return dict(PRESETS[name])


def from_dict(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Build one of the dataclasses above from parsed TOML or JSON.

    where: file or section to name in messages. Raises GPTError for an unknown or missing key, or a bad value.
    """
    if not isinstance(values, Mapping):
        raise GPTError(f"{where}: expected a table of settings, got {type(values).__name__}")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    problems = [f"unknown setting {key!r}{_nearest(key, known)}" for key in values if key not in known]
    try:
        required = [name for name in ("vocab_size", "block_size") if name in known and name not in values]
        problems += [f"{name} is missing" for name in required]
        if not required:
            return_value = kind(**{key: value for key, value in values.items() if key in known})
    except GPTError as error:
        problems.append(str(error))
    if problems:
        raise GPTError(f"{where}: " + "; ".join(problems))
    return return_value


def _nearest(name: str, known: Any) -> str:
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _coerce(config: Any) -> list[str]:
    """Check each value against its annotation; a whole number given for a float becomes one. Returns the problems."""
    problems = []
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                hint = _nearest(value, get_args(kind)) if isinstance(value, str) else ""
                problems.append(f"{name} is {value!r}{hint or '; known are ' + ', '.join(get_args(kind))}")
        elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            object.__setattr__(config, name, float(value))  # so that 1 and 1.0 are one configuration, byte for byte
            if not math.isfinite(value):
                problems.append(f"{name} is {value}; it must be a finite number")
        elif type(value) is not kind:
            problems.append(f"{name} is {value!r}; it must be {_NAMES[kind]}")
    return problems


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _out_of_range(config: Any, **limits: tuple[float, float]) -> list[str]:
    values = ((name, getattr(config, name), low, high) for name, (low, high) in limits.items())
    return [
        f"{name} is {value}; it must be from {low} to {high}"
        for name, value, low, high in values
        if not low <= value <= high
    ]


def _raise(what: str, problems: list[str]) -> None:
    if problems:
        raise GPTError(f"{what} configuration: " + "; ".join(problems))
