"""Prompts to tokens, and tokens to text that can be shown: with nothing lost, and nothing shown too early."""

import re
from collections.abc import Sequence

from sentencepiece import SentencePieceProcessor

from gpt import GPTError

META = "\u2581"  # what SentencePiece writes for a space, and so cannot tell from one


def encode(tokenizer: SentencePieceProcessor, text: str) -> list[int]:
    """The ids of a text, by which it decodes to itself. Raises GPTError for a character that the tokenizer cannot spell.

    SentencePiece takes META for a space; here it is spelled in bytes. A tokenizer of whole words spells unknown ones in
    bytes with META for the space before them, and glues newlines to them; here both are what they are.
    """
    meta, (space,) = ([tokenizer.piece_to_id(f"<0x{byte:02X}>") for byte in char.encode()] for char in (META, " "))
    ids: list[int] = []
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GPTError(f"the prompt is not text: {error.reason} at character {error.start}") from None
    for part in re.findall(f"{META}+|\n|[^{META}\n]+", text) if tokenizer.is_byte(space) else [text]:
        if part[:1] == META and tokenizer.is_byte(space):
            ids += meta * len(part)
            continue
        for token in tokenizer.encode(part):
            ids.append(token)
            if ids[-3:] == meta:
                ids[-3:] = [space]
    if tokenizer.unk_id() in ids:
        unknown = next((char for char in text if tokenizer.unk_id() in tokenizer.encode(char)), text)
        raise GPTError(f"the prompt holds {unknown!r}, which this model's tokenizer cannot spell: leave it out")
    return ids


class Writer:
    """Tokens to text that can be shown: whole characters, and nothing that may yet turn out to begin a stop string."""

    def __init__(self, tokenizer: SentencePieceProcessor, stop: Sequence[str] = ()):
        self.tokenizer, self.stop = tokenizer, stop
        self.finished = False
        """Whether a stop string came: the text is complete."""
        self._bytes: list[int] = []  # tokens: characters outside the vocabulary come as single bytes
        self._held = ""

    def add(self, token: int) -> str:
        """What this token lets be shown."""
        self._bytes.append(token)
        if self.tokenizer.is_byte(token) and not _is_whole(self.tokenizer, self._bytes):
            return ""
        tokens, self._bytes = self._bytes, []
        self._held += self.tokenizer.decode(tokens)
        if ends := [at for stop in self.stop if (at := self._held.find(stop)) >= 0]:
            self._held, self.finished = self._held[: min(ends)], True
            return self._release(len(self._held))
        begun = (
            n for n in range(len(self._held), 0, -1) if any(stop.startswith(self._held[-n:]) for stop in self.stop)
        )
        return self._release(len(self._held) - next(begun, 0))

    def end(self) -> str:
        """The rest; a character cut off by max_tokens is as the tokenizer shows it."""
        self._held += self.tokenizer.decode(self._bytes) if self._bytes else ""
        ends = [at for stop in self.stop if (at := self._held.find(stop)) >= 0]
        return self._held[: min(ends, default=None)]

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text


def _is_whole(tokenizer: SentencePieceProcessor, byte_tokens: list[int]) -> bool:
    try:  # pieces are <0x00>..<0xFF>
        bytes(int(tokenizer.id_to_piece(token)[1:-1], 16) for token in byte_tokens).decode()
    except UnicodeDecodeError:
        return False
    return True
