"""Texts in the making, side by side: rows join a batch, and leave it when they end, between its steps.

Notable:
- each row has its own settings and random numbers, so its tokens do not depend on the rows beside it (except for the rounding
  of products of other shapes), nor on when it joined
- past the model's T tokens the context moves on by half of T at a time (`window`) and is computed anew, so the next token after
  n is always the one that the model draws after `tokens[window(n, T):]`, whatever the kind of position
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpt.generation.cache import KVCache
from gpt.generation.text import TextStream
from gpt.model.transformer import GPT

ROWS = 32  # texts generated side by side; more wait
# Natural log of a token's probability, and of the likeliest tokens' in its place.
Chance = tuple[float, dict[int, float]]


@dataclass(eq=False)
class Row:
    """A text in the making. Settings: see `gpt.generation.sample.token_rows`."""

    tokens: list[int]
    """its context, at least one token; what is drawn follows"""
    random: np.random.Generator
    left: int
    """tokens still to be drawn"""
    temperature: float
    top_k: int
    top_p: float
    eos_id: int
    stream: TextStream | None = None
    likeliest: int = -1
    """how many of the likeliest tokens are reported with each that is drawn; -1: not even its own probability"""
    finish: str = ""
    """why it ended: stop (its document's end, or a stop string) or length"""
    begin: int = -1
    """of its context in the cache"""

    def add(self, token: int) -> str:
        """Take a drawn token; returns the text that can now be shown."""
        text = ""
        if token == self.eos_id:
            self.finish = "stop"
        else:
            self.tokens.append(token)
            self.left -= 1
            text = self.stream.add(token) if self.stream else ""
            self.finish = "stop" if self.stream and self.stream.finished else "" if self.left else "length"
        if self.finish and self.stream and not self.stream.finished:
            text += self.stream.end()
        return text


class Drawn(NamedTuple):
    row: Row
    token: int
    text: str
    """that can now be shown"""
    chance: Chance | None


class Batch:
    """Rows that are generated together. The model must not change meanwhile."""

    def __init__(self, model: GPT):
        self.model, self.rows, self.cache = model.eval(), list[Row](), KVCache(model)

    def run(self, rows: Iterable[Row]) -> Iterator[Drawn]:
        """Generate these rows to their end, ROWS at a time."""
        waiting = [row for row in rows if row.left][::-1]
        while waiting or self.rows:
            while waiting and len(self.rows) < ROWS:
                self.rows.append(waiting.pop())
            yield from self.step()

    @torch.inference_mode()
    def remove(self, row: Row) -> None:
        place = self.rows.index(row)
        self.rows[place] = self.rows[-1]
        self.rows.pop()
        self.cache.remove(place)

    @torch.inference_mode()
    def step(self) -> list[Drawn]:
        """Draw the next token of every row. Rows that end with it leave the batch."""
        rows, device = list(self.rows), self.model.tokens.weight.device
        begins = [window(len(row.tokens), self.model.config.block_size) for row in rows]
        if moved := [place for place, row in enumerate(rows) if row.begin != begins[place]]:
            self.cache.prefill(moved, [rows[place].tokens[begins[place] : -1] for place in moved])
            for place in moved:
                rows[place].begin = begins[place]
        last_R = torch.tensor([row.tokens[-1] for row in rows], device=device)
        uniform_R = torch.tensor([row.random.random() for row in rows], dtype=torch.float32, device=device)
        logits_RV = self.cache.step(last_R).float()
        alike: dict[tuple[float, int, float], list[int]] = {}
        for place, row in enumerate(rows):
            alike.setdefault((row.temperature, row.top_k, row.top_p), []).append(place)
        drawn_R = torch.empty_like(last_R)
        for settings, places in alike.items():
            which = places if len(alike) > 1 else slice(None)
            drawn_R[which] = choose(logits_RV[which], *settings, uniform_R[which])
        asked = [place for place, row in enumerate(rows) if row.likeliest >= 0]
        likeliest = max(row.likeliest for row in rows)
        found = chances(logits_RV[asked], drawn_R[asked], likeliest) if asked else []
        chance = dict(zip(asked, found, strict=True))
        tokens = enumerate(zip(rows, drawn_R.tolist(), strict=True))
        drawn = [Drawn(row, token, row.add(token), chance.get(place)) for place, (row, token) in tokens]
        for row in rows:
            if row.finish:
                self.remove(row)
        return drawn


def window(n: int, T: int) -> int:
    """Where the context of token number n (from 0) begins: at 0 as long as n tokens fit, then half of T further each time."""
    half = max(1, T // 2)
    return max(0, -(-(n - T) // half) * half)


def choose(logits_RV: Tensor, temperature: float, top_k: int, top_p: float, uniform_R: Tensor) -> Tensor:
    """A token for each row, (R,), drawn by uniform_R, one number in 0..1 for each. Settings: see `Row`."""
    if temperature == 0 or top_k == 1:
        return logits_RV.argmax(1)
    logits_RK, tokens_RK = logits_RV, None  # K candidates; None: all tokens, in their own order
    if 0 < top_k < logits_RV.shape[1]:
        logits_RK, tokens_RK = logits_RV.topk(top_k)  # likeliest first
    elif top_p < 1:
        logits_RK, tokens_RK = logits_RV.sort(descending=True)
    # From the largest, so that a tiny temperature gives 0 and -inf, not inf.
    p_RK = ((logits_RK - logits_RK.amax(1, keepdim=True)) / temperature).softmax(1)
    if top_p < 1:
        p_of_likelier_RK = p_RK.cumsum(1) - p_RK
        p_RK = p_RK.where(p_of_likelier_RK < top_p, 0)  # always keeps the first
    # The first place where the sum of the probabilities up to it exceeds uniform_R of their total.
    sum_RK = p_RK.cumsum(1)
    total_R1 = sum_RK[:, -1:]
    just_below_R1 = total_R1.nextafter(total_R1.new_zeros(()))  # a number rounded up to the total would exceed the row
    place_R1 = torch.searchsorted(sum_RK, torch.minimum(uniform_R[:, None] * total_R1, just_below_R1), right=True)
    return (place_R1 if tokens_RK is None else tokens_RK.gather(1, place_R1))[:, 0]


def chances(logits_NV: Tensor, tokens_N: Tensor, likeliest: int) -> list[Chance]:
    """The chance of each of these tokens, and of so many of the likeliest in its place."""
    log_NV = logits_NV.log_softmax(1)
    own, top = log_NV.gather(1, tokens_N[:, None])[:, 0], log_NV.topk(min(likeliest, log_NV.shape[1]))
    rows = zip(own.tolist(), top.indices.tolist(), top.values.tolist(), strict=True)
    return [(chance, dict(zip(tokens, values, strict=True))) for chance, tokens, values in rows]


def token_chances(model: GPT, tokens: list[int], likeliest: int) -> Iterator[list[Chance]]:
    """The chance of every token but the first, each in the context in which it would be drawn, a pass at a time."""
    T, n = model.config.block_size, 1
    while n < len(tokens):
        begin = window(n, T)  # the same up to token begin + T
        with torch.inference_mode():
            ids = torch.tensor(tokens[begin : begin + T + 1], device=model.tokens.weight.device)
            found = chances(model(ids[None, :-1])[0, n - 1 - begin :].float(), ids[n - begin :], likeliest)
        yield found
        n += len(found)
