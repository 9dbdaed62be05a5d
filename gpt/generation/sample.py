"""Text from a model, token by token.

Notable:
- each sample has a random generator of its own, seeded by (seed, its number), so its text depends neither on the rest of the
  batch (except for the rounding of products of other shapes) nor on the device
- streamed text never breaks a character in two; its pieces joined are the decoded tokens up to a stop string
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentencepiece import SentencePieceProcessor

from gpt import GPTError
from gpt.checkpoint import load_model, sha256
from gpt.data.tokenizer import load_tokenizer, tokenizer_file
from gpt.generation.batch import Batch, Row
from gpt.generation.text import TextStream, encode
from gpt.model.transformer import GPT


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[GPT, SentencePieceProcessor]:
    """The model of a folder and the tokenizer beside it. Raises GPTError that names a file that cannot be used."""
    path = tokenizer_file(Path(folder))
    model, metadata = load_model(folder, device)
    if (wanted := metadata.get("tokenizer_sha256")) and sha256(path) not in ("", wanted):
        raise GPTError(f"{path} is not the tokenizer that this model was trained with")
    return model, load_tokenizer(path)


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
    model: GPT, tokenizer: SentencePieceProcessor, prompts: Sequence[str], samples: int = 1, **settings: Any
) -> Iterator[tuple[int, str]]:
    """Continue prompts: yields (row, text) as soon as characters are whole. Row p * samples + i is sample i of prompt p.
    Arguments: see `text_rows`."""
    rows = text_rows(model, tokenizer, prompts, samples, **settings)
    number = {id(row): n for n, row in enumerate(rows)}
    return ((number[id(drawn.row)], drawn.text) for drawn in Batch(model).run(rows) if drawn.text)


def text_rows(
    model: GPT, tokenizer: SentencePieceProcessor, prompts: Sequence[str | Sequence[int]], samples: int = 1,
    stop: str | Sequence[str] = (), **settings: Any,
) -> list[Row]:  # fmt: skip
    """What continues prompts that stand at the start of a document, `samples` rows for each.

    tokenizer: the one the model was trained with. A prompt is a text, or the tokens of one. An empty prompt starts a document;
    of a prompt longer than the context, the end counts. Prompts are not repeated. A text ends with its document, before the
    first of the `stop` strings, or after max_tokens. settings: see `token_rows`.
    Raises GPTError for a tokenizer of another size, a prompt it cannot spell, or an argument out of range.
    """
    if tokenizer.vocab_size() != model.config.vocab_size:
        raise GPTError(f"tokenizer of {tokenizer.vocab_size()} tokens, model of {model.config.vocab_size}: not a pair")
    stop = [stop] * bool(stop) if isinstance(stop, str) else list(stop)
    if "" in stop:
        raise GPTError("a stop string is empty; it would stop before the first character")
    eos_id = tokenizer.eos_id()
    ids = (encode(tokenizer, prompt) if isinstance(prompt, str) else prompt for prompt in prompts)
    rows = token_rows(model, [[eos_id, *tokens] for tokens in ids], samples, eos_id=eos_id, **settings)
    for row in rows:
        row.stream = TextStream(tokenizer, stop)
    return rows


def token_rows(
    model: GPT, contexts: Sequence[Sequence[int]], samples: int = 1, max_tokens: int = 256, temperature: float = 1.0,
    top_k: int = 0, top_p: float = 1.0, seed: int = 1, eos_id: int = -1, likeliest: int = -1,
) -> list[Row]:  # fmt: skip
    """What continues lists of tokens, `samples` rows for each.

    contexts: at least one token each. max_tokens: for each row. temperature: 0 takes the likeliest token each time.
    top_k: only the k likeliest (0: all). top_p: only the likeliest of these that together reach p (Holtzman 2020; 1: all).
    eos_id: the token that ends a row and is not yielded; -1: none. likeliest: see `Row`.
    Raises GPTError for an argument out of range.
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
    how = (max_tokens, temperature, top_k, top_p, eos_id, None, likeliest)
    return [Row(list(ids), _random(seed, i), *how) for ids in starts for i in range(samples)]


def _random(seed: int, sample: int) -> np.random.Generator:
    """The random numbers of sample number `sample` of each context."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, sample))))
