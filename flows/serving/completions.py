"""A completion as OpenAI's clients ask for it, and the form in which they expect the answer."""

import secrets
import time
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator
from sentencepiece import SentencePieceProcessor

from gpt.config import DEFAULTS
from gpt.generation.batch import Batch, Drawn, Row, token_chances
from gpt.generation.sample import text_rows
from gpt.generation.text import TextStream, chat_prompt, encode


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str = ""


class Asked(BaseModel):
    """A request of any kind. What would have an effect that we do not have is refused."""

    model_config = ConfigDict(extra="forbid")
    model: str
    prompt: str | list[int] | list[str] | list[list[int]] = ""
    messages: list[Message] = []
    max_tokens: int = Field(
        DEFAULTS["max_tokens"], validation_alias=AliasChoices("max_tokens", "max_completion_tokens")
    )
    temperature: float = DEFAULTS["temperature"]
    top_p: float = DEFAULTS["top_p"]
    top_k: int = DEFAULTS["top_k"]
    n: int = Field(1, ge=1)
    seed: int = Field(default_factory=lambda: secrets.randbelow(2**31))
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: dict[str, bool] = {}
    echo: bool = False
    logprobs: int = Field(-1, ge=-1, le=20)
    """of a chat: whether; top_logprobs says how many"""
    top_logprobs: int = Field(0, ge=0, le=20)
    user: str = ""
    frequency_penalty: Literal[0] = 0
    presence_penalty: Literal[0] = 0

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        """Some clients send what they do not ask for as null."""
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given

    def prompts(self) -> list[Any]:
        """Each a text or a list of tokens."""
        alone = isinstance(self.prompt, str) or isinstance((self.prompt or [0])[0], int)
        return [self.prompt] if alone else list(self.prompt)


class Completion:
    """One request. A chat is laid out as `NAME: text`, a line a turn; what the system says begins it, without a name."""

    def __init__(self, asked: Asked, is_chat: bool):
        self.asked, self.is_chat, self.likeliest = asked, is_chat, asked.logprobs
        self.prompts = asked.prompts()
        self.stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        if is_chat:
            names = ["" if one.role[0] in "sd" else one.name or one.role.upper() for one in asked.messages]
            texts = ["".join(x if isinstance(x, str) else x.text for x in m.content) for m in asked.messages]
            said = list(zip(names, texts, strict=True))
            roles = [one.role for one in asked.messages]
            prompt, ends = chat_prompt(said, names[roles.index("assistant")] if "assistant" in roles else "ASSISTANT")
            self.prompts, self.stop = [prompt], [*self.stop, *ends]
            self.likeliest = asked.top_logprobs if asked.logprobs > 0 else -1
        kind = ("chat.completion" + ".chunk" * asked.stream) if is_chat else "text_completion"
        self.about = {"id": f"cmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": asked.model}
        self.about |= {"object": kind}
        self.numbers, self.prompt_tokens, self.lengths = dict[Row, int](), 0, dict[int, int]()

    def work(self, batch: Batch, tokenizer: SentencePieceProcessor) -> Iterator[Any]:
        """What the engine does: yields what is known of the prompts, and last the rows to generate."""
        asked, self.tokenizer = self.asked, tokenizer
        settings = asked.model_dump(include={"max_tokens", "temperature", "top_p", "top_k", "seed"})
        ids = [encode(tokenizer, prompt) if isinstance(prompt, str) else prompt for prompt in self.prompts]
        rows = text_rows(batch.model, tokenizer, ids, asked.n, self.stop, likeliest=self.likeliest, **settings)
        self.numbers = {row: number for number, row in enumerate(rows)}
        self.prompt_tokens = sum(map(len, ids))
        for place, tokens in enumerate(ids if asked.echo else ()):
            stream, chances = TextStream(tokenizer), list[Any]()
            start = [tokenizer.eos_id(), *tokens] if self.likeliest >= 0 else []
            for some in token_chances(batch.model, start, self.likeliest):
                chances += some
                yield "scored"
            scored = zip(tokens, chances or [None] * len(tokens), strict=True)
            items = [(token, stream.add(token), chance) for token, chance in scored]
            for row in rows[place * asked.n : (place + 1) * asked.n]:
                yield from (Drawn(row, *item) for item in [*items, (-1, stream.end(), None)])
        for row in rows if asked.max_tokens == 0 else ():
            row.finish = "length"
            yield Drawn(row, -1, "", None)
        yield [row for row in rows if row.left]

    def choice(self, drawn: Drawn) -> dict[str, Any]:
        """What is new of one text."""
        row, token, text, chance = drawn
        index = self.numbers[row]
        start = self.lengths.get(index, 0)
        told: Any = None
        if chance and token not in (row.eos_id, -1):
            top = {self._piece(other): value for other, value in chance[1].items()}
            if self.is_chat:
                likeliest = [_chance(*other) for other in top.items()]
                told = {"content": [_chance(self._piece(token), chance[0]) | {"top_logprobs": likeliest}]}
            else:
                told = {"tokens": [self._piece(token)], "token_logprobs": [chance[0]], "top_logprobs": [top]}
                told |= {"text_offset": [start], "token_ids": [token]}
        text = text.lstrip(" ") if self.is_chat and not start else text
        self.lengths[index] = start + len(text)
        return {"index": index, "text": text, "logprobs": told, "finish_reason": row.finish or None}

    def answer(self, choices: list[dict[str, Any]], with_usage: bool) -> dict[str, Any]:
        """Of a request, or of one event of its stream."""
        shaped: dict[str, Any] = self.about | {"choices": [self._shaped(**one) for one in choices]}
        if with_usage:
            context = self.prompt_tokens
            total = sum(len(row.tokens) - 1 for row in self.numbers)
            new = total - context * self.asked.n
            shaped["usage"] = {"prompt_tokens": context, "completion_tokens": new, "total_tokens": context + new}
        return shaped

    def _shaped(self, text: str, **rest: Any) -> dict[str, Any]:
        part = "delta" if self.asked.stream else "message"
        return rest | ({part: {"role": "assistant", "content": text}} if self.is_chat else {"text": text})

    def _piece(self, token: int) -> str:
        return self.tokenizer.id_to_piece(token).replace("\u2581", " ")


def joined(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """All that came of one text, in its order, as one."""
    told = [one["logprobs"] for one in choices if one["logprobs"]]
    logprobs = {key: [item for one in told for item in one[key]] for key in told[0]} if told else None
    return choices[-1] | {"text": "".join(one["text"] for one in choices), "logprobs": logprobs}


def _chance(text: str, value: float) -> dict[str, Any]:
    return {"token": text, "logprob": value, "bytes": list(text.encode())}
