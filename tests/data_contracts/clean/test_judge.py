"""The drop rules: at which value each rejects a text, and which reason is given."""

from dataclasses import replace

import polars as pl
import pytest

from data_contracts.clean.judge import DROP_RULES, judge, measure_all
from data_contracts.clean.measures import COLUMNS
from data_contracts.rules import Rules
from tests.data_contracts.rows import PUBLISHED


def judged(texts: list[str], rules: Rules) -> pl.DataFrame:
    measures = measure_all(pl.Series("text", texts), rules)
    return judge(pl.DataFrame({"text": texts}).hstack(measures), rules)


def reasons(*texts: str, **rules) -> list[str | None]:
    return judged(list(texts), Rules(**rules))["reason"].to_list()


PROSE = """The miller of the old town had a mill by the river, and he worked there with his two sons.
When the water was high they ground barley for people of the hills, who came down to the market on Friday.
In dry summers the wheel stood still; then the sons mended sacks, and their father sat in the shade to count coins."""


class TestDropRules:
    @pytest.mark.parametrize(
        ("name", "held", "kept", "rules"),
        [
            ("empty", "", "a", {}),
            ("empty", " \n ", "ab", {"min_chars": 2}),  # first of the rules
            ("too_short", "éé", "ééé", {"min_chars": 3}),
            ("too_long", "éééé", "ééé", {"max_chars": 3}),
            ("few_words", "one two", "one two three", {"min_words": 3}),
            ("word_length", "a bb", "bb bb", {"min_word_chars": 2}),
            ("word_length", "üüü üüüü", "üüü üüü", {"max_word_chars": 3}),
            ("symbols", "# a b", "# a b c", {"max_symbols": 0.25}),
            ("symbols", "so... it", "so.. it", {"max_symbols": 0.4}),
            ("symbols", "so… it", "so it", {"max_symbols": 0.4}),
            ("symbols", "# # a b c d e f g h", "# ... a b c d e f g h", {"max_symbols": 0.1}),  # each by itself
            ("many_words", "one two three", "one two", {"max_words": 2}),
            ("bullets", "- a\n• b", "- a\nb", {"max_bullets": 0.9}),
            ("ellipses", "a...\nb…\nc", "a...\nb\nc\nd", {"max_ellipses": 0.3}),
            ("letters", "a 1 2", "a 1", {"min_letter_words": 0.5}),
            ("stop_words", "it is the end", "(The end) of.", {"min_stop_words": 2}),
            ("repeated_lines", "a\na\nb", "a\nb\n\n\nbb\na\nc\nd\nee", {"max_repeated_lines": 0.3}),
            ("repeated_lines", "aaaa\nb\nc\nd\naaaa", "a\nb\nc\ndddddd\na", {"max_repeated_lines": 0.3}),  # characters
            ("repeated_paragraphs", "a\nb\n\nc\n\na\nb", "a\nb\n\nc\n\nb\na", {"max_repeated_paragraphs": 0.3}),
            ("top_ngrams", "a b c a b d e", "a b c d a e b", {"max_top_ngrams": 0.2}),
            ("repeated_ngrams", "a b c d e " * 2, "a b c d e " * 2 + "f g", {"max_repeated_ngrams": 0.45}),
            ("language", "Der Fluss biegt sich, und die alte Brücke wartet auf den Regen.",
             "The river bends, and the old bridge waits for the rain.", {"languages": ("en",)}),
        ],
    )  # fmt: skip
    def test_each_at_its_limit(self, name, held, kept, rules):
        assert reasons(held, kept, **rules) == [name, None]
        assert reasons(held) == [None] if name != "empty" else ["empty"]  # off by default

    def test_the_first_that_holds_is_the_reason(self):
        names = [rule.name for rule in DROP_RULES]
        assert reasons("", "# #", "a 1 # #", min_chars=4, min_words=5, max_symbols=0.1) == [
            "empty",
            "too_short",
            "few_words",
        ]
        assert names.index("too_short") < names.index("few_words") < names.index("symbols")

    def test_published_values_keep_prose_and_reject_the_rest(self):
        found = judged([PROSE, "#market #friday " * 40, "1 2 3 4 5 6 7 8 " * 10], PUBLISHED)
        assert found["reason"].to_list() == [None, "symbols", "word_length"]

    def test_what_was_not_measured_never_holds(self):
        nothing = pl.DataFrame({name: [None] for name in (*COLUMNS, "language")}, COLUMNS | {"language": pl.String})
        rules = replace(PUBLISHED, languages=("en",))
        broken = [rule.rejects(rules) for rule in DROP_RULES if rule.on(rules)]
        assert not nothing.select(pl.any_horizontal(broken).fill_null(False)).item()

    def test_measures_stay_beside_kept_and_rejected(self):
        found = judged(["two words", ""], Rules(languages=("en",)))
        assert found.columns == ["text", *COLUMNS, "language", "reason"]
        assert found["n_words"].to_list() == [2, 0]


def test_every_rule_has_a_name_of_its_own_and_a_reason():
    assert len({rule.name for rule in DROP_RULES}) == len(DROP_RULES)
    assert all(rule.reason for rule in DROP_RULES)
