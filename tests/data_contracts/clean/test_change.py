"""The text rules, each by itself: what it changes and what it leaves alone."""

import sys
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts import corpora
from data_contracts.clean.change import NOT_COMPOSED, apply_rule, apply_rules, text_rules
from data_contracts.rules import Rules, TextRule

ALL_ON = Rules(entities=True, normalize="NFC", urls="mask", emails="mask", mentions="mask", spaces=True)
# The rules of each corpus that has its own; a user's has none.
OWN_RULES = {name: getattr(corpora.find(name), "RULES", ()) for name in corpora.names()}
OWN_RULES = {"own": ()} | {name: rules for name, rules in OWN_RULES.items() if rules}


def apply(texts: pl.Series, rules: Rules, own: tuple[TextRule, ...] = ()) -> tuple[pl.Series, dict[str, int]]:
    return apply_rules(texts, text_rules(own, rules))


def one(text: str, **rules) -> str:
    return apply(pl.Series([text]), Rules(**rules))[0].item()


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
        after, changed = apply(texts, Rules(normalize="NFC"))
        assert after.to_list() == ["a\nb", "a_b", "as it is", "é"]
        assert changed == {"line_ends": 2, "control_characters": 0, "normalize": 1, "low_block": 1, "edges": 1}
        assert texts.to_list() == ["a\r\nb", "a\u2581b", "as it is", "e\u0301\r"]  # the caller's own stay as they were

    def test_no_text_is_no_trouble(self):
        after, changed = apply(pl.Series([], dtype=pl.String), ALL_ON, OWN_RULES["wiki"])
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
@given(texts_of_pieces, st.sampled_from(list(OWN_RULES)), st.booleans())
def test_looking_only_where_it_may_matter_changes_nothing(texts, corpus, everything):
    """`apply_rules` skips texts by `only` and `rare`: the same comes out of every rule on every text, one after another."""
    active = text_rules(OWN_RULES[corpus], ALL_ON if everything else Rules())
    whole, counts = pl.Series("text", texts), {}
    for rule in active:
        new = apply_rule(whole, rule)
        counts[rule.name] = (new != whole).sum()
        whole = new
    after, changed = apply_rules(pl.Series(texts), active)
    assert after.to_list() == whole.to_list()
    assert changed == counts


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_cleaning_twice_changes_nothing_more(text):
    assert one(one(text)) == one(text)
    assert one(one(text, spaces=True, normalize="NFC"), spaces=True, normalize="NFC") == one(
        text, spaces=True, normalize="NFC"
    )


def test_every_rule_has_a_name_of_its_own_and_a_reason():
    rules = text_rules((), ALL_ON)
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.reason for rule in rules)
