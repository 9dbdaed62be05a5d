"""The completions API as OpenAI's clients speak it, for the models of this home, and the files of the playground.

Notable: a full server refuses at once (429); a request whose client has gone is computed no further.
"""

import asyncio
import difflib
import json
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from flows import UserError
from flows.evaluation import scoring
from flows.home import shared_home
from flows.models import lookup
from flows.models.promotion import champions
from flows.serving.engine import Engine, Job, Work
from flows.stages.baselines import REPEATED_CHARS
from flows.stages.documents import read_texts
from flows.store.artifacts import Store
from gpt import GPTError
from gpt.config import DEFAULTS
from gpt.evaluation.attention_maps import attention_maps
from gpt.evaluation.memorisation import repeated_characters
from gpt.generation.batch import Drawn, Row, token_chances, window
from gpt.generation.sample import text_rows
from gpt.generation.text import TextStream, chat_prompt, encode

PAGES = Path(__file__).parents[1] / "pages" / "templates" / "playground"
# Of a request, unless the environment says otherwise. Open at once: the slowly read ones too, so memory is bounded.
LIMITS = {"GPT_MAX_CHARS": 100_000, "GPT_MAX_TOKENS": 4096, "GPT_MAX_TEXTS": 128, "GPT_MAX_SECONDS": 300}
LIMITS |= {"GPT_MAX_REQUESTS": 64, "GPT_MAX_MODELS": 8}
SEARCHED_BYTES = 100_000_000  # of the training text: seconds


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str
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


def limit(name: str) -> int:
    if not (value := os.environ.get(name, str(LIMITS[name]))).isdecimal():
        raise UserError(f"{name} is {value!r}; it must be a whole number, such as {LIMITS[name]}")
    return int(value)


def create_app(names: Sequence[str]) -> FastAPI:
    """names: of the models, as `lookup.find` takes them; none: every champion, and each registered version."""
    limits = {name: limit(name) for name in LIMITS}
    app, engine, running = FastAPI(openapi_url=None), Engine(limits["GPT_MAX_MODELS"]), set[Job]()
    find = cache(lookup.find)  # a registered version does not change
    searching = asyncio.Lock()

    def served() -> dict[str, str]:
        """Each model's name in the API, and what it means now."""
        now = {name.partition("/")[0].removeprefix("gpt-"): name for name in champions()}
        return {name: now.get(name.removeprefix("gpt-").removesuffix("@champion"), name) for name in names or now}

    def meant(name: str) -> str:
        known = served()
        if name not in known and (names or not re.fullmatch(r"gpt-[a-z0-9-]+/\d+", name)):
            near = (difflib.get_close_matches(name, known, 1) or list(known) or ["none"])[0]
            raise HTTPException(404, f"model {name!r} is not served; did you mean {near!r}? (/v1/models lists them)")
        return known.get(name, name)

    async def events(request: Request, name: str, work: Work) -> AsyncIterator[Any]:
        """What the engine tells of this work, until its end, the client's or the time's."""
        if len(running) >= limit("GPT_MAX_REQUESTS"):
            raise HTTPException(429, "too many requests are open; try again later (GPT_MAX_REQUESTS of the server)")
        try:
            job = Job(await asyncio.to_thread(lambda: find(meant(name))), work)
        except UserError as error:
            raise HTTPException(404, str(error)) from None
        until = time.monotonic() + limit("GPT_MAX_SECONDS")
        running.add(job)
        engine.new.put(job)
        try:
            while (event := await asyncio.wait_for(job.events.get(), until - time.monotonic())) is not None:
                if isinstance(event, UserError):
                    raise HTTPException(500, f"model {name!r} is damaged: {event}")
                if isinstance(event, Exception):
                    raise event
                yield event
                if await request.is_disconnected():
                    return
        except TimeoutError:
            raise HTTPException(504, "the request took too long (GPT_MAX_SECONDS of the server)") from None
        finally:
            job.cancelled = True
            running.discard(job)

    @app.post("/v1/completions")
    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        """A chat is laid out as `NAME: text`, a line a turn; what the system says begins it, without a name."""
        asked, chat = await _read(request), request.url.path.startswith("/v1/chat")
        alone = isinstance(asked.prompt, str) or isinstance((asked.prompt or [0])[0], int)
        prompts: Any = [asked.prompt] if alone else asked.prompt
        stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        if chat:
            names = ["" if one.role[0] in "sd" else one.name or one.role.upper() for one in asked.messages]
            said = [(name, one.content) for name, one in zip(names, asked.messages, strict=True)]
            roles = [one.role for one in asked.messages]
            me = names[roles.index("assistant")] if "assistant" in roles else "ASSISTANT"
            prompt, ends = chat_prompt(said, me)
            prompts, stop = [prompt], [*stop, *ends]
            asked.logprobs = asked.top_logprobs if asked.logprobs > 0 else -1
        for value, name in (asked.max_tokens, "GPT_MAX_TOKENS"), (asked.n * len(prompts), "GPT_MAX_TEXTS"):
            if value > limit(name):
                raise HTTPException(400, f"{value:,} is over {name} of the server, {limit(name):,}")
        number, counted = dict[Row, int](), list[int]()  # each row's number; tokens of each prompt
        settings = asked.model_dump(include={"max_tokens", "temperature", "top_p", "top_k", "seed"})
        about = {"id": f"cmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": asked.model}
        about["object"] = ("chat.completion" + ".chunk" * asked.stream) if chat else "text_completion"
        piece: list[Callable[[int], str]] = []

        def work(batch: Any, tokenizer: Any) -> Iterator[Any]:
            ids = [encode(tokenizer, prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
            rows = text_rows(batch.model, tokenizer, ids, asked.n, stop, likeliest=asked.logprobs, **settings)
            number.update({row: n for n, row in enumerate(rows)})
            counted.extend(map(len, ids))
            piece.append(lambda token: tokenizer.id_to_piece(token).replace("\u2581", " "))
            for place, tokens in enumerate(ids if asked.echo else ()):
                stream, chances = TextStream(tokenizer), list[Any]()
                start = [tokenizer.eos_id(), *tokens] if asked.logprobs >= 0 else []
                for some in token_chances(batch.model, start, asked.logprobs):
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

        def chance_of(text: str, value: float) -> dict[str, Any]:
            return {"token": text, "logprob": value, "bytes": list(text.encode())}

        async def choices() -> AsyncIterator[dict[str, Any]]:
            length: dict[int, int] = {}
            async for event in events(request, asked.model, work):
                if not isinstance(event, Drawn):
                    continue
                (row, token, text, chance), index = event, number[event.row]
                start = length.get(index, 0)
                told: Any = None
                if chance and token not in (row.eos_id, -1):
                    top = {piece[0](other): value for other, value in chance[1].items()}
                    if chat:
                        told = {"content": [chance_of(piece[0](token), chance[0])]}
                        told["content"][0]["top_logprobs"] = [chance_of(*other) for other in top.items()]
                    else:
                        told = {"tokens": [piece[0](token)], "token_logprobs": [chance[0]], "top_logprobs": [top]}
                        told |= {"text_offset": [start], "token_ids": [token]}
                text = text.lstrip(" ") if chat and not start else text
                length[index] = start + len(text)
                yield {"index": index, "text": text, "logprobs": told, "finish_reason": row.finish or None}

        def shaped(one: dict[str, Any]) -> dict[str, Any]:
            said = {"role": "assistant", "content": one["text"]}
            rest = {key: value for key, value in one.items() if key != "text"}
            return rest | {"delta" if asked.stream else "message": said} if chat else one

        def used() -> dict[str, int]:
            context, total = sum(counted), sum(len(row.tokens) - 1 for row in number)
            new = total - context * asked.n
            return {"prompt_tokens": context, "completion_tokens": new, "total_tokens": context + new}

        async def lines(one: Any) -> AsyncIterator[str]:
            try:
                while one:
                    yield f"data: {json.dumps(about | {'choices': [shaped(one)]})}\n\n"
                    one = await anext(found, None)
            except Exception as error:  # there is no other way to tell it now
                yield f"data: {bytes(_refuse(request, error).body).decode()}\n\n"
                return
            if asked.stream_options.get("include_usage"):
                yield f"data: {json.dumps(about | {'choices': [], 'usage': used()})}\n\n"
            yield "data: [DONE]\n\n"

        found = choices()
        if asked.stream:  # its first answer is awaited, so that an error has a status of its own
            return _Stream(lines(await anext(found, None)), media_type="text/event-stream")
        texts: dict[int, dict[str, Any]] = {}
        async for one in found:
            known = texts.setdefault(one["index"], one)
            if known is not one:
                known |= {"text": known["text"] + one["text"], "finish_reason": one["finish_reason"]}
                told, more = known["logprobs"], one["logprobs"]
                known["logprobs"] = {key: told[key] + more[key] for key in told} if told and more else told or more
        return JSONResponse(about | {"choices": [shaped(texts[n]) for n in sorted(texts)], "usage": used()})

    @app.post("/attention")
    async def attention(request: Request) -> Response:
        """What the last token of the prompt attends to: layers x heads x tokens of its context, from token `begin`."""
        asked = await _read(request)

        def work(batch: Any, tokenizer: Any) -> Iterator[Any]:
            ids = text_rows(batch.model, tokenizer, [cast("list[int]", asked.prompt)])[0].tokens
            begin = window(len(ids), batch.model.config.block_size)
            maps = attention_maps(batch.model, torch.tensor([ids[begin:]]))[:, 0, :, -1]
            yield {"begin": begin - 1, "weights": maps.tolist()}

        return JSONResponse(*[found async for found in events(request, asked.model, work)])

    @app.post("/repeated")
    async def repeated(request: Request) -> Response:
        """Where the prompt stands word for word in the training text: [begin, end] of each stretch, in characters."""
        asked = await _read(request)

        def search() -> dict[str, Any]:
            clean = scoring.find(Store(shared_home()), meant(asked.model)).clean
            if clean is None:
                raise HTTPException(404, f"the training text of {asked.model!r} is no longer on this disk")
            texts = read_texts(Path(clean["path"]), "train", SEARCHED_BYTES)
            _, is_repeated = repeated_characters([str(asked.prompt)], texts, REPEATED_CHARS)
            edges = np.flatnonzero(np.diff(np.pad(is_repeated, 1)))
            return {"stretches": edges.reshape(-1, 2).tolist(), "at_least": REPEATED_CHARS}

        async with searching:  # it takes a core
            return JSONResponse(await asyncio.to_thread(search))

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model", "created": 0} for name in served()]}

    @app.get("/health")
    def health() -> str:
        return "up"

    refused: tuple[Any, ...] = (UserError, GPTError, HTTPException, 404, 405, Exception)
    for failure in refused:
        app.add_exception_handler(failure, _refuse)
    app.mount("/", StaticFiles(directory=PAGES, html=True))
    return app


class _Stream(StreamingResponse):
    """Ends after the seconds that a request may take, also while its reader reads nothing."""

    async def __call__(self, *connection: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit("GPT_MAX_SECONDS")):
                await super().__call__(*connection)


class Refusal(JSONResponse):
    """An error in the API's own form."""

    def __init__(self, message: str, status: int, headers: dict[str, str] | None = None):
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        error = {"message": message.strip(), "type": kind, "param": None, "code": status}
        super().__init__({"error": error}, status, headers)


async def _read(request: Request) -> Asked:
    """Raises HTTPException for a body that is too large or not what it must be."""
    body, most = bytearray(), limit("GPT_MAX_CHARS")
    async for part in request.stream():
        body += part
        if len(body) > 2 * most:
            raise HTTPException(413, f"the request is over {2 * most:,} bytes (twice GPT_MAX_CHARS of the server)")
    try:
        return Asked.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors()[0]
        raise HTTPException(400, f"{(*first['loc'], 'the body')[0]}: {first['msg']}") from None


def _refuse(_: Request, error: Any) -> Refusal:
    status = 400 if isinstance(error, GPTError) else 503 if isinstance(error, UserError) else 500
    return Refusal(str(getattr(error, "detail", error)), getattr(error, "status_code", status))
