"""The flows `ablate` and `clones`: train small models that differ in one thing, and score them on the same held-out texts.

`ablate` says which rules of cleaning help: one model is trained by the recipe, and one for each rule without it. All models
have the same shape, steps, seed and tokenizer, which is the recipe's, and the texts are those held out for test that no
compared rule touches. So the question is whether a rule, by what it does to other texts, helps to model these. The answer
holds, for these steps and this size, if the paired 95 % interval over documents leaves out 0, and if the difference is larger
than that to a second model of the recipe with another seed.

`clones` says what a base gives to small corpora: each is trained from the base's weights, and from random ones, both planned by
the dial for the same minutes, thus equal computing, in the shape and at the rates that suit each. The base is scored on its own
texts, before and after.

The artifacts are those of a corpus <corpus>-ablation or <corpus>-clone, so that no command takes one of them for one of the
corpus.
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import flows.tracking.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when imported)

import numpy as np
from prefect import flow
from pydantic import Field

from data_contracts.rules import Rules
from flows import UserError, progress
from flows.evaluation import scoring
from flows.evaluation.comparison import SAMPLING, interval_row
from flows.evaluation.diff import differing
from flows.home import shared_home
from flows.models.start import started
from flows.pages.figures import draw, intervals
from flows.pages.render import publish
from flows.recipe import Recipe, Size, load_recipe, parse_override
from flows.server import dead_runs
from flows.stages.definitions import HELD_OUT, work_id
from flows.stages.documents import read_texts
from flows.stages.run_stage import turn
from flows.store.artifacts import Artifact, Store, to_artifact
from flows.tracking.run import log_page, tracked_run, untrained_run
from flows.train import Corpus, Minutes, Overrides, artifact, clean, download, fit_decoder, fit_tokenizer, pack, settled
from gpt.evaluation.confidence import interval
from gpt.evaluation.memorisation import overlaps

RECIPE, SEED = "recipe", "another seed"  # the models beside those of the rules
SAMPLES = 16  # of each clone, whose longest stretch of training text is looked for
SMALL = 0.01  # of the recipe's bits per byte: a smaller difference does not matter
OFF = Rules()
# Settings that decide how texts are cut and held out are no rules.
NO_RULES = ("split_chars", "max_malformed", "val_fraction", "test_fraction", "seed")
RULES = [field.name for field in fields(Rules) if field.name not in NO_RULES]
SOCIAL = ["vaccine-myths", "trump", "wsb", "covid-tweets", "qanon"]


@flow(name="ablate", flow_run_name="{corpus}", persist_result=False, on_running=[dead_runs.hold_lock])
def ablate(
    corpus: Corpus,
    rules: list[str] = [],  # noqa: B006
    size: Size = "nano",
    steps: Annotated[int, Field(ge=1)] = 300,
    overrides: Overrides = {},  # noqa: B006
    source: str | None = None,
) -> dict:
    """Train a small model with and without each rule of cleaning, and say which rules help.

    Args:
        corpus: name of the corpus; gpt corpora lists them
        rules: to compare, such as mentions or mentions=drop; none: all that the recipe sets
        size: of the models: nano to xl, or a whole preset such as classic-tiny
        steps: training steps of each model
        overrides: settings by name, such as {"train.lr": 0.001}
        source: folder or file to read instead of the recipe's source
    """

    def load(more: dict) -> Recipe:
        return load_recipe(corpus, size=size, steps=steps, source=source, overrides=overrides | more)

    recipe = load({})
    others = other_values(recipe.clean, rules)
    variants = {rule: load({f"clean.{rule}": value}).clean for rule, value in others.items()}
    with untrained_run("ablate", corpus=corpus) as about:
        raw = artifact(download(recipe))
        base = artifact(clean(raw, recipe))
        named = {"corpus": f"{corpus}-ablation", "sample": replace(recipe.sample, evaluation_tokens=0)}
        recipe = settled(recipe, base).model_copy(update=named)
        again = replace(recipe.train, seed=recipe.train.seed + 1)
        jobs = {RECIPE: (recipe, base), SEED: (recipe.model_copy(update={"train": again}), base)}
        changed: dict[str, int] = {}
        for rule, rules_of in variants.items():
            variant = recipe.model_copy(update={"clean": rules_of})
            documents = artifact(clean(raw, variant))
            if number := differing(base.folder, documents.folder):
                jobs[rule], changed[rule] = (variant, documents), number
        if not changed:
            raise UserError(f"no document of {corpus} changes by {', '.join(others)}; name other rules or values")
        text = untouched(scoring.held_out(base), (documents.folder for _, documents in jobs.values()))
        tokenizer = artifact(fit_tokenizer(base, recipe))
        nats: dict[str, np.ndarray] = {}
        for name, (job, documents) in jobs.items():
            progress.log_line(f"model {len(nats) + 1} of {len(jobs)}: {name}")
            model = train_below("ablate", name, job, documents, tokenizer)
            with turn(1):
                nats[name] = scoring.score(scoring.load(model, job.runtime), text).document_nats
        result = compare(nats, text.documents["n_bytes"].to_numpy())
        for row in result["rows"]:
            rule = row["rule"]
            row |= {"recipe": getattr(recipe.clean, rule), "instead": others[rule], "documents": changed[rule]}
            row["label"] = f"{rule}: {row['instead']}, not {row['recipe']}"
        result |= {"corpus": corpus, "steps": steps, "texts": len(text.documents), "of_texts": text.of_documents}
        result |= about | {"unchanged": [rule for rule in others if rule not in changed]}
        says = "bits per byte, those of the recipe subtracted; shaded: another seed"
        show("ablation", result, "rule", says, result["noise"])
        return result


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
    with untrained_run("clones", base=base) as about:
        rows = sorted((compare_clones(found, *pair) for pair in pairs), key=lambda row: row["train_bytes"])
        result = {"base": base, "minutes": minutes, "rows": rows} | about
        show("clones", result, "corpus", "bits per byte from the base, less those from scratch")
        return result


def other_values(rules: Rules, asked: list[str]) -> dict[str, object]:
    """For each rule the value to compare with the recipe's. asked: `mentions=drop`, or `mentions` for the value with which it
    is off; none: all rules that the recipe sets. Raises UserError."""
    found: dict[str, object] = {}
    for text in asked or [name for name in RULES if getattr(rules, name) != getattr(OFF, name)]:
        name, given, _ = text.partition("=")
        if name not in RULES:
            raise UserError(f"rule {name!r} is not known; known are {', '.join(RULES)}")
        found[name] = parse_override(text)[1] if given else getattr(OFF, name)
        if found[name] == getattr(rules, name):
            raise UserError(f"the recipe has {name} = {found[name]}; give a value to compare with it, {name}=VALUE")
        if name == "near_duplicates" and "keep" in (found[name], rules.near_duplicates):
            raise UserError("near_duplicates = keep trains on near copies of held-out texts; compare together and drop")
    if not found:
        raise UserError("the recipe sets no rule; name some with values, such as min_words=5")
    return found


def untouched(text: scoring.HeldOut, variants: Iterable[Path]) -> scoring.HeldOut:
    """The held-out documents whose text all variants hold out. variants: folders of clean artifacts. Raises UserError if
    there is none."""
    documents = text.documents.lazy()
    for folder in variants:
        held_out = scoring.documents(folder, HELD_OUT).select("text")
        documents = documents.join(held_out, on="text", how="semi", maintain_order="left")
    found = documents.collect()
    if found.is_empty():
        raise UserError(f"the rules touch all held-out texts of {text.name}; compare fewer at a time")
    return replace(text, documents=found)


def train_below(kind: str, name: str, recipe: Recipe, documents: Artifact, tokenizer: Artifact) -> scoring.TrainedModel:
    """Train a model in an MLflow run below the one that is active."""
    with tracked_run(recipe, f"{work_id(recipe)} {name}") as tracker:
        tracker.tags({"kind": kind, "mlflow.runName": f"{recipe.corpus}: {name}"})
        tracker.stage(documents)
        tracker.stage(tokenizer)
        sequences = artifact(pack(documents, tokenizer, recipe))
        decoder = artifact(fit_decoder(sequences, tokenizer, recipe))
    return scoring.find(Store(shared_home()), str(decoder.folder))


def compare(nats: dict[str, np.ndarray], n_bytes: np.ndarray) -> dict:
    """What each rule does to bits per byte: a row a rule, and the noise, which is what another seed does.

    nats: of each model on each document. difference: bits per byte with the rule's other value less those of the recipe, with
    its interval. better: recipe or instead, if the interval leaves out 0 and the difference is beyond the noise; neither, if
    the interval ends within the noise, or SMALL; else not known.
    """
    bits = interval(nats[RECIPE], n_bytes)
    noise = abs(interval(nats[SEED] - nats[RECIPE], n_bytes).value)
    margin, rows = max(noise, SMALL * bits.value), []
    for rule in nats.keys() - {RECIPE, SEED}:
        found = interval(nats[rule] - nats[RECIPE], n_bytes)
        if abs(found.value) > noise and not found.low <= 0 <= found.high:
            better = "recipe" if found.value > 0 else "instead"
        else:
            better = "neither" if max(-found.low, found.high) <= margin else "not known"
        rows.append({"rule": rule, "better": better} | interval_row("difference", found))
    rows.sort(key=lambda row: -row["difference"])
    return interval_row("bits_per_byte", bits) | {"noise": noise, "margin": margin, "rows": rows}


def compare_clones(base: scoring.TrainedModel, scratch: Recipe, tuned: Recipe) -> dict:
    """How a corpus's two models and the base do on the texts of both, and what they write: a row of the table."""
    from gpt.generation.sample import texts as generate

    corpus, prompt, models = scratch.corpus, scratch.sample.prompts[0], {"base": base}
    documents = artifact(clean(artifact(download(scratch)), scratch))
    n_bytes = documents.counts["train_bytes"]
    row: dict = {"corpus": corpus, "prompt": prompt, "train_bytes": n_bytes}
    row["label"] = f"{corpus}, {n_bytes / 1e6:.2f} MB"
    for name, recipe in (("scratch", scratch), ("tuned", tuned)):
        recipe = settled(recipe, documents).model_copy(update={"corpus": f"{corpus}-clone"})
        models[name] = train_below("clones", name, recipe, documents, artifact(fit_tokenizer(documents, recipe)))
        row[f"{name}_seconds"] = (models[name].training or {})["seconds"]
    texts, nats = {"": scoring.held_out(documents)}, {}
    if base.clean:
        texts["_on_base"] = scoring.held_out(to_artifact(base.clean), 200_000)
    for name, model in models.items():
        with turn(1):
            loaded = scoring.load(model, scratch.runtime)
            for where, text in texts.items():
                score = scoring.score(loaded, text)
                nats[name + where], row[name + where] = score.document_nats, score.bits_per_byte
            (written,) = generate(loaded.model, loaded.tokenizer.processor, [prompt], SAMPLES, **SAMPLING)
            repeated = overlaps(written, read_texts(documents.folder, "train"))
            row |= {f"{name}_writes": written[0], f"{name}_repeats": max(map(len, repeated))}
    found = interval(nats["tuned"] - nats["scratch"], texts[""].documents["n_bytes"].to_numpy())
    row["better"] = "recipe" if found.high < 0 else "instead" if found.low > 0 else "not known"
    return row | interval_row("difference", found)


def show(name: str, result: dict, key: str, says: str, noise: float = 0) -> None:
    """Show the table of `name`.jinja and the figure of the differences, in MLflow and in Prefect. key: names a row."""
    with TemporaryDirectory() as temporary:
        folder, rows = Path(temporary), result["rows"]
        publish(folder, f"{name}.jinja", result, drawing=draw(folder / "differences", intervals, rows, says, noise))
        metrics = {f"difference/{row[key]}": row["difference"] for row in rows}
        log_page(folder, name, f"{name}-{result.get('corpus', 'all')}", metrics)
