"""What leads to a person, in texts: web addresses, e-mail addresses and names of accounts. The settings mask or drop it."""

from collections.abc import Callable

import polars as pl

from data_contracts.rules import Rules, TextRule

# Without the punctuation after it. A parenthesis that is closed again belongs to it: https://en.wikipedia.org/wiki/C_(x)
URL = r"(?:https?://|www\.)(?:[^\s<>\"()]|\([^\s<>\"()]*\))*(?:[^\s<>\"'.,;:!?()\]]|\([^\s<>\"()]*\))"
EMAIL = r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+"
# @name of Twitter, u/name of Reddit. Group 1 is the character before it.
MENTION = r"(^|[^\w@/.])(?:@|/?u/)\w[\w\-]+"


# What the setting of that name hides: pattern, mask, where to look for it, why. The mask begins with what it leaves.
KINDS = {
    "urls": (URL, "<url>", r"://|www\.", "addresses are noise to a small model, and lead to people"),
    "emails": (EMAIL, "<email>", "@", "private data: an address belongs to somebody who was not asked"),
    "mentions": (MENTION, "${1}<user>", "@|u/", "private data: a name that leads to an account"),
}


def personal_rules(rules: Rules) -> list[TextRule]:
    """A rule for each kind, by the policy that the settings have for it."""
    found = []
    for name, (pattern, mask, only, reason) in KINDS.items():
        replacement = mask if getattr(rules, name) == "mask" else mask.partition("<")[0]
        found.append(TextRule(name, reason, _replace(pattern, replacement), only=only, setting=name))
    return found


def _replace(pattern: str, replacement: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda text: text.str.replace_all(pattern, replacement)
