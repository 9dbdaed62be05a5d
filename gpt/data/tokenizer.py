"""The tokenizer beside a model or a dataset: SentencePiece's, or the byte-level BPE of an imported model.

A byte-level BPE is read by Hugging Face's package `tokenizers`, which a folder of the same name may hide. So its compiled part
is loaded from where the package is installed, under a name of its own.
"""

import importlib.util
import json
import os
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import SentencePieceProcessor

from gpt import GPTError

BYTE_LEVEL = "tokenizer.json"
OWN = "gpt"  # the key of a tokenizer.json that has what Hugging Face's format lacks: see `ByteLevel`


def tokenizer_file(folder: Path) -> Path:
    """Where the tokenizer of a model or a dataset is, if it has one."""
    path = folder / BYTE_LEVEL
    return path if path.is_file() else folder / "tokenizer.model"


def load_tokenizer(path: Path) -> SentencePieceProcessor:
    """The tokenizer of a file; a `ByteLevel` has all of SentencePieceProcessor that is used here. Raises GPTError."""
    if path.name == BYTE_LEVEL:
        return ByteLevel(path)  # type: ignore[return-value]
    try:
        return SentencePieceProcessor(model_proto=path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise GPTError(f"{path} is not a usable SentencePiece model: {error}") from error


class ByteLevel:
    """A byte-level BPE of Hugging Face's tokenizer.json, under the names of SentencePieceProcessor.

    The file has the key OWN, too: {"eos_id", "vocab_size"}, which may count rows of the embedding that have no piece.
    Special tokens are never found in a text, and NFC, which loses text, is left out.
    """

    def __init__(self, path: Path):
        """Raises GPTError for a file that cannot be used."""
        library = _library()
        try:
            self.document = json.loads(path.read_text(encoding="utf-8"))
            about, usable = self.document.pop(OWN, {}), dict(self.document)
            if usable.get("normalizer") == {"type": "NFC"}:
                usable["normalizer"] = None
            self._tokenizer = library.Tokenizer.from_str(json.dumps(usable))
        except Exception as error:  # the library raises nothing more special
            raise GPTError(f"{path} is missing, or not a usable tokenizer.json: {error}") from error
        kinds = [json.dumps(usable.get(part)) for part in ("pre_tokenizer", "decoder")]
        if usable["model"].get("byte_fallback") or not all('"ByteLevel"' in kind for kind in kinds):
            raise GPTError(f"{path} is not of a byte-level BPE, the only kind that is imported: SentencePiece's is not")
        self._tokenizer.encode_special_tokens = True  # as text
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._ids = self._tokenizer.get_vocab()
        self.added = {token["id"]: token["content"] for token in usable.get("added_tokens") or ()}
        self.n_pieces = 1 + max([*self._ids.values(), *self.added], default=-1)
        eos_id, vocab_size = about.get("eos_id", -1), about.get("vocab_size", self.n_pieces)
        self.eos_id = self.pad_id = lambda: eos_id  # there is no other token for padding
        self.vocab_size = self.get_piece_size = lambda: vocab_size
        self.unk_id = lambda: -1  # it spells every text

    def encode(self, text: str | Sequence[str], return_type: str = "", num_threads: int = -1) -> Any:
        """The ids of a text, or of each of several. return_type: "numpy" for arrays."""
        many = [text] if isinstance(text, str) else text
        encoded = self._tokenizer.encode_batch_fast(many, add_special_tokens=False)
        found = [np.array(one.ids, np.int32) if return_type else one.ids for one in encoded]
        return found[0] if isinstance(text, str) else found

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids))

    def piece_to_id(self, piece: str) -> int:
        return int(self._ids.get(piece, -1))

    def id_to_piece(self, token: int) -> str:
        """Text with U+2581 for each space, and U+FFFD for bytes that are none."""
        text = self._tokenizer.decode([token], skip_special_tokens=False) if token >= 0 else ""
        return str(text.replace(" ", "\u2581"))

    def is_byte(self, token: int) -> bool:
        """Whether the piece is bytes that are no text by themselves."""
        return "\ufffd" in self.id_to_piece(token)

    def is_control(self, token: int) -> bool:
        return token in self.added or not self.id_to_piece(token)

    is_unknown = is_control


@cache
def _library() -> Any:
    """Raises GPTError if it is not installed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else it warns of every process that is started
    try:
        package = distribution("tokenizers")
    except PackageNotFoundError:
        raise GPTError("an imported model needs Hugging Face's package tokenizers: pip install tokenizers") from None
    compiled = next(file for file in package.files or () if file.match("tokenizers.*.so"))
    # The last part of the name is the one that it was built for.
    spec: Any = importlib.util.spec_from_file_location("hugging_face.tokenizers", str(package.locate_file(compiled)))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
