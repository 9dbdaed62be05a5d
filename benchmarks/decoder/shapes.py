"""What the benchmark asks of ours and of the peer, which runs without this project: shapes, timing of steps, the characters."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

# layers, heads, width, T, B, vocabulary
SHAPES = {"4L/128": (4, 4, 128, 64, 12, 65), "6L/384": (6, 6, 384, 256, 16, 65)}
GENERATION = (6, 6, 384, 4096)  # layers, heads, width, vocabulary
CONTEXT, PROMPT = 512, 16


def rate(update: Callable[[], None], seconds: float) -> float:
    """Calls of update a second, over about so many seconds, after three to get warm."""
    for _ in range(3):
        update()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        update()
        steps += 1
    return steps / (time.perf_counter() - start)


def characters(path: str) -> tuple[Tensor, Tensor]:
    """tiny-shakespeare as int64 numbers of its 65 characters: the first 90 % to train on, the rest to judge by."""
    text = Path(path).read_text(encoding="utf-8")
    known = {character: number for number, character in enumerate(sorted(set(text)))}
    ids_N = torch.tensor([known[character] for character in text])
    return ids_N.tensor_split([int(0.9 * len(text))])


@torch.no_grad()
def full_pass(summed_loss: Callable[[Tensor, Tensor], Tensor], ids_N: Tensor, T: int) -> float:
    """Nats per character: all but the first are targets once, in consecutive windows of T."""
    ids_BT, targets_BT = (part.split(64 * T) for part in (ids_N[:-1], ids_N[1:]))
    total = 0.0
    for ids, targets in zip(ids_BT, targets_BT, strict=True):
        whole = len(ids) // T * T
        for first, last, width in ((0, whole, T), (whole, len(ids), len(ids) - whole)):
            if first < last:
                total += float(summed_loss(ids[first:last].view(-1, width), targets[first:last].view(-1, width)))
    return total / (len(ids_N) - 1)
