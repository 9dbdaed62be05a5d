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
# All thresholds that Gopher publishes.
PUBLISHED = Rules(
    min_words=50, max_words=100_000, min_word_chars=3.0, max_word_chars=10.0, max_symbols=0.1, max_bullets=0.9,
    max_ellipses=0.3, min_letter_words=0.8, min_stop_words=2, max_repeated_lines=0.3, max_repeated_paragraphs=0.3,
    max_top_ngrams=0.2, max_repeated_ngrams=0.15,
)  # fmt: skip


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
