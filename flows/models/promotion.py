"""Which version of a registered model is the champion.

The alias `champion` moves to a new version only if that version has fewer bits per byte than the champion on the same
held-out documents, and the 95 % interval of the difference, drawn over documents, excludes 0.
"""

from collections.abc import Callable

import mlflow

from flows.models.lookup import registered_version
from flows.tracking.connection import answering
from flows.tracking.run import Tracker

CHAMPION = "champion"


def champions() -> list[str]:
    """`gpt-<corpus>/<version>` of every champion, sorted. Raises UserError when MLflow does not answer."""
    return sorted(f"{name}/{version}" for name, alias, version in _aliases() if alias == CHAMPION)


def named_decoders() -> set[str]:
    """The digests of the decoders of all registered versions that have an alias, such as the champions and what a person has
    pinned. Raises UserError when MLflow does not answer."""
    named, client = {(name, version) for name, _, version in _aliases()}, mlflow.MlflowClient()
    with answering():
        return {client.get_model_version(name, version).tags.get("digest", "") for name, version in named}


def _aliases() -> list[tuple[str, str, str]]:
    """(registered model, alias, version), of all."""
    with answering():
        models = mlflow.MlflowClient().search_registered_models("name LIKE 'gpt-%'", max_results=1000)
    return [(model.name, alias, version) for model in models for alias, version in model.aliases.items()]


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


def promote(tracker: Tracker, name: str, new: str, challenge: Callable[[str], tuple[bool, str]]) -> str:
    """Make version `new` of a registered model its champion if it is better; returns the decision and its reason.

    challenge: whether it is better than a champion, given as `name/version`, and the figures that say so.
    """
    client = tracker.client
    present = client.get_registered_model(name).aliases.get(CHAMPION)
    if present is None:
        client.set_registered_model_alias(name, CHAMPION, new)
        return f"version {new} is the first"
    if str(present) == new:
        return f"version {new} stays champion"
    try:
        with tracker.assessing():
            better, figures = challenge(f"{name}/{present}")
    except Exception as error:  # whatever it is, the new model is trained and registered
        return f"version {present} stays: it cannot be scored to compare ({str(error)[:200]})"
    if not better:
        return f"version {present} stays: {figures}"
    client.set_registered_model_alias(name, CHAMPION, new)
    return f"version {new} replaces {present}: {figures}"
