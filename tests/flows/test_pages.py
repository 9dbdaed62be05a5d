"""What a person finds in the pages of MLflow and Prefect: Chromium opens the real ones, and clicks as that person would.

GPT_SCREENSHOTS=folder keeps a picture of every page.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.tracking.connection import RUNS_PAGE
from tests.conftest import ROOT, environment, gpt, spelled
from tests.flows.conftest import TINY, free_port, stop, wait_for

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = "/usr/bin/chromium"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser at {CHROMIUM} (apt-get install chromium)"),
]
CORPORA = ("alpha", "beta", "gamma")
EVALUATED = ("--set", "train.steps=40", "--set", "train.eval_every=10")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory, prefect_server, empty_mlflow) -> Iterator[tuple[str, str]]:
    """MLflow's and Prefect's, after three corpora were trained and compared."""
    folder = tmp_path_factory.mktemp("pages")
    home = folder / "home"
    home.mkdir()
    shutil.copy(empty_mlflow, home)
    for number, corpus in enumerate(CORPORA):
        texts = folder / corpus
        texts.mkdir()
        words = f"the river {corpus} bends and an old bridge waits for rain while the miller counts his barley".split()
        for i in range(60):
            lines = [
                " ".join(words[(i * 7 + j * k + number) % len(words)] for k in range(1, 9)) + f" {spelled(i)}."
                for j in range(12)
            ]
            (texts / f"{i:02}.txt").write_text("\n".join(lines) + "\n")
        command = ("train", "--from", str(texts), "--name", corpus, *TINY, *EVALUATED)
        trained = gpt(home, *command, PREFECT_API_URL=prefect_server)
        assert trained.returncode == 0, trained.stderr
    compared = gpt(home, "compare", "--prompt", "the river", PREFECT_API_URL=prefect_server)
    assert compared.returncode == 0, compared.stderr
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "ui", "--port", str(port)],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}", prefect_server.removesuffix("/api")
    finally:
        stop(server)


@pytest.fixture(scope="module")
def browser():
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, request, tmp_path):
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.set_default_timeout(120_000)
    yield page
    folder = Path(os.environ.get("GPT_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"{request.node.name.removeprefix('test_')}.png")
    page.close()


@pytest.fixture
def runs(page, addresses):
    """MLflow's list of runs, as our links open it. Its page never goes idle: an element is what to wait for."""
    page.goto(f"{addresses[0]}/#/experiments/1/{RUNS_PAGE}")
    page.get_by_role("link", name="alpha", exact=True).wait_for()
    page.get_by_label("Close").click()  # the assistant
    return page


def search(runs, wanted: str, count: str) -> None:
    box = runs.get_by_test_id("search-box")
    box.fill(wanted)
    box.press("Enter")
    runs.get_by_text(re.compile(rf"^{count}$")).wait_for()


@contextmanager
def picture(page) -> Iterator[None]:
    """A picture from the server is shown in the end, and not a broken one."""
    yield
    page.wait_for_function("[...document.images].some(image => image.complete && image.naturalWidth > 400)")


def test_the_first_page_compares_runs_by_their_figures(runs):
    for column in ("train/test_bpb", "baseline/best", "train/parameters", "train/steps", "train/seconds", "model"):
        runs.get_by_role("columnheader", name=column, exact=True).first.wait_for()
    runs.get_by_text("models:/gpt-alpha/1", exact=True).first.wait_for()


def test_a_run_is_found_by_its_corpus_and_tells_everything(runs):
    search(runs, "tags.corpus = 'beta'", "1 matching run")
    runs.get_by_role("link", name="beta", exact=True).click()
    runs.get_by_text(re.compile("bits per byte")).first.wait_for()  # the description at its top
    for words in ("beta/raw", "prefect.flow_run", "artifacts", "val/bpb", "gpt-beta"):
        runs.get_by_text(re.compile(re.escape(words))).first.wait_for()


def test_a_run_has_charts(runs):
    runs.get_by_role("link", name="gamma", exact=True).click()
    runs.get_by_role("tab", name="Model metrics").click()
    runs.get_by_placeholder("Search metric charts").fill("^(train/loss|val/bpb)$")
    runs.locator(".js-plotly-plot .scatterlayer .trace").nth(1).wait_for()  # a curve in each of the two
    assert runs.locator(".js-plotly-plot").count() == 2


def test_a_run_has_artifacts_to_look_at(runs):
    runs.get_by_role("link", name="alpha", exact=True).click()
    runs.get_by_role("tab", name="Artifacts").click()
    runs.get_by_text("clean", exact=True).click()
    with picture(runs):
        runs.get_by_text("lengths.png", exact=True).click()
    runs.get_by_text("samples", exact=True).click()
    runs.get_by_text("evaluations.json", exact=True).click()
    runs.get_by_text(re.compile("step")).first.wait_for()


def test_the_registered_model_has_its_card_and_its_champion(page, addresses):
    page.goto(f"{addresses[0]}/#/models")
    page.get_by_role("button", name="Try it now").click()  # what a first visit is greeted with
    page.get_by_role("link", name="gpt-beta", exact=True).click()
    page.get_by_text("champion").first.wait_for()
    page.get_by_role("link", name=re.compile("Version 1")).click()
    page.get_by_text("Use and limits").first.wait_for()
    page.get_by_text("Schema", exact=True).wait_for()


def test_three_corpora_are_compared_side_by_side(runs, addresses):
    search(runs, "attributes.run_name != 'compare'", "3 matching runs")
    for corpus in CORPORA:
        row = runs.locator(".ag-row", has=runs.get_by_role("link", name=corpus, exact=True))
        # A row has parts on the left and the right: the box is in the part of the name, or beside it.
        row.locator("input[type=checkbox]").locator("visible=true").first.click()
    runs.get_by_role("button", name="Compare").click()
    runs.get_by_text("Comparing 3 Runs from 1 Experiment").wait_for()
    for words in (*CORPORA, "baseline/bigram"):  # its table of metrics is drawn as far as it is in sight
        runs.get_by_text(words, exact=True).locator("visible=true").first.wait_for()


def test_their_losses_are_one_chart(page, addresses):
    page.goto(f"{addresses[0]}/#/experiments/1/runs?workflowType=machine_learning&compareRunsMode=CHART")
    page.get_by_label("Close").click()  # the assistant
    page.get_by_placeholder("Search metric charts").fill("^(train/loss|val/bpb)$")
    page.locator(".js-plotly-plot .scatterlayer .trace").nth(5).wait_for()  # three curves in each of the two


def test_the_comparison_has_tables(runs):
    runs.get_by_role("link", name="compare", exact=True).click()
    runs.get_by_role("tab", name="Artifacts").click()
    runs.get_by_text("comparison", exact=True).click()
    runs.get_by_text("answers.json", exact=True).click()
    runs.get_by_text("the river").first.wait_for()


def test_prefect_shows_the_run_its_stages_and_its_cards(page, addresses):
    page.goto(f"{addresses[1]}/runs")
    page.get_by_role("searchbox", name="Search by flow run name").last.fill("beta")
    page.get_by_role("link", name="beta", exact=True).first.click()
    page.get_by_text("Completed").first.wait_for()
    page.get_by_text(re.compile("documents kept")).first.wait_for()  # its log
    page.get_by_text("Task Runs", exact=True).last.click()
    for stage in ("download", "clean", "tokenize", "pack", "train"):
        page.get_by_role("link", name=stage, exact=True).first.wait_for()
    page.get_by_text("Artifacts", exact=True).last.click()
    page.get_by_text("tokenizer-card-beta").first.click()
    page.get_by_text("vocab size").first.wait_for()
    page.go_back()
    page.get_by_text("Artifacts", exact=True).last.click()
    with picture(page):
        page.get_by_text("data-card-beta").first.click()
