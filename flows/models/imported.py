"""A decoder of others, from a Hugging Face folder on this disk, as a training artifact and a registered model."""

import re
from contextlib import suppress
from pathlib import Path

import mlflow

from flows import UserError
from flows.models.promotion import CHAMPION
from flows.models.register import log_model, versions_of
from flows.recipe import CORPUS_PATTERN, corpus_names
from flows.stages.definitions import read_tokenizer
from flows.store.artifacts import Artifact, Store, describe
from flows.store.locks import in_use
from flows.tracking.run import untrained_run
from gpt.export.hf_import import import_hf, weight_files
from tokenizers.tokenizer import ROUND_TRIP_TEXTS

# Spelled with every byte that UTF-8 has.
EVERY_BYTE = "".join(map(chr, [*range(0x800), *range(0x800, 0xD800, 0x400), *range(0xE000, 0x110000, 0x1000)]))


def import_model(source: Path, name: str, block_size: int = 0) -> str:
    """Make the decoder of a folder the champion of `gpt-<name>`; returns a line on it. It is stored where a trained one would
    be, so everything finds it by its name. Raises UserError, GPTError or TokenizerError, which name what is amiss."""
    store, client = Store(), mlflow.MlflowClient()
    trained = [made for made in store.manifests(name, "train") if "imported" not in made["parameters"]]
    if not re.fullmatch(CORPUS_PATTERN, name) or name in corpus_names() or trained:
        raise UserError(f"--name {name!r} is a corpus, or not of a-z, 0-9 and single hyphens; choose another")
    files = [source / "config.json", *weight_files(source), source / "tokenizer.json"]
    digests = {path.name: describe(path)["sha256"] for path in files if path.is_file()}

    def make(folder: Path) -> dict:
        model = import_hf(source, folder / "model", block_size)
        tokenizer, readme = read_tokenizer(folder / "model"), source / "README.md"
        added = (f"a {one} b" for one in tokenizer.processor.added.values())
        tokenizer.check([*ROUND_TRIP_TEXTS, EVERY_BYTE, *added])
        licence = re.search(r"(?m)^license: *(\S.*)$", readme.read_text(errors="replace") if readme.is_file() else "")
        about = {"imported_from": source.resolve().name, "licence": licence[1] if licence else "not known"}
        return about | {"parameters": model.n_parameters, "context": model.config.block_size}

    with in_use():
        decoder = store.build(name, "train", {"imported": digests, "block_size": block_size}, {}, "import 1", make)
        known = versions_of(client, f"gpt-{name}", decoder.digest)
        version = known[0].version if known else _register(client, decoder, digests)
    return f"gpt-{name}/{version}: " + ", ".join(f"{key} {value}" for key, value in decoder.counts.items())


def _register(client: mlflow.MlflowClient, decoder: Artifact, digests: dict[str, str]) -> str:
    name, tags = f"gpt-{decoder.corpus}", {key: str(value) for key, value in decoder.counts.items()}
    tags |= {f"sha256.{file}": digest for file, digest in digests.items()}
    note = "\n".join(["Imported, not trained here:", *(f"- {key}: {value}" for key, value in tags.items())])
    with untrained_run("import", corpus=decoder.corpus, **tags, **{"mlflow.note.content": note}) as run:
        info, tags = log_model(decoder), tags | {"digest": decoder.digest, "run_id": run["mlflow_run"]}
        with suppress(mlflow.MlflowException):  # it exists from the second version on
            client.create_registered_model(name)
        made = client.create_model_version(name, info.model_uri, tags["run_id"], tags, None, note, 60, info.model_id)
        client.set_registered_model_alias(name, CHAMPION, made.version)
        mlflow.set_tags({"model": f"models:/{name}/{made.version}"})
    return str(made.version)
