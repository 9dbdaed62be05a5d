"""Train a SentencePiece model on a sample of documents: lossless settings, the same pieces on every machine.

Notable:
- SentencePiece takes many times the memory of its text, and silently skips what is longer than `max_sentence_length`; so a
  seeded sample of parts of documents is drawn here and passed on line by line, which loses nothing: a newline is a piece
- the number of threads is a constant, since unigram's pieces depend on it
"""

import io
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sentencepiece

from tokenizers import TokenizerError
from tokenizers.config import END_OF_DOCUMENT, PADDING, SPACE_SYMBOL, TokenizerConfig, automatic
from tokenizers.tokenizer import ROUND_TRIP_TEXTS, Tokenizer

THREADS = 4  # a constant, not the machine's cores: see above
LINE_BYTES = 8192  # SentencePiece's limit on one "sentence"; longer lines are cut into several
PART = 65_536  # characters of a document that are drawn or left out together
CHECKED = 1000  # documents that must decode to themselves
CHECKED_CHARS = 20_000  # of each, its first
# SentencePiece's message about too small a vocabulary.
REQUIRED = re.compile(r"smaller than required_chars\D*\d+\D+(\d+)")


@dataclass
class Sample:
    """A sample of the documents, and counts.

    lines: for SentencePiece. checked: the beginnings of some documents, drawn evenly, for the round trip and the report.
    documents, seen: number and bytes of all documents. sampled: bytes of `lines`.
    """

    lines: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    documents: int = 0
    seen: int = 0
    sampled: int = 0


def draw(texts: Iterable[str], share: float, seed: int) -> Sample:
    """Draw each part of a document with probability `share`. The same texts and seed give the same sample."""
    sample, parts, places = Sample(), random.Random(seed), random.Random(seed)
    width = LINE_BYTES // 4  # a character has at most four bytes
    for text in texts:
        sample.documents += 1
        sample.seen += len(text.encode())
        if len(sample.checked) < CHECKED:
            sample.checked.append(text[:CHECKED_CHARS])
        elif (place := places.randrange(sample.documents)) < CHECKED:
            sample.checked[place] = text[:CHECKED_CHARS]
        for start in range(0, len(text), PART):
            if share >= 1 or parts.random() < share:
                for line in text[start : start + PART].split("\n"):
                    sample.lines += (line[at : at + width] for at in range(0, len(line), width))
                    sample.sampled += len(line.encode())
    return sample


def train(
    texts: Iterable[str], n_bytes: int, folder: Path, config: TokenizerConfig, given: Tokenizer | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Write `folder/tokenizer.model`, check that it loses nothing, and return its counts and the texts that were checked.

    texts: the training documents, read once. n_bytes: their UTF-8 bytes together, from which the sampled share follows.
    given: a tokenizer whose file is kept instead.
    Raises TokenizerError if the vocabulary is larger than the text supports or smaller than its characters need.
    """
    sample = draw(texts, 0 if given else config.sample_bytes / max(n_bytes, 1), config.seed)
    path = folder / (given.path.name if given else "tokenizer.model")
    path.write_bytes(given.path.read_bytes() if given else fit(sample, config))
    tokenizer = given or Tokenizer(path)
    if isinstance(config.vocab_size, int) and config.vocab_size != tokenizer.vocab_size:
        raise TokenizerError(_too_large(config.vocab_size, tokenizer.vocab_size))
    counts = {"vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}
    counts |= {"seen_documents": sample.documents, "seen_bytes": sample.seen}
    counts |= {"sampled_bytes": sample.sampled, "skipped_bytes": sample.seen - sample.sampled}
    return counts | {"round_trips": tokenizer.check([*ROUND_TRIP_TEXTS, *sample.checked])}, sample.checked


def fit(sample: Sample, config: TokenizerConfig) -> bytes:
    """The trained model, serialized. Raises TokenizerError (see `train`)."""
    wanted = automatic(sample.seen) if config.vocab_size == "auto" else config.vocab_size
    while True:
        try:
            return _fit(sample, config, wanted)
        except (RuntimeError, OSError) as error:
            needed = REQUIRED.search(str(error))
            if not needed or config.vocab_size != "auto":
                raise TokenizerError(_explain(str(error), wanted, sample)) from None
        wanted = 2 * int(needed[1])  # a script of many characters, such as Chinese: as many pieces again for words


def _fit(sample: Sample, config: TokenizerConfig, vocab_size: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=filter(None, sample.lines),
        model_writer=model,
        model_type=config.model_type,
        vocab_size=vocab_size,
        hard_vocab_limit=config.vocab_size != "auto",
        character_coverage=config.character_coverage,
        required_chars=SPACE_SYMBOL,  # else a tokenizer of a text without spaces spells them as the bytes of SPACE_SYMBOL
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["\n", *config.user_defined_symbols],
        unk_id=0,
        eos_id=1,
        eos_piece=END_OF_DOCUMENT,
        pad_id=2,
        pad_piece=PADDING,
        bos_id=-1,
        max_sentence_length=LINE_BYTES,
        num_threads=THREADS,
        minloglevel=2,
    )
    return model.getvalue()


def _explain(message: str, vocab_size: int, sample: Sample) -> str:
    """SentencePiece's error message in terms of the recipe's settings."""
    asked = f"tokenizer.vocab_size {vocab_size}"
    if found := re.search(r"[Vv]ocabulary size(?: is)? too high.*?<= *(\d+)", message):
        return _too_large(vocab_size, int(found[1]))
    if found := REQUIRED.search(message):
        return f"{asked} is smaller than the text's characters need; the smallest possible is {found[1]}"
    if "sentences_.empty" in message or not sample.sampled:
        return f"there is no text to train a tokenizer on ({sample.documents} documents, {sample.seen} bytes)"
    return f"SentencePiece could not train ({asked}, {sample.sampled} bytes of text): {message.strip()}"


def _too_large(asked: int, possible: int) -> str:
    return f"tokenizer.vocab_size {asked} is larger than the text supports; the largest possible is {possible}, as auto has it"
