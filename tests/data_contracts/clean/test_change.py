"""The rules, each by itself: what it changes and what it leaves alone, at which value it rejects, and what Rules refuses."""

import sys
import unicodedata
from dataclasses import fields
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts import DataError, corpora
from data_contracts.clean.change import (
    DROP_RULES,
    FIRST_RULES,
    LAST_RULES,
    NOT_COMPOSED,
    PUBLISHED,
    Rules,
    reason,
    text_rules,
)
from data_contracts.clean.judge import apply, held_out, judge, key, short_sha256
from data_contracts.clean.measures import COLUMNS

ALL_ON = Rules(entities=True, normalize="NFC", urls="mask", emails="mask", mentions="mask", spaces=True)
PLAIN = SimpleNamespace()  # a corpus without rules of its own
WITH_RULES = {name: corpora.load(name) for name in corpora.names() if hasattr(corpora.load(name), "RULES")}


def one(text: str, module=PLAIN, **rules) -> str:
    return apply(pl.Series([text]), module, Rules(**rules))[0].item()


def reasons(*texts: str, **rules) -> list[str | None]:
    return judge(pl.DataFrame({"text": texts}), Rules(**rules))["reason"].to_list()


class TestTextRules:
    @pytest.mark.parametrize(
        ("dirty", "clean"),
        [
            ("a\r\nb\rc\n\nd", "a\nb\nc\n\nd"),
            ("\ufeffa\x00b\x07\x0b\x0c\x1e\x7f\x85\x9fc\td", "abc\td"),
            ("a\u2581b", "a_b"),
            ("\n \t\n    def f():\n        return 1  \n\n ", "    def f():\n        return 1"),
            (" \n\t\n", ""),
        ],
        ids=["line ends", "control characters", "low block", "edges", "nothing but edges"],
    )
    def test_what_is_done_to_every_text(self, dirty, clean):
        assert one(dirty) == clean

    def test_what_is_done_to_none_unless_it_is_asked_for(self):
        text = "two  spaces,\n\n\n\u00a0 no-break, \u200bzero width, e\u0301, &amp; http://a.b me@a.b @me"
        assert one(text) == text

    @pytest.mark.parametrize(
        ("dirty", "clean"),
        [
            ("R&amp;D &lt;b&gt; &quot;&eacute;&hellip;", 'R&D <b> "é…'),
            ("&#39;&#x27;&#8212;&#X2014;", "''——"),
            ("a&#x200B;b&nbsp;c", "a\u200bb\u00a0c"),
            ("&amp;amp;", "&amp;"),
            ("a&#13;b&#12;&#xFEFF;&#x81;&#x1e;c", "a\nbc"),
            ("R&D, AT&T; a & b; &unknown; &#; &", "R&D, AT&T; a & b; &unknown; &#; &"),
        ],
        ids=["names", "numbers", "spaces", "once", "control characters of their own", "no entity"],
    )
    def test_entities(self, dirty, clean):
        assert one(dirty, entities=True) == clean

    def test_nfc_joins_and_orders(self):
        assert (
            one("e\u0301 \u212b \u1112\u1161\u11ab ק\u05bf\u05b8 \uf900", normalize="NFC") == "é Å 한 ק\u05b8\u05bf 豈"
        )

    @pytest.mark.parametrize(
        ("dirty", "clean"),
        [
            ("see http://a.b/c?d=e#f, or www.x.org.", "see <>, or <>."),
            ("(https://a.b/c). <http://a.b> \"http://a.b\" 'http://a.b' [x](http://a.b)!",
             "(<>). <<>> \"<>\" '<>' [x](<>)!"),
            ("https://en.wikipedia.org/wiki/C_(x)_(y), (see https://en.wikipedia.org/wiki/C_(x)).", "<>, (see <>)."),
            ("http://a.b/(c and http://d.e/)", "<>(c and <>)"),
            ("http://a.b/ü\nhttps://t.co/x…", "<>\n<>"),
            ("http:// is no address, nor is www. or a.b/c", "http:// is no address, nor is www. or a.b/c"),
        ],
        ids=["sentence", "quotes", "closed parentheses", "open parentheses", "beyond ASCII", "none"],
    )  # fmt: skip
    def test_urls(self, dirty, clean):
        assert one(dirty, urls="mask") == clean.replace("<>", "<url>")
        assert one(dirty, urls="drop") == clean.replace("<>", "").rstrip()

    @pytest.mark.parametrize(
        ("dirty", "clean"),
        [
            ("me@a.org, Me.You+x@sub.a-b.co.uk.", "<email>, <email>."),
            ("@me, me@home, a @ b.c", "@me, me@home, a @ b.c"),
        ],
        ids=["addresses", "none"],
    )
    def test_emails(self, dirty, clean):
        assert one(dirty, emails="mask") == clean
        assert one(dirty, emails="drop") == clean.replace("<email>", "")

    @pytest.mark.parametrize(
        ("dirty", "clean"),
        [
            ("@one @two, (@three)\n@four_4-x:@Zoë", "<user> <user>, (<user>)\n<user>:<user>"),
            ("u/name and /u/name", "<user> and <user>"),
            ("me@a.org @ 5 a@b @@x menu/items you/me r/u/s https://reddit.com/u/name",
             "me@a.org @ 5 a@b @@x menu/items you/me r/u/s https://reddit.com/u/name"),
        ],
        ids=["twitter", "reddit", "none"],
    )  # fmt: skip
    def test_mentions(self, dirty, clean):
        assert one(dirty, mentions="mask") == clean
        assert one(dirty, mentions="drop") == clean.replace("<user>", "").rstrip()

    def test_spaces(self):
        wide = "\t\u00a0\u1680\u2000\u2003\u200a\u202f\u205f\u3000"
        assert one(f"a{wide}b", spaces=True) == "a b"
        assert one("so\u00ad\u200b\u200e\u200f\u2060ft", spaces=True) == "soft"
        assert (
            one("\U0001f575\u200d\u2642 \u0645\u06cc\u200c", spaces=True) == "\U0001f575\u200d\u2642 \u0645\u06cc\u200c"
        )
        assert one("a \n \n\t\n\n b  c \nd", spaces=True) == "a\n\n b c\nd"

    def test_each_rule_says_what_it_changed(self):
        texts = pl.Series(["a\r\nb", "a\u2581b", "as it is", "e\u0301\r"])
        after, changed = apply(texts, PLAIN, Rules(normalize="NFC"))
        assert after.to_list() == ["a\nb", "a_b", "as it is", "é"]
        assert changed == {"line_ends": 2, "control_characters": 0, "normalize": 1, "low_block": 1, "edges": 1}
        assert texts.to_list() == ["a\r\nb", "a\u2581b", "as it is", "e\u0301\r"]  # the caller's own stay as they were

    def test_no_text_is_no_trouble(self):
        after, changed = apply(pl.Series([], dtype=pl.String), WITH_RULES["wiki"], ALL_ON)
        assert after.to_list() == []
        assert set(changed.values()) == {0}


def characters() -> list[str]:
    return [chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]


def test_every_character_that_nfc_changes_is_looked_at():
    """Alone; after another, as the second part of every canonical composition; and as a mark that may change its place."""
    every = characters()
    looked_at = dict(zip(every, pl.Series(every).str.contains(NOT_COMPOSED), strict=True))
    pairs = (unicodedata.decomposition(char).split() for char in every)
    seconds = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}
    jamo = {chr(number) for number in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # composed by arithmetic
    assert {char for char in every if unicodedata.normalize("NFC", char) != char and not looked_at[char]} == set()
    assert {char for char in seconds | jamo if not looked_at[char]} == set()
    assert {char for char in every if unicodedata.combining(char) and not looked_at[char]} == set()
    assert not any(
        looked_at[char] for char in "aé€ßø漢字한😀Жпривет«»“”–—…"
    )  # what common texts are made of costs nothing


def test_nfc_is_unicodedatas_for_every_character_after_a_letter():
    texts = pl.Series([f"{base}{char}." for base in ("", "e", "\u1100", "\uac00") for char in characters()])
    odd = texts.str.contains(NOT_COMPOSED)
    passed_by = texts.filter(~odd).to_list()
    assert [text for text in passed_by if unicodedata.normalize("NFC", text) != text] == []
    assert one(some := "".join(texts.filter(odd)), normalize="NFC") == unicodedata.normalize("NFC", some)


# What the rules look for, whole and in pieces, so that one rule's work may make another's.
PIECES = (
    *("a", "B", "e", " ", "  ", "\n", "\r", "\x00", "\x1e", "\t", "\ufeff", "\u200b", "\u00a0", "\u2581", "\u0301", "\u0323"),
    *("\u212b", "&", "#", "x", ";", "amp;", "&#13;", "&#x200B;", "&#769;", "&nbsp;", "&#9601;", "&lt;"),
    *("https://", "www.", "a.b"),
    *("@", "u/", "/", "me", ".", ",", "(", ")", "==", "===", "=", "Category:", "References", "{|", "|}", "|", "File:", ".jpg"),
    *("thumb|", "{{", "}}", "*", "* ", "\\", "_", "[", "](", "![", ">", "!<", "~~", "…", "https://t.co/x", "Q", ">>", "1"),
)  # fmt: skip
texts_of_pieces = st.lists(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(texts_of_pieces, st.sampled_from(["own", *WITH_RULES]), st.booleans())
def test_looking_only_where_it_may_matter_changes_nothing(texts, corpus, everything):
    """`apply` skips texts by `only` and `rare`: the same comes out of every rule on every text, one after another."""
    module, rules = WITH_RULES.get(corpus, PLAIN), ALL_ON if everything else Rules()
    whole, counts = pl.Series("text", texts), {}
    for rule in text_rules(getattr(module, "RULES", ()), rules):
        new = whole.to_frame().select(rule.change(pl.col("text"), rules)).to_series()
        counts[rule.name] = (new != whole).sum()
        whole = new
    after, changed = apply(pl.Series(texts), module, rules)
    assert after.to_list() == whole.to_list()
    assert changed == counts


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_cleaning_twice_changes_nothing_more(text):
    assert one(one(text)) == one(text)
    assert one(one(text, spaces=True, normalize="NFC"), spaces=True, normalize="NFC") == one(
        text, spaces=True, normalize="NFC"
    )


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
            ("letters", "a 1 2", "a 1", {"min_letter_words": 0.5}),
            ("stop_words", "it is the end", "it is the end of all", {"min_stop_words": 2}),
            ("repeated_lines", "a\na\nb", "a\nb\n\n\nb\nc", {"max_repeated_lines": 0.25}),
            ("repeated_ngrams", "a b c d e " * 2, "a b c d e " * 2 + "f g", {"max_repeated_ngrams": 0.125}),
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
        found = judge(pl.DataFrame({"text": [PROSE, "#market #friday " * 40, "1 2 3 4 5 6 7 8 " * 10]}), PUBLISHED)[
            "reason"
        ]
        assert found.to_list() == [None, "symbols", "word_length"]

    def test_what_was_not_measured_never_holds(self):
        nothing = pl.DataFrame(
            {name: [None] for name in COLUMNS} | {"language": [None]}, schema=COLUMNS | {"language": pl.String}
        )
        rules = Rules(
            **{field.name: getattr(PUBLISHED, field.name) for field in fields(Rules)} | {"languages": ("en",)}
        )
        assert nothing.select(reason(rules)).item() is None

    def test_measures_stay_beside_kept_and_rejected(self):
        judged = judge(pl.DataFrame({"text": ["two words", ""], "source_row": [4, 5]}), Rules(languages=("en",)))
        assert judged.columns == ["text", "source_row", *COLUMNS, "reason"]
        assert judged["n_words"].to_list() == [2, 0]

    def test_published_thresholds_are_sourced(self):
        known = [rule.name for rule in DROP_RULES if rule.source]
        assert [rule.name for rule in DROP_RULES if rule.on(PUBLISHED) and not rule.on(Rules())] == known


def test_names_and_reasons_of_rules_are_told_apart():
    for rules in ((*FIRST_RULES, *LAST_RULES), DROP_RULES):
        assert len({rule.name for rule in rules}) == len(rules)
        assert all(rule.reason for rule in rules)


class TestRules:
    def test_every_problem_is_said_at_once(self):
        wrong = {
            "min_chars": 0, "max_chars": -1, "min_word_chars": 4.0, "max_word_chars": 3.0, "normalize": "NFD",
            "urls": "hide", "emails": "hide", "mentions": "hide", "near_duplicates": "merge", "min_words": -1,
            "min_stop_words": -1, "max_symbols": -0.1, "min_letter_words": 1.1, "max_repeated_lines": 2.0,
            "max_repeated_ngrams": -1.0, "max_malformed": 1.5, "languages": ("en", "English"), "split_chars": 5,
            "val_fraction": 1.0,
        }  # fmt: skip
        with pytest.raises(DataError) as error:
            Rules(**wrong)
        message = str(error.value)
        assert message.startswith("rules: ")
        for name in wrong:
            assert name in message, name
        for value in ("'NFD' is not one of none, NFC", "'English'", "3.0 is less than min_word_chars 4.0", "below 0"):
            assert value in message
        assert "'en'," not in message

    def test_limits_that_are_off_do_not_quarrel(self):
        Rules(min_chars=500, max_chars=0, min_word_chars=3, max_word_chars=0, split_chars=0)
        with pytest.raises(DataError, match="max_chars 400 is less than min_chars 500"):
            Rules(min_chars=500, max_chars=400)
        with pytest.raises(DataError, match="split_chars 400 is less than 500"):
            Rules(min_chars=500, split_chars=400)


class TestSplit:
    def test_val_fraction_is_the_share_and_the_seed_the_choice(self):
        ids = short_sha256(pl.Series([f"text {number}" for number in range(20_000)]))
        val = pl.DataFrame(
            {
                "half": held_out(ids, Rules(val_fraction=0.5)),
                "few": held_out(ids, Rules(val_fraction=0.05)),
                "other": held_out(ids, Rules(val_fraction=0.05, seed=1)),
            }
        )
        assert abs(val["half"].mean() - 0.5) < 0.02
        assert abs(val["few"].mean() - 0.05) < 0.01
        assert (val["few"] & ~val["half"]).sum() == 0  # a larger share holds the smaller one
        assert (val["few"] & val["other"]).mean() < 0.01

    def test_ids_never_change(self):
        ids = short_sha256(pl.Series(["hello", "Grüße"]))
        assert ids.to_list() == ["2cf24dba5fb0a30e26e83b2ac5b9e29e", "f83e039796c6453a10f5519e39fd1139"]
        assert pl.DataFrame({"id": ids}).select(key(pl.col("id"))).to_series().to_list() == [
            int("2cf24dba5fb0a30", 16),
            int("f83e039796c6453", 16),
        ]
        assert held_out(ids, Rules(val_fraction=0.4)).to_list() == [False, True]
        assert held_out(ids, Rules(val_fraction=0.3, seed=3)).to_list() == [True, False]
