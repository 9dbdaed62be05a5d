"""Recipe: everything that determines a run, typed, validated, and read from one commented TOML file a corpus.

`flows/recipes/<corpus>.toml` is merged with the preset that its [model] names and with overrides (`train.lr=0.001`), then
checked as a whole: one message names every problem, and the nearest known key for an unknown one. The sections are the leaves'
own dataclasses, so a setting is documented once, where it is used.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts import corpora
from data_contracts.rules import MASKS, Rules
from data_contracts.sources.source import Source
from flows import UserError
from flows.home import ROOT
from gpt import config as gpt_config
from gpt.config import PRESETS, ModelConfig, Runtime, TrainConfig, preset
from gpt.machine import dial
from gpt.settings import nearest
from tokenizers.config import MAX_VOCAB_SIZE, TokenizerConfig, automatic

FOLDER = ROOT / "flows" / "recipes"
# Of the recipe's own family, or a preset of either.
Size = Literal["nano", "tiny", "small", "medium", "large", "xl", *PRESETS]  # type: ignore[valid-type]
CORPUS_PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*$"
SECRET_URL = "export it as a variable, such as MY_URL, where the run is, and set source.url='${MY_URL}'"
OWN, MIX = "own", "mix"  # the recipes of a folder that a user brings, and of a mixture of corpora


@dataclass(frozen=True)
class Pack:
    """How documents become sequences of tokens (gpt.data.dataset)."""

    block_size: Annotated[int, Field(ge=2, le=2**20)] = 256
    """T: tokens in a training sequence, and the most that the decoder looks back"""
    document_mask: bool = False
    """attention keeps to the document that a position is in"""


@dataclass(frozen=True)
class Sample:
    """What the trained model is asked to write, for the summary and MLflow."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("",)
    """each is continued once; after the empty prompt the model begins a document"""
    max_tokens: Annotated[int, Field(ge=1)] = 200
    evaluation_tokens: Annotated[int, Field(ge=0)] = 32
    """tokens, at most, to write after each evaluation, for a table of samples by step; 0: none"""
    temperature: Annotated[float, Field(ge=0, lt=100)] = 0.9
    top_k: Annotated[int, Field(ge=0)] = 50
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    facts: bool = False
    """ask it the simple facts of gpt/evaluation/facts.toml, in English, as a model of Wikipedia should know them"""


@dataclass(frozen=True)
class Start(gpt_config.Start):
    """The trained model whose weights, tokenizer and shape a training starts from; T is part of the shape, dropout is not."""

    model: str = ""
    """a corpus (its champion), gpt-<corpus>/<version>, a run id or a folder; empty: random weights"""
    digest: str = ""
    """the sha256 of its weights, once `flows.models.start` has found them in `folder`: from then on only these will do"""


@dataclass(frozen=True)
class Workers:
    """What cleans the shards of a corpus of many files, and encodes documents. It does not change the output."""

    count: Annotated[int, Field(ge=0)] = 0
    """processes that clean, and threads that encode; 0 means one a core"""
    dask: str = ""
    """`local` starts a Dask cluster of that many processes; an address such as tcp://host:8786 uses the one there"""


class Recipe(BaseModel):
    """The settings of a run. `model.vocab_size` is what was asked for; the tokenizer may have fewer pieces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str = Field(pattern=CORPUS_PATTERN)
    title: str = ""
    minutes: float = Field(4.0, gt=0)
    """for which the dial plans the training, on two CPU cores or on the GPU that is there"""
    dial: tuple[str, ...] = ()
    """the settings that nobody gave: `settle` chooses them (gpt.machine.dial) when the corpus's bytes are known"""
    licence: str = ""
    """of the data, for the model's card"""
    reader: str
    """which module of data_contracts/corpora reads the raw files"""
    source: Source
    mix: dict[str, Annotated[float, Field(gt=0)] | Literal["auto"]] = {}
    """a corpus made of others: the share of each in the text to train on, in any proportion, or auto: all that each has"""
    options: dict[str, str] = {}
    """of the reader, such as `text_column`"""
    clean: Rules = Rules()
    start: Start = Start()
    tokenizer: TokenizerConfig = TokenizerConfig()
    workers: Workers = Workers()
    pack: Pack = Pack()
    model: ModelConfig
    train: TrainConfig = TrainConfig()
    runtime: Runtime = Runtime()
    sample: Sample = Sample()

    def public_values(self) -> dict:
        """The recipe as JSON, as `recorded_recipe` reads it, without the secrets that an address may hold."""
        from data_contracts.sources.https import public

        values = self.model_dump(mode="json")
        if self.source.url:
            values["source"]["url"] = public(self.source.address)
        return values

    def source_page(self) -> str:
        """The public address of the raw data; empty if there is none."""
        if self.source.kind == "kaggle":
            return f"https://www.kaggle.com/datasets/{self.source.handle}"
        return self.public_values()["source"]["url"]

    def flat(self) -> dict[str, str]:
        """`section.name` -> value as text, for MLflow's parameters, without the settings that are open."""
        values, flat = self.public_values(), dict[str, str]()
        for name in ("vocab_size", "block_size"):  # settings of tokenizer and pack
            del values["model"][name]
        for section, value in values.items():
            settings = value if isinstance(value, dict) else {"": value}
            flat |= {f"{section}.{name}".rstrip("."): str(setting) for name, setting in settings.items()}
        return {name: flat[name] for name in sorted(flat) if name not in (*self.dial, "dial")}


def settle(recipe: Recipe, counts: Mapping[str, Any]) -> tuple[Recipe, str]:
    """The recipe with nothing open, and a line on what was chosen and why. counts: of the documents."""
    if not recipe.dial:
        return recipe, ""
    pieces, train_bytes = recipe.tokenizer.vocab_size, counts["train_bytes"]
    held_out_bytes = min(counts[f"{side}_bytes"] for side in ("val", "test") if f"{side}_bytes" in counts)
    model = replace(recipe.model, vocab_size=automatic(train_bytes) if pieces == "auto" else pieces)
    flops = dial.device_flops(recipe.runtime.device)
    start = bool(recipe.start.model), bool(recipe.start.rank)
    budget = dial.Budget(train_bytes, recipe.minutes, flops, *start, held_out_bytes)
    given = {name: attrgetter(name)(recipe) for name in dial.CHOSEN if name not in recipe.dial}
    chosen = dial.choose(given, model, budget)
    parts: dict[str, dict[str, Any]] = {"pack": {}, "model": {"block_size": chosen["pack.block_size"]}, "train": {}}
    for name, value in chosen.items():
        section, _, key = name.partition(".")
        parts[section][key] = value
    settled = {section: replace(getattr(recipe, section), **values) for section, values in parts.items()}
    return recipe.model_copy(update={"dial": (), **settled}), dial.reason(chosen, model, budget)


def corpus_names() -> list[str]:
    """The corpora that have a recipe, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem not in (OWN, MIX))


def load_recipe(
    corpus: str, *, size: str | None = None, steps: int | None = None, minutes: float | None = None,
    source: str | None = None, overrides: dict | None = None,
) -> Recipe:  # fmt: skip
    """The recipe of a corpus. Raises UserError with every problem found.

    size: a preset of the recipe's family instead of its own shape, or a preset's whole name. overrides: {"train.lr": 0.001}.
    source: a folder, a file or a store's address to read instead of the recipe's source; with it, or with overrides of `mix`,
    any name is a corpus.
    """
    mixes = any(name.startswith("mix.") for name in overrides or {})
    values, problems = _read_toml(corpus, MIX if mixes else OWN if source else ""), []
    if source:
        path = Path(source).expanduser().resolve()
        if "://" not in source and not path.exists():
            problems.append(f"--from {path} does not exist")
        place = {"kind": "remote", "url": source} if "://" in source else {"kind": "local", "path": str(path)}
        values["source"] = place  # max_files is for downloads
    lengths = {name: value for name, value in (("train.steps", steps), ("minutes", minutes)) if value is not None}
    for name, value in ((overrides or {}) | lengths).items():
        _override(values, name, value, problems)
    values |= {"corpus": corpus, "reader": corpus if corpus in corpora.names() else OWN}
    if parts := values.get("mix"):
        values |= {"reader": corpora.MIX, "source": {"kind": "mix"}}
        if source or corpus in parts or len({share == "auto" for share in parts.values()}) > 1:
            problems.append("a mixture has no source, and gives each of some other corpora a share, or each auto")
    masks = [mask for setting, mask in MASKS.items() if values["clean"].get(setting) == "mask"]
    values.setdefault("tokenizer", {}).setdefault("user_defined_symbols", masks)  # one piece each
    given = [*(overrides or ()), *(["size"] if size else [])]
    of_base = [name for name in given if re.match(r"size|model\.(?!dropout)|tokenizer\.|pack\.block_size", name)]
    if of_base and (base := (values.get("start") or {}).get("model")):
        problems.append(f"{', '.join(of_base)}: the model to start from, {base!r}, decides this; leave it out")
    if (start := values.get("start") or {}).get("rank") and not start.get("model"):
        problems.append("start.rank: adapters need a model to start from (--start-from)")
    _resolve_model(values, size, problems)
    recipe = _validate(values, problems)
    if problems or not recipe:
        raise UserError(f"recipe {corpus} cannot be used: " + "\n  ".join(problems))
    return recipe


def recorded_recipe(values: dict) -> tuple[Recipe, list[str]]:
    """The recipe in a run's record, and its problems: settings that are no longer known, or whose value is no longer allowed,
    are left out. Raises UserError if it cannot be used without them."""
    problems: list[str] = []
    if not (recipe := _validate(json.loads(json.dumps(values)), problems)):
        raise UserError(f"a recorded recipe of {values.get('corpus')} cannot be used any more: {'; '.join(problems)}")
    return recipe, problems


def parse_override(text: str) -> tuple[str, object]:
    """`train.lr=1e-3` -> ("train.lr", 0.001). A value that is not TOML is taken as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UserError(f"--set {text!r} is not of the form section.name=value, such as train.steps=500")
    try:
        return name.strip(), tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _read_toml(corpus: str, other: str) -> dict:
    """The recipe's file, or that of the `other` recipe where the corpus has none. Raises UserError if there is neither."""
    known = corpus_names()
    if corpus not in known and not other:
        hint = f"{nearest(corpus, known)} (gpt corpora lists them; --from PATH brings your own)"
        raise UserError(f"corpus {corpus!r} is not known{hint}")
    path = FOLDER / f"{corpus if corpus in known else other}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {corpus}.toml is not TOML: {error}") from None


def _override(values: dict, name: str, value: object, problems: list[str]) -> None:
    """Set `section.name`, or a setting of no section."""
    section, dot, key = name.partition(".")
    place = values.setdefault(section, {}) if dot else values
    if section in ("corpus", "reader", "dial"):
        problems.append(f"{section} follows from the corpus that is named and the other settings, and cannot be set")
    elif not isinstance(place, dict) or (not dot and isinstance(values.get(name), dict)):
        problems.append(f"{name!r} is not a setting; write section.name, such as train.steps")
    elif name == "source.url" and isinstance(value, str) and ((parts := urlsplit(value)).query or "@" in parts.netloc):
        # Prefect keeps what a run is started with.
        problems.append(f"{name} may hold a secret (a user, a password or a query): {SECRET_URL}")
    else:
        place[key or section] = json.dumps(value) if section == "options" and isinstance(value, bool) else value


def _resolve_model(values: dict, size: str | None, problems: list[str]) -> None:
    """Fill [model] with its preset, block_size and vocab_size, and `dial` with the settings that are open."""
    model = dict(values.get("model") or {})
    for section, name, usual in (("tokenizer", "vocab_size", MAX_VOCAB_SIZE), ("pack", "block_size", Pack.block_size)):
        if name in model:
            problems.append(f"model.{name} is set by {section}.{name}")
        given = (values.get(section) or {}).get(name)
        # The sections of their own check these values; the model needs any numbers to be checked with.
        model[name] = given if isinstance(given, int) else usual
    base = model.pop("preset", "modern")
    if size:
        base = size if size in PRESETS else f"{str(base).split('-')[0]}-{size}"
        model = {name: value for name, value in model.items() if name not in ("n_layer", "n_head", "n_embd")}
    try:
        values["model"] = preset(base) | model
    except ValueError as error:
        problems.append(str(error))
        values["model"] = model
    sections = ((name, *name.split(".")) for name in dial.CHOSEN)
    values["dial"] = [name for name, section, key in sections if key not in (values.get(section) or {})]


def _validate(values: dict, problems: list[str]) -> Recipe | None:
    """The recipe, or None; adds to the problems. An unknown or mistyped field hides the other problems of its section, so it
    is removed and the rest is checked again."""
    while True:
        try:
            return Recipe.model_validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            found = error.errors()
        new = [problem for problem in map(_problem, found) if problem not in problems]
        problems += new
        for item in found:
            section, *rest = item["loc"]
            if not rest and item["type"] == "extra_forbidden":
                values.pop(section, None)
            elif rest and isinstance(values.get(section), dict):
                values[section].pop(rest[0], None)
        if not new:
            return None


def _problem(item: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"] if not re.match(r"literal\[|constrained-|int$", str(part)))
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is not known{nearest(place, [*Recipe.model_fields, *_settings()])}"
    if item["type"] == "missing":
        return f"{place} is missing"
    message = re.sub(rf"^Value error, (?:{place} configuration: |rules: )?", "", item["msg"])
    return f"{place}: {message}" if item["type"] == "value_error" else f"{place} = {item['input']!r}: {message}"


def _settings() -> list[str]:
    """Every known `section.name`."""
    known = []
    for name, info in Recipe.model_fields.items():
        section = info.annotation
        known += [f"{name}.{field.name}" for field in fields(section)] if is_dataclass(section) else [name]
    return [*known, "model.preset"]
