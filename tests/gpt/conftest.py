"""A small packed corpus and model shapes, quick enough to train in a test."""

from pathlib import Path

import numpy as np
import pytest

from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.data import dataset
from gpt.data.dataset import Description
from gpt.data.shards import Documents
from gpt.model.transformer import GPT
from gpt.trainer.loop import train

VOCAB, EOS, T = 32, 0, 16
RUNTIME = Runtime(device="cpu", threads=1, log_every=3)


def documents(seed: int, n: int):
    """Documents of 0 to 40 tokens that follow a simple rule, so that there is something to learn."""
    generator = np.random.default_rng(seed)
    for number in range(n):
        start, length = generator.integers(1, VOCAB), generator.integers(0, 41)
        ids = 1 + (start + np.arange(length) * 3) % (VOCAB - 1)
        yield f"{seed}-{number}", ids.astype(np.int32), int(length) * 2


def splits(size=7, **found):
    """`dataset.write`'s splits of lists of (id, tokens, bytes), `size` documents at a time."""

    def reader(some):
        def read():
            for first in range(0, len(some), size):
                names, ids, n_bytes = zip(*some[first : first + size], strict=True)
                lengths = np.array([len(one) for one in ids])
                files = [f"file-{len(name) % 3}" for name in names]
                rows = np.arange(first, first + len(names))
                yield Documents(list(names), np.concatenate(ids), lengths, np.array(n_bytes), files, rows)

        return read()

    return {name: reader(list(some)) for name, some in found.items()}


def about(**changes):
    return Description(
        **{"vocab_size": VOCAB, "block_size": T, "eos_id": EOS, "pad_id": EOS, "tokenizer_fingerprint": ""} | changes
    )


def pack(folder, n_train=60, n_val=12, **changes):
    settings = about(**{"tokenizer_fingerprint": "rule of three"} | changes)
    return dataset.write(folder, splits(train=documents(1, n_train), val=documents(2, n_val)), settings)


@pytest.fixture
def packed(tmp_path):
    pack(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def shape():
    return ModelConfig(vocab_size=VOCAB, block_size=T, n_layer=2, n_head=2, n_embd=16, dropout=0.1)


@pytest.fixture
def schedule():
    return TrainConfig(steps=24, batch_size=4, eval_every=8, checkpoint_every=5, keep_checkpoints=1, warmup_steps=2)


@pytest.fixture
def whole(packed, tmp_path, shape, schedule):
    """A run that nobody disturbed."""
    train(packed, tmp_path / "whole", shape, schedule, RUNTIME)
    return tmp_path / "whole"


def files(out: Path) -> dict[str, bytes]:
    """Everything that must be the same, by relative path."""
    every = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in every if path.relative_to(out).parts[0] != "log"}


def poisoned(folder, config, factors):
    """A GPT.loss that is multiplied, in training on the batch of step n or a part of it, by factors[n]."""
    data, plain = dataset.Dataset.open(folder), GPT.loss
    batches = [(data.batch(n, config.batch_size, config.seed).ids_BT.tobytes(), f) for n, f in factors.items()]

    def loss(self, ids_BT, *arguments):
        part = ids_BT.numpy().tobytes()
        found = [factor for batch, factor in batches if self.training and part in batch]
        return plain(self, ids_BT, *arguments) * (found or [1])[0]

    return loss
