"""Facts about a tokenizer and its corpus, for its card."""

from typing import Any

import numpy as np

from tokenizers.config import SPACE_SYMBOL
from tokenizers.tokenizer import Tokenizer

SHOWN_PIECES = 30
EXAMPLES, EXAMPLE_CHARS = 3, 160


def facts(tokenizer: Tokenizer, train: list[str], val: list[str], shown: list[str]) -> dict[str, Any]:
    """train, val: samples of the documents of each split, as drawn by `tokenizers.training.draw`. shown: texts for examples.

    Returns {"splits": a row a split, "frequent": [(piece, share of tokens)], "longest": [piece], "lengths": [(characters
    of a piece, number of such pieces, their share of tokens)], "examples": [pieces of a text]}. Bytes are raw UTF-8.
    """
    processor, V = tokenizer.processor, tokenizer.vocab_size
    is_byte_V = np.array([processor.is_byte(number) for number in range(V)])
    splits: list[dict[str, Any]] = []
    counts_V = np.zeros(V, np.int64)
    for name, texts in (("train", train), ("held out", val)):
        ids, lengths = tokenizer.encode_flat(texts)
        n_bytes, n_tokens = sum(len(text.encode()) for text in texts), max(1, len(ids))
        of_split_V = np.bincount(ids, minlength=V)
        counts_V += of_split_V if name == "train" else 0
        fallback, median = of_split_V[is_byte_V].sum(), np.median(lengths) if len(lengths) else 0
        row = {"split": name, "documents": len(texts), "bytes": n_bytes, "tokens": len(ids)}
        row |= {"bytes_per_token": n_bytes / n_tokens, "byte_fallback": int(fallback) / n_tokens}
        splits.append(row | {"tokens_per_document": float(median), "pieces_used": int((of_split_V > 0).sum())})
    of_text = [n for n in range(V) if not (is_byte_V[n] or processor.is_control(n) or processor.is_unknown(n))]
    known = [show(processor.id_to_piece(number)) for number in of_text]
    sizes = np.array([len(piece) for piece in known])
    n_pieces, used = np.bincount(sizes), np.bincount(sizes, counts_V[of_text])
    total = max(1, int(counts_V.sum()))
    frequent = sorted(range(V), key=lambda number: (-counts_V[number], number))[:SHOWN_PIECES]
    return {
        "splits": splits,
        "frequent": [(show(processor.id_to_piece(n)), float(counts_V[n] / total)) for n in frequent],
        "longest": sorted(known, key=lambda piece: (-len(piece), piece))[:SHOWN_PIECES],
        "lengths": [(length, n, float(used[length] / total)) for length, n in enumerate(n_pieces.tolist()) if n],
        "examples": [pieces(tokenizer, text[:EXAMPLE_CHARS]) for text in shown[:EXAMPLES]],
    }


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """The pieces of an encoded text, as `show` writes them."""
    return [show(tokenizer.processor.id_to_piece(int(number))) for number in tokenizer.encode([text])[0]]


def show(piece: str) -> str:
    """A piece with visible signs for spaces and newlines."""
    return piece.replace(SPACE_SYMBOL, "␣").replace("\n", "⏎")
