"""The raw files of a mixture, and what its reader makes of them: shares, sides, and where each document is from."""

from pathlib import Path

import polars as pl
import pytest

from data_contracts import DataError, corpora
from data_contracts.clean import clean_corpus
from data_contracts.rules import Rules
from data_contracts.sources.mixture import Part
from data_contracts.sources.source import Source, fetch, resolve
from tests.data_contracts.clean.test_clean import nearly, prose

RULES = Rules(near_duplicates="drop")


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Path]:
    """Two cleaned corpora; a text of the second is nearly one that the first holds out."""
    root, made = tmp_path_factory.mktemp("parts"), {}
    texts = {"one": [prose(seed) for seed in range(60)], "two": [prose(seed, 30) for seed in range(100, 180)]}
    for name in texts:
        (root / name).mkdir()
        if made:
            held_out = pl.read_parquet(made["one"] / "documents").filter(pl.col("split") == "test")["text"][0]
            texts["two"] += [nearly(held_out) + f" {number}" for number in range(3)]
        for number, text in enumerate(texts[name]):
            (root / name / f"{number:02}.txt").write_text(text)
        clean_corpus(name, root / name, root / f"{name}-clean", Rules(val_fraction=0.15, test_fraction=0.15))
        made[name] = root / f"{name}-clean"
    return made


def source(parts: dict[str, Path], **shares: float | None) -> Source:
    return Source(
        "mix", parts=tuple(Part(name, share, f"digest of {name}", str(parts[name])) for name, share in shares.items())
    )


def mixed(parts: dict[str, Path], out: Path, **shares: float | None) -> pl.DataFrame:
    """The documents of a mixture, with the part that each is of."""
    (out / "raw").mkdir(parents=True)
    fetch(source(parts, **shares), corpora.MIX, out / "raw")
    clean_corpus(corpora.MIX, out / "raw", out, RULES)
    return pl.read_parquet(out / "documents" / "*.parquet").with_columns(part=pl.col("source_file").str.slice(0, 3))


def of(parts: dict[str, Path], name: str) -> pl.DataFrame:
    return pl.read_parquet(parts[name] / "documents" / "*.parquet")


def to_train(documents: pl.DataFrame) -> dict[str, int]:
    train = documents.filter(pl.col("split") == "train")
    return dict(train.group_by("part").agg(pl.col("n_bytes").sum()).iter_rows())


def test_every_document_is_on_the_side_that_it_has_in_its_part(parts, tmp_path):
    documents = mixed(parts, tmp_path, one=None, two=None)
    for name in parts:
        alone = of(parts, name).select(
            "text", "source_row", before="split", file=pl.format(f"{name}/{{}}", "source_file")
        )
        both = documents.join(alone, on="text")
        assert both.height == documents.filter(pl.col("part") == name).height
        assert both.filter((pl.col("split") != pl.col("before")) | (pl.col("source_file") != pl.col("file"))).is_empty()
    assert set(documents["split"]) == {"train", "val", "test"}


def test_near_copies_of_what_another_part_holds_out_are_not_trained_on(parts, tmp_path):
    documents = mixed(parts, tmp_path, one=None, two=None)
    held_out = of(parts, "one").filter(pl.col("split") == "test")["text"][0]
    assert documents.filter(pl.col("text") == held_out)["split"].to_list() == ["test"]
    rejects = pl.read_parquet(tmp_path / "rejects" / "*.parquet")
    copies = rejects.filter(pl.col("text").str.starts_with(nearly(held_out)))
    assert set(copies["reason"]) == {"leak"}


@pytest.mark.parametrize("share", [0.5, 0.9, 4])
def test_shares_are_of_the_bytes_to_train_on_and_the_scarcest_part_is_whole(parts, tmp_path, share):
    everything, some = (
        mixed(parts, tmp_path / "all", one=None, two=None),
        mixed(parts, tmp_path / "some", one=share, two=1),
    )
    all_bytes, found = to_train(everything), to_train(some)
    assert any(abs(found[name] / all_bytes[name] - 1) < 0.02 for name in found)
    assert found["one"] / found["two"] == pytest.approx(share, rel=0.1)
    held_out = pl.col("split") != "train"
    assert some.filter(held_out)["text"].to_list() == everything.filter(held_out)["text"].to_list()
    assert set(some["text"]) < set(everything["text"])


def test_what_decides_the_bytes_is_the_identity(parts):
    assert resolve(source(parts, one=0.5, two=1), corpora.MIX) == {
        "mix": {"one": [0.5, "digest of one"], "two": [1, "digest of two"]}
    }


def test_a_part_that_is_gone_is_named(parts, tmp_path):
    with pytest.raises(DataError, match="the clean documents of two, of the mixture, are gone: gpt clean two"):
        resolve(source(parts | {"two": tmp_path}, one=None, two=None), corpora.MIX)
