"""The flow `ablate`: which rules of cleaning help. One small model is trained by the recipe, and one for each rule without it.

    prefect deployment run ablate/rules -p corpus=wsb
    gpt ablate wsb                                  # the same flow, here and now

What makes it fair. Only the rule differs: all models have the same shape, steps, seed and tokenizer. All are scored on one set
of texts: those held out for test, cleaned by none of the rules that are compared (but by those that all models have in common),
and without copies of what any model trains on. The tokenizer is trained on texts of that kind, too. On all of these texts a
model pays for what its rules hide from it, such as addresses; the page shows that. The verdict is on those of them that no
compared rule changes or drops: does a rule, by what it does to other texts, help to model these? It holds if the paired 95 %
interval over documents leaves out 0, and if the difference is larger than that to a second model of the recipe with another
seed. It is one of these steps and of this size.

Artifacts are those of a corpus <corpus>-ablation, so that no command takes one of these models for a model of the corpus.
"""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a worker loads this file by its path

import flows.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when they are imported)

# isort: split

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import State

from data_contracts import DataError
from data_contracts.rules import Rules
from flows import UserError, progress
from flows.evaluation import ablation, scoring
from flows.evaluation.ablation import RECIPE, SEED
from flows.evaluation.diff import documents
from flows.home import shared_home
from flows.pages.figures import draw, intervals
from flows.pages.render import card_markdown, publish
from flows.recipe import Recipe, Size, load_recipe, settle_size
from flows.server import dead_runs
from flows.stages.definitions import work_id
from flows.stages.parameters import reader_of
from flows.stages.run_stage import turn
from flows.store.artifacts import Artifact, Store, read_manifest
from flows.store.locks import in_use
from flows.tracking.run import tracked_run, untrained_run
from flows.train import Corpus, Minutes, Overrides, Steps, clean, download, fit_decoder, fit_tokenizer, pack

STEPS = 300
Jobs = dict[str, tuple[Recipe, Artifact]]  # of each model, by its name: the recipe and the documents


@flow(name="ablate", flow_run_name="{corpus}", persist_result=False, on_running=[dead_runs.hold_lock])
def ablate(
    corpus: Corpus,
    rules: list[str] = [],  # noqa: B006
    size: Size = "nano",
    steps: Steps = None,
    minutes: Minutes = None,
    seed: int | None = None,
    overrides: Overrides = {},  # noqa: B006
    source: str | None = None,
) -> dict:
    """Train a small model with and without each rule of cleaning, and say which rules help, hurt or do not matter.

    Args:
        corpus: name of a corpus that was downloaded here
        rules: to compare, such as mentions or mentions=drop; none: all that the recipe uses
        size: of the models: nano to xl, or a whole preset such as classic-tiny
        steps: training steps of each model; 300 if there are no minutes
        minutes: as many training steps as end in time for the recipe's model; the others take as many
        seed: of initial weights and the order of data, instead of the recipe's
        overrides: settings by name, such as {"train.lr": 0.001}
        source: folder or file to read instead of the recipe's source
    """
    asked: dict[str, Any] = {"size": size, "minutes": minutes, "steps": steps or (None if minutes else STEPS)}
    overrides = overrides if seed is None else overrides | {"train.seed": seed}
    recipe = load_recipe(corpus, source=source, overrides=overrides, **asked)
    others = ablation.other_values(recipe.clean, rules)
    recipes = {
        rule: load_recipe(corpus, source=source, overrides=overrides | {f"clean.{rule}": value}, **asked)
        for rule, value in others.items()
    }
    store = Store(shared_home(), progress.log_line)
    if not store.manifests(corpus, "download"):
        raise UserError(f"corpus {corpus!r} was never downloaded here; run: gpt clean {corpus}")
    with in_use(shared_home(), progress.log_line), untrained_run("ablate", corpus=corpus) as about:
        raw = _artifact(download(recipe))
        base = _artifact(clean(raw, recipe))
        recipe = settle_size(recipe, base.counts["train_bytes"]).model_copy(
            update={"corpus": f"{corpus}-ablation", "sample": replace(recipe.sample, evaluation_tokens=0)}
        )
        again = replace(recipe.train, seed=recipe.train.seed + 1)
        jobs: Jobs = {RECIPE: (recipe, base), SEED: (recipe.model_copy(update={"train": again}), base)}
        changed, notes = _add_rules(jobs, raw, {rule: other.clean for rule, other in recipes.items()})
        common = recipe.model_copy(
            update={"clean": replace(recipe.clean, **{rule: ablation.OFF[rule] for rule in changed})}
        )
        unruled = _artifact(clean(raw, common))
        text = scoring.held_out(unruled)
        fresh = ablation.without_copies(text.documents, {made.folder for _, made in jobs.values()})
        variants = [job.clean for job, _ in jobs.values()]
        fair = ablation.untouched(reader_of(recipe), fresh["text"], common.clean, variants)
        if not fair.any():
            raise UserError(f"the rules touch all held-out texts of {corpus}; compare fewer at a time, with --rules")
        text, tokenizer = replace(text, documents=fresh), _artifact(fit_tokenizer(unruled, common))
        nats, steps = _train(store, jobs, raw, tokenizer, text)
        used = {rule: getattr(recipe.clean, rule) != ablation.OFF[rule] for rule in changed}
        result = ablation.compare(nats, used, text.documents["n_bytes"].to_numpy(), fair)
        for row in result["rules"]:
            rule = row["rule"]
            row |= {"recipe": getattr(recipe.clean, rule), "instead": others[rule], "documents": changed[rule]}
        result |= {
            "corpus": corpus,
            "steps": steps,
            "texts": len(fair),
            "fair_texts": int(fair.sum()),
            "notes": notes,
        } | about
        _publish(result)
        return result


def _artifact(made: Artifact | State) -> Artifact:
    return made.result() if isinstance(made, State) else made  # a reused one comes as its state


def _add_rules(jobs: Jobs, raw: Artifact, variants: dict[str, Rules]) -> tuple[dict[str, int], list[str]]:
    """Add a job for each rule. Returns how many documents each changes, adds or takes away, and why others are left out."""
    (recipe, base), changed, notes = jobs[RECIPE], {}, []
    for rule, rules in variants.items():
        variant = recipe.model_copy(update={"clean": rules})
        try:
            made = _artifact(clean(raw, variant))
            kinds = documents(*(read_manifest(one.folder) or {} for one in (base, made)))
            number = sum(kind["number"] for kind in kinds if kind["documents"].startswith(("added", "gone", "changed")))
        except DataError as error:
            notes.append(f"{rule} is left out: {str(error).splitlines()[0]}")
            continue
        if number:
            jobs[rule], changed[rule] = (variant, made), number
        else:
            notes.append(f"{rule} is left out: it changes no document")
    if not changed:
        raise UserError("; ".join(notes) or "the recipe uses no rule; name some, with values, by --rules")
    for note in notes:
        progress.log_line(note)
    return changed, notes


def _train(
    store: Store, jobs: Jobs, raw: Artifact, tokenizer: Artifact, text: scoring.HeldOut
) -> tuple[dict[str, np.ndarray], int]:
    """Train each job's model in a run below the one that is active. Returns its nats on each document, and the steps of all."""
    from gpt.machine import device

    nats, steps = dict[str, np.ndarray](), 0
    for name, (recipe, made) in jobs.items():
        progress.log_line(f"model {len(nats) + 1} of {len(jobs)}: {name}")
        if steps and recipe.train.minutes:
            warmup = min(recipe.train.warmup_steps, steps)
            fixed = replace(recipe.train, minutes=0.0, steps=steps, warmup_steps=warmup)
            recipe = recipe.model_copy(update={"train": fixed})
        with tracked_run(recipe, f"{work_id(recipe)} {name}") as tracker:
            tracker.tags({"kind": "ablate", "mlflow.runName": f"{recipe.corpus}: {name}"})
            for artifact in (raw, made, tokenizer):
                tracker.stage(artifact)
            sequences = _artifact(pack(made, tokenizer, recipe))
            decoder = _artifact(fit_decoder(sequences, tokenizer, recipe))
        steps = steps or decoder.counts["steps"]
        with turn(1):
            loaded = scoring.load(scoring.find(store, decoder.path), device.prepare(recipe.runtime))
            nats[name] = scoring.score(loaded, text).document_nats
    return nats, steps


def _publish(result: dict) -> None:
    """Show the table and the figure on the pages of the run in MLflow and in Prefect."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        drawing = draw(folder / "rules", intervals, result["rules"], result["noise"])
        publish(folder, "ablation.jinja", result, title=f"Rules of {result['corpus']}", drawing=drawing)
        with suppress(MlflowException, OSError):  # the result is returned all the same
            mlflow.log_metrics({f"difference/{row['rule']}": row["difference"] for row in result["rules"]})
            mlflow.set_tag("mlflow.note.content", (folder / "card.md").read_text(encoding="utf-8"))
            mlflow.log_artifacts(temporary, "ablation")
        with suppress(Exception):
            create_markdown_artifact(card_markdown(folder), key=f"ablation-{result['corpus']}")
