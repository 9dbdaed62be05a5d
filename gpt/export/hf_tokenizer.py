"""A SentencePiece model as the tokenizer.json of Hugging Face: the same pieces, and the same ids for every text.

But for one character: U+2581, which SentencePiece writes for a space, comes back as a space.
"""

from collections.abc import Iterator
from typing import Any

from sentencepiece import SentencePieceProcessor

from gpt import GPTError

# SentencePiece's own numbers: of kinds of piece, and of kinds of model.
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6
UNIGRAM, BPE, WORD = 1, 2, 3


def hf_tokenizer(tokenizer: SentencePieceProcessor) -> dict[str, Any]:
    """The content of tokenizer.json; it puts the end-of-document token before a text, as our models are used to.

    Raises GPTError for a tokenizer of whole words, which has no counterpart that loses nothing.
    """
    proto = list(_fields(tokenizer.serialized_model_proto()))
    kinds = [dict(_fields(piece)).get(3, NORMAL) for field, piece in proto if field == 1]
    model_kind = dict(_fields(dict(proto)[2])).get(3, UNIGRAM)  # among the trainer's settings
    pieces = [tokenizer.id_to_piece(token) for token in range(tokenizer.vocab_size())]
    scores = [tokenizer.get_score(token) for token in range(len(pieces))]
    eos, unknown = pieces[tokenizer.eos_id()], pieces[tokenizer.unk_id()]
    if model_kind == WORD:
        raise GPTError("a tokenizer of whole words has no lossless counterpart in transformers: train one of type bpe")
    split = None
    if model_kind == UNIGRAM:
        # SentencePiece never matches the name of a byte in a text: score it last, and cut a text that spells one within it.
        vocab = [
            [piece, score if kind in (NORMAL, USER_DEFINED) else -1000.0]
            for piece, score, kind in zip(pieces, scores, kinds, strict=True)
        ]
        split = {
            "type": "Split", "pattern": {"Regex": "<(?=0x[0-9A-F]{2}>|unk>)"}, "behavior": "MergedWithPrevious",
            "invert": False,
        }  # fmt: skip
        model = {"type": "Unigram", "unk_id": tokenizer.unk_id(), "vocab": vocab}
    else:
        ids = {piece: token for token, piece in enumerate(pieces)}
        normal = {piece for piece, kind in zip(pieces, kinds, strict=True) if kind == NORMAL}
        # SentencePiece merges the pair whose result scores best: every pair of pieces that gives a piece, by its score.
        merges = [
            [piece[:at], piece[at:]]
            for piece in sorted(
                normal if model_kind == BPE else (), key=lambda piece: (-scores[ids[piece]], ids[piece])
            )
            for at in range(1, len(piece))
            if piece[:at] in normal and piece[at:] in normal
        ]
        model = {"type": "BPE", "vocab": ids, "merges": merges, "unk_token": unknown, "fuse_unk": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    first, second = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
    begin = {"SpecialToken": {"id": eos, "type_id": 0}}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": token, "content": pieces[token], **flags, "special": kind == CONTROL}
            for token, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": split,
        "post_processor": {
            "type": "TemplateProcessing", "single": [begin, first], "pair": [begin, first, second],
            "special_tokens": {eos: {"id": eos, "ids": [tokenizer.eos_id()], "tokens": [eos]}},
        },
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": model | {"byte_fallback": BYTE in kinds},
    }  # fmt: skip


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message (SentencePiece's own reader of it needs a further package)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        field, wire = divmod(varint(), 8)
        if wire == 0:
            yield field, varint()
        else:  # 1: 8 bytes, 5: 4 bytes, 2: as many as it says
            size = {1: 8, 5: 4}.get(wire) or varint()
            yield field, message[at : at + size]
            at += size
