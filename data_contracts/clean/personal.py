"""What leads to a person, in texts: web addresses, e-mail addresses and names of accounts. The settings mask or drop it."""

from collections.abc import Callable

import polars as pl

from data_contracts.rules import Rules, TextRule

# Without the punctuation after it. A parenthesis that is closed again belongs to it: https://en.wikipedia.org/wiki/C_(x)
URL = r"(?:https?://|www\.)(?:[^\s<>\"()]|\([^\s<>\"()]*\))*(?:[^\s<>\"'.,;:!?()\]]|\([^\s<>\"()]*\))"
EMAIL = r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+"
# @name of Twitter, u/name of Reddit. Group 1 is the character before it.
MENTION = r"(^|[^\w@/.])(?:@|/?u/)\w[\w\-]+"


def personal_rules(rules: Rules) -> tuple[TextRule, ...]:
    """A rule for each kind, by the policy that the settings have for it."""
    return (
        TextRule(
            "urls",
            "addresses are noise to a small model, and lead to people",
            _hide(URL, "<url>", rules.urls),
            only=r"://|www\.",
            setting="urls",
        ),
        TextRule(
            "emails",
            "private data: an address belongs to somebody who was not asked",
            _hide(EMAIL, "<email>", rules.emails),
            only="@",
            setting="emails",
        ),
        TextRule(
            "mentions",
            "private data: a name that leads to an account",
            _hide(MENTION, "<user>", rules.mentions, keep="${1}"),
            only="@|u/",
            setting="mentions",
        ),
    )


def _hide(pattern: str, mask: str, policy: str, keep: str = "") -> Callable[[pl.Expr], pl.Expr]:
    replacement = keep + (mask if policy == "mask" else "")
    return lambda text: text.str.replace_all(pattern, replacement)
