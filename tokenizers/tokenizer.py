"""A trained tokenizer: text to ids and back without loss, in parallel, with a fingerprint of its pieces.

Notable: the fingerprint is taken from the pieces and the normaliser, not from the `.model` file, whose bytes also hold training
settings that change nothing. Documents are encoded a few thousand characters at a time, cut where no piece can cross, since
SentencePiece slows down with length: cores stay evenly busy, and a document of any size needs memory for its ids only.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from tokenizers import TokenizerError
from tokenizers.config import END_OF_DOCUMENT, META

# Texts that careless settings lose: every tokenizer must return each of them unchanged before it may be used.
NASTY = (
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
# After a newline, a symbol of its own, or before the space that begins the next word: no piece reaches over either.
CUT = re.compile(r"(?<=\n)|(?<=[^ ])(?= )")
LINES = re.compile(r"\n|[^\n]+")
AT_ONCE = 4_000_000  # characters given to the library in one call


class Tokenizer:
    """SentencePiece model in a file, as `tokenizers.training.train` writes it."""

    def __init__(self, path: Path):
        """Raises TokenizerError when the file is missing, cut or something else."""
        try:
            serialized = Path(path).read_bytes()
            self.proto = sentencepiece_model_pb2.ModelProto.FromString(serialized)
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=serialized)
        except Exception as error:  # protobuf and SentencePiece raise types of their own for a bad file
            raise TokenizerError(f"{path} is not a usable SentencePiece model: {error}") from error
        if self.processor.piece_to_id(END_OF_DOCUMENT) != self.processor.eos_id():
            raise TokenizerError(f"{path} has no {END_OF_DOCUMENT} piece: it was not trained by this project")
        if missing := [byte for byte in range(256) if not self.processor.is_byte(self._byte_id(byte))]:
            raise TokenizerError(f"{path} has no piece for byte {missing[0]}: it cannot spell every text")
        self._of_words = self.proto.trainer_spec.model_type == self.proto.trainer_spec.WORD
        self._meta = np.array([self._byte_id(byte) for byte in META.encode()], np.int32)

    @property
    def vocab_size(self) -> int:
        return self.processor.get_piece_size()

    @property
    def eos_id(self) -> int:
        """Id of the end-of-document token; it also stands before the first document."""
        return self.processor.eos_id()

    @property
    def pad_id(self) -> int:
        """Id of what fills a sequence up; no text has it."""
        return self.processor.pad_id()

    @property
    def fingerprint(self) -> str:
        """32 hex digits over every (piece, score, type) and the normaliser: equal means equal ids for every text."""
        digest = hashlib.sha256(self.proto.normalizer_spec.SerializeToString(deterministic=True))
        for piece in self.proto.pieces:
            digest.update(f"{piece.piece}\0{piece.score!r}\0{piece.type}\n".encode())
        return digest.hexdigest()[:32]

    def encode(self, texts: list[str], threads: int = -1) -> list[np.ndarray]:
        """int32 ids of each text, without end-of-document (see `encode_flat`)."""
        ids, lengths = self.encode_flat(texts, threads)
        return np.split(ids, np.cumsum(lengths)[:-1]) if texts else []

    def encode_flat(self, texts: list[str], threads: int = -1) -> tuple[np.ndarray, np.ndarray]:
        """int32 ids of all texts one after another, without end-of-document, and how many each has.

        threads: -1 for all cores; the ids do not depend on it.
        """
        found, owners = [], []
        for segments, of in self._calls(texts):
            encoded = self.processor.encode(segments, return_type="numpy", num_threads=threads)
            if self._of_words:
                encoded = map(self._with_spaces, encoded)
            found += [
                np.tile(self._meta, len(segment)) if segment[0] == META else ids
                for segment, ids in zip(segments, encoded, strict=True)
            ]
            owners += of
        if not found:
            return np.empty(0, np.int32), np.zeros(len(texts), np.int64)
        sizes = np.fromiter(map(len, found), np.int64, len(found))
        return np.concatenate(found), np.bincount(owners, sizes, len(texts)).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return self.processor.decode([int(token) for token in ids])

    def check(self, texts: Iterable[str]) -> int:
        """Number of texts that decode to themselves, by ids within bounds. Raises TokenizerError at the first that does not."""
        checked = 0
        for text in texts:
            ids = self.encode([text], threads=1)[0]
            if ids.size and not (ids.min() > self.pad_id and ids.max() < self.vocab_size):
                raise TokenizerError(f"{text[:20]!r} has ids from {ids.min()} to {ids.max()}: not a text's")
            if (back := self.decode(ids)) != text:
                at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), len(back))
                raise TokenizerError(
                    f"the tokenizer loses text: {text[at : at + 20]!r} came back as {back[at : at + 20]!r} (character {at})"
                )
            checked += 1
        return checked

    def _calls(self, texts: list[str]) -> Iterator[tuple[list[str], list[int]]]:
        """Segments of the texts, AT_ONCE characters or so at a time, and the number of the text that each is of."""
        segments, owners, size = [], [], 0
        for number, text in enumerate(texts):
            for segment in self._segments(text):
                segments.append(segment)
                owners.append(number)
                size += len(segment)
                if size >= AT_ONCE:
                    yield segments, owners
                    segments, owners, size = [], [], 0
        if segments:
            yield segments, owners

    def _segments(self, text: str) -> Iterator[str]:
        """Parts to encode one by one: joined, the ids of the whole. Those of META alone are the library's to misread."""
        for part in filter(None, re.split(f"({META}+)", text)) if META in text else (text,):
            if self._of_words:  # a newline would stick to the words about it
                yield from LINES.findall(part)
                continue
            start = 0
            while len(part) - start > SEGMENT and part[0] != META:
                found = CUT.search(part, start + SEGMENT, start + 16 * SEGMENT)
                end = found.start() if found else min(start + 16 * SEGMENT, len(part))
                yield part[start:end]
                start = end
            if start < len(part):
                yield part[start:]

    def _with_spaces(self, ids: np.ndarray) -> np.ndarray:
        """An unknown word is spelled in bytes with the space before it as META: make that the byte of a space."""
        one, two, three = self._meta
        at = np.flatnonzero((ids[:-2] == one) & (ids[1:-1] == two) & (ids[2:] == three))
        if not at.size:
            return ids
        ids = ids.copy()  # the library's are read-only
        ids[at] = self._byte_id(ord(" "))
        return np.delete(ids, np.concatenate((at + 1, at + 2)))

    def _byte_id(self, byte: int) -> int:
        return self.processor.piece_to_id(f"<0x{byte:02X}>")
