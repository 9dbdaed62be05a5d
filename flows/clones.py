"""The flow `clones`: what a base gives to small corpora. Each is trained from the base's weights, and from random ones.

Both are planned by the dial for the same minutes, thus equal computing, in the shape and at the rates that suit each. They are
scored on the same held-out texts; the base, before and after, on its own. The artifacts are those of a corpus <corpus>-clone.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a worker loads this file by its path

import flows.tracking.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when imported)

from prefect import flow

from flows import progress
from flows.ablate import publish_result, train_below
from flows.evaluation import scoring
from flows.evaluation.comparison import SAMPLING, interval_row
from flows.home import shared_home
from flows.models.start import started
from flows.recipe import Recipe, load_recipe
from flows.server import dead_runs
from flows.stages.run_stage import turn
from flows.store.artifacts import Store, to_artifact
from flows.store.locks import in_use
from flows.tracking.run import untrained_run
from flows.train import Minutes, artifact, clean, download, fit_tokenizer, settled
from gpt.evaluation.confidence import interval

SOCIAL = ["vaccine-myths", "trump", "wsb", "covid-tweets", "qanon"]


@flow(name="clones", flow_run_name="{base}", persist_result=False, on_running=[dead_runs.hold_lock])
def clones(base: str = "wiki", corpora: list[str] = [], minutes: Minutes = 2.0, source: str | None = None) -> dict:  # noqa: B006
    """Train small corpora from a base and from scratch, and say how much the base helps each, and what it forgets.

    Args:
        base: a trained model: a corpus (its champion), gpt-<corpus>/<version>, a run id or a folder
        corpora: to train on; none: the social ones
        minutes: for which the dial plans each training
        source: folder that holds <owner>/<dataset> of each corpus, instead of downloads
    """

    def load(corpus: str, start: str) -> Recipe:
        place = str(Path(source) / load_recipe(corpus).source.handle) if source else None
        return started(load_recipe(corpus, minutes=minutes, source=place, overrides={"start.model": start}))

    found = scoring.find(Store(shared_home()), base)
    pairs = [(load(corpus, ""), load(corpus, base)) for corpus in corpora or SOCIAL]
    with in_use(shared_home(), progress.log_line), untrained_run("clones", base=base) as about:
        rows = sorted((_compare(found, *pair) for pair in pairs), key=lambda row: row["train_bytes"])
        result = {"base": base, "minutes": minutes, "rows": rows} | about
        publish_result("clones", result, "corpus", "bits per byte from the base, less those from scratch")
        return result


def _compare(base: scoring.TrainedModel, scratch: Recipe, tuned: Recipe) -> dict:
    """How a corpus's two models and the base do on the texts of both, and what they write: a row of the table."""
    from gpt.generation.sample import texts as generate
    from gpt.machine import device

    corpus, prompt, models = scratch.corpus, scratch.sample.prompts[0], {"base": base}
    documents = artifact(clean(artifact(download(scratch)), scratch))
    n_bytes = documents.counts["train_bytes"]
    row: dict = {
        "corpus": corpus,
        "train_bytes": n_bytes,
        "label": f"{corpus}, {n_bytes / 1e6:.2f} MB",
        "prompt": prompt,
    }
    for name, recipe in (("scratch", scratch), ("tuned", tuned)):
        recipe = settled(recipe, documents).model_copy(update={"corpus": f"{corpus}-clone"})
        models[name] = train_below("clones", name, recipe, documents, artifact(fit_tokenizer(documents, recipe)))
        row[f"{name}_seconds"] = (models[name].training or {})["seconds"]
    texts, nats = {"": scoring.held_out(documents)}, {}
    if base.clean:
        texts["_on_base"] = scoring.held_out(to_artifact(base.clean), 200_000)
    for name, model in models.items():
        with turn(1):
            loaded = scoring.load(model, device.prepare(scratch.runtime))
            for where, text in texts.items():
                score = scoring.score(loaded, text)
                nats[name + where], row[name + where] = score.document_nats, score.bits_per_byte
            row[f"{name}_writes"] = generate(loaded.model, loaded.tokenizer.processor, [prompt], **SAMPLING)[0][0]
    found = interval(nats["tuned"] - nats["scratch"], texts[""].documents["n_bytes"].to_numpy())
    row["better"] = "recipe" if found.high < 0 else "instead" if found.low > 0 else "not known"
    return row | interval_row("difference", found)
