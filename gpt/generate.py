"""Text from a model, token by token.

Notable: sampling has a random generator of its own, on the CPU, so that a seed gives the same draw on every device;
streamed text never breaks a character in two, and its pieces joined are exactly the decoded tokens. There is no cache: each
token costs a pass over the last T.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from gpt import GPTError
from gpt.checkpoint import load_model
from gpt.model import GPT


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[GPT, SentencePieceProcessor]:
    """The model of a folder and the tokenizer beside it. Raises GPTError that names the file that cannot be used."""
    path = Path(folder) / "tokenizer.model"
    model, _ = load_model(folder, device)
    try:
        return model, SentencePieceProcessor(model_proto=path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise GPTError(f"{path} is not a usable SentencePiece model: {error}") from error


def sample(
    model: GPT,
    ids: Sequence[int],
    max_tokens: int = 256,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 1,
    eos_id: int = -1,
) -> Iterator[int]:
    """Continue `ids`, one token at a time, until `max_tokens` or eos (which is not given out).

    ids: at least one token; of more than T, the last T count. temperature: 0 takes the likeliest token each time.
    top_k: only the k likeliest (0: all). top_p: only the likeliest that together reach p (Holtzman 2020; 1: all).
    eos_id: -1 never stops early. Raises GPTError, before the first token, for an argument out of range.
    """
    vocab_size, ids = model.config.vocab_size, [int(token) for token in ids]
    problems = []
    if not ids:
        problems.append("no token to continue; start from the end-of-document token")
    if any(not 0 <= token < vocab_size for token in ids):
        problems.append(
            f"token {next(t for t in ids if not 0 <= t < vocab_size)} is not in the vocabulary of {vocab_size}"
        )
    if max_tokens < 0:
        problems.append(f"max_tokens is {max_tokens}; it must be at least 0")
    if not 0 <= temperature < float("inf"):
        problems.append(f"temperature is {temperature}; it must be a number of at least 0")
    if top_k < 0:
        problems.append(f"top_k is {top_k}; it must be at least 0 (0: every token)")
    if not 0 < top_p <= 1:
        problems.append(f"top_p is {top_p}; it must be over 0 and at most 1")
    if not 0 <= seed < 2**63:
        problems.append(f"seed is {seed}; it must be from 0 to 2^63 - 1")
    if problems:
        raise GPTError("cannot generate: " + "; ".join(problems))
    return _sample(model, ids, max_tokens, temperature, top_k, top_p, seed, eos_id)


def stream_text(
    model: GPT, tokenizer: SentencePieceProcessor, prompt: str = "", max_tokens: int = 256, temperature: float = 1.0,
    top_k: int = 0, top_p: float = 1.0, seed: int = 1,
) -> Iterator[str]:  # fmt: skip
    """Continue a prompt at the start of a document; give out text as soon as its characters are whole.

    tokenizer: the one the model was trained with. An empty prompt starts a document. The prompt is not given out; the
    pieces joined are tokenizer.decode(of all sampled tokens). Stops at the end of the document.
    Raises GPTError for a tokenizer of another size, or an argument out of range (see `sample`).
    """
    if tokenizer.vocab_size() != model.config.vocab_size:
        raise GPTError(
            f"the tokenizer has {tokenizer.vocab_size()} tokens, the model {model.config.vocab_size}: not a pair"
        )
    eos_id = tokenizer.eos_id()
    ids = [eos_id, *tokenizer.encode(prompt)]
    return _decode(tokenizer, sample(model, ids, max_tokens, temperature, top_k, top_p, seed, eos_id))


@torch.no_grad()
def _sample(
    model: GPT, ids: list[int], max_tokens: int, temperature: float, top_k: int, top_p: float, seed: int, eos_id: int
) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    device, T = next(model.parameters()).device, model.config.block_size
    model.eval()
    for _ in range(max_tokens):
        logits_V = model(torch.tensor([ids[-T:]], device=device))[0, -1].float().cpu()
        token = _choose(logits_V, temperature, top_k, top_p, generator)
        if token == eos_id:
            return
        ids.append(token)
        yield token


def _choose(logits_V: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    logits, tokens = logits_V.sort(descending=True, stable=True)
    if top_k:
        logits = logits[:top_k]
    # From the largest, so that a tiny temperature gives 0 and -inf, not inf.
    probabilities = ((logits - logits[0]) / temperature).softmax(0)
    if top_p < 1:
        before = probabilities.cumsum(0) - probabilities
        probabilities = probabilities[before < top_p]  # the first is always among them
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])


def _decode(tokenizer: SentencePieceProcessor, tokens: Iterator[int]) -> Iterator[str]:
    """Characters outside the vocabulary come as single bytes: hold those back until they make up whole characters."""
    held: list[int] = []
    for token in tokens:
        if tokenizer.is_byte(token):
            held.append(token)
            if not _is_whole(tokenizer, held):
                continue
            token, held = held, []
        else:
            token, held = [*held, token], []
        if text := tokenizer.decode(token):
            yield text
    if held:
        yield tokenizer.decode(held)  # a character cut off by max_tokens: as the tokenizer shows it


def _is_whole(tokenizer: SentencePieceProcessor, byte_tokens: list[int]) -> bool:
    try:
        bytes(
            int(tokenizer.id_to_piece(token)[1:-1], 16) for token in byte_tokens
        ).decode()  # pieces are <0x00>..<0xFF>
    except UnicodeDecodeError:
        return False
    return True
