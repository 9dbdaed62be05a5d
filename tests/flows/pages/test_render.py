"""What every page is laid out by: numbers, changes, tables and quotes, as Markdown and as HTML."""

import subprocess
import sys

import pytest

from data_contracts.facts import samples
from flows.pages.render import Table, columns, escape_markdown, plain
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
    assert plain(samples.changes(old, new, chars=100)) == shown


def test_a_change_far_in_is_shown_with_what_stands_around_it():
    old, new = "word " * 100 + "GONE " + "more " * 100, "word " * 100 + "more " * 100
    shown = plain(samples.changes(old, new, chars=80, around=True))
    assert shown.startswith("…")
    assert "word word[- GONE-] more more" in shown
    assert len(shown) < 100


@pytest.mark.parametrize(
    ("value", "shown"), [(1234567, "1,234,567"), (0.1234, "12.3%"), (0.0, "0.0%"), (0.0001, "<0.1%"), ("word", "word")]
)
def test_counts_shares_and_words(value, shown):
    assert plain(value) == shown


def test_a_column_is_what_its_first_cell_is():
    rows = [{"rule": "urls", "texts": 1, "share": 0.5, "example": [("gone", "x")]}]
    assert columns(rows, "rule", "texts", "share", "example").kinds == ["words", "number", "number", "parts"]
    assert Table(("kept_today",), []).kinds == ["words"]


def test_a_line_of_markdown_has_no_markup():
    assert escape_markdown("a | <b>\n[c](d) & `e`") == r"a \| \<b\> \[c\](d) &amp; \`e\`"


def test_pages_load_neither_prefect_nor_mlflow():
    names = [path.stem for path in (ROOT / "flows" / "pages").glob("*.py")]
    code = f"import {', '.join(f'flows.pages.{name}' for name in names)}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"prefect", "mlflow"} & set(run.stdout.split())
