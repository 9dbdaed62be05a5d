"""A comparison in words and as a page, from the dict that `gpt compare` gives."""

import json
import re

import pytest

from flows.compare import short_names
from flows.pages.render import publish, render_text

NONE = dict.fromkeys(("relative", "difference_low", "difference_high", "bits_per_byte_low", "bits_per_byte_high"))
BITS = dict.fromkeys(("ppmd", "xz", "gzip", "bigram", "unigram", "uniform"), 4.0)
COSTS = dict.fromkeys(
    ("parameters", "vocab_size", "block_size", "steps", "tokens_seen", "training_seconds", "tokens_scored_per_second")
)


def cell(model: str, corpus: str, **known) -> dict:
    return {"model": model, "corpus": corpus, "own": False, "bits_per_byte": 2.5} | NONE | known


@pytest.fixture
def result() -> dict:
    """Two models, one with nothing known of it; two corpora, one without a model of its own."""
    corpora = [
        {"corpus": name, "documents": 7, "of_documents": 9, "bytes": 1234, "digest": "0" * 64, "baselines": BITS}
        for name in ("mill", "sums")
    ]
    own = {"own": True, "relative": 0.0, "bits_per_byte_low": 2.4, "bits_per_byte_high": 2.6}
    models = [
        COSTS | {"model": "gpt-mill/1", "corpus": "mill", "parameters": 1234},
        COSTS | {"model": "<b>", "corpus": ""},
    ]
    matrix = [cell("gpt-mill/1", "mill", **own), cell("<b>", "mill", relative=1.5), cell("gpt-mill/1", "sums")]
    answers = [{"prompt": "", "<b>": "<script>\n# no heading"}]
    return {
        "models": models, "corpora": corpora, "matrix": [*matrix, cell("<b>", "sums")], "answers": answers,
        "notes": ["a note"], "device": "cpu",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({}, ""),
        ({"relative": 0.0, "own": True}, "own"),
        ({"relative": 0.034, "difference_low": 0.1, "difference_high": 0.2}, "+3.4 %"),
        ({"relative": -0.034, "difference_low": -0.2, "difference_high": -0.1}, "−3.4 %"),
        ({"relative": 0.034, "difference_low": -0.1, "difference_high": 0.2}, "≈ +3.4 %"),
        ({"relative": 0.034}, "≈ +3.4 %"),
    ],
)
def test_the_difference_says_whether_it_may_be_noise(result, known, shown):
    result["matrix"][1] = cell("<b>", "mill", **known)
    text = render_text("comparison.jinja", facts=result)
    assert rf"| \<b\> | 2.500 (no interval) {shown}".rstrip() + " |" in text


def test_a_model_goes_by_its_corpus_where_that_is_unambiguous(result):
    assert short_names(result) == {"gpt-mill/1": "mill", "<b>": "<b>"}
    result["models"][1]["corpus"] = "mill"
    assert short_names(result) == {"gpt-mill/1": "gpt-mill/1", "<b>": "<b>"}


def test_the_page_shows_every_cell_and_escapes_what_models_write(result, tmp_path):
    publish(tmp_path / "card", "comparison.jinja", result)
    page, text = ((tmp_path / "card" / name).read_text() for name in ("card.html", "card.md"))
    assert json.loads((tmp_path / "card" / "card.json").read_text()) == result
    for shown in ("(2.40 to 2.60) own", "(no interval) ≈ +150.0 %", "1,234", "From nothing", "a note"):
        assert shown in page
        assert shown in text
    colours = re.findall(
        r"srgb, (#\w+ -?\d+%)", page
    )  # own and unknown have none; a baseline of 4 bits is 60 % above 2.5
    assert colours[:6] == ["#8db9e6 0%", "#8db9e6 0%", "#8db9e6 100%", "#8db9e6 0%", "#8db9e6 60%", "#8db9e6 0%"]
    result["matrix"][1] |= {"relative": -0.2}
    publish(tmp_path / "card", "comparison.jinja", result)
    assert "#7cc4a6 50%" in (tmp_path / "card" / "card.html").read_text()
    assert "<script>" not in page
    assert "    # no heading" in text.splitlines()
    assert not re.search(r"(?m)^(?!    ).*(?<!\\)<b>", text)


def test_the_terminal_shows_the_same_table(result):
    text = render_text("comparison.jinja", facts=result)
    assert "2.500 (2.40 to 2.60) own" in text
    assert "From nothing" in text
