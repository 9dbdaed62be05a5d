"""A SentencePiece model as the tokenizer.json of Hugging Face: the same pieces, and the same ids for every text.

One exception: U+2581, the character that SentencePiece writes for a space, is decoded as a space.
"""

from typing import Any

from sentencepiece import SentencePieceProcessor

from tokenizers.tokenizer import Tokenizer

NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6  # SentencePiece's numbers of kinds of piece
UNIGRAM = 1  # its number of a kind of model


def hf_tokenizer(trained: Tokenizer) -> dict[str, Any]:
    """The content of tokenizer.json: of an imported tokenizer its own. Of SentencePiece's it puts the end-of-document token
    before a text, as the models expect."""
    tokenizer: Any = trained.processor
    if not trained.proto:
        return dict(tokenizer.document)
    kinds, model_kind = [piece.type for piece in trained.proto.pieces], trained.proto.trainer_spec.model_type
    pieces = [tokenizer.id_to_piece(token) for token in range(tokenizer.vocab_size())]
    eos = tokenizer.id_to_piece(tokenizer.eos_id())
    # SentencePiece never matches the name of a byte in a text; _unigram scores it last, and this cuts a text within one.
    split: dict[str, Any] = {"type": "Split", "pattern": {"Regex": "<(?=0x[0-9A-F]{2}>|unk>)"}}
    split |= {"behavior": "MergedWithPrevious", "invert": False}
    model = (_unigram if model_kind == UNIGRAM else _bpe)(tokenizer, pieces, kinds)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    first, second = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
    begin = {"SpecialToken": {"id": eos, "type_id": 0}}
    to_space = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": token, "content": pieces[token], **flags, "special": kind == CONTROL}
            for token, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": split if model_kind == UNIGRAM else None,
        "post_processor": {
            "type": "TemplateProcessing", "single": [begin, first], "pair": [begin, first, second],
            "special_tokens": {eos: {"id": eos, "ids": [tokenizer.eos_id()], "tokens": [eos]}},
        },
        "decoder": {"type": "Sequence", "decoders": [to_space, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": model | {"byte_fallback": BYTE in kinds},
    }  # fmt: skip


def _unigram(tokenizer: SentencePieceProcessor, pieces: list[str], kinds: list[int]) -> dict[str, Any]:
    vocab = [
        [piece, tokenizer.get_score(token) if kind in (NORMAL, USER_DEFINED) else -1000.0]
        for token, (piece, kind) in enumerate(zip(pieces, kinds, strict=True))
    ]
    return {"type": "Unigram", "unk_id": tokenizer.unk_id(), "vocab": vocab}


def _bpe(tokenizer: SentencePieceProcessor, pieces: list[str], kinds: list[int]) -> dict[str, Any]:
    """SentencePiece merges the pair whose result scores best: so, by score, every pair of pieces that makes a piece."""
    ids = {piece: token for token, piece in enumerate(pieces)}
    normal = {piece for piece, kind in zip(pieces, kinds, strict=True) if kind == NORMAL}
    by_score = sorted(normal, key=lambda piece: (-tokenizer.get_score(ids[piece]), ids[piece]))
    merges = [
        [piece[:at], piece[at:]]
        for piece in by_score
        for at in range(1, len(piece))
        if piece[:at] in normal and piece[at:] in normal
    ]
    return {"type": "BPE", "vocab": ids, "merges": merges, "unk_token": pieces[tokenizer.unk_id()], "fuse_unk": True}
