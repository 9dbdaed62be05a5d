"""Train a SentencePiece model on a sample of documents: lossless settings, the same pieces on every machine.

Notable: the library takes many times the memory of its text, and silently skips what is longer than `max_sentence_length`.
So a sample is drawn here, seeded, of documents in parts, and handed over line by line; a newline is a piece of its own, so
nothing is lost by that. The thread count is a constant, since unigram's pieces depend on it.
"""

import io
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import log2
from pathlib import Path

import sentencepiece

from tokenizers import TokenizerError
from tokenizers.config import END_OF_DOCUMENT, MOST, PADDING, TokenizerConfig
from tokenizers.tokenizer import META, NASTY, Tokenizer

THREADS = 4  # a constant, not the machine's cores: see above
LINE_BYTES = 8192  # SentencePiece's limit on one "sentence"; longer lines are cut into several
PART = 65_536  # characters of a document that are drawn or left together
CHECKED = 1000  # documents that must decode to themselves, of the first
CHECKED_CHARS = 20_000  # of each
LEAST = 512  # of an automatic vocabulary; see MOST
REQUIRED = re.compile(r"smaller than required_chars\D*\d+\D+(\d+)")  # what the library says of too small a vocabulary


@dataclass
class Sample:
    """What is drawn from the documents, and what is counted on the way."""

    lines: list[str] = field(default_factory=list)
    """for SentencePiece"""
    checked: list[str] = field(default_factory=list)
    """the beginnings of some documents, drawn evenly: for the round trip, and for figures"""
    documents: int = 0
    """seen"""
    seen: int = 0
    """bytes of them"""
    sampled: int = 0
    """bytes handed to SentencePiece"""


def draw(texts: Iterable[str], share: float, seed: int) -> Sample:
    """Draw parts of documents with the probability `share`. The same texts and seed draw the same."""
    sample, parts, places = Sample(), random.Random(seed), random.Random(seed)
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
                    width = LINE_BYTES // 4  # a character has at most four bytes
                    sample.lines += (line[at : at + width] for at in range(0, len(line), width))
                    sample.sampled += len(line.encode())
    return sample


def train(texts: Iterable[str], n_bytes: int, folder: Path, config: TokenizerConfig) -> tuple[dict, list[str]]:
    """Write `folder/tokenizer.model`, prove that it loses nothing, and return its counts, and the texts that proved it.

    texts: the training documents, read once. n_bytes: their UTF-8 bytes together, from which the sampled share follows.
    Raises TokenizerError when the vocabulary is larger than the text supports or smaller than its characters need.
    """
    sample = draw(texts, config.sample_bytes / max(n_bytes, 1), config.seed)
    model = fit(sample, config)
    path = folder / "tokenizer.model"
    path.write_bytes(model)
    tokenizer = Tokenizer(path)
    if config.vocab_size not in ("auto", tokenizer.vocab_size):
        raise TokenizerError(_too_large(config.vocab_size, tokenizer.vocab_size))
    checked = tokenizer.check([*NASTY, *sample.checked])
    counts = {
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint,
        "seen_documents": sample.documents,
        "seen_bytes": sample.seen,
        "sampled_bytes": sample.sampled,
        "skipped_bytes": sample.seen - sample.sampled,
        "round_trips": checked,
    }
    return counts, sample.checked


def fit(sample: Sample, config: TokenizerConfig) -> bytes:
    """The trained model, serialized. Raises TokenizerError (see `train`)."""
    wanted = automatic(sample.seen) if config.vocab_size == "auto" else config.vocab_size
    while True:
        try:
            return _fit(sample, config, wanted)
        except (RuntimeError, OSError) as error:
            message = str(error)
        needed = REQUIRED.search(message)
        if not needed or config.vocab_size != "auto":
            raise TokenizerError(_explain(message, wanted, sample))
        wanted = 2 * int(needed[1])  # Chinese, say: half for characters, half for what they make up


def automatic(n_bytes: int) -> int:
    """A vocabulary for a text of this size: a power of two that grows with the square root, 4,096 at 3 MB.

    Each piece needs text to learn its embedding from, and each is a row of it: llama2.c takes 512 to 4,096 for a small corpus,
    and GPT-2's 50,257 go with 40 GB.
    """
    return max(LEAST, min(MOST, 2 ** round(log2(max(1, 640 * (n_bytes / 100_000) ** 0.5)))))


def _fit(sample: Sample, config: TokenizerConfig, vocab_size: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=filter(None, sample.lines),
        model_writer=model,
        model_type=config.model_type,
        vocab_size=vocab_size,
        hard_vocab_limit=config.vocab_size != "auto",
        character_coverage=config.character_coverage,
        required_chars=META,  # or else a text without spaces makes a tokenizer that spells them as the bytes of META
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
    """SentencePiece's refusal in the words of the recipe."""
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
