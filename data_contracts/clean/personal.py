"""What leads to a person, in texts: addresses of pages, mails and machines, names of accounts, phone numbers.

The settings keep, mask or drop each kind. `veil` hides it where a text is only shown.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

import polars as pl

from data_contracts.rules import MASKS, Rules, TextRule

# No address goes on over one of these: scripts without spaces (https://t.co/abc。次の文), Hangul, typographic quotes.
ENDS = (
    r"\s<>\"“”„«»"
    "\u0e00-\u0e7f\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
)
# Without the punctuation after it. A parenthesis that is closed again belongs to it: https://en.wikipedia.org/wiki/C_(x)
REST = rf"(?:[^{ENDS}()]|\([^{ENDS}()]*\))*(?:[^{ENDS}'.,;:!?()\]]|\([^{ENDS}()]*\))"
URL = rf"(?i:(?:https?|ftp)://|www\.){REST}"
# bit.ly/x: a path behind a domain that is common in posts. Without a path, amazon.com is the name of a company.
DOMAINS = (
    r"\.(?i:com|org|net|gov|edu|info|io|ly|co|me|tv|be|gl|gd|cc|it|to|tt|ms|gg|ai|app|dev|news|link|xyz|uk|us|ca|au|de|fr|eu|in"
    r"|jp|ru|ch|nl|es|st|al|ws|mp|rs)/"
)
BARE_URL = rf"(^|[^\w@./\-])(?:[A-Za-z0-9\-]+\.)*[A-Za-z0-9\-]+{DOMAINS}{REST}"
EMAIL = r"[\w.%+\-]+[@＠][\w\-]+(?:\.[\w\-]+)*\.[^\W\d_][\w\-]+"
# A handle has a letter. One that begins with digits has three, and is no hour: @10DowningStreet, but not @10am or @5k.
HANDLE = r"(?:_*[^\W\d_][\w\-]+|\d[\d_]*(?:[^\W\d_aApP]|[aApP][^\W\d_mM])[^\W\d_][\w\-]*)"
# @name of Twitter, u/name of Reddit. Groups 1 and 2 are the character before it.
MENTION = rf"(^|[^\w@＠])[@＠]{HANDLE}|(^|[^\w@/.])/?u/\w[\w\-]+"
# +91 98 1234-5678, (202) 456-1111, 1-800-273-8255, 0261-7161111. Not 2020-07-25: group 1 is the character before it.
PHONE = (
    r"(^|[^\w.+\-/=&?$€£#@%])(?:\(?\+(?:[ .\-()]{0,2}[0-9]){8,15}"
    r"|(?:1[ .\-]?)?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.\-])[2-9][0-9]{2}[ .\-][0-9]{4}"
    r"|0[1-9][0-9]{1,3}[ /\-][0-9]{3,4}[ \-]?[0-9]{3,4})(?-u:\b)"
)
IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]))")


class Kind(NamedTuple):
    """Something that leads to a person: what it looks like, where to look for it, and why it goes."""

    setting: str
    pattern: str | re.Pattern
    before: str
    """what the pattern finds and a mask leaves"""
    only: str
    reason: str

    def replace(self, mask: str) -> Callable[[pl.Expr], pl.Expr]:
        pattern = self.pattern
        if isinstance(pattern, str):
            return lambda text: text.str.replace_all(pattern, self.before + mask)
        public = lambda found: mask if _is_public(found[0]) else found[0]  # noqa: E731
        return lambda text: text.map_elements(lambda one: pattern.sub(public, one), return_dtype=pl.String)


NOISE = "addresses are noise to a small model, and lead to people"
KINDS = {
    "urls": Kind("urls", URL, "", r"://|(?i:www\.)", NOISE),
    "bare_urls": Kind("urls", BARE_URL, "${1}", DOMAINS, NOISE),
    "emails": Kind("emails", EMAIL, "", "@|＠", "private data: an address belongs to somebody who was not asked"),
    "mentions": Kind("mentions", MENTION, "${1}${2}", "@|＠|u/", "private data: a name that leads to an account"),
    "ip_addresses": Kind(
        "ip_addresses", IP, "", r"\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:", "private data: a public address of a machine"
    ),
    "phones": Kind("phones", PHONE, "${1}", r"\+|[0-9]{3}[ .\-/]?[0-9]{3}", "private data: somebody's telephone rings"),
}


def personal_rules(rules: Rules) -> list[TextRule]:
    """A rule for each kind, by the policy that the settings have for it."""
    masks = {name: MASKS[kind.setting] * (getattr(rules, kind.setting) == "mask") for name, kind in KINDS.items()}
    return [
        TextRule(name, kind.reason, kind.replace(masks[name]), only=kind.only, setting=kind.setting)
        for name, kind in KINDS.items()
    ]


def veil(text: pl.Expr, rules: Rules) -> pl.Expr:
    """Without what leads to a person, but for web addresses. @names stay if the rules keep them: they may be decorators."""
    for kind in KINDS.values():
        if kind.setting != "urls" and (kind.setting != "mentions" or rules.mentions != "keep"):
            text = kind.replace({"emails": "•••@•••", "mentions": "@•••"}.get(kind.setting, "•••"))(text)
    return text


def veiled(texts: list[str], rules: Rules) -> list[str]:
    """`veil`, of plain strings."""
    return pl.DataFrame({"text": texts}, {"text": pl.String}).select(veil(pl.col("text"), rules))["text"].to_list()


def _is_public(address: str) -> bool:
    try:
        return ip_address(address).is_global
    except ValueError:  # a version, an hour
        return False
