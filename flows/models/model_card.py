"""The card of a registered model: what it was made of and how, how good it is, what it is for, and whose text it knows."""

from flows.recipe import Recipe
from flows.store.artifacts import read_manifest
from flows.tracking.run import Tracker

CARD = """# gpt-{corpus}

A decoder-only transformer that continues text, trained from scratch on: {title}.

## Data

- source: {source}
- licence: {licence}
- documents: {documents:,} kept, {rejects:,} dropped; {val_documents:,} held out of training
- tokens: {train_tokens:,} to train on, {val_tokens:,} held out; {vocab_size:,} pieces ({model_type})
{digests}

## Training

- {parameters:,} parameters: {n_layer} layers of width {n_embd}, {n_head} heads, a context of {block_size} tokens
- {steps:,} steps of {batch_size} sequences ({optimizer}, seed {seed}), {tokens_seen:,} tokens in all
- the weights of step {best_step:,}, the best on the held-out documents
- run `{run}`, code `{commit}`, {seconds:,.0f} s

## Held-out text

Bits per byte, the fewer the better, of the model and of simpler ones on the same bytes.

| model | bits per byte |
|---|---|
{bits}

## Use and limits

- Meant for learning how such models come to be, for comparing corpora, and for writing in the manner of its corpus.
- It continues text; it follows no instructions and holds no dialogue. What it says may be false, and offends where its corpus
  does: nobody tuned or filtered it, so people should not meet it unsupervised.
- It may repeat its training text word for word; the run logs the longest such stretch of its samples.
"""


def text(tracker: Tracker, recipe: Recipe) -> str:
    """As Markdown, the description of a version in MLflow's registry."""
    stages, source = tracker.stages, recipe.source
    counts = {name: value for stage in stages.values() for name, value in stage.counts.items()}
    where = {
        "kaggle": f"https://www.kaggle.com/datasets/{source.handle}",
        "https": recipe.flat()["source.url"],
        "builtin": "built in",
    }
    bits = {"**this model**": counts["val_bpb"]} | counts["baselines"]
    ranked = sorted(bits.items(), key=lambda item: item[1])
    about = {
        "source": where.get(source.kind, "files of its maker"),
        "licence": recipe.licence or "not known",
        "digests": "\n".join(f"- {n}: `{stage.digest[:32]}`" for n, stage in stages.items() if n != "train"),
        "model_type": recipe.tokenizer.model_type,
        "block_size": recipe.pack.block_size,
        "run": tracker.run_id,
        "commit": (read_manifest(stages["train"].folder) or {}).get("git", {}).get("commit") or "of no commit",
        "seconds": stages["train"].seconds,
        "bits": "\n".join(f"| {name} | {value:.3f} |" for name, value in ranked),
        "corpus": recipe.corpus,
        "title": recipe.title or recipe.corpus,
    }
    return CARD.format(**vars(recipe.model) | vars(recipe.train) | counts | about)
