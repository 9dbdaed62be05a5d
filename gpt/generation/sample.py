"""Text from a model, token by token.

Notable:
- each sample has a random generator of its own, made of (seed, its number), so its text does not depend on what else is in
  the batch (but for the rounding of products of other shapes), nor on the device
- streamed text never breaks a character in two, and its pieces joined are the decoded tokens up to a stop string
- past the model's T tokens the context moves on by half of T at a time (`window`) and is read anew; so every token is what
  the model without a cache gives for `tokens[window(n, T):]`, whatever the kind of position
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from gpt import GPTError
from gpt.checkpoint import load_model, sha256
from gpt.generation.cache import Decoder
from gpt.generation.text import Writer, encode
from gpt.model.transformer import GPT

ROWS = 32  # texts written side by side; more wait
NUCLEUS = 512  # likeliest tokens to look at for top_p before all are sorted


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[GPT, SentencePieceProcessor]:
    """The model of a folder and the tokenizer beside it. Raises GPTError that names the file that cannot be used."""
    path = Path(folder) / "tokenizer.model"
    model, metadata = load_model(folder, device)
    if (wanted := metadata.get("tokenizer_sha256")) and sha256(path) not in ("", wanted):
        raise GPTError(f"{path} is not the tokenizer that this model was trained with")
    try:
        return model, SentencePieceProcessor(model_proto=path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise GPTError(f"{path} is not a usable SentencePiece model: {error}") from error


def texts(
    model: GPT, tokenizer: SentencePieceProcessor, prompts: Sequence[str], samples: int = 1, **settings
) -> list[list[str]]:
    """Continuations of each prompt, `samples` of each, written side by side. settings: see `stream_texts`.

    Sample i of a prompt is the same whatever the other prompts, and however many samples are asked for.
    """
    written = [[""] * samples for _ in prompts]
    for row, piece in stream_texts(model, tokenizer, prompts, samples, **settings):
        written[row // samples][row % samples] += piece
    return written


def stream_text(model: GPT, tokenizer: SentencePieceProcessor, prompt: str = "", **settings) -> Iterator[str]:
    """The first continuation of one prompt, piece by piece. settings: see `stream_texts`."""
    return (piece for _, piece in stream_texts(model, tokenizer, [prompt], **settings))


def stream_texts(
    model: GPT, tokenizer: SentencePieceProcessor, prompts: Sequence[str], samples: int = 1,
    stop: str | Sequence[str] = (), **settings,
) -> Iterator[tuple[int, str]]:  # fmt: skip
    """Continue prompts that stand at the start of a document: (row, text) as soon as characters are whole.

    tokenizer: the one the model was trained with. Row p * samples + i is sample i of prompt p. An empty prompt starts a
    document; of one longer than the context its end counts. Prompts are not given out. A text ends with its document,
    before the first of the `stop` strings, or after max_tokens. settings: see `sample_batch`.
    Raises GPTError for a tokenizer of another size, a prompt it cannot spell, or an argument out of range.
    """
    if tokenizer.vocab_size() != model.config.vocab_size:
        found = f"the tokenizer has {tokenizer.vocab_size()} tokens, the model {model.config.vocab_size}"
        raise GPTError(f"{found}: not a pair")
    stop = [stop] * bool(stop) if isinstance(stop, str) else list(stop)
    if "" in stop:
        raise GPTError("a stop string is empty; it would stop before the first character")
    eos_id = tokenizer.eos_id()
    contexts = [[eos_id, *encode(tokenizer, prompt)] for prompt in prompts]
    done: set[int] = set()
    tokens = sample_batch(model, contexts, samples, eos_id=eos_id, done=done, **settings)
    return _write(tokens, [Writer(tokenizer, stop) for _ in range(len(prompts) * samples)], done)


def sample(model: GPT, ids: Sequence[int], max_tokens: int = 256, **settings) -> Iterator[int]:
    """Continue one list of tokens, one token at a time. settings: see `sample_batch`."""
    return (token for _, token in sample_batch(model, [ids], max_tokens=max_tokens, **settings))


def sample_batch(
    model: GPT, contexts: Sequence[Sequence[int]], samples: int = 1, max_tokens: int = 256, temperature: float = 1.0,
    top_k: int = 0, top_p: float = 1.0, seed: int = 1, eos_id: int = -1, done: set[int] | None = None,
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """Continue lists of tokens side by side: (row, token), row c * samples + i being sample i of context c.

    contexts: at least one token each. max_tokens: for each row. temperature: 0 takes the likeliest token each time. top_k:
    only the k likeliest (0: all). top_p: only the likeliest of these that together reach p (Holtzman 2020; 1: all).
    eos_id: the token that ends a row and is not given out; -1: none. done: rows that have ended; put one in to end it.
    Raises GPTError, before the first token, for an argument out of range.
    """
    V, contexts = model.config.vocab_size, [[int(token) for token in ids] for ids in contexts]
    problems = []
    if not all(contexts):
        problems.append("no token to continue; start from the end-of-document token")
    if outside := [token for ids in contexts for token in ids if not 0 <= token < V]:
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
    rows = [(c * samples + i, ids, i) for c, ids in enumerate(contexts) for i in range(samples)]
    pick = partial(choose, temperature=temperature, top_k=top_k, top_p=top_p)
    how = (max_tokens, pick, seed, eos_id, set() if done is None else done)
    return (drawn for at in range(0, len(rows), ROWS) for drawn in _sample(model, rows[at : at + ROWS], *how))


def window(n: int, T: int) -> int:
    """Where the context of token number n (from 0) begins: at 0 as long as n tokens fit, then half of T further each time."""
    half = max(1, T // 2)
    return max(0, -(-(n - T) // half) * half)


def _sample(
    model: GPT, rows: list[tuple[int, list[int], int]], max_tokens: int, pick: Callable[..., Tensor], seed: int, eos_id: int,
    done: set[int],
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """rows: (number, context, number of the sample), decoded together."""
    names, written = [name for name, _, _ in rows], [list(ids) for _, ids, _ in rows]
    draws = [np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, i)))) for _, _, i in rows]
    T, device = model.config.block_size, model.tokens.weight.device
    model.eval()
    decoder = Decoder(model, len(rows), max(map(len, written)) + max_tokens)
    starts = [-1] * len(rows)
    for _ in range(max_tokens):
        if done.issuperset(names):
            return
        with torch.inference_mode():
            begin = [window(len(ids), T) for ids in written]
            if moved := [row for row, start in enumerate(begin) if start != starts[row]]:
                decoder.read(moved, [written[row][begin[row] : -1] for row in moved])
                starts = begin
            logits_RV = decoder.step(torch.tensor([ids[-1] for ids in written], device=device)).float()
            uniform_R = torch.tensor([draw.random() for draw in draws], dtype=torch.float32, device=device)
            tokens = pick(logits_RV, uniform_R=uniform_R).tolist()
        for name, ids, token in zip(names, written, tokens, strict=True):
            ids.append(token)
            if token == eos_id:
                done.add(name)
            elif name not in done:
                yield name, token


def choose(logits_RV: Tensor, temperature: float, top_k: int, top_p: float, uniform_R: Tensor) -> Tensor:
    """A token for each row, (R,): where the cumulated probability of the tokens that may be drawn passes uniform_R, 0..1."""
    if temperature == 0 or top_k == 1:
        return logits_RV.argmax(1)
    tokens_RK = None
    if 0 < top_k < logits_RV.shape[1]:
        logits_RV, tokens_RK = logits_RV.topk(top_k)
    # From the largest, so that a tiny temperature gives 0 and -inf, not inf.
    p_RK = ((logits_RV - logits_RV.amax(1, keepdim=True)) / temperature).softmax(1)
    if top_p < 1:
        if tokens_RK is None:
            p_RV, (p_RK, tokens_RK) = p_RK, p_RK.topk(min(NUCLEUS, p_RK.shape[1]))
            if (p_RK.sum(1) < top_p).any():
                p_RK, tokens_RK = p_RV.sort(descending=True)
        p_RK = p_RK.where(p_RK.cumsum(1) - p_RK < top_p, 0)  # the first is always among them
    cumulated_RK = p_RK.cumsum(1)
    total_R1 = cumulated_RK[:, -1:]
    passed = torch.minimum(uniform_R[:, None] * total_R1, total_R1.nextafter(total_R1.new_zeros(())))  # never all of it
    place_R1 = torch.searchsorted(cumulated_RK, passed, right=True)
    return (place_R1 if tokens_RK is None else tokens_RK.gather(1, place_R1))[:, 0]


def _write(tokens: Iterator[tuple[int, int]], writers: list[Writer], done: set[int]) -> Iterator[tuple[int, str]]:
    for row, token in tokens:
        if text := writers[row].add(token):
            yield row, text
        if writers[row].finished:
            done.add(row)
    for row, writer in enumerate(writers):
        if not writer.finished and (text := writer.end()):
            yield row, text
