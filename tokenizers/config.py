"""The settings of a tokenizer, in a file of their own: a recipe is checked without loading SentencePiece."""

import re
from dataclasses import dataclass
from math import log2
from typing import Literal

from tokenizers import TokenizerError

END_OF_DOCUMENT = "<|endofdocument|>"
PADDING = "<|padding|>"
SPACE_SYMBOL = "\u2581"  # SentencePiece writes it for a space, and cannot tell it from one
MIN_VOCAB_SIZE, MAX_VOCAB_SIZE = 512, 32_768  # of an automatic vocabulary


@dataclass(frozen=True)
class TokenizerConfig:
    """What determines the pieces, apart from the text. Raises TokenizerError that lists every problem."""

    model_type: Literal["bpe", "unigram", "char"] = "bpe"
    """bpe merges by frequency (quick to train); unigram prunes by likelihood (quick to encode, slow to train); char: single
    characters. Whatever has no piece is spelled in bytes."""
    vocab_size: int | Literal["auto"] = "auto"
    """Number of pieces, including 256 bytes and the special ones. auto: by the size of the text, at most what it supports."""
    character_coverage: float = 0.9995
    """Share of the text's characters that get a piece of their own; the rest are spelled in bytes, so nothing is lost."""
    user_defined_symbols: tuple[str, ...] = ()
    """Strings that are always one piece each, wherever they stand in the text. A recipe without them has those of its masks."""
    sample_bytes: int = 32_000_000
    """Training reads about this many bytes of the training documents, drawn evenly."""
    seed: int = 0
    """Of that draw."""

    def __post_init__(self) -> None:
        problems = []
        if self.vocab_size != "auto" and not 261 <= self.vocab_size <= 1_000_000:
            least = "261 (all bytes, newline and the specials)"
            problems.append(f"vocab_size {self.vocab_size} is not auto, nor within {least} and 1000000")
        if not 0.9 <= self.character_coverage <= 1:
            problems.append(f"character_coverage {self.character_coverage} is not within 0.9 and 1")
        if self.sample_bytes < 1000:
            problems.append(f"sample_bytes {self.sample_bytes} is below 1000")
        symbols = self.user_defined_symbols
        if len(set(symbols)) < len(symbols):
            problems.append(f"user_defined_symbols {', '.join(symbols)} holds one twice")
        for symbol in symbols:
            taken = symbol in (END_OF_DOCUMENT, PADDING, "<unk>")
            if taken or not re.fullmatch(rf"[^\s\0{SPACE_SYMBOL}]+", symbol):
                problems.append(f"user_defined_symbols: {symbol!r} is empty, holds white space, or is taken")
        if problems:
            raise TokenizerError("; ".join(problems))


def automatic(n_bytes: int) -> int:
    """The vocabulary size for a text of this size: a power of two that grows with the square root, 4,096 at 3 MB.

    Each piece is a row of the embedding and needs text to learn it from: 0.13 MB of rick-and-morty give 2.02 bits per byte with
    512 pieces, 2.07 with 1,024. llama2.c takes 512 to 4,096 pieces for a small corpus; GPT-2's 50,257 go with 40 GB.
    """
    wanted = 560 * (n_bytes / 100_000) ** 0.5
    power: int = 2 ** round(log2(max(1, wanted)))
    return max(MIN_VOCAB_SIZE, min(MAX_VOCAB_SIZE, power))
