"""Generation as a reader would write it, a whole pass for each token: what the batch is compared with."""

from collections.abc import Sequence

import torch

from gpt.generation.batch import choose, window
from gpt.generation.sample import _random
from gpt.model.transformer import GPT


@torch.inference_mode()
def generate(
    model: GPT, ids: Sequence[int], max_tokens: int = 256, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
    seed: int = 1,
) -> list[int]:  # fmt: skip
    """Continue one list of tokens, a whole pass for each: without a cache."""
    tokens, random, device = list(ids), _random(seed, 0), model.tokens.weight.device
    model.eval()
    for _ in range(max_tokens):
        context = tokens[window(len(tokens), model.config.block_size) :]
        logits_1V = model(torch.tensor([context], device=device))[:, -1].float()
        uniform_1 = torch.tensor([random.random()], dtype=torch.float32, device=device)
        tokens.append(int(choose(logits_1V, temperature, top_k, top_p, uniform_1)))
    return tokens[len(ids) :]
