"""The flow `compare`: scores every model on every corpus's held-out text, beside what it cost and what it writes.

Its result is one dict of plain values. The terminal, MLflow's tables, and Prefect's page are all made of it.
"""

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import flows.tracking.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when imported)

import mlflow
from prefect import flow
from pydantic import Field

from flows import UserError, progress
from flows.evaluation.comparison import measure
from flows.evaluation.scoring import MAX_BYTES, HeldOut, TrainedModel, find, held_out
from flows.models.promotion import champions
from flows.pages.render import publish
from flows.recipe import CORPUS_PATTERN, corpus_names, load_recipe
from flows.server import dead_runs
from flows.stages.run_stage import turn
from flows.store.artifacts import Store, to_artifact
from flows.tracking.run import log_page, untrained_run


@flow(name="compare", flow_run_name="compare", persist_result=False, on_running=[dead_runs.hold_lock])
def compare(
    models: list[str] = [],  # noqa: B006
    corpora: list[str] = [],  # noqa: B006
    max_bytes: Annotated[int, Field(ge=1)] = MAX_BYTES,
    prompts: list[str] = [],  # noqa: B006
) -> dict:
    """Score models on each corpus's held-out text, in bits per byte with 95 % intervals, and let them answer one another's
    prompts.

    Args:
        models: corpora, gpt-<corpus>/<version>, run ids or folders; none: every champion
        corpora: on whose held-out text; none: those of the models
        max_bytes: bytes of held-out text a corpus; of more, documents are drawn
        prompts: that each model goes on from; none: one of each corpus's recipe
    """
    store = Store()
    with untrained_run("compare") as about:
        compared, notes = _models(store, models)
        texts = _texts(store, compared, corpora, max_bytes, notes)
        with turn(1), progress.progress_bar("compare") as report:
            known = sorted({text.clean.corpus for text in texts} & set(corpus_names()))
            usual = [load_recipe(name).sample.prompts[0] for name in known] or [""]  # which begins a document
            result = measure(compared, texts, prompts or usual, report)
        result["notes"] = notes + result["notes"]
        result |= about
        names = short_names(result)
        found = {f"bpb/{names[cell['model']]}/{cell['corpus']}": cell["bits_per_byte"] for cell in result["matrix"]}
        metrics = {re.sub(r"[^\w./ -]", "-", name): float(value) for name, value in found.items()}
        with TemporaryDirectory() as folder:
            publish(Path(folder), "comparison.jinja", result)
            log_page(Path(folder), "comparison", "comparison", metrics)  # which later comparisons have, too
        with progress.left_out_if_it_fails("part of the tables in MLflow"):
            flat = [{k: v for k, v in row.items() if k != "baselines"} | row["baselines"] for row in result["corpora"]]
            for name, rows in (result | {"corpora": flat}).items():
                if name in ("matrix", "models", "corpora", "answers"):
                    mlflow.log_table({key: [row[key] for row in rows] for key in rows[0]}, f"comparison/{name}.json")
        return result


def short_names(result: dict) -> dict[str, str]:
    """Each model's corpus, or its own name where several models are of one corpus. Later comparisons use the same names."""
    own = {model["model"]: model["corpus"] or model["model"] for model in result["models"]}
    return {name: corpus if list(own.values()).count(corpus) == 1 else name for name, corpus in own.items()}


def _models(store: Store, names: list[str]) -> tuple[list[TrainedModel], list[str]]:
    """The named models, or all champions, and notes on them. A champion that cannot be found is left out with a note."""
    found, notes = [], []
    for name in dict.fromkeys(names) or champions():
        try:
            found.append(find(store, name))
        except UserError as error:
            if names:
                raise
            notes.append(f"{name} is left out: {error}")
    if not found:
        raise UserError("; ".join(notes) or "there is no champion yet; train a corpus (gpt corpora), or name models")
    unknown = "is not in this home: taken as packed by concat, and its cost is not known"
    return found, notes + [f"what {model.name} was trained on {unknown}" for model in found if not model.packed]


def _texts(store: Store, models: list[TrainedModel], corpora: list[str], limit: int, notes: list[str]) -> list[HeldOut]:
    """The newest held-out text of each corpus that is named, or has a model. Adds to the notes; raises UserError for none."""
    texts = []
    for corpus in dict.fromkeys(corpora or [model.corpus for model in models if model.corpus]):
        packed = store.manifests(corpus, "pack") if re.fullmatch(CORPUS_PATTERN, corpus) else []
        made = ((found, store.made_from(found, "clean")) for found in reversed(packed))
        if known := next(((found, clean) for found, clean in made if clean), None):
            texts.append(replace(held_out(to_artifact(known[1]), limit), baselines=known[0]["counts"]["baselines"]))
        elif corpora:
            raise UserError(f"no held-out text of {corpus!r} is in this home; run: gpt train {corpus}")
        else:
            notes.append(f"no held-out text of {corpus!r} is in this home, so it has no column (pruned?)")
    if not texts:
        raise UserError(f"nothing to compare on: {'; '.join(notes)}; name corpora that are here with --corpus")
    return texts
