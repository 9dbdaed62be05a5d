"""What a tokenizer makes of its corpus, in figures: the facts of its card."""

from collections import Counter

import numpy as np

from tokenizers.tokenizer import META, Tokenizer

SHOWN_PIECES = 30
EXAMPLES, EXAMPLE_CHARS = 3, 160


def facts(tokenizer: Tokenizer, train: list[str], val: list[str]) -> dict:
    """train, val: samples of the documents of each split, as drawn by `tokenizers.training.draw`.

    Returns {"splits": a row a split, "frequent": [(piece, share of tokens)], "longest": [piece], "lengths": [(characters
    of a piece, how many pieces, share of tokens)], "examples": [pieces of a text]}. Bytes are raw UTF-8.
    """
    splits, processor = [], tokenizer.processor
    counts_V = np.zeros(tokenizer.vocab_size, np.int64)
    for name, texts in (("train", train), ("held out", val)):
        ids, lengths = tokenizer.encode_flat(texts)
        n_bytes = sum(len(text.encode()) for text in texts)
        of_split_V = np.bincount(ids, minlength=tokenizer.vocab_size)
        counts_V += of_split_V if name == "train" else 0
        spelled = sum(int(of_split_V[number]) for number in range(tokenizer.vocab_size) if processor.is_byte(number))
        splits.append(
            {
                "split": name,
                "documents": len(texts),
                "bytes": n_bytes,
                "tokens": len(ids),
                "bytes_per_token": n_bytes / max(1, len(ids)),
                "byte_fallback": spelled / max(1, len(ids)),
                "tokens_per_document": float(np.median(lengths)) if len(lengths) else 0.0,
                "pieces_used": int((of_split_V > 0).sum()),
            }
        )
    real = [number for number in range(tokenizer.vocab_size) if not processor.is_control(number)]
    real = [number for number in real if not processor.is_byte(number) and not processor.is_unknown(number)]
    shown = {number: show(processor.id_to_piece(number)) for number in real}
    of_length, tokens = Counter(map(len, shown.values())), Counter()
    for number, piece in shown.items():
        tokens[len(piece)] += int(counts_V[number])
    frequent = sorted(range(tokenizer.vocab_size), key=lambda number: (-counts_V[number], number))[:SHOWN_PIECES]
    return {
        "splits": splits,
        "frequent": [(show(processor.id_to_piece(n)), float(counts_V[n] / max(1, counts_V.sum()))) for n in frequent],
        "longest": sorted(shown.values(), key=lambda piece: (-len(piece), piece))[:SHOWN_PIECES],
        "lengths": [(n, of_length[n], float(tokens[n] / max(1, counts_V.sum()))) for n in sorted(of_length)],
        "examples": [pieces(tokenizer, text[:EXAMPLE_CHARS]) for text in val[:EXAMPLES]],
    }


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """The pieces that a text is encoded as, to be looked at."""
    return [show(tokenizer.processor.id_to_piece(int(number))) for number in tokenizer.encode([text])[0]]


def show(piece: str) -> str:
    """A piece with its spaces and newlines as signs."""
    return piece.replace(META, "␣").replace("\n", "⏎")
