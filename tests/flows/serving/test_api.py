"""The real client of OpenAI, a browser and bad requests, against a real server with two models."""

import contextlib
import http.client
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import openai
import pytest

from flows.stages.documents import read_texts
from tests.conftest import ROOT, environment, gpt, spelled
from tests.flows.conftest import TINY, free_port, stop, wait_for

pytestmark = pytest.mark.slow
CHROMIUM = "/usr/bin/chromium"
LIMITS = {"GPT_MAX_TOKENS": "100000", "GPT_MAX_REQUESTS": "6", "GPT_MAX_CHARS": "20000"}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("served") / "home"


@pytest.fixture(scope="module")
def server(home, prefect_server, empty_mlflow) -> Iterator[int]:
    """The port of a `gpt serve`, after two corpora were trained."""
    folder = home.parent
    home.mkdir()
    shutil.copy(empty_mlflow, home)
    for corpus, words in (
        ("mill", "the river bends and an old bridge waits for rain"),
        ("sums", "12 plus 7 is 19 less 4"),
    ):
        texts = folder / corpus
        texts.mkdir()
        known = words.split()
        for i in range(60):
            lines = [
                " ".join(known[(i * 7 + j * k) % len(known)] for k in range(1, 9)) + f" {spelled(i)}."
                for j in range(12)
            ]
            (texts / f"{i:02}.txt").write_text("\n".join(lines) + "\n")
        done = gpt(home, "train", "--from", str(texts), "--name", corpus, *TINY, PREFECT_API_URL=prefect_server)
        assert done.returncode == 0, done.stderr
    port = free_port()
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(home, **LIMITS))
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        taken = gpt(home, "serve", "--port", str(port))
        assert (taken.returncode, f"--port {port + 1}" in taken.stderr) == (2, True)
        assert gpt(home, "serve", "--host", "0.0.0.0", "--port", str(free_port())).returncode == 2
        yield port
    finally:
        stop(process)


@pytest.fixture
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server}/v1", api_key="none", max_retries=0)


def test_the_client_lists_models_and_completes(client):
    assert [model.id for model in client.models.list()] == ["mill", "sums"]
    asked = {"model": "mill", "prompt": "the river", "max_tokens": 30, "seed": 4}
    plain = client.completions.create(**asked, logprobs=5, n=2, echo=True)
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens
    first, second = plain.choices
    assert first.text.startswith("the river")
    assert second.text.startswith("the river")
    assert first.text != second.text
    assert len(first.logprobs.tokens) == len(first.logprobs.token_logprobs)
    assert all(len(top) == 5 for top in first.logprobs.top_logprobs)
    streamed = list(client.completions.create(**asked, stream=True))
    assert len(streamed) > 5
    text = "".join(chunk.choices[0].text for chunk in streamed)
    assert "the river" + text == first.text
    assert streamed[-1].choices[0].finish_reason in ("stop", "length")
    cut = text[5:8]
    stopped = client.completions.create(**asked, stop=[cut]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text[: text.find(cut)], "stop")
    several = client.completions.create(**asked | {"prompt": ["the river", "an old"]}).choices
    assert several[0].text == text
    scored = client.completions.create(model="mill", prompt="the river bends", max_tokens=0, echo=True, logprobs=0)
    assert scored.choices[0].text == "the river bends"
    assert -sum(scored.choices[0].logprobs.token_logprobs) / math.log(2) / 15 < 8


def test_a_chat_is_turns_of_names(client):
    said = [{"role": "user", "content": "the river"}]
    asked = {"model": "mill", "max_tokens": 20, "seed": 2}
    answer = client.chat.completions.create(**asked, messages=said).choices[0].message
    assert answer.role == "assistant"
    expected = client.completions.create(
        **asked, prompt="USER: the river\nASSISTANT:", stop=["\nUSER:", "\nASSISTANT:"]
    )
    assert answer.content == expected.choices[0].text.lstrip(" ")
    chunks = client.chat.completions.create(**asked, messages=said, stream=True, stream_options={"include_usage": True})
    *parts, last = list(chunks)
    assert "".join(part.choices[0].delta.content for part in parts) == answer.content
    assert last.usage.completion_tokens > 0
    in_parts = [{"role": "user", "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "river"}]}]
    nulls = {"stop": None, "user": None, "logprobs": None}  # as some programs send what they do not ask for
    again = client.chat.completions.create(**asked, messages=in_parts, extra_body=nulls).choices[0].message
    assert again == answer


def test_the_next_request_is_answered_by_a_new_champion(client, home, prefect_server):
    more = {"PREFECT_API_URL": prefect_server}
    done = gpt(
        home, "train", "--from", str(home.parent / "mill"), "--name", "mill", *TINY, "--set", "train.seed=2", **more
    )
    assert done.returncode == 0, done.stderr

    def text(model: str) -> str:
        return client.completions.create(model=model, prompt="the river", max_tokens=40, seed=1).choices[0].text

    registry = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    for version in ("2", "1"):
        registry.set_registered_model_alias("gpt-mill", "champion", version)
        assert text("mill") == text(f"gpt-mill/{version}")
    assert text("gpt-mill/1") != text("gpt-mill/2")
    with pytest.raises(openai.NotFoundError, match="gpt-mill/9"):
        text("gpt-mill/9")


def test_texts_at_once_are_what_they_are_alone(client):
    asked = [
        {"model": "mill", "prompt": "the" * n, "max_tokens": 60, "seed": n, "temperature": n / 4} for n in range(5)
    ]
    alone = [client.completions.create(**one).choices[0].text for one in asked]
    together = dict[int, str]()

    def ask(n: int) -> None:
        together[n] = client.completions.create(**asked[n]).choices[0].text

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[n] for n in range(5)] == alone


def test_a_full_server_refuses_at_once_and_a_client_that_goes_frees_its_place(client):
    long = {"model": "sums", "prompt": "12", "max_tokens": 100_000, "temperature": 2.0, "top_k": 0}
    rest = {name: long[name] for name in ("model", "prompt", "max_tokens", "temperature")}
    streams = [client.completions.create(**rest, n=4, stream=True, extra_body={"top_k": 0}) for _ in range(6)]
    with pytest.raises(openai.RateLimitError, match="GPT_MAX_REQUESTS"):
        client.completions.create(model="mill", prompt="the", max_tokens=1)
    for stream in streams:
        stream.close()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(openai.RateLimitError):
            assert client.completions.create(model="mill", prompt="the", max_tokens=1).usage.completion_tokens <= 1
            break
        time.sleep(0.2)
    else:
        pytest.fail("the places were not freed")


@pytest.mark.parametrize(
    ("asked", "failure", "words"),
    [
        ({"model": "mil"}, openai.NotFoundError, "did you mean 'mill'"),
        ({"max_tokens": -1}, openai.BadRequestError, "max_tokens is -1"),
        ({"max_tokens": 10**9}, openai.BadRequestError, "GPT_MAX_TOKENS"),
        ({"n": 1000}, openai.BadRequestError, "GPT_MAX_TEXTS"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"prompt": [10**6]}, openai.BadRequestError, "not in the vocabulary"),
        ({"prompt": "x" * 10_000_000}, openai.APIStatusError, "GPT_MAX_CHARS"),
        ({"stop": ""}, openai.BadRequestError, "stop string is empty"),
        ({"frequency_penalty": 1}, openai.BadRequestError, "frequency_penalty"),
    ],
    ids=str,
)
def test_bad_requests_are_refused_in_words(client, asked, failure, words):
    with pytest.raises(failure, match=words):
        client.completions.create(**{"model": "mill", "prompt": "the", "max_tokens": 2} | asked)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("no json", {}, 400),
        ("[]", {}, 400),
        ('{"model": "mill", "prompt": "\\ud800"}', {}, 400),
        ("{}", {"Host": "evil.example"}, 403),
        ("{}", {"Origin": "http://evil.example"}, 403),
    ],
)
def test_foreign_pages_and_foreign_bodies_are_refused(server, body, headers, status):
    connection = http.client.HTTPConnection("127.0.0.1", server, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/completions", body, headers)
        answer = connection.getresponse()
        assert answer.status == status
        if status == 400:
            assert json.loads(answer.read())["error"]["message"]


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser at {CHROMIUM} (apt-get install chromium)")
def test_the_playground(server, home, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pictures, wrong = Path(os.environ.get("GPT_SCREENSHOTS", tmp_path)), list[str]()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.on("request", lambda one: one.url.startswith(f"http://127.0.0.1:{server}/") or wrong.append(one.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(f"http://127.0.0.1:{server}/")
        page.get_by_label("mill", exact=True).wait_for()
        page.get_by_label("Prompt").fill("the <img src=x onerror=alert(1)> river")
        page.keyboard.press("Control+Enter")
        page.locator("article[data-done]").nth(1).wait_for()
        assert page.locator("article img").count() == 0
        assert "<img src=x onerror=alert(1)> river" in page.locator("article .text").first.inner_text()
        page.locator(".token").nth(2).hover()
        assert page.locator("#tip").inner_text().count("%") == 5
        page.locator(".token").nth(5).click()
        page.locator("#attention .text span").nth(5).wait_for()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width in (1100, 390):
                page.set_viewport_size({"width": width, "height": 800})
                page.screenshot(path=pictures / f"playground-{scheme}-{width}.png")
                assert page.evaluate("document.documentElement.scrollWidth") <= width
        before, address = page.locator("article .text").all_inner_texts(), page.url
        page.goto("about:blank")
        page.goto(address)
        page.locator("article[data-done]").nth(1).wait_for()
        assert page.locator("article .text").all_inner_texts() == before
        page.get_by_label("Prompt").fill("the river bends and an old bridge waits for rain")
        page.get_by_role("button", name="Score").click()
        page.get_by_text("This reads most like mill.").wait_for()
        (clean,) = home.glob("artifacts/mill/clean/[!.]*")
        copied = next(read_texts(clean, "train"))[:120]
        page.get_by_label("Prompt").fill(copied)
        page.get_by_role("button", name="Score").click()
        page.get_by_text("Underlined").wait_for()
        page.get_by_text("No 50 characters in a row").wait_for()  # in that of the other model
        marked = page.locator("article", has_text="Underlined").locator(".repeated").all_inner_texts()
        assert "".join(marked).strip() in copied
        assert len("".join(marked)) >= len(copied) - 20
        page.goto("about:blank")
        page.goto(f"http://127.0.0.1:{server}/#model=gpt-mill/1")  # as its page in MLflow has it
        page.get_by_label("gpt-mill/1").wait_for()
        assert page.locator("#models input:checked").evaluate_all("boxes => boxes.map((box) => box.value)") == [
            "gpt-mill/1"
        ]
        page.get_by_label("Prompt").fill("the river")
        page.get_by_label("Top-p").fill("7")
        page.keyboard.press("Control+Enter")
        page.get_by_text("top_p is 7").first.wait_for()
        browser.close()
    assert not wrong
