"""What every page is laid out by: numbers, changes, tables and quotes, as Markdown and as HTML."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from data_contracts import facts
from flows.pages.render import against_baselines, columns, escape_markdown, plain, render_text
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("a b c", "a b c", "a b c"),
        ("a  b", "a b", "a[-  -]{+ +}b"),
        ("one\ntwo", "one two", "one[-⏎-]{+ +}two"),
        ("a\u200bb", "ab", "[-a⟨U+200B⟩b-]{+ab+}"),
        ("", "x", "{+x+}"),
    ],
)
def test_changes_are_shown_as_git_does(old, new, shown):
    assert plain(facts.changes(old, new, chars=100)) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1234567, "1,234,567"), (0.1234, "12.3%"), (0.0, "0.0%"), (0.0001, "<0.1%"), ("word", "word")]
)
def test_counts_shares_and_words(value, shown):
    assert plain(value) == shown


def test_a_column_is_what_its_first_cell_is():
    rows = [{"rule": "urls", "texts": 1, "share": 0.5}, {"rule": "7", "texts": 1, "share": 0.5}]
    assert columns(rows, "rule", "texts", "share")["number"] == [False, True, True]
    assert columns([], "kept_today") == {"head": ["kept today"], "rows": [], "number": [False]}


def test_a_line_of_markdown_has_no_markup():
    assert escape_markdown("a | <b>\n[c](d) & `e`") == r"a \| \<b\> \[c\](d) &amp; \`e\`"


def test_pages_load_neither_prefect_nor_mlflow():
    names = [path.stem for path in (ROOT / "flows" / "pages").glob("*.py")]
    code = f"import {', '.join(f'flows.pages.{name}' for name in names)}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"prefect", "mlflow"} & set(run.stdout.split())


COUNTS = {"baselines": {"gzip": 2.574, "ppmd": 1.236}, "ppmd_order": 16, "repeated": 0.2205, "test_over_ppmd": None}
LESS = "1.500 bits per byte do not beat the best baseline, PPMd of order 16 (1.236), which needs 0.264 fewer"
MORE = "1.100 bits per byte beat the best baseline, PPMd of order 16 (1.236), by 0.136 (11.0%)"


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        (1.5, {}, LESS),
        (1.5, {"test_over_ppmd": [0.264, 0.2, 0.31]}, f"{LESS}; 95 % interval 0.200 to 0.310"),
        (1.5, {"test_over_ppmd": [0.264, -0.01, 0.5]}, f"{LESS}; 95 % interval -0.010 to 0.500, so it may be chance"),
        (1.1, {"test_over_ppmd": [-0.136, -0.15, -0.12]}, f"{MORE}; 95 % interval 0.120 to 0.150"),
        (1.1, {"test_over_ppmd": [-0.136, -0.3, 0.02]}, f"{MORE}; 95 % interval -0.020 to 0.300, so it may be chance"),
        (1.236, {}, "1.236 bits per byte do not beat the best baseline, PPMd of order 16 (1.236), which needs 0.000 fewer"),
        (1.5, {"baselines": {"gzip": 2.0, "ppmd": 3.0}, "test_over_ppmd": [-1.5, -1.6, -1.4]},
         "1.500 bits per byte beat the best baseline, gzip (2.000), by 0.500 (25.0%)"),
    ],
)  # fmt: skip
def test_a_model_stands_beside_its_best_baseline(model, more, said):
    assert against_baselines(COUNTS | {"test_bpb": model} | more) == said


@pytest.mark.parametrize("advice", ["", "held-out text got worse; try fewer steps"])
def test_results_begin_with_the_verdict_and_say_why_a_run_stopped(advice):
    about = {
        "clean": {"documents": 9, "rejects": 1},
        "tokenize": {"vocab_size": 300},
        "train": {"steps": 9, "advice": advice},
    }
    about["pack"] = COUNTS | {"train_tokens": 90, "val_tokens": 10, "test_tokens": 10}
    stages = {name: SimpleNamespace(counts=counts, reused=True) for name, counts in about.items()}
    summary = dict.fromkeys(("longest_overlap", "facts", "parts")) | dict.fromkeys(
        ("model", "mlflow_url", "mlflow_run"), ""
    )
    summary |= {"verdict": "it wins", "epochs": 1.0, "parameters": 9, "test_bpb": 1.5, "baselines": COUNTS["baselines"]}
    summary |= {"assessing_seconds": 1.0, "peak_memory_bytes": 9}
    lines = render_text("run_results.txt", summary=summary, stages=stages).splitlines()
    assert lines[0] == "result: it wins"
    shown = "22.1% of the held-out text stands word for word in the training text, in runs of 50 characters or more"
    assert f"held out: {shown}" in lines
    assert (f"stopped early: {advice}" in lines) == bool(advice)
    assert any("stopped early" in line for line in lines) == bool(advice)
