"""The card of a registered model: what it was made of and how, how good it is, what it is for, and its limits."""

from flows.pages.render import render_text, spaced
from flows.recipe import Recipe
from flows.store.artifacts import read_manifest
from flows.tracking.run import Tracker


def text(tracker: Tracker, recipe: Recipe) -> str:
    """As Markdown, the description of a version in MLflow's registry."""
    stages = tracker.stages
    counts = {name: value for stage in stages.values() for name, value in stage.counts.items()}
    source = "built in" if recipe.source.kind == "builtin" else recipe.source_page() or "files of its maker"
    commit = (read_manifest(stages["train"].folder) or {})["git"]["commit"] or "of no commit"
    about = {"recipe": recipe, "counts": counts, "stages": stages, "source": source, "commit": commit}
    return spaced(render_text("model_card.md", run=tracker.run_id, **about))
