"""The flow `ablate`: which rules of cleaning help. One small model is trained by the recipe, and one for each rule without it, or
with it where the recipe does not use it.

    prefect deployment run ablate/rules -p corpus=wsb
    gpt ablate wsb                                  # the same flow, here and now

What makes it fair. Only the rule differs: all models have the same shape, steps, seed and tokenizer, which is trained on texts
that no rule touched. All are scored on one set of texts: those held out for test, as the source has them but for the rules that
cannot be turned off, and without copies of what any model trains on. On all of these a model pays for what its rules hide from
it, such as addresses; the page shows that, too. A verdict is on those of them that no rule of any model changes or drops: does
the rule, by what it does to other texts, help to model these? It holds if the 95 % interval over documents leaves out 0, and if
the difference is larger than that to a second model of the recipe with another seed.

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
from flows.home import shared_home
from flows.pages.figures import draw, intervals
from flows.pages.render import card_markdown, columns, publish
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
Job = tuple[Recipe, Artifact]  # and its clean documents


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
    asked: dict[str, Any] = {"size": size, "steps": steps or (None if minutes else STEPS), "minutes": minutes}
    common = overrides if seed is None else overrides | {"train.seed": seed}
    recipe = load_recipe(corpus, source=source, overrides=common, **asked)
    others = ablation.other_values(recipe.clean, rules)
    variants = {
        name: load_recipe(corpus, source=source, overrides=common | {f"clean.{name}": value}, **asked).clean
        for name, value in others.items()
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
        jobs, notes = _jobs(recipe, raw, base, variants)
        plain = _artifact(clean(raw, _changed(recipe, clean=replace(recipe.clean, **ablation.OFF))))
        text = scoring.held_out(plain)
        text = replace(
            text, documents=ablation.without_copies(text.documents, {made.folder for _, made in jobs.values()})
        )
        settings = [variant.clean for variant, _ in jobs.values()]
        fair = ablation.untouched(reader_of(recipe), text.documents["text"], settings)
        if not fair.any():
            raise UserError(f"the rules touch all held-out texts of {corpus}; compare fewer at a time, with --rules")
        models = _train(raw, _artifact(fit_tokenizer(plain, recipe)), jobs)
        nats = _score(store, recipe, models, text)
        result = {"corpus": corpus, "steps": models[RECIPE].counts["steps"], "notes": notes, "texts": len(fair)}
        result |= {"fair_texts": int(fair.sum())} | about
        result |= ablation.compare(recipe.clean, others, nats, text.documents["n_bytes"].to_numpy(), fair)
        _publish(result)
        return result


def _artifact(made: Artifact | State) -> Artifact:
    return made.result() if isinstance(made, State) else made  # a reused one comes as its state


def _changed(recipe: Recipe, **sections: object) -> Recipe:
    return recipe.model_copy(update=sections)


def _jobs(
    recipe: Recipe, raw: Artifact, base: Artifact, variants: dict[str, Rules]
) -> tuple[dict[str, Job], list[str]]:
    """What to train: the recipe, the same with another seed, each rule; and notes on the rules that are left out."""
    other_seed = replace(recipe.train, seed=recipe.train.seed + 1)
    jobs, notes = {RECIPE: (recipe, base), SEED: (_changed(recipe, train=other_seed), base)}, []
    for name, rules in variants.items():
        variant = _changed(recipe, clean=rules)
        try:
            documents = _artifact(clean(raw, variant))
        except DataError as error:
            notes.append(f"{name} is left out: {str(error).splitlines()[0]}")
            continue
        if _texts(documents) == _texts(base):
            notes.append(f"{name} is left out: it changes no document")
        else:
            jobs[name] = variant, documents
    for note in notes:
        progress.log_line(note)
    if len(jobs) == 2:
        raise UserError("; ".join(notes) or f"the recipe of {recipe.corpus} uses no rule; name some with --rules")
    return jobs, notes


def _texts(documents: Artifact) -> list[str]:
    """What identifies the documents, without the counts of their report."""
    files = (read_manifest(documents.folder) or {})["files"]
    return [files[name]["sha256"] for name in sorted(files) if name.startswith("documents/")]


def _train(raw: Artifact, tokenizer: Artifact, jobs: dict[str, Job]) -> dict[str, Artifact]:
    """A model for each job, each in a run below the one that is active."""
    models: dict[str, Artifact] = {}
    for name, (recipe, documents) in jobs.items():
        progress.log_line(f"model {len(models) + 1} of {len(jobs)}: {name}")
        if models and recipe.train.minutes:
            steps = models[RECIPE].counts["steps"]
            warmup = min(recipe.train.warmup_steps, steps)
            recipe = _changed(recipe, train=replace(recipe.train, minutes=0.0, steps=steps, warmup_steps=warmup))
        with tracked_run(recipe, f"{work_id(recipe)} {name}") as tracker:
            tracker.tags({"kind": "ablate", "mlflow.runName": f"{recipe.corpus}: {name}"})
            for artifact in (raw, documents, tokenizer):
                tracker.stage(artifact)
            sequences = _artifact(pack(documents, tokenizer, recipe))
            models[name] = _artifact(fit_decoder(sequences, tokenizer, recipe))
    return models


def _score(store: Store, recipe: Recipe, models: dict[str, Artifact], text: scoring.HeldOut) -> dict[str, np.ndarray]:
    """Nats of each model on each document."""
    from gpt.machine import device

    nats: dict[str, np.ndarray] = {}
    with turn(1), progress.progress_bar("score") as report:
        machine = device.prepare(recipe.runtime)
        for name, model in models.items():
            report(len(nats) / len(models), name)
            loaded = scoring.load(scoring.find(store, model.path), machine)
            nats[name] = scoring.score(loaded, text).document_nats
    return nats


def _publish(result: dict) -> None:
    """The table and the figure, on the pages of the run in MLflow and in Prefect."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        drawing = draw(folder / "rules", intervals, result["rules"], result["noise"])
        table = columns([ablation.in_words(row) for row in result["rules"]], *ablation.in_words(result["rules"][0]))
        title = f"Rules of cleaning: {result['corpus']}"
        publish(folder, "ablation.jinja", result, title=title, rows=table, drawing=drawing)
        with suppress(MlflowException, OSError):  # the result is returned all the same
            mlflow.log_metrics({f"difference/{row['rule']}": row["difference"] for row in result["rules"]})
            mlflow.set_tag("mlflow.note.content", (folder / "card.md").read_text(encoding="utf-8"))
            mlflow.log_artifacts(temporary, "ablation")
        with suppress(Exception):
            create_markdown_artifact(card_markdown(folder), key=f"ablation-{result['corpus']}")
