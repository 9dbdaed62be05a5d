"""Why a stage would run: what differs from the artifact that is there. Nothing is built to find out."""

from dataclasses import dataclass

from flows.recipe import Recipe, settle_size
from flows.stages.definitions import STAGES
from flows.store.artifacts import Artifact, Store, differences, make_key


@dataclass(frozen=True)
class Reason:
    stage: str
    runs: bool
    because: str
    artifact: Artifact | None = None
    """what would be reused"""


def why(store: Store, recipe: Recipe) -> list[Reason]:
    """For each stage whether the flow would run it, and because of what. A stage after one that runs may still be reused,
    if what comes out is equal, byte for byte."""
    digests: dict[str, str] = {}
    reasons = []
    for name, stage in STAGES.items():
        parameters, code = stage.parameters(recipe), stage.code(recipe)
        waiting = [wanted for wanted in stage.inputs if wanted not in digests]
        before = store.manifests(recipe.corpus, name)
        changes = []
        if before:
            last = before[-1]
            changes = differences(last["parameters"], parameters)
            changes += [f"code {last['code']} -> {code}"] if last["code"] != code else []
        if waiting:
            because = "; ".join([*changes, f"{' and '.join(waiting)} first"]) + (
                "" if changes else "; reused if its output is the same"
            )
            reasons.append(Reason(name, True, because))
            continue
        inputs = {wanted: digests[wanted] for wanted in stage.inputs}
        found = store.find(recipe.corpus, name, make_key(name, parameters, inputs, code))
        damage = store.damage(found) if found else []
        if found and not damage:
            digests[name] = found.digest
            recipe = settle_size(recipe, found.counts["train_bytes"]) if name == "clean" else recipe
            reasons.append(Reason(name, False, f"{found.key} is up to date", found))
        elif damage:
            digests[name] = found.digest  # it is rebuilt to the same bytes
            reasons.append(Reason(name, True, "; ".join(damage)))
        elif before:
            changes += [f"input {line}" for line in differences(last["inputs"], inputs)]
            reasons.append(Reason(name, True, "; ".join(changes) or "the artifact was removed"))
        else:
            reasons.append(Reason(name, True, "never built"))
    return reasons
