"""Train a SentencePiece model on a sample of documents: lossless settings, the same pieces on every machine.

Notable: documents are handed over line by line, because SentencePiece silently skips what is longer than
`max_sentence_length`; a newline is a piece of its own, so nothing is lost by that. The thread count is a constant, since
unigram's pieces depend on it. The sample is drawn here, seeded, since the library's own sampling takes no seed.
"""

import io
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import sentencepiece

from tokenizers import TokenizerError
from tokenizers.tokenizer import END_OF_DOCUMENT, NASTY, Tokenizer

THREADS = 4  # a constant, not the machine's cores: see above
LINE_BYTES = 8192  # SentencePiece's limit on one "sentence"; longer lines are cut into several


@dataclass(frozen=True)
class TokenizerConfig:
    """What determines the pieces, apart from the text."""

    model_type: Literal["bpe", "unigram"] = "bpe"
    """`bpe` merges by frequency (quick to train); `unigram` prunes by likelihood (quick to encode, slow to train)"""
    vocab_size: int = 4096
    """number of pieces, 256 byte pieces and the special ones included"""
    character_coverage: float = 0.9995
    """share of the characters that get a piece of their own; the rest are spelled in bytes, so nothing is lost"""
    sample_bytes: int = 64_000_000
    """training reads about this many bytes of the training documents, drawn evenly"""
    seed: int = 0
    """of that draw"""

    def __post_init__(self):
        problems = []
        if not 260 <= self.vocab_size <= 1_000_000:
            problems.append(f"vocab_size {self.vocab_size} is not within 260 (all bytes and the specials) and 1000000")
        if not 0.9 <= self.character_coverage <= 1:
            problems.append(f"character_coverage {self.character_coverage} is not within 0.9 and 1")
        if self.sample_bytes < 1000:
            problems.append(f"sample_bytes {self.sample_bytes} is below 1000")
        if problems:
            raise TokenizerError("; ".join(problems))


@dataclass
class Sample:
    """The drawn lines of the documents, counted while SentencePiece reads them."""

    texts: Iterable[str]
    share: float
    seed: int
    documents: int = 0
    n_bytes: int = 0
    kept: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        draw = random.Random(self.seed)
        for text in self.texts:
            if draw.random() >= self.share:
                continue
            self.documents += 1
            self.n_bytes += len(text.encode())
            if len(self.kept) < 1000:
                self.kept.append(text)
            yield from (piece for line in text.split("\n") if line for piece in cut(line))


def train(texts: Iterable[str], n_bytes: int, folder: Path, config: TokenizerConfig) -> dict:
    """Write `folder/tokenizer.model`, prove that it loses nothing, and return its counts.

    texts: the training documents, read once. n_bytes: their UTF-8 bytes together, from which the sampled share follows.
    Raises TokenizerError when the vocabulary is larger than the text supports or smaller than its characters need.
    """
    sample = Sample(texts, min(1.0, config.sample_bytes / max(n_bytes, 1)), config.seed)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sample),
            model_writer=model,
            model_type=config.model_type,
            vocab_size=config.vocab_size,
            character_coverage=config.character_coverage,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            user_defined_symbols=["\n"],
            unk_id=0,
            eos_id=1,
            eos_piece=END_OF_DOCUMENT,
            bos_id=-1,
            pad_id=-1,
            max_sentence_length=LINE_BYTES,
            num_threads=THREADS,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise TokenizerError(explain(str(error), config, sample)) from error
    path = folder / "tokenizer.model"
    path.write_bytes(model.getvalue())
    tokenizer = Tokenizer(path)
    checked = tokenizer.check_round_trip([*NASTY, *sample.kept])
    return {
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint,
        "sampled_documents": sample.documents,
        "sampled_bytes": sample.n_bytes,
        "round_trips": checked,
    }


def cut(line: str) -> Iterator[str]:
    """Parts of a line that SentencePiece will not skip for their length."""
    width = LINE_BYTES // 4  # a character has at most four bytes
    for start in range(0, len(line), width):
        yield line[start : start + width]


def explain(message: str, config: TokenizerConfig, sample: Sample) -> str:
    """SentencePiece's refusal in the words of the recipe."""
    asked = f"tokenizer.vocab_size {config.vocab_size}"
    if found := re.search(r"[Vv]ocabulary size(?: is)? too high.*?<= *(\d+)", message):
        return f"{asked} is larger than the text supports; the largest possible is {found[1]}"
    if found := re.search(r"smaller than required_chars\D*\d+\D+(\d+)", message):
        return f"{asked} is smaller than the text's characters need; the smallest possible is {found[1]}"
    if "sentences_.empty" in message or not sample.documents:
        return f"there is no text to train a tokenizer on ({sample.documents} documents, {sample.n_bytes} bytes)"
    return f"SentencePiece could not train ({asked}, {sample.n_bytes} bytes of text): {message.strip()}"
