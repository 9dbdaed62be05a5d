"""Why a stage would run: what differs from the artifact that is there. Nothing is built to find out."""

from dataclasses import dataclass

from flows.recipe import Recipe, settle
from flows.stages.definitions import STAGES
from flows.store.artifacts import Artifact, Store, differences, make_key


@dataclass(frozen=True)
class Reason:
    stage: str
    because: str
    artifact: Artifact | None = None
    """that would be reused; None if the stage would run"""


def why(store: Store, recipe: Recipe) -> list[Reason]:
    """For each stage whether the flow would run it, and because of what. A stage after one that runs may still be reused: if
    the output of that one is the same, byte for byte."""
    digests: dict[str, str] = {}
    reasons = []
    for name, stage in STAGES.items():
        parameters, code = stage.parameters(recipe), stage.code(recipe)
        built = store.manifests(recipe.corpus, name)
        last: dict = built[-1] if built else {"parameters": parameters, "code": code}
        changes = differences(last["parameters"], parameters)
        changes += [f"code {last['code']} -> {code}"] if last["code"] != code else []
        if rebuilt := [wanted for wanted in stage.inputs if wanted not in digests]:
            first = f"{' and '.join(rebuilt)} first"
            because = "; ".join([*changes, first]) if changes else f"{first}; reused if its output is the same"
            reasons.append(Reason(name, because))
            continue
        inputs = {wanted: digests[wanted] for wanted in stage.inputs}
        found = store.find(recipe.corpus, name, make_key(name, parameters, inputs, code))
        if found:
            digests[name] = found.digest  # also of a damaged one: it is rebuilt to the same bytes
            damage = store.damage(found)
            because = "; ".join(damage) or f"{found.key} is up to date"
            if name == "clean":
                recipe, chosen = settle(recipe, found.counts)
                because += f"; from its {chosen}" if chosen else ""
            reasons.append(Reason(name, because, None if damage else found))
        elif built:
            changes += [f"input {line}" for line in differences(last["inputs"], inputs)]
            reasons.append(Reason(name, "; ".join(changes) or "the artifact was removed"))
        else:
            reasons.append(Reason(name, "never built"))
    return reasons
