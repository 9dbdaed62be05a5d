"""What leads to a person, in texts: addresses of pages, mails and machines, names of accounts, phone numbers.

The settings keep, mask or drop each kind. `veil` hides it where a text is only shown.
"""

import re
from functools import partial
from ipaddress import ip_address

import polars as pl

from data_contracts.rules import MASKS, Rules, TextRule

# Scripts without spaces, and Hangul: no address, and no handle, goes on over one of these (https://t.co/abc。次の文).
SCRIPTS = (
    "\u0e00-\u0e7f\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
)
ENDS = r"\s<>\"“”„«»" + SCRIPTS
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
NAME = rf"[\w\-&&[^{SCRIPTS}]]"
HANDLE = rf"(?:_*[^\W\d_]{NAME}+|\d[\d_]*(?:[^\W\d_aApP][^\W\d_]|[aApP][^\W\d_mM])[^\W\d_]{NAME}*)"
# @name of Twitter, u/name of Reddit. Groups 1 and 2 are the character before it.
MENTION = rf"(^|[^A-Za-z0-9_@＠])[@＠]{HANDLE}|(^|[^\w@/.])/?u/\w[\w\-]+"
# +91 98 1234-5678, (202) 456-1111, 1-800-273-8255, 0261-7161111. Not 2020-07-25: group 1 is the character before it.
PHONE = (
    r"(^|[^\w.+\-/=&?$€£#@%])(?:\(?\+(?:[ .\-()]{0,2}[0-9]){8,15}"
    r"|(?:1[ .\-]?)?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.\-])[2-9][0-9]{2}[ .\-][0-9]{4}"
    r"|0[1-9][0-9]{1,3}[ /\-][0-9]{3,4}[ \-]?[0-9]{3,4})(?-u:\b)"
)
IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]))")


NOISE = "addresses are noise to a small model, and lead to people"
# By rule: its setting, what is looked for, what of that a mask leaves, where to look, and why.
KINDS: dict[str, tuple[str, str | re.Pattern, str, str, str]] = {
    "urls": ("urls", URL, "", r"://|(?i:www\.)", NOISE),
    "bare_urls": ("urls", BARE_URL, "${1}", DOMAINS, NOISE),
    "emails": ("emails", EMAIL, "", "@|＠", "private data: an address belongs to somebody who was not asked"),
    "mentions": ("mentions", MENTION, "${1}${2}", "@|＠|u/", "private data: a name that leads to an account"),
    "ip_addresses": ("ip_addresses", IP, "", r"\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:", "private data: a machine"),
    "phones": ("phones", PHONE, "${1}", r"\+|[0-9]{3}[ .\-/]?[0-9]{3}", "private data: somebody's telephone rings"),
}


def personal_rules(rules: Rules) -> list[TextRule]:
    """A rule for each kind, by the policy that the settings have for it."""
    found = []
    for name, (setting, pattern, before, only, reason) in KINDS.items():
        by = before + MASKS[setting] * (getattr(rules, setting) == "mask")
        found.append(TextRule(name, reason, partial(_replace, pattern=pattern, by=by), only=only, setting=setting))
    return found


def veil(text: pl.Expr, rules: Rules) -> pl.Expr:
    """Without what leads to a person, but for web addresses. @names stay if the rules keep them: they may be decorators."""
    for setting, pattern, before, *_ in KINDS.values():
        if setting != "urls" and (setting != "mentions" or rules.mentions != "keep"):
            text = _replace(text, pattern, before + {"emails": "•••@•••", "mentions": "@•••"}.get(setting, "•••"))
    return text


def veiled(texts: list[str], rules: Rules) -> list[str]:
    """`veil`, of plain strings."""
    return pl.DataFrame({"text": texts}, {"text": pl.String}).select(veil(pl.col("text"), rules))["text"].to_list()


def _replace(text: pl.Expr, pattern: str | re.Pattern, by: str) -> pl.Expr:
    if isinstance(pattern, str):
        return text.str.replace_all(pattern, by)
    return text.map_elements(
        lambda one: pattern.sub(lambda found: by if _is_public(found[0]) else found[0], one), return_dtype=pl.String
    )


def _is_public(address: str) -> bool:
    try:
        return ip_address(address).is_global
    except ValueError:  # a version, an hour
        return False
