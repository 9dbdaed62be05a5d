"""The configuration of a model, a training run and a machine: three frozen dataclasses, checked when they are made.

Notable: no torch here (a command line that only reads configuration starts in milliseconds); all problems are raised in one
message; `ModelConfig` and `TrainConfig` hold everything that determines the numbers, `Runtime` holds the rest (so it is no
part of a model's identity).
"""

import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from gpt import GPTError
from gpt.settings import check, nearest, refuse

# A type, and the least and the most of the value (`gpt.settings.check`).
Count = Annotated[int, (0, 2**31)]
Positive = Annotated[int, (1, 2**31)]
Rate = Annotated[float, (1e-12, 100.0)]
Share = Annotated[float, (0.0, 1.0)]
Decay = Annotated[float, (0.0, 0.99999)]

# Of generation: varied text from a small model, without the least likely tokens.
DEFAULTS: dict[str, Any] = {
    "max_tokens": 200,
    "temperature": 0.9,
    "top_k": 50,
    "top_p": 1.0,
    "seed": 0,
    "samples": 1,
    "stop": "",
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT. With the weights, this is the model. Raises GPTError that lists every problem."""

    vocab_size: Annotated[int, (2, 2**31)]
    """V: rows of the embedding and of the head; token ids are 0..V-1."""
    block_size: Annotated[int, (1, 2**20)]
    """T: the longest context, in tokens."""
    n_layer: Annotated[int, (1, 1000)] = 4
    """Blocks of attention and feed-forward."""
    n_head: Annotated[int, (1, 1000)] = 4
    """Attention heads; each is n_embd / n_head wide."""
    n_kv_head: Annotated[int, (0, 1000)] = 0
    """Heads of keys and values, each shared by n_head / n_kv_head heads of queries (Ainslie 2023); 0: n_head of them."""
    n_embd: Annotated[int, (1, 10**6)] = 128
    """C: the width of the residual stream."""
    positions: Literal["learned", "sinusoidal", "rotary"] = "rotary"
    """How positions are encoded: a learned table (GPT-2), fixed sines (Vaswani 2017), rotated queries and keys (Su 2021)."""
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    """Normalization before each branch and before the head."""
    feed_forward: Literal["gelu", "relu2", "swiglu"] = "relu2"
    """gelu and relu squared: C -> 4C -> C. swiglu: gated, 8C/3 wide, which gives about as many parameters."""
    qk_norm: bool = True
    """RMS-normalize queries and keys of each head, which keeps attention logits in range at high learning rates."""
    bias: bool = False
    """Biases in linear layers and LayerNorm."""
    tied: bool = True
    """Share one matrix between token embedding and head."""
    dropout: Annotated[float, (0.0, 0.999999)] = 0.0
    """Share of activations dropped after the embedding and at the end of each residual branch, in training only."""
    zero_init: bool = True
    """Start the projections back into the residual stream at zero, so that every block starts as the identity."""
    embedding_norm: bool = True
    """RMS-normalize the input of the first block, so that the first branches do not outweigh small initial embeddings."""
    cross_attention: bool = False
    """A branch in every block that attends to a `memory` (Vaswani 2017, section 3.2.3). The trainer has none: it refuses."""
    head_dim: Annotated[int, (0, 10**6)] = 0
    """D: the width of an attention head; 0: n_embd / n_head. Like the three below, for imported models."""
    intermediate_size: Annotated[int, (0, 10**7)] = 0
    """F: the width of the feed-forward layer; 0: 4C; gated, 8C/3 rounded up to 32."""
    rope_theta: Annotated[float, (0.0, 1e12)] = 0.0
    """Base of the frequencies of rotary positions; 0: 10,000."""
    norm_eps: Annotated[float, (0.0, 1.0)] = 0.0
    """What is added to the mean square in a norm; 0: 1e-5 in LayerNorm, 1e-6 in RMSNorm."""

    def __post_init__(self) -> None:
        problems = check(self)
        if not problems:
            if self.n_embd % self.n_head and not self.head_dim:
                problems.append(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
            elif self.positions == "rotary" and self.head_size % 2:
                problems.append(
                    f"rotary positions need an even head width; n_embd / n_head, or head_dim, is {self.head_size}"
                )
            if self.n_head % self.kv_heads:
                problems.append(f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}")
            if self.positions == "sinusoidal" and self.n_embd % 2:
                problems.append(f"sinusoidal positions need an even n_embd; it is {self.n_embd}")
        refuse("model", problems)

    @property
    def head_size(self) -> int:
        return self.head_dim or self.n_embd // self.n_head

    @property
    def feed_forward_size(self) -> int:
        usual = -(-8 * self.n_embd // 3 // 32) * 32 if self.feed_forward == "swiglu" else 4 * self.n_embd
        return self.intermediate_size or usual

    @property
    def kv_heads(self) -> int:
        return self.n_kv_head or self.n_head

    def as_dict(self) -> dict[str, Any]:
        """Its settings as JSON. Those of imported models are left out where they are 0, as models of before them have it."""
        later = ("head_dim", "intermediate_size", "rope_theta", "norm_eps")
        return {name: value for name, value in asdict(self).items() if value or name not in later}


@dataclass(frozen=True)
class TrainConfig:
    """Everything but data and model that determines the numbers of a run. Raises GPTError that lists every problem."""

    steps: Positive = 1000
    """Updates of the weights."""
    batch_size: Positive = 16
    """B: sequences of T tokens a step, of all devices and micro-batches together."""
    optimizer: Literal["adamw", "muon"] = "muon"
    """muon: Muon for the matrices inside blocks, AdamW for the rest. adamw: AdamW for all."""
    lr: Rate = 3e-3
    """Peak learning rate of AdamW."""
    matrix_lr: Rate = 1e-2
    """Peak learning rate of Muon, on AdamW's scale (an update's RMS is about the same). No effect with optimizer adamw."""
    min_lr_ratio: Share = 0.0
    """The learning rate at the end, as a share of the peak."""
    warmup_steps: Count = 0
    """Steps of linear rise to the peak."""
    schedule: Literal["cosine", "wsd"] = "wsd"
    """After warm-up: half a cosine to the end, or constant and then linear ("warm-up, stable, decay")."""
    cooldown: Share = 0.6
    """Share of all steps in wsd's linear decay. No effect with schedule cosine."""
    weight_decay: Annotated[float, (0.0, 100.0)] = 0.1
    """Decoupled decay (times learning rate) of matrices and embeddings; never of norms and biases."""
    beta1: Decay = 0.9
    """AdamW: decay of the mean gradient."""
    beta2: Decay = 0.95
    """AdamW: decay of the mean squared gradient."""
    momentum: Decay = 0.95
    """Muon: decay of the mean gradient. No effect with optimizer adamw."""
    grad_clip: Annotated[float, (0.0, 1e9)] = 1.0
    """Largest norm of the whole gradient; 0: no clipping."""
    eval_every: Positive = 200
    """Steps between evaluations on all of val; the last step is always evaluated."""
    patience: Count = 3
    """Evaluations in a row without improvement, over a tenth of all steps or more, after which the run stops early; 0: never.
    Clear over-fitting counts twice; before the learning rate falls, nothing else counts. The best weights are the result."""
    checkpoint_every: Positive = 200
    """Steps between saved states, from which a killed run resumes (each evaluation saves one too)."""
    keep_checkpoints: Positive = 2
    """How many of the latest weights to keep, beside the best."""
    seed: Annotated[int, (0, 2**63 - 1)] = 1
    """Of initial weights, order of data and dropout."""

    def __post_init__(self) -> None:
        problems = check(self)
        if not problems and self.warmup_steps > self.steps:
            problems.append(f"warmup_steps {self.warmup_steps} is more than steps {self.steps}")
        refuse("train", problems)

    @property
    def decay_steps(self) -> float:
        """Steps at the end in which the learning rate falls. What comes before them does not depend on how many come after."""
        after_warmup = self.steps - self.warmup_steps
        return min(self.cooldown * self.steps, after_warmup) if self.schedule == "wsd" else after_warmup


@dataclass(frozen=True)
class Start:
    """The trained model whose weights and shape a training starts from, and what of it is trained. Raises GPTError that lists
    every problem."""

    folder: str = ""
    """of the model"""
    rank: Annotated[int, (0, 2**20)] = 0
    """of low-rank adapters (Hu 2021), which are trained instead of the model's matrices; 0: the model itself is trained"""
    alpha: Rate = 16.0
    """What an adapter adds is multiplied by alpha / rank."""
    matrices: Literal["all", "attention", "feed_forward"] = "all"
    """Whose matrices in the blocks get adapters."""

    def __post_init__(self) -> None:
        refuse("start", check(self))

    @property
    def adapter(self) -> dict[str, Any]:
        """What determines the adapters, as JSON; empty without them."""
        return {"rank": self.rank, "alpha": self.alpha, "matrices": self.matrices} if self.rank else {}


@dataclass(frozen=True)
class Runtime:
    """Hardware and logging: what may differ between two runs of the same model. Raises GPTError that lists every problem."""

    device: str = "auto"
    """auto (CUDA where there is one, else CPU), cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products (weights stay float32). auto: bfloat16 on a CUDA device that supports it, else float32."""
    threads: Annotated[int, (0, 4096)] = 0
    """CPU threads; 0: every core that this process may use (with several processes, its share)."""
    micro_batch_size: Count = 0
    """The most sequences that a device processes at once; a step accumulates the gradients of its parts. 0: all of them."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile the training step (evaluation stays uncompiled). auto: on CUDA only."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, and far less device memory."""
    deterministic: bool = False
    """On a GPU, use only algorithms that give the same bits each time (slower). A CPU does so anyway."""
    parallel: Literal["none", "ddp", "fsdp"] = "none"
    """On several devices: ddp copies the model to each, fsdp shards weights, gradients and optimizer state."""
    processes: Annotated[int, (1, 4096)] = 1
    """Processes to start on this machine, one a device. No effect under torchrun, which starts them itself."""
    log_every: Positive = 10
    """Steps between log lines."""

    def __post_init__(self) -> None:
        problems = check(self)
        if not problems:
            if self.processes > 1 and self.parallel == "none":
                problems.append(f"processes {self.processes} need parallel ddp or fsdp")
            if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
                problems.append(f"device is {self.device!r}; known are auto, cpu, cuda, cuda:<number>, mps")
        refuse("runtime", problems)


_FAMILIES: dict[str, dict[str, Any]] = {
    "classic": {
        "positions": "learned", "norm": "layernorm", "feed_forward": "gelu", "qk_norm": False, "bias": True,
        "zero_init": False, "embedding_norm": False,
    },
    "modern": {},  # the defaults
}  # fmt: skip
# GPT-2's own shapes from small (124M with its 50,257 tokens) on; nano is about 1M parameters with 2,048 tokens.
SIZES = {
    "nano": (4, 4, 128),
    "tiny": (6, 6, 384),
    "small": (12, 12, 768),
    "medium": (24, 16, 1024),
    "large": (36, 20, 1280),
    "xl": (48, 25, 1600),
}

PRESETS: dict[str, dict[str, Any]] = _FAMILIES | {
    f"{family}-{size}": {"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd, **parts}
    for family, parts in _FAMILIES.items()
    for size, (n_layer, n_head, n_embd) in SIZES.items()
}


def preset(name: str) -> dict[str, Any]:
    """The fields of a named shape in which ModelConfig's defaults do not do. Raises GPTError for an unknown name."""
    if name not in PRESETS:
        raise GPTError(f"preset {name!r} is not known{nearest(name, PRESETS)}; known are {', '.join(PRESETS)}")
    return dict(PRESETS[name])
