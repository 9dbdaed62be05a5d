"""Where memory runs out, the error names what to change."""

import dataclasses
import re
import subprocess
import sys

import pytest
import torch

from gpt import GPTError
from gpt.model.transformer import GPT
from gpt.trainer.loop import train
from tests.gpt.conftest import RUNTIME


@pytest.mark.parametrize("where", [GPT, torch.optim.AdamW])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: ..."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_batch_that_does_not_fit_is_refused_with_the_remedy(
    packed, tmp_path, shape, schedule, monkeypatch, error, where
):
    """Whether a forward pass or the optimizer's step, which makes its state, runs out of memory."""
    most, plain = 3, GPT.loss

    def loss(self, ids_BT, *arguments):
        if len(ids_BT) > most:
            raise error
        return plain(self, ids_BT, *arguments)

    def step(self):
        raise error

    config, rows = dataclasses.replace(schedule, batch_size=16), 16
    monkeypatch.setattr(where, "loss" if where is GPT else "step", loss if where is GPT else step)
    while rows > (most if where is GPT else 1):
        remedy = (
            rf"cpu does not hold the model and a batch of {rows}: set runtime\.micro_batch_size to {rows // 2} or less"
        )
        with pytest.raises(GPTError, match=remedy):
            train(packed, tmp_path / "out", shape, config, dataclasses.replace(RUNTIME, micro_batch_size=rows))
        rows //= 2
    if where is GPT:
        train(packed, tmp_path / "out", shape, config, dataclasses.replace(RUNTIME, micro_batch_size=rows))
    most = 0
    with pytest.raises(
        GPTError, match=r"a batch of 1: take a smaller model .* or set runtime\.activation_checkpointing"
    ):
        train(packed, tmp_path / "small", shape, config, dataclasses.replace(RUNTIME, micro_batch_size=1))


def test_another_error_stays_what_it_is(packed, tmp_path, shape, schedule, monkeypatch):
    def step(self):
        raise RuntimeError("the sky falls")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(RuntimeError, match="the sky falls"):
        train(packed, tmp_path / "out", shape, schedule, RUNTIME)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.machine.device import prepare
from gpt.trainer.loop import train
data, out, model, config = Path(sys.argv[1]), Path(sys.argv[2]), *map(eval, sys.argv[3:5])
prepare(Runtime(device="cpu", threads=1))  # the first matrix product allocates memory of its own
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 2**20, resource.RLIM_INFINITY))
train(data, out, model, config, Runtime(device="cpu", threads=1))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "n_embd", "message"),
    [(8192, 16, r"8192: set runtime\.micro_batch_size to 4096"), (4, 4096, "1: take a smaller model")],
)
def test_a_cpu_without_enough_ram_is_an_error_too(packed, tmp_path, shape, schedule, batch_size, n_embd, message):
    config, model = dataclasses.replace(schedule, batch_size=batch_size), dataclasses.replace(shape, n_embd=n_embd)
    arguments = [sys.executable, "-c", LIMITED, packed, tmp_path / "out", repr(model), repr(config)]
    done = subprocess.run([str(one) for one in arguments], check=False, timeout=300, capture_output=True, text=True)
    assert re.search(rf"GPTError: the memory of cpu does not hold the model and a batch of {message}", done.stderr)
