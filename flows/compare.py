"""The flow that compares: every model on every corpus's held-out text, what it cost, and what it writes.

    prefect deployment run compare/all       # every champion, through a server and a worker
    gpt compare                              # the same flow, here and now

Its result is one dict of plain values, from which the terminal, MLflow's tables and figure, and Prefect's page are all made.
"""

import math
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # a worker loads this file by its path

from flows.home import prepare, shared_home  # noqa: E402

prepare()

import mlflow  # noqa: E402
from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from prefect import flow  # noqa: E402
from prefect.artifacts import create_markdown_artifact  # noqa: E402
from prefect.context import FlowRunContext  # noqa: E402
from pydantic import Field  # noqa: E402

from flows import UserError, progress  # noqa: E402
from flows import recipe as recipes  # noqa: E402
from flows.evaluation import scoring  # noqa: E402
from flows.evaluation.scoring import BYTES, Entrant, Loaded, Text  # noqa: E402
from flows.models.register import CHAMPION  # noqa: E402
from flows.pages.comparison import short_names  # noqa: E402
from flows.pages.comparison_page import comparison_note, write_comparison  # noqa: E402
from flows.pages.render import card_markdown  # noqa: E402
from flows.server import dead_runs  # noqa: E402
from flows.store.artifacts import Store  # noqa: E402
from flows.store.locks import in_use  # noqa: E402
from flows.tracking import run as tracking  # noqa: E402
from gpt.config import Runtime  # noqa: E402
from gpt.evaluation.confidence import interval  # noqa: E402

WRITTEN = {"max_tokens": 64, "temperature": 0.8, "top_k": 50, "seed": 0}  # how every model answers a prompt

Most = Annotated[int, Field(ge=1)]


@flow(name="compare", flow_run_name="compare", persist_result=False, on_running=[dead_runs.hold])
def compare(
    models: list[str] = [],  # noqa: B006
    corpora: list[str] = [],  # noqa: B006
    max_bytes: Most = BYTES,
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
    store = Store(shared_home())
    with in_use(shared_home()), _run() as (client, run_id, url):
        entrants, notes = _entrants(store, models)
        texts = _texts(store, entrants, corpora, max_bytes, notes)
        with progress.bar("compare") as report:
            result = measure(entrants, texts, prompts or _prompts(texts), report)
        result["notes"] = notes + result["notes"]
        result |= {"mlflow_run": run_id, "mlflow_url": url}
        with TemporaryDirectory() as folder:
            write_comparison(Path(folder), result)
            try:
                _to_mlflow(client, run_id, result, Path(folder))
            except (MlflowException, OSError) as error:  # the figures are there all the same
                result["notes"].append(f"MLflow did not take all of it: {str(error)[:200]}")
            if FlowRunContext.get():
                with suppress(Exception):
                    create_markdown_artifact(card_markdown(Path(folder)), key="comparison")
        return result


def measure(entrants: list[Entrant], texts: list[Text], prompts: list[str], report: progress.Report) -> dict:
    """Every model on every text. Plain values alone, as --json prints them; None is an end of an interval that has none."""
    from gpt.machine import device

    machine = device.prepare(Runtime())
    nats, models, cells, answers, notes = {}, [], [], [], []
    share = 1 / len(entrants)
    for number, entrant in enumerate(entrants):
        loaded, n_tokens, seconds = scoring.load(entrant, machine), 0, 0.0
        for place, text in enumerate(texts):

            def on_batch(done: int, total: int, number=number, place=place, text=text, name=entrant.name) -> None:
                report(share * (number + (place + done / total) / len(texts)), f"{name} on {text.name}")

            found = scoring.score(loaded, text, on_batch)
            nats[entrant.name, text.name] = found.document_nats
            n_tokens, seconds = n_tokens + found.n_tokens, seconds + found.seconds
            if entrant.packed and entrant.packed["inputs"]["clean"] != text.digest:
                learned = len(scoring.trained_on(entrant, text))
                says = f"{entrant.name} learned from {learned} of the documents held out of {text.name}"
                notes += [says] if learned else []
        written, rate = _answers(loaded, prompts)
        answers += [{"prompt": p, "model": entrant.name, "text": t} for p, t in zip(prompts, written, strict=True)]
        models.append(_about(entrant, loaded) | {"tokens_scored_per_second": n_tokens / seconds} | rate)
    owns = {text.name: _own(text, entrants) for text in texts}
    for (model, name), mine in nats.items():
        text, own = next(text for text in texts if text.name == name), owns[name]
        n_bytes = text.documents["n_bytes"].to_numpy()
        cell = {"model": model, "corpus": name, "own": bool(own and own.name == model)}
        cell |= _ends("bits_per_byte", mine, n_bytes) | {"relative": None}
        cell |= dict.fromkeys(("difference", "difference_low", "difference_high"))
        if own:
            other = nats[own.name, name]
            cell |= _ends("difference", mine - other, n_bytes) | {"relative": float(mine.sum() / other.sum() - 1)}
        cells.append(cell)
    columns = [_column(text, owns[text.name]) for text in texts]
    report(1.0)
    return {
        "models": models, "corpora": columns, "matrix": cells, "answers": answers, "notes": notes,
        "device": str(machine.device),
    }  # fmt: skip


def _entrants(store: Store, names: list[str]) -> tuple[list[Entrant], list[str]]:
    """The models, and what is to be said of them. Of those that nobody named, one that cannot be had is left out."""
    found, notes = [], []
    for name in dict.fromkeys(names) or _champions():
        try:
            found.append(scoring.find(store, name))
        except UserError as error:
            if names:
                raise
            notes.append(f"{name} is left out: {error}")
    if not found:
        raise UserError("; ".join(notes) or "there is no champion yet; train a corpus (gpt corpora), or name models")
    notes += [
        f"what {entrant.name} was trained on is not in this home: taken as packed by concat, and its cost is not known"
        for entrant in found
        if not entrant.packed
    ]
    return found, notes


def _champions() -> list[str]:
    with tracking.answering():
        known = mlflow.MlflowClient().search_registered_models("name LIKE 'gpt-%'")
    return sorted(f"{model.name}/{model.aliases[CHAMPION]}" for model in known if CHAMPION in model.aliases)


def _texts(store: Store, entrants: list[Entrant], corpora: list[str], limit: int, notes: list[str]) -> list[Text]:
    """The columns: what each model was measured on, or the newest of the corpora asked for. Says in `notes` what is not as it
    should be. Raises UserError when there is none."""
    packs: dict[str, dict] = {}  # by digest of the documents
    for corpus in dict.fromkeys(corpora or [entrant.corpus for entrant in entrants if entrant.corpus]):
        asked = [entrant.packed for entrant in entrants if entrant.packed and entrant.corpus == corpus]
        newest = store.manifests(corpus, "pack")[::-1] if re.fullmatch(r"[a-z0-9-]+", corpus) else []
        here = [pack for pack in asked if store.made_from(pack, "clean")]
        if not here and (here := [pack for pack in newest if store.made_from(pack, "clean")][:1]) and asked:
            notes.append(f"the documents of {corpus} that its model was measured on are gone; its newest stand in")
        if not here:
            missing = f"no held-out text of {corpus!r} is in this home"
            if corpora:
                raise UserError(f"{missing}; run: gpt train {corpus}")
            notes.append(f"{missing}, so it has no column (pruned?)")
        packs |= {pack["inputs"]["clean"]: pack for pack in here}
    texts = []
    for digest, pack in packs.items():
        clean = store.made_from(pack, "clean")
        text = scoring.held_out(pack["corpus"], Path(clean["path"]), digest, pack["counts"]["baselines"], limit)
        several = sum(other["corpus"] == text.corpus for other in packs.values()) > 1
        text = replace(text, name=f"{text.corpus}@{digest[:8]}") if several else text
        texts.append(text)
        if text.is_cut:
            notes.append(
                f"{text.name}: {len(text.documents):,} of {text.of_documents:,} held-out documents, drawn by their ids, "
                f"{text.n_bytes:,} of {text.of_bytes:,} bytes (--bytes {limit}); its baselines are of all of them"
            )
    if not texts:
        raise UserError(f"nothing to compare on: {'; '.join(notes)}; name corpora that are here with --corpus")
    return texts


def _own(text: Text, entrants: list[Entrant]) -> Entrant | None:
    """The corpus's own model: the one measured on this very text, or else the first of the corpus."""
    of_corpus = [entrant for entrant in entrants if entrant.corpus == text.corpus]
    exact = [entrant for entrant in of_corpus if entrant.packed and entrant.packed["inputs"]["clean"] == text.digest]
    return next(iter(exact or of_corpus), None)


def _column(text: Text, own: Entrant | None) -> dict:
    return {
        "corpus": text.name, "own": own and own.name, "documents": len(text.documents), "bytes": text.n_bytes,
        "of_documents": text.of_documents, "of_bytes": text.of_bytes, "digest": text.digest, "baselines": text.baselines,
    }  # fmt: skip


def _about(entrant: Entrant, loaded: Loaded) -> dict:
    """Size, and cost as the manifest has it."""
    counts = entrant.made["counts"] if entrant.made else {}
    return {
        "model": entrant.name,
        "corpus": entrant.corpus,
        "parameters": loaded.model.n_parameters,
        "vocab_size": loaded.tokenizer.vocab_size,
        "block_size": loaded.model.config.block_size,
        "steps": counts.get("steps"),
        "tokens_seen": counts.get("tokens_seen"),
        "training_seconds": entrant.made["seconds"] if entrant.made else None,
        "digest": entrant.made["digest"] if entrant.made else None,
    }


def _ends(name: str, nats, n_bytes) -> dict:
    value, *ends = interval(nats, n_bytes)
    return {name: value} | {
        f"{name}_{end}": at if math.isfinite(at) else None for end, at in zip(("low", "high"), ends, strict=True)
    }


def _prompts(texts: list[Text]) -> list[str]:
    """The first prompt of each corpus's recipe; the empty one, which begins a document, for a user's own corpus."""
    known = set(recipes.names())
    return list(dict.fromkeys(recipes.load(t.corpus).sample.prompts[0] if t.corpus in known else "" for t in texts))


def _answers(loaded: Loaded, prompts: list[str]) -> tuple[list[str], dict]:
    from gpt.generation.sample import texts

    started = time.perf_counter()
    written = [text for (text,) in texts(loaded.model, loaded.writer, prompts, **WRITTEN)]
    return written, {"characters_written_per_second": sum(map(len, written)) / (time.perf_counter() - started)}


@contextmanager
def _run() -> Iterator[tuple[mlflow.MlflowClient, str, str]]:
    """An MLflow run that ends as the comparison does: the client, its id, and where a browser sees it.

    Raises UserError when MLflow does not answer at the beginning.
    """
    client, experiment = mlflow.MlflowClient(), tracking.experiment_id()
    tags = {"kind": "compare"} | tracking.made_by()
    with tracking.answering():
        run_id = client.create_run(experiment, run_name="compare", tags=tags).info.run_id
    status = "KILLED"
    try:
        yield client, run_id, tracking.runs_url(experiment)
        status = "FINISHED"
    except Exception as error:
        status = "FAILED"
        with suppress(MlflowException):
            client.set_tag(run_id, "error", f"{type(error).__name__}: {error}"[:5000])
        raise
    finally:
        with suppress(MlflowException):
            client.set_terminated(run_id, status)


def _to_mlflow(client: mlflow.MlflowClient, run_id: str, result: dict, folder: Path) -> None:
    """Metrics by corpus, so that one comparison can be set beside another; the page with its heat map; tables."""
    names, now = short_names(result), int(time.time() * 1000)
    values = {f"bpb/{names[cell['model']]}/{cell['corpus']}": cell["bits_per_byte"] for cell in result["matrix"]}
    values |= {
        f"{name}/{names[model['model']]}": model[name]
        for model in result["models"]
        for name in ("parameters", "tokens_seen", "training_seconds", "tokens_scored_per_second")
        if model[name] is not None
    }
    metrics = [Metric(re.sub(r"[^\w./ -]", "-", name), float(value), now, 0) for name, value in values.items()]
    listed = {"models": [m["model"] for m in result["models"]], "corpora": [c["corpus"] for c in result["corpora"]]}
    params = [Param(name, ", ".join(each)[:6000]) for name, each in listed.items()]
    client.log_batch(run_id, metrics, params, [RunTag("mlflow.note.content", comparison_note(result))])
    client.log_artifacts(run_id, str(folder), "comparison")
    answers = [
        {"prompt": prompt} | {a["model"]: a["text"] for a in result["answers"] if a["prompt"] == prompt}
        for prompt in dict.fromkeys(answer["prompt"] for answer in result["answers"])
    ]
    corpora = [{k: v for k, v in c.items() if k != "baselines"} | c["baselines"] for c in result["corpora"]]
    tables = {"matrix": result["matrix"], "models": result["models"], "corpora": corpora, "answers": answers}
    for name, rows in tables.items():
        client.log_table(run_id, {key: [row[key] for row in rows] for key in rows[0]}, f"comparison/{name}.json")
