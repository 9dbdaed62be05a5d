"""Text from a model, token by token.

Notable:
- `generate` is the plain loop, in ten lines; `sample_batch` draws the same tokens from a cache of keys and values, many rows
  side by side
- each sample has a random generator of its own, seeded by (seed, its number), so its text depends neither on the rest of the
  batch (except for the rounding of products of other shapes) nor on the device
- streamed text never breaks a character in two; its pieces joined are the decoded tokens up to a stop string
- past the model's T tokens the context moves on by half of T at a time (`window`) and is computed anew, so the next token after
  n is always the one that the model draws after `tokens[window(n, T):]`, whatever the kind of position
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from gpt import GPTError
from gpt.checkpoint import load_model, sha256
from gpt.generation.cache import KVCache
from gpt.generation.text import TextStream, encode
from gpt.model.transformer import GPT

Row = tuple[int, list[int], np.random.Generator]  # a text in the making: its number, tokens and random numbers
ROWS = 32  # texts generated side by side; more wait
NUCLEUS = 512  # for top_p, so many of the likeliest tokens are sorted; all of them only if these do not suffice


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[GPT, SentencePieceProcessor]:
    """The model of a folder and the tokenizer beside it. Raises GPTError that names a file that cannot be used."""
    path = Path(folder) / "tokenizer.model"
    model, metadata = load_model(folder, device)
    if (wanted := metadata.get("tokenizer_sha256")) and sha256(path) not in ("", wanted):
        raise GPTError(f"{path} is not the tokenizer that this model was trained with")
    try:
        return model, SentencePieceProcessor(model_proto=path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise GPTError(f"{path} is not a usable SentencePiece model: {error}") from error


def texts(
    model: GPT, tokenizer: SentencePieceProcessor, prompts: Sequence[str], samples: int = 1, **settings: Any
) -> list[list[str]]:
    """`samples` continuations of each prompt, generated side by side. settings: see `stream_texts`.

    Sample i of a prompt is the same whatever the other prompts, and however many samples are asked for.
    """
    written = [[""] * samples for _ in prompts]
    for row, piece in stream_texts(model, tokenizer, prompts, samples, **settings):
        written[row // samples][row % samples] += piece
    return written


def stream_texts(
    model: GPT, tokenizer: SentencePieceProcessor, prompts: Sequence[str], samples: int = 1,
    stop: str | Sequence[str] = (), **settings: Any,
) -> Iterator[tuple[int, str]]:  # fmt: skip
    """Continue prompts that stand at the start of a document: yields (row, text) as soon as characters are whole.

    tokenizer: the one the model was trained with. Row p * samples + i is sample i of prompt p. An empty prompt starts a
    document; of a prompt longer than the context, the end counts. Prompts are not repeated. A text ends with its document,
    before the first of the `stop` strings, or after max_tokens. settings: see `sample_batch`.
    Raises GPTError for a tokenizer of another size, a prompt it cannot spell, or an argument out of range.
    """
    if tokenizer.vocab_size() != model.config.vocab_size:
        raise GPTError(f"tokenizer of {tokenizer.vocab_size()} tokens, model of {model.config.vocab_size}: not a pair")
    stop = [stop] * bool(stop) if isinstance(stop, str) else list(stop)
    if "" in stop:
        raise GPTError("a stop string is empty; it would stop before the first character")
    eos_id = tokenizer.eos_id()
    contexts = [[eos_id, *encode(tokenizer, prompt)] for prompt in prompts]
    done: set[int] = set()
    tokens = sample_batch(model, contexts, samples, eos_id=eos_id, done=done, **settings)
    return _decoded(tokens, [TextStream(tokenizer, stop) for _ in range(len(prompts) * samples)], done)


@torch.inference_mode()
def generate(
    model: GPT, ids: Sequence[int], max_tokens: int = 256, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
    seed: int = 1,
) -> list[int]:  # fmt: skip
    """Continue one list of tokens, a whole pass for each: what `sample_batch` does, without its cache. For the reader."""
    tokens, random, device = list(ids), _random(seed, 0), model.tokens.weight.device
    model.eval()
    for _ in range(max_tokens):
        context = tokens[window(len(tokens), model.config.block_size) :]
        logits_1V = model(torch.tensor([context], device=device))[:, -1].float()
        uniform_1 = torch.tensor([random.random()], dtype=torch.float32, device=device)
        tokens.append(int(choose(logits_1V, temperature, top_k, top_p, uniform_1)))
    return tokens[len(ids) :]


def sample_batch(
    model: GPT, contexts: Sequence[Sequence[int]], samples: int = 1, max_tokens: int = 256, temperature: float = 1.0,
    top_k: int = 0, top_p: float = 1.0, seed: int = 1, eos_id: int = -1, done: set[int] | None = None,
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """Continue lists of tokens side by side: yields (row, token), where row c * samples + i is sample i of context c.

    contexts: at least one token each. max_tokens: for each row. temperature: 0 takes the likeliest token each time.
    top_k: only the k likeliest (0: all). top_p: only the likeliest of these that together reach p (Holtzman 2020; 1: all).
    eos_id: the token that ends a row and is not yielded; -1: none. done: rows that have ended; the caller adds one to end it.
    Raises GPTError, before the first token, for an argument out of range.
    """
    V, starts = model.config.vocab_size, [[int(token) for token in ids] for ids in contexts]
    problems = []
    if not all(starts):
        problems.append("no token to continue; start from the end-of-document token")
    if outside := [token for ids in starts for token in ids if not 0 <= token < V]:
        problems.append(f"token {outside[0]} is not in the vocabulary of {V}")
    bounds = (
        ("samples", samples, samples >= 1, "at least 1"),
        ("max_tokens", max_tokens, max_tokens >= 0, "at least 0"),
        ("temperature", temperature, 0 <= temperature < float("inf"), "a number of at least 0"),
        ("top_k", top_k, top_k >= 0, "at least 0 (0: every token)"),
        ("top_p", top_p, 0 < top_p <= 1, "over 0 and at most 1"),
        ("seed", seed, 0 <= seed < 2**63, "from 0 to 2^63 - 1"),
    )
    problems += [f"{name} is {value}; it must be {bound}" for name, value, holds, bound in bounds if not holds]
    if problems:
        raise GPTError("cannot generate: " + "; ".join(problems))
    rows = [(c * samples + i, list(ids), _random(seed, i)) for c, ids in enumerate(starts) for i in range(samples)]
    pick = partial(choose, temperature=temperature, top_k=top_k, top_p=top_p)
    ended = set() if done is None else done
    batches = (rows[at : at + ROWS] for at in range(0, len(rows), ROWS))
    return (drawn for batch in batches for drawn in _sample(model, batch, max_tokens, pick, eos_id, ended))


def window(n: int, T: int) -> int:
    """Where the context of token number n (from 0) begins: at 0 as long as n tokens fit, then half of T further each time."""
    half = max(1, T // 2)
    return max(0, -(-(n - T) // half) * half)


def choose(logits_RV: Tensor, temperature: float, top_k: int, top_p: float, uniform_R: Tensor) -> Tensor:
    """A token for each row, (R,), drawn by uniform_R, one number in 0..1 for each. Settings: see `sample_batch`."""
    if temperature == 0 or top_k == 1:
        return logits_RV.argmax(1)
    logits_RK, tokens_RK = logits_RV, None  # K candidates; None: all tokens, in their own order
    if 0 < top_k < logits_RV.shape[1]:
        logits_RK, tokens_RK = logits_RV.topk(top_k)  # likeliest first
    # From the largest, so that a tiny temperature gives 0 and -inf, not inf.
    p_RK = ((logits_RK - logits_RK.amax(1, keepdim=True)) / temperature).softmax(1)
    if top_p < 1:
        if tokens_RK is None:
            p_RV = p_RK
            p_RK, tokens_RK = p_RV.topk(min(NUCLEUS, p_RV.shape[1]))
            if (p_RK.sum(1) < top_p).any():
                p_RK, tokens_RK = p_RV.sort(descending=True)
        p_of_likelier_RK = p_RK.cumsum(1) - p_RK
        p_RK = p_RK.where(p_of_likelier_RK < top_p, 0)  # always keeps the first
    # The first place where the sum of the probabilities up to it exceeds uniform_R of their total.
    sum_RK = p_RK.cumsum(1)
    total_R1 = sum_RK[:, -1:]
    just_below_R1 = total_R1.nextafter(total_R1.new_zeros(()))  # a number rounded up to the total would exceed the row
    place_R1 = torch.searchsorted(sum_RK, torch.minimum(uniform_R[:, None] * total_R1, just_below_R1), right=True)
    return (place_R1 if tokens_RK is None else tokens_RK.gather(1, place_R1))[:, 0]


def _random(seed: int, sample: int) -> np.random.Generator:
    """The random numbers of sample number `sample` of each context."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, sample))))


def _sample(
    model: GPT, rows: list[Row], max_tokens: int, pick: Callable[..., Tensor], eos_id: int, done: set[int]
) -> Iterator[tuple[int, int]]:
    """Generate these rows together: yields (row, token)."""
    T, device = model.config.block_size, model.tokens.weight.device
    model.eval()
    numbers, written, randoms = zip(*rows, strict=True)
    cache = KVCache(model, len(rows), max(map(len, written)) + max_tokens)
    begins = [-1] * len(rows)  # of the contexts in the cache
    for _ in range(max_tokens):
        if done.issuperset(numbers):
            return
        with torch.inference_mode():
            wanted = [window(len(tokens), T) for tokens in written]
            if moved := [place for place, begin in enumerate(wanted) if begin != begins[place]]:
                cache.prefill(moved, [written[place][wanted[place] : -1] for place in moved])
                begins = wanted
            last_R = torch.tensor([tokens[-1] for tokens in written], device=device)
            uniform_R = torch.tensor([random.random() for random in randoms], dtype=torch.float32, device=device)
            drawn = pick(cache.step(last_R).float(), uniform_R=uniform_R).tolist()
        for number, tokens, token in zip(numbers, written, drawn, strict=True):
            tokens.append(token)
            if token == eos_id:
                done.add(number)
            elif number not in done:
                yield number, token


def _decoded(tokens: Iterator[tuple[int, int]], streams: list[TextStream], done: set[int]) -> Iterator[tuple[int, str]]:
    """The tokens as text: yields (row, text), and marks a row as done at its stop string."""
    for row, token in tokens:
        if text := streams[row].add(token):
            yield row, text
        if streams[row].finished:
            done.add(row)
    for row, stream in enumerate(streams):
        if not stream.finished and (text := stream.end()):
            yield row, text
