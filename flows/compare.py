"""The flow `compare`: scores every model on every corpus's held-out text, beside what it cost and what it writes.

    prefect deployment run compare/all       # every champion, through a server and a worker
    gpt compare                              # the same flow, here and now

Its result is one dict of plain values. The terminal, MLflow's tables and figure, and Prefect's page are all made of it.
"""

import re
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a worker loads this file by its path

import flows.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when they are imported)

# isort: split

import mlflow
from mlflow.exceptions import MlflowException
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from pydantic import Field

from flows import UserError, progress
from flows.evaluation.comparison import measure
from flows.evaluation.scoring import MAX_BYTES, HeldOut, TrainedModel, find, held_out
from flows.home import shared_home
from flows.models.promotion import champions
from flows.pages.comparison_page import comparison_note, write_comparison
from flows.pages.comparison_text import BASELINES, short_names
from flows.pages.render import card_markdown
from flows.recipe import CORPUS_PATTERN, corpus_names, load_recipe
from flows.server import dead_runs
from flows.stages.run_stage import turn
from flows.store.artifacts import Store, to_artifact
from flows.store.locks import in_use
from flows.tracking.connection import answering, experiment_id, runs_url
from flows.tracking.run import ended, origin_tags


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
    store, experiment, tags = Store(shared_home()), experiment_id(), {"kind": "compare"} | origin_tags()
    with answering():
        run = mlflow.start_run(None, experiment, "compare", tags=tags, log_system_metrics=False)
    with ended(mlflow.set_tags, mlflow.end_run), in_use(shared_home(), progress.log_line):
        compared, notes = _models(store, models)
        texts = _texts(store, compared, corpora, max_bytes, notes)
        with turn(1), progress.progress_bar("compare") as report:
            result = measure(compared, texts, prompts or _prompts(texts), report)
        result["notes"] = notes + result["notes"]
        result |= {"mlflow_run": run.info.run_id, "mlflow_url": runs_url(experiment)}
        with TemporaryDirectory() as folder:
            write_comparison(Path(folder), result)
            try:
                _log(result, Path(folder))
            except (MlflowException, OSError) as error:  # the result is returned all the same
                result["notes"].append(f"MLflow did not take all of it: {str(error)[:200]}")
            if FlowRunContext.get():
                with suppress(Exception):
                    create_markdown_artifact(card_markdown(Path(folder)), key="comparison")
        return result


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
    """The held-out texts to score on: of the corpora, or of the models' own. Adds to the notes; raises UserError for none."""
    sources: dict[str, tuple[dict, dict]] = {}  # by the digest of the documents
    for corpus in dict.fromkeys(corpora or [model.corpus for model in models if model.corpus]):
        found = _packed(store, models, corpus, notes)
        if not found:
            missing = f"no held-out text of {corpus!r} is in this home"
            if corpora:
                raise UserError(f"{missing}; run: gpt train {corpus}")
            notes.append(f"{missing}, so it has no column (pruned?)")
        sources |= {clean["digest"]: (packed, clean) for packed, clean in found}
    if not sources:
        raise UserError(f"nothing to compare on: {'; '.join(notes)}; name corpora that are here with --corpus")
    of_corpus = Counter(clean["corpus"] for _, clean in sources.values())
    texts = []
    for digest, (packed, clean) in sources.items():
        name = clean["corpus"] if of_corpus[clean["corpus"]] == 1 else f"{clean['corpus']}@{digest[:8]}"
        baselines = dict.fromkeys(BASELINES) | packed["counts"]["baselines"]  # an older artifact lacks some
        text = replace(held_out(to_artifact(clean), limit), name=name, baselines=baselines)
        texts.append(text)
        if text.split == "val":
            notes.append(f"{name} is from before there was a test split: scored on val, by which its model was chosen")
        if len(text.documents) < text.of_documents:
            notes.append(
                f"{name}: {len(text.documents):,} of {text.of_documents:,} held-out documents, drawn by their ids, "
                f"{text.n_bytes:,} of {text.of_bytes:,} bytes (--bytes {limit}); its baselines are of all of them"
            )
    return texts


def _packed(store: Store, models: list[TrainedModel], corpus: str, notes: list[str]) -> list[tuple[dict, dict]]:
    """Manifests (packed, clean) of what the models of a corpus were trained on, or else of its newest; only of what is here."""
    trained = [model.packed for model in models if model.packed and model.corpus == corpus]
    if found := [(packed, clean) for packed in trained if (clean := store.made_from(packed, "clean"))]:
        return found
    for packed in reversed(store.manifests(corpus, "pack") if re.fullmatch(CORPUS_PATTERN, corpus) else []):
        if clean := store.made_from(packed, "clean"):
            if trained:
                notes.append(f"the documents of {corpus} that its model was measured on are gone; its newest stand in")
            return [(packed, clean)]
    return []


def _prompts(texts: list[HeldOut]) -> list[str]:
    """The first prompt of each corpus's recipe; the empty one, which begins a document, for a user's own corpus."""
    known = set(corpus_names())
    return list(dict.fromkeys(load_recipe(t.corpus).sample.prompts[0] if t.corpus in known else "" for t in texts))


def _log(result: dict, folder: Path) -> None:
    """Log the scores as metrics, which later comparisons have too, the page with its heat map, and the tables."""
    names = short_names(result)
    values = {f"bpb/{names[cell['model']]}/{cell['corpus']}": cell["bits_per_byte"] for cell in result["matrix"]}
    for name in ("parameters", "tokens_seen", "training_seconds", "tokens_scored_per_second"):
        values |= {f"{name}/{names[m['model']]}": m[name] for m in result["models"] if m[name] is not None}
    mlflow.log_metrics({re.sub(r"[^\w./ -]", "-", name): float(value) for name, value in values.items()})
    mlflow.log_param("models", ", ".join(model["model"] for model in result["models"])[:6000])
    mlflow.log_param("corpora", ", ".join(column["corpus"] for column in result["corpora"])[:6000])
    mlflow.set_tag("mlflow.note.content", comparison_note(result))
    mlflow.log_artifacts(str(folder), "comparison")
    answers: dict[str, dict] = {}
    for answer in result["answers"]:
        answers.setdefault(answer["prompt"], {"prompt": answer["prompt"]})[answer["model"]] = answer["text"]
    corpora = [{k: v for k, v in c.items() if k != "baselines"} | c["baselines"] for c in result["corpora"]]
    tables = result | {"corpora": corpora, "answers": list(answers.values())}
    for name in ("matrix", "models", "corpora", "answers"):
        rows = tables[name]
        mlflow.log_table({key: [row[key] for row in rows] for key in rows[0]}, f"comparison/{name}.json")
