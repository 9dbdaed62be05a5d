"""The settings of a tokenizer, apart from training it: a recipe is read and checked without loading SentencePiece."""

import re
from dataclasses import dataclass
from typing import Literal

from tokenizers import TokenizerError

END_OF_DOCUMENT = "<|endofdocument|>"
PADDING = "<|padding|>"
META = "\u2581"  # what SentencePiece writes for a space, and so cannot tell from one
MOST = 32_768  # pieces of an automatic vocabulary


@dataclass(frozen=True)
class TokenizerConfig:
    """What determines the pieces, apart from the text."""

    model_type: Literal["bpe", "unigram", "char", "word"] = "bpe"
    """`bpe` merges by frequency (quick to train); `unigram` prunes by likelihood (quick to encode, slow to train); `char` and
    `word` are what they say, words between spaces; whatever has no piece is spelled in bytes"""
    vocab_size: int | Literal["auto"] = "auto"
    """number of pieces, 256 bytes and the special ones included; auto: from the size of the text, at most what it supports"""
    character_coverage: float = 0.9995
    """share of the characters that get a piece of their own; the rest are spelled in bytes, so nothing is lost"""
    user_defined_symbols: tuple[str, ...] = ()
    """always one piece each, wherever they stand in the text"""
    sample_bytes: int = 32_000_000
    """training reads about this many bytes of the training documents, drawn evenly"""
    seed: int = 0
    """of that draw"""

    def __post_init__(self):
        problems = []
        if self.vocab_size != "auto" and not 261 <= self.vocab_size <= 1_000_000:
            problems.append(
                f"vocab_size {self.vocab_size} is not auto, nor within 261 (all bytes, newline and the specials) and 1000000"
            )
        if not 0.9 <= self.character_coverage <= 1:
            problems.append(f"character_coverage {self.character_coverage} is not within 0.9 and 1")
        if self.sample_bytes < 1000:
            problems.append(f"sample_bytes {self.sample_bytes} is below 1000")
        symbols = self.user_defined_symbols
        if len(set(symbols)) < len(symbols):
            problems.append(f"user_defined_symbols {', '.join(symbols)} holds one twice")
        for symbol in symbols:
            if not symbol or re.search(rf"[\s\0{META}]", symbol) or symbol in (END_OF_DOCUMENT, PADDING, "<unk>"):
                problems.append(f"user_defined_symbols: {symbol!r} is empty, holds white space, or is taken")
        if problems:
            raise TokenizerError("; ".join(problems))
