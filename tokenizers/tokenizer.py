"""A trained tokenizer: text to ids and back without loss, in parallel, with a fingerprint of its pieces.

Notable:
- the fingerprint is taken from the pieces and the normaliser, not from the `.model` file, whose bytes also hold training
  settings that change no id
- SentencePiece slows down with length, so documents are encoded in segments of a few thousand characters, cut where no piece
  can reach across: cores stay evenly busy, and a document of any size needs memory for its ids only
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from tokenizers import TokenizerError
from tokenizers.config import END_OF_DOCUMENT, SPACE_SYMBOL

# Texts that careless settings lose. Every tokenizer must decode each of them unchanged before it may be used.
ROUND_TRIP_TEXTS = (
    "def f(x):\n    return x\n",
    "\ttabs\t\tand  runs   of    spaces ",
    " leading, trailing \n\n\n",
    "CRLF\r\nand a lone CR\r",
    "cafe\u0301 caf\u00e9 \u00a0nbsp \u2002en",
    "ｆｕｌｌ ｗｉｄｔｈ ﬁ ² ½ Ⅳ \u212b",
    "日本語 한국어 العربية",
    "\U0001f469\u200d\U0001f680\U0001f1ea\U0001f1fa emoji",
    "NUL \x00 and bell \x07 \ufeff \ufffd \U0010ffff",
    "<unk> </s> <s> <|endofdocument|> <|padding|> <0x0A>",
    "\u2581 \u2581\u2581a\u2581b \u2581",
    " ",
    "",
)
SEGMENT = 4096  # characters
# After a newline, which is a piece of its own, or before the space that begins the next word: no piece reaches across.
CUT = re.compile(r"(?<=\n)|(?<=[^ ])(?= )")
BATCH = 1024  # segments encoded in one call


class Tokenizer:
    """A SentencePiece model from a file that `tokenizers.training.train` wrote, or another kind that is read elsewhere."""

    def __init__(self, path: Path, processor: Any = None):
        """processor: of another kind, which spells every text and has the methods of SentencePieceProcessor that are used here.
        Raises TokenizerError if the file is missing, cut or something else."""
        self.path, self.processor, self.proto = Path(path), processor, None
        try:
            if not processor:
                serialized = self.path.read_bytes()
                self.proto = sentencepiece_model_pb2.ModelProto.FromString(serialized)  # type: ignore[attr-defined]
                self.processor = sentencepiece.SentencePieceProcessor(model_proto=serialized)
        except Exception as error:  # protobuf and SentencePiece raise types of their own for a bad file
            raise TokenizerError(f"{path} is not a usable SentencePiece model: {error}") from error
        self._space_symbol_ids = np.array([self._byte_id(byte) for byte in SPACE_SYMBOL.encode()], np.int32)
        if self.proto and self.processor.piece_to_id(END_OF_DOCUMENT) != self.processor.eos_id():
            raise TokenizerError(f"{path} has no {END_OF_DOCUMENT} piece: it was not trained by this project")
        if self.proto and (missing := [byte for byte in range(256) if not self.processor.is_byte(self._byte_id(byte))]):
            raise TokenizerError(f"{path} has no piece for byte {missing[0]}: it cannot spell every text")
        self.vocab_size: int = self.processor.get_piece_size()
        self.eos_id: int = self.processor.eos_id()  # of the end of a document; it also stands before the first
        self.pad_id: int = self.processor.pad_id()  # of the padding of a sequence, perhaps eos_id; no text has it

    @property
    def fingerprint(self) -> str:
        """32 hex digits of every (piece, score, type) and the normaliser, or of the file of another kind: equal fingerprints
        mean equal ids for every text."""
        if not self.proto:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()[:32]
        digest = hashlib.sha256(self.proto.normalizer_spec.SerializeToString(deterministic=True))
        for piece in self.proto.pieces:
            digest.update(f"{piece.piece}\0{piece.score!r}\0{piece.type}\n".encode())
        return digest.hexdigest()[:32]

    def encode(self, texts: list[str], threads: int = -1) -> list[np.ndarray]:
        """int32 ids of each text, without end-of-document (see `encode_flat`)."""
        ids, lengths = self.encode_flat(texts, threads)
        return np.split(ids, np.cumsum(lengths)[:-1]) if texts else []

    def encode_flat(self, texts: list[str], threads: int = -1) -> tuple[np.ndarray, np.ndarray]:
        """int32 ids of all texts one after another, without end-of-document, and the number of ids of each.

        threads: -1 for all cores; the ids do not depend on it.
        """
        if not self.proto:  # the cost of a token of another kind does not grow with length
            found = self.processor.encode(texts, "numpy")
            return np.concatenate([np.empty(0, np.int32), *found]), np.array([len(ids) for ids in found], np.int64)
        segments = ((number, segment) for number, text in enumerate(texts) for segment in self._segments(text))
        parts: list[np.ndarray] = []
        owners: list[int] = []  # the text that each part is of
        while batch := list(islice(segments, BATCH)):
            encoded = self.processor.encode([segment for _, segment in batch], return_type="numpy", num_threads=threads)
            for (number, segment), ids in zip(batch, encoded, strict=True):
                if segment[0] == SPACE_SYMBOL:
                    ids = np.tile(self._space_symbol_ids, len(segment))
                parts.append(ids)
                owners.append(number)
        lengths = np.bincount(owners, [len(part) for part in parts], len(texts)).astype(np.int64)
        return np.concatenate([np.empty(0, np.int32), *parts]), lengths

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids."""
        return str(self.processor.decode([int(token) for token in ids]))

    def check(self, texts: Iterable[str]) -> int:
        """Count the texts, each of which must decode to itself from ids within bounds; else raise TokenizerError."""
        checked = 0
        for text in texts:
            ids = self.encode([text], threads=1)[0]
            if wrong := ids[np.isin(ids, [self.processor.unk_id(), self.eos_id, self.pad_id])].tolist():
                raise TokenizerError(f"{text[:20]!r} has the id {wrong[0]}, which is not of text")
            if (back := self.decode(ids)) != text:
                at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), len(back))
                lost = f"{text[at : at + 20]!r} came back as {back[at : at + 20]!r}"
                raise TokenizerError(f"the tokenizer loses text: {lost} (character {at})")
            checked += 1
        return checked

    def _segments(self, text: str) -> Iterator[str]:
        """Parts of a text to encode one by one: their ids joined are those of the whole. Some are of SPACE_SYMBOL alone."""
        for part in filter(None, re.split(f"({SPACE_SYMBOL}+)", text)) if SPACE_SYMBOL in text else (text,):
            start = 0
            while len(part) - start > SEGMENT and part[0] != SPACE_SYMBOL:
                found = CUT.search(part, start + SEGMENT, start + 16 * SEGMENT)
                end = found.start() if found else min(start + 16 * SEGMENT, len(part))
                yield part[start:end]
                start = end
            if start < len(part):
                yield part[start:]

    def _byte_id(self, byte: int) -> int:
        return int(self.processor.piece_to_id(f"<0x{byte:02X}>"))
