"""Prompts to tokens, and tokens to text to show: nothing is lost, and nothing is shown too early."""

import re
from collections.abc import Sequence

from sentencepiece import SentencePieceProcessor

from gpt import GPTError

SPACE_SYMBOL = "\u2581"  # SentencePiece writes it for a space, and cannot tell it from one


def encode(tokenizer: SentencePieceProcessor, text: str) -> list[int]:
    """The ids of a text, which decode to the same text. Raises GPTError for a character that the tokenizer cannot spell.

    SentencePiece reads SPACE_SYMBOL as a space; here it is spelled in bytes.
    """
    symbol = [tokenizer.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_SYMBOL.encode()]
    has_bytes = tokenizer.is_byte(symbol[0])
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GPTError(f"the prompt is not text: {error.reason} at character {error.start}") from None
    ids: list[int] = []
    for part in re.findall(f"{SPACE_SYMBOL}+|[^{SPACE_SYMBOL}]+", text) if has_bytes else [text]:
        if has_bytes and part.startswith(SPACE_SYMBOL):
            ids += symbol * len(part)
        else:
            ids += tokenizer.encode(part)
    if tokenizer.unk_id() in ids:
        unknown = next((char for char in text if tokenizer.unk_id() in tokenizer.encode(char)), text)
        raise GPTError(f"the prompt holds {unknown!r}, which this model's tokenizer cannot spell: leave it out")
    return ids


def chat_prompt(turns: Sequence[tuple[str, str]], speaker: str) -> tuple[str, list[str]]:
    """A chat laid out as `NAME: text`, a line a turn, up to what the speaker says next; and the strings that end that.

    turns: (name, text); a text without a name stands alone.
    """
    lines = [f"{name}: {text}" if name else text for name, text in turns]
    names = {speaker, *(name for name, _ in turns if name)}
    return "\n".join([*lines, f"{speaker}:"]), [f"\n{name}:" for name in names]


class TextStream:
    """Tokens to text that can be shown: whole characters, and nothing that may turn out to begin a stop string."""

    def __init__(self, tokenizer: SentencePieceProcessor, stop: Sequence[str] = ()):
        self.tokenizer, self.stop = tokenizer, stop
        self.finished = False  # whether a stop string was reached: the text is complete
        self._tokens: list[int] = []  # not decoded yet
        self._held = ""  # text not shown yet

    def add(self, token: int) -> str:
        """Take the next token; returns the text that can now be shown."""
        self._tokens.append(token)
        text = self.tokenizer.decode(self._tokens)
        if text.endswith("\ufffd"):  # maybe a part of a character: one outside the vocabulary comes as single bytes
            return ""
        self._held, self._tokens = self._held + text, []
        if (stop := self._find_stop()) is not None:
            self._held, self.finished = self._held[:stop], True
        shown = len(self._held) - (0 if self.finished else self._begun_stop())
        text, self._held = self._held[:shown], self._held[shown:]
        return text

    def end(self) -> str:
        """The rest; a character cut off by max_tokens is shown as the tokenizer decodes it."""
        if self._tokens:
            self._held += self.tokenizer.decode(self._tokens)
        return self._held[: self._find_stop()]

    def _find_stop(self) -> int | None:
        """Where the first stop string begins in the held text."""
        places = [self._held.find(stop) for stop in self.stop]
        return min((place for place in places if place >= 0), default=None)

    def _begun_stop(self) -> int:
        """Length of the longest end of the held text with which a stop string begins."""
        lengths = range(len(self._held), 0, -1)
        return next((n for n in lengths if any(stop.startswith(self._held[-n:]) for stop in self.stop)), 0)
