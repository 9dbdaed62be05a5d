"""What a real server on real sockets does where a model, a reader or a caller is at fault. The models are made, not trained."""

import asyncio
import contextlib
import json
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import uvicorn

from flows import UserError
from flows.server.apps import guard
from flows.serving.api import Refusal, _Stream, create_app
from flows.serving.engine import BACKLOG, Engine, Job
from gpt.generation.batch import Drawn
from gpt.generation.sample import load, text_rows, texts
from tests.flows.cli.test_chat import made
from tests.flows.conftest import free_port

PASSWORD = "a-long-password"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A model, and a copy whose weights are cut short."""
    folder = tmp_path_factory.mktemp("models")
    made(folder / "whole")
    shutil.copytree(folder / "whole", folder / "broken")
    weights = folder / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return {name: str(folder / name) for name in ("whole", "broken")}


@contextlib.contextmanager
def serving(folders: dict[str, str], home: Path, empty_mlflow: Path, **limits: str) -> Iterator[int]:
    """The port of a server in this process, with a password."""
    with pytest.MonkeyPatch.context() as patch:
        shutil.copy(empty_mlflow, home / "mlflow.db")
        patch.setenv("GPT_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
        for name, value in limits.items():
            patch.setenv(name, value)
        app = create_app(list(folders.values()))
        app = guard(app, ["127.0.0.1"], [], f"me:{PASSWORD}", Refusal)
        server = uvicorn.Server(uvicorn.Config(app, port=(port := free_port()), log_level="critical"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port(folders, tmp_path_factory, empty_mlflow) -> Iterator[int]:
    limits = {"GPT_MAX_SECONDS": "4", "GPT_MAX_TOKENS": "10000000", "GPT_MAX_REQUESTS": "2"}
    with serving(folders, tmp_path_factory.mktemp("home"), empty_mlflow, **limits) as port:
        yield port


@pytest.fixture
def client(port) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=PASSWORD, max_retries=0)


def body(folders: dict[str, str], **more: object) -> dict:
    return {"model": folders["whole"], "prompt": "the quick", "temperature": 0, "max_tokens": 20} | more


def test_a_damaged_model_is_named_with_its_mend_and_the_others_go_on(client, folders):
    for _ in range(2):
        with pytest.raises(openai.InternalServerError) as told:
            client.completions.create(**body(folders, model=folders["broken"]))
        assert told.value.status_code == 500
        assert told.value.body["type"] == "server_error"
        for word in (folders["broken"], "model.safetensors", "gpt verify"):
            assert word in told.value.body["message"]
        assert client.completions.create(**body(folders)).usage.completion_tokens == 20


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({}, 401, "password"),
        ({"Authorization": "Bearer another-password"}, 401, "password"),
        ({"Host": "evil.example"}, 403, "evil.example"),
        ({"Origin": "http://evil.example"}, 403, "evil.example"),
    ],
)
def test_who_may_not_ask_is_told_in_the_form_of_the_api(port, headers, status, words):
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers=headers))
    error = json.load(told.value)["error"]
    assert (told.value.code, error["code"], error["type"]) == (status, status, "invalid_request_error")
    assert words in error["message"]


def test_the_chances_of_a_chat_are_those_of_its_tokens(client, folders):
    said = [{"role": "user", "content": "the quick"}]
    asked = {"model": folders["whole"], "messages": said, "max_tokens": 6, "temperature": 0}
    plain = client.chat.completions.create(**asked).choices[0]
    assert plain.logprobs is None
    told = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(told) == 6
    for one in told:  # at temperature 0 the likeliest is taken
        assert one.top_logprobs[0].token == one.token
        assert one.top_logprobs[0].logprob == pytest.approx(one.logprob)
        assert len(one.top_logprobs) == 3
    chunks = client.chat.completions.create(**asked, logprobs=True, stream=True)
    streamed = [one for chunk in chunks for one in (chunk.choices[0].logprobs or told[:0]).content]
    assert [one.token for one in streamed] == [one.token for one in told]
    assert client.completions.create(**body(folders, logprobs=0)).choices[0].logprobs.top_logprobs[0] == {}


def test_an_error_after_a_stream_began_is_told_in_it(client, folders):
    stream, read = client.completions.create(**body(folders, max_tokens=10_000_000, stream=True)), list[str]()
    with pytest.raises(openai.APIError, match="GPT_MAX_SECONDS"):
        read.extend(chunk.choices[0].text for chunk in stream)
    assert len(read) > 20


def test_who_does_not_read_waits_and_is_ended_and_gives_back_the_place(port, client, folders):
    """The sockets are full, so the server is in the middle of a send; both places are taken."""
    text = json.dumps(body(folders, max_tokens=10_000_000, stream=True, logprobs=20, n=16))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {PASSWORD}\r\n"
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(socket.socket()) for _ in range(2)]
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", port))
            reader.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())
            assert b" 200 " in reader.recv(20)  # it has its place
        for refused in (True, False):
            until = time.monotonic() + 60
            while is_full(client, folders) != refused:
                assert time.monotonic() < until
                time.sleep(0.05)
        assert all(reader.fileno() > 0 for reader in readers)  # they hang on


def test_what_a_stream_reads_from_is_closed_with_it(monkeypatch):
    """Whoever still holds it: a generator that waits for its collection would keep the request's place."""
    monkeypatch.setenv("GPT_MAX_SECONDS", "1")
    ended = list[bool]()

    async def lines():
        try:
            while True:
                yield "data: x\n\n"
        finally:
            ended.append(True)

    async def send(message: dict) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)  # the reader reads nothing

    async def receive() -> dict:
        await asyncio.sleep(60)
        return {}

    async def main() -> list[bool]:
        held = lines()
        await _Stream(held)({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
        return list(ended)

    assert asyncio.run(main()) == [True]


def test_a_request_that_does_not_arrive_is_ended(port):
    with socket.create_connection(("127.0.0.1", port), 60) as sender:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {PASSWORD}\r\n"
        sender.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert b" 408 " in sender.recv(100)


def test_places_are_counted_before_a_model_is_looked_up(port, folders, client):
    """Ten at once, of which two have places (on a slow machine they end with 504); the others are told at once."""
    told = list[int]()

    def ask() -> None:
        try:
            client.completions.create(**body(folders, max_tokens=2000))
            told.append(200)
        except openai.APIStatusError as error:
            told.append(error.status_code)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 10
    assert told.count(429) == 8


def is_full(client: openai.OpenAI, folders: dict[str, str]) -> bool:
    try:
        client.completions.create(**body(folders))
    except openai.RateLimitError:
        return True
    return False


def test_a_training_text_that_is_gone_is_told(client, folders):
    with pytest.raises(openai.NotFoundError, match="no longer on this disk"):
        client.post(str(client.base_url).replace("/v1/", "/repeated"), body=body(folders), cast_to=object)


@pytest.mark.parametrize("place", ["attention", "repeated"])
def test_one_text_is_examined_at_once(client, folders, place):
    asked = body(folders, prompt=["the", "quick"])
    with pytest.raises(openai.BadRequestError, match="one text is asked for, not 2"):
        client.post(str(client.base_url).replace("/v1/", f"/{place}"), body=asked, cast_to=object)


def test_a_limit_that_is_no_number_is_told(monkeypatch):
    monkeypatch.setenv("GPT_MAX_TOKENS", "many")
    with pytest.raises(UserError, match="GPT_MAX_TOKENS is 'many'"):
        create_app([])


def test_the_model_that_was_asked_longest_ago_is_let_go(folders, tmp_path):
    copies = [shutil.copytree(folders["whole"], tmp_path / name) for name in "abcd"]

    async def ask(engine: Engine, folder: Path) -> set[str]:
        job = Job(folder, lambda *_: iter(()))
        engine.new.put(job)
        while await job.events.get() is not None:
            pass
        return {known.name for known in engine.models}

    async def ask_all() -> list[set[str]]:
        engine = Engine(3)
        return [await ask(engine, copies["abcd".index(name)]) for name in "abcabd"]

    assert asyncio.run(ask_all())[3:] == [set("abc"), set("abc"), set("abd")]


def test_where_memory_is_short_only_the_asked_model_stays(folders, tmp_path, monkeypatch):
    copies = [shutil.copytree(folders["whole"], tmp_path / name) for name in "ab"]

    async def ask_all() -> list[list[str]]:
        engine, known = Engine(3), []
        for full, copy in ((100, copies[0]), (100, copies[1]), (0, copies[1]), (0, copies[0])):
            monkeypatch.setattr("flows.serving.engine.FULL", full)
            job = Job(copy, lambda *_: iter(()))
            engine.new.put(job)
            assert await job.events.get() is None
            known.append([model.name for model in engine.models])
        return known

    assert asyncio.run(ask_all()) == [["a"], ["a", "b"], ["b"], ["a"]]


def test_rows_wait_for_their_reader_and_go_on_as_they_were(folders):
    """No more than a backlog is kept, and the text is what it is alone."""

    async def read_late() -> tuple[int, str]:
        rows = lambda batch, tokenizer: iter([text_rows(batch.model, tokenizer, ["the"], **asked)])  # noqa: E731
        job = Job(Path(folders["whole"]), rows)
        Engine(1).new.put(job)
        while job.events.qsize() < BACKLOG:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        waiting, text = job.events.qsize(), ""
        while (event := await job.events.get()) is not None:
            text += event.text if isinstance(event, Drawn) else ""
        return waiting, text

    asked = {"max_tokens": 2 * BACKLOG, "temperature": 0}
    waiting, text = asyncio.run(read_late())
    assert BACKLOG <= waiting < BACKLOG + 100
    assert text == texts(*load(Path(folders["whole"])), ["the"], **asked)[0][0]


def test_a_part_of_a_message_that_is_no_text_is_refused(client, folders):
    for part in ({"type": "image_url", "text": "x"}, {"type": "text"}):
        said = [{"role": "user", "content": [part]}]
        with pytest.raises(openai.BadRequestError, match="messages"):
            client.chat.completions.create(model=folders["whole"], messages=said, max_tokens=2)
