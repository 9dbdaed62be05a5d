"""The card of a registered model: what it was made of and how, how good it is, what it is for, and its limits."""

from flows.pages.render import ranked, render_text
from flows.recipe import Recipe
from flows.store.artifacts import read_manifest
from flows.tracking.run import Tracker


def text(tracker: Tracker, recipe: Recipe) -> str:
    """As Markdown, the description of a version in MLflow's registry."""
    stages, source = tracker.stages, recipe.source
    counts = {name: value for stage in stages.values() for name, value in stage.counts.items()}
    where = "built in" if source.kind == "builtin" else recipe.source_page() or "files of its maker"
    manifest = read_manifest(stages["train"].folder) or {}
    return render_text(
        "model_card.md",
        recipe=recipe,
        counts=counts,
        source=where,
        digests={name: stage.digest[:32] for name, stage in stages.items() if name != "train"},
        seconds=f"{stages['train'].seconds:,.0f}",
        run=tracker.run_id,
        commit=manifest.get("git", {}).get("commit") or "of no commit",
        bits=ranked(counts["val_bpb"], counts["baselines"]),
    )
