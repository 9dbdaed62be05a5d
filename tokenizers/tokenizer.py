"""A trained tokenizer: text to ids and back without loss, in parallel, with a fingerprint of its pieces.

Notable: the fingerprint is taken from the pieces and the normaliser, not from the `.model` file, whose bytes also hold
training settings that change nothing (SentencePiece writes its thread count and input path there).
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from tokenizers import TokenizerError

END_OF_DOCUMENT = "<|endofdocument|>"
# Texts that careless settings lose: every tokenizer must return each of them unchanged before it may be used.
NASTY = (
    "def f(x):\n    return x\n",
    "\ttabs\t\tand  runs   of    spaces ",
    " leading, trailing \n\n\n",
    "CRLF\r\nand a lone CR\r",
    "cafe\u0301 caf\u00e9 \u00a0nbsp \u2002en",
    "日本語 한국어 العربية",
    "\U0001f469\u200d\U0001f680\U0001f1ea\U0001f1fa emoji",
    "NUL \x00 and bell \x07",
    "<unk> </s> <s> <|endofdocument|> <0x0A>",
    "",
)


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

    @property
    def vocab_size(self) -> int:
        return self.processor.get_piece_size()

    @property
    def eos_id(self) -> int:
        """Id of the end-of-document token; it also stands before the first document."""
        return self.processor.eos_id()

    @property
    def fingerprint(self) -> str:
        """32 hex digits over every (piece, score, type) and the normaliser: equal means equal ids for every text."""
        digest = hashlib.sha256(self.proto.normalizer_spec.SerializeToString(deterministic=True))
        for piece in self.proto.pieces:
            digest.update(f"{piece.piece}\0{piece.score!r}\0{piece.type}\n".encode())
        return digest.hexdigest()[:32]

    def encode(self, texts: list[str], threads: int = -1) -> list[np.ndarray]:
        """int32 ids of each text, without end-of-document. threads: -1 for all cores; the ids do not depend on it."""
        return self.processor.encode(texts, return_type="numpy", num_threads=threads)

    def decode(self, ids: Iterable[int]) -> str:
        return self.processor.decode([int(token) for token in ids])

    def check_round_trip(self, texts: Iterable[str]) -> int:
        """Number of texts that decode to themselves. Raises TokenizerError at the first that does not."""
        checked = 0
        for text in texts:
            back = self.decode(self.encode([text], threads=1)[0])
            if back != text:
                at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), len(back))
                raise TokenizerError(
                    f"the tokenizer loses text: {text[at : at + 20]!r} came back as {back[at : at + 20]!r} (character {at})"
                )
            checked += 1
        return checked
