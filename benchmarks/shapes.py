"""The models of decoder.py, and how steps are timed: the same for ours and for the peer, which runs without this project."""

import time
from collections.abc import Callable

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
