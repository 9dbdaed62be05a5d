"""The completions API as OpenAI's clients speak it, for the models of this home, and the files of the playground.

Notable: a full server refuses at once (429); a request whose client has gone is computed no further.
"""

import asyncio
import difflib
import json
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError

from flows import UserError
from flows.evaluation import scoring
from flows.models import lookup
from flows.models.promotion import champions
from flows.serving.completions import Asked, Completion, joined
from flows.serving.engine import Engine, Job, Work
from flows.stages.baselines import REPEATED_CHARS
from flows.stages.documents import read_texts
from flows.store.artifacts import Store
from gpt import GPTError
from gpt.evaluation.attention_maps import attention_maps
from gpt.evaluation.memorisation import repeated_characters
from gpt.generation.batch import Drawn, window
from gpt.generation.sample import text_rows

PAGES = Path(__file__).parents[1] / "pages" / "templates" / "playground"
# Of a request, unless the environment says otherwise. Open at once: the slowly read ones too, so memory is bounded.
LIMITS = {"GPT_MAX_CHARS": 100_000, "GPT_MAX_TOKENS": 4096, "GPT_MAX_TEXTS": 128, "GPT_MAX_SECONDS": 300}
LIMITS |= {"GPT_MAX_REQUESTS": 64, "GPT_MAX_MODELS": 8}
SEARCHED_BYTES = 100_000_000  # of the training text: seconds


def limit(name: str) -> int:
    if not (value := os.environ.get(name, str(LIMITS[name]))).isdecimal():
        raise UserError(f"{name} is {value!r}; it must be a whole number, such as {LIMITS[name]}")
    return int(value)


def create_app(names: Sequence[str]) -> FastAPI:
    """names: of the models, as `lookup.find` takes them; none: every champion, and each registered version."""
    for name in LIMITS:
        limit(name)  # a wrong one is told now
    app, engine, running = FastAPI(openapi_url=None), Engine(limit("GPT_MAX_MODELS")), set[object]()
    find, searching = cache(lookup.find), asyncio.Lock()  # a registered version does not change

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

    async def events(request: Request, name: str, work: Work) -> AsyncGenerator[Any]:
        """What the engine tells of this work, until its end, the client's or the time's."""
        if len(running) >= limit("GPT_MAX_REQUESTS"):
            raise HTTPException(429, "too many requests are open; try again later (GPT_MAX_REQUESTS of the server)")
        until, place = time.monotonic() + limit("GPT_MAX_SECONDS"), object()
        running.add(place)  # before anything is awaited
        job: Job | None = None
        try:
            job = Job(await asyncio.to_thread(lambda: find(meant(name))), work)
            engine.new.put(job)
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
        except UserError as error:
            raise HTTPException(404, str(error)) from None
        finally:
            running.discard(place)
            if job:
                job.cancelled = True

    @app.post("/v1/completions")
    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        asked = await _read(request)
        completion = Completion(asked, request.url.path.startswith("/v1/chat"))
        texts = asked.n * len(completion.prompts)
        for value, name in (asked.max_tokens, "GPT_MAX_TOKENS"), (texts, "GPT_MAX_TEXTS"):
            if value > limit(name):
                raise HTTPException(400, f"{value:,} is over {name} of the server, {limit(name):,}")
        told = events(request, asked.model, completion.work)
        found = (completion.choice(event) async for event in told if isinstance(event, Drawn))

        async def lines(one: Any) -> AsyncIterator[str]:
            try:
                async with aclosing(told):
                    while one:
                        yield f"data: {json.dumps(completion.answer([one], with_usage=False))}\n\n"
                        one = await anext(found, None)
            except Exception as error:  # there is no other way to tell it now
                yield f"data: {bytes(_refuse(request, error).body).decode()}\n\n"
                return
            if asked.stream_options.get("include_usage"):
                yield f"data: {json.dumps(completion.answer([], with_usage=True))}\n\n"
            yield "data: [DONE]\n\n"

        if asked.stream:  # its first answer is awaited, so that an error has a status of its own
            return _Stream(lines(await anext(found, None)), media_type="text/event-stream")
        parts = [list[dict[str, Any]]() for _ in range(texts)]
        async for one in found:
            parts[one["index"]].append(one)
        return JSONResponse(completion.answer([joined(some) for some in parts if some], with_usage=True))

    @app.post("/attention")
    async def attention(request: Request) -> Response:
        """What the last token of the prompt attends to: layers x heads x tokens of its context, from token `begin`."""
        asked, prompt = await _read_one(request)

        def work(batch: Any, tokenizer: Any) -> Iterator[Any]:
            ids = text_rows(batch.model, tokenizer, [prompt])[0].tokens
            begin = window(len(ids), batch.model.config.block_size)
            maps = attention_maps(batch.model, torch.tensor([ids[begin:]]))[:, 0, :, -1]
            yield {"begin": begin - 1, "weights": maps.tolist()}

        return JSONResponse(*[found async for found in events(request, asked.model, work)])

    @app.post("/repeated")
    async def repeated(request: Request) -> Response:
        """Where the prompt stands word for word in the training text: [begin, end] of each stretch, in characters."""
        asked, prompt = await _read_one(request)

        def search() -> dict[str, Any]:
            clean = scoring.find(Store(), meant(asked.model)).clean
            if clean is None:
                raise HTTPException(404, f"the training text of {asked.model!r} is no longer on this disk")
            texts = read_texts(Path(clean["path"]), "train", SEARCHED_BYTES)
            _, is_repeated = repeated_characters([str(prompt)], texts, REPEATED_CHARS)
            edges = np.flatnonzero(np.diff(np.pad(is_repeated, 1)))
            return {"stretches": edges.reshape(-1, 2).tolist(), "at_least": REPEATED_CHARS}

        async with searching:  # it takes a core
            return JSONResponse(await asyncio.to_thread(search))

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": 0, "owned_by": "gpt"} for name in served()],
        }

    @app.get("/health")
    def health() -> str:
        return "up"

    refused: tuple[Any, ...] = (UserError, GPTError, HTTPException, 404, 405, Exception)
    for failure in refused:
        app.add_exception_handler(failure, _refuse)
    app.mount("/", StaticFiles(directory=PAGES, html=True))
    return app


class _Stream(StreamingResponse):
    """Ends, and gives back its place, after the seconds that a request may take, also while its reader reads nothing."""

    async def __call__(self, *connection: Any) -> None:
        lines: Any = self.body_iterator
        with suppress(TimeoutError):
            async with aclosing(lines), asyncio.timeout(limit("GPT_MAX_SECONDS")):
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
    try:
        async with asyncio.timeout(limit("GPT_MAX_SECONDS")):
            async for part in request.stream():
                body += part
                if len(body) > 2 * most:
                    raise HTTPException(413, f"it is over {2 * most:,} bytes (twice GPT_MAX_CHARS of the server)")
        return Asked.model_validate_json(bytes(body))
    except TimeoutError:
        raise HTTPException(408, "the request did not arrive in time (GPT_MAX_SECONDS of the server)") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise HTTPException(400, f"{(*first['loc'], 'the body')[0]}: {first['msg']}") from None


async def _read_one(request: Request) -> tuple[Asked, Any]:
    """A request with a single prompt, and this."""
    if len(prompts := (asked := await _read(request)).prompts()) != 1:
        raise HTTPException(400, f"prompt: one text is asked for, not {len(prompts)}")
    return asked, prompts[0]


def _refuse(_: Request, error: Any) -> Refusal:
    status = 400 if isinstance(error, GPTError) else 503 if isinstance(error, UserError) else 500
    return Refusal(str(getattr(error, "detail", error)), getattr(error, "status_code", status))
