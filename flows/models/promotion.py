"""Which version of a registered model is the champion.

The alias `champion` moves to a new version only if that version has fewer bits per byte than the champion on the same
held-out documents, and the 95 % interval of the difference, drawn over documents, excludes 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mlflow

from flows.models.lookup import registered_version
from flows.tracking.connection import answering
from flows.tracking.run import Tracker
from gpt.evaluation.confidence import Interval

CHAMPION = "champion"


@dataclass(frozen=True)
class Challenge:
    """A new version, the challenger, and the champion on the same held-out documents, in bits per byte."""

    challenger: float
    champion: float
    difference: Interval
    """challenger - champion"""
    documents: int
    excluded: int
    """held-out documents on which neither is scored, since the champion was trained on them"""


def champions() -> list[str]:
    """`gpt-<corpus>/<version>` of every champion, sorted. Raises UserError when MLflow does not answer."""
    with answering():
        models = mlflow.MlflowClient().search_registered_models("name LIKE 'gpt-%'")
    return sorted(f"{model.name}/{model.aliases[CHAMPION]}" for model in models if CHAMPION in model.aliases)


def named_decoders() -> dict[str, str]:
    """Every registered version that has an alias, such as the champions and what a person has pinned: `gpt-<corpus>/<version>
    (its aliases)` by the digest of the decoder. Raises UserError when MLflow does not answer."""
    named: dict[str, str] = {}
    with answering():
        client = mlflow.MlflowClient()
        for model in client.search_registered_models("name LIKE 'gpt-%'", max_results=1000):
            for version in set(model.aliases.values()):
                aliases = ", ".join(sorted(alias for alias, of in model.aliases.items() if of == version))
                digest = client.get_model_version(model.name, version).tags.get("digest", "")
                named[digest] = f"{model.name}/{version} ({aliases})"
    return named


def pin(model: str, pinned: bool = True) -> str:
    """Give a registered version an alias of its own, which keeps it and all that it was made from, or take that alias from it.
    Returns `gpt-<corpus>/<version>`. Raises UserError when MLflow has no such version, or does not answer."""
    version, client = registered_version(model), mlflow.MlflowClient()
    alias = f"pinned-{version.version}"
    if pinned:
        client.set_registered_model_alias(version.name, alias, version.version)
    else:
        client.delete_registered_model_alias(version.name, alias)
    return f"{version.name}/{version.version}"


def promote(tracker: Tracker, name: str, new: str, challenge: Callable[[str], Challenge | None]) -> str:
    """Make version `new` of a registered model its champion if it is better; returns the decision and its reason.

    challenge: compares the new version with a champion, given as `name/version`; None if no document can be compared on.
    """
    client = tracker.client
    present = client.get_registered_model(name).aliases.get(CHAMPION)
    if present is None:
        client.set_registered_model_alias(name, CHAMPION, new)
        return f"version {new} is the first"
    if str(present) == new:
        return f"version {new} stays champion"
    if verdict := client.get_model_version(name, new).tags.get(f"against.{present}"):
        return verdict  # a reused decoder is not measured again
    try:
        with tracker.assessing():
            result = challenge(f"{name}/{present}")
    except Exception as error:  # whatever it is, the new model is trained and registered
        return f"version {present} stays: it cannot be scored to compare ({str(error)[:200]})"
    verdict = _verdict(new, str(present), result)
    if result and result.difference.high < 0:
        client.set_registered_model_alias(name, CHAMPION, new)
    else:
        client.set_model_version_tag(name, new, f"against.{present}", verdict)
    return verdict


def _verdict(new: str, present: str, result: Challenge | None) -> str:
    """The decision in a sentence, with the figures behind it."""
    if not result:
        return f"version {present} stays: it was trained on all that is held out now, so the two do not compare"
    gap = result.difference
    decision, reason = f"version {present} stays", ", within the noise"
    if gap.high < 0:
        decision, reason = f"version {new} replaces {present}", ""
    elif gap.low > 0:
        reason = ", worse than the champion"
    excluded = f" (not on {result.excluded} that version {present} was trained on)" if result.excluded else ""
    return (
        f"{decision}: version {new} has {result.challenger:.4f} bits per byte against {result.champion:.4f} on "
        f"{result.documents:,} held-out documents{excluded}; difference {gap.value:+.4f}, "
        f"95 % interval {gap.low:+.4f} to {gap.high:+.4f}{reason}"
    )
