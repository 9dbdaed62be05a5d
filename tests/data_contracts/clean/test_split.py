"""The split: its shares, its seed, and ids that never change."""

import polars as pl

from data_contracts.clean.split import held_out, key, short_sha256
from data_contracts.rules import Rules


def test_val_fraction_is_the_share_and_the_seed_the_choice():
    ids = short_sha256(pl.Series([f"text {number}" for number in range(20_000)]))
    val = pl.DataFrame(
        {
            "half": held_out(ids, Rules(val_fraction=0.5)),
            "few": held_out(ids, Rules(val_fraction=0.05)),
            "other": held_out(ids, Rules(val_fraction=0.05, seed=1)),
        }
    )
    assert abs(val["half"].mean() - 0.5) < 0.02
    assert abs(val["few"].mean() - 0.05) < 0.01
    assert (val["few"] & ~val["half"]).sum() == 0  # a larger share holds the smaller one
    assert (val["few"] & val["other"]).mean() < 0.01


def test_ids_never_change():
    ids = short_sha256(pl.Series(["hello", "Grüße"]))
    assert ids.to_list() == ["2cf24dba5fb0a30e26e83b2ac5b9e29e", "f83e039796c6453a10f5519e39fd1139"]
    assert pl.DataFrame({"id": ids}).select(key(pl.col("id"))).to_series().to_list() == [
        int("2cf24dba5fb0a30", 16),
        int("f83e039796c6453", 16),
    ]
    assert held_out(ids, Rules(val_fraction=0.4)).to_list() == [False, True]
    assert held_out(ids, Rules(val_fraction=0.3, seed=3)).to_list() == [True, False]
