"""What cleaning does with a corpus's module, step by step and without the rest of cleaning."""

from pathlib import Path
from types import ModuleType

import polars as pl

from data_contracts.clean.change import apply_rules, text_rules
from data_contracts.clean.shard import make_texts, read_files
from data_contracts.contracts import check
from data_contracts.rules import Rules
from data_contracts.sources import files

# As the recipes of the social corpora have it.
RULES = Rules(entities=True, spaces=True)


def read(module: ModuleType, folder: Path, **options: str) -> tuple[pl.DataFrame, list[str]]:
    """The raw rows of a folder, checked against their contract, and what is wrong with those that cannot be read."""
    found = files.require(folder, module.FILES)
    rows = read_files(module, found, options)
    return check(rows.filter(pl.col("malformed").is_null()), module.Raw), rows["malformed"].drop_nulls().to_list()


def documents(module: ModuleType, folder: Path, rules: Rules = RULES, **options: str) -> pl.DataFrame:
    """The documents of a folder after the text rules; reason is null for those that the corpus accepts."""
    return cleaned(module, folder, rules, **options)[0]


def texts(module: ModuleType, folder: Path, rules: Rules = RULES, **options: str) -> list[str]:
    return documents(module, folder, rules, **options)["text"].to_list()


def cleaned(
    module: ModuleType, folder: Path, rules: Rules = RULES, **options: str
) -> tuple[pl.DataFrame, dict[str, int]]:
    """`documents`, and how many of them each text rule changed."""
    found = make_texts(module, read(module, folder, **options)[0])
    after, changed = apply_rules(found["text"], text_rules(getattr(module, "RULES", ()), rules))
    return found.with_columns(after.alias("text")), changed
