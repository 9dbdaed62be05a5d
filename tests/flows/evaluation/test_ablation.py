"""On which texts rules are compared, and what is said of the differences."""

import numpy as np
import polars as pl
import pytest

from data_contracts.rules import Rules
from flows import UserError
from flows.evaluation.ablation import OFF, RECIPE, SEED, compare, other_values, untouched, without_copies

USED = Rules(mentions="mask", min_words=3)


def test_each_rule_that_the_recipe_uses_is_turned_off_or_gets_the_value_that_is_given():
    assert other_values(USED, []) == {
        "mentions": "keep",
        "min_words": 0,
        "deduplicate": False,
        "near_duplicates": "keep",
    }
    assert other_values(USED, ["mentions=drop", "spaces=true", 'languages=["en"]']) == {
        "mentions": "drop",
        "spaces": True,
        "languages": ["en"],
    }
    assert Rules(**OFF, seed=3) == Rules(**OFF, seed=3, val_fraction=0.1)  # no setting of the split is a rule
    for asked, words in (
        ("mention", "'mention' is not known; known are entities"),
        ("spaces", "does not use the rule spaces"),
    ):
        with pytest.raises(UserError, match=words):
            other_values(USED, [asked])


def test_a_verdict_is_on_texts_that_no_variant_changes_or_drops():
    texts = pl.Series("text", ["a plain text of words", "thanks @somebody for it", "two words", "&amp; of all things"])
    common, other = Rules(**OFF), Rules(**OFF | {"entities": True})
    assert untouched("mine", texts, common, [USED]).tolist() == [True, False, False, True]
    assert untouched("mine", texts, common, [USED, other]).tolist() == [True, False, False, False]
    assert untouched("mine", texts, common, [common]).all()


def test_copies_of_what_is_trained_on_are_not_scored(tmp_path):
    words = [f"word{n}" for n in range(60)]
    texts = [" ".join(words[:30]), " ".join(words[30:]), " ".join(words[30:]), " ".join(words[::-1])]
    nearly = " ".join([*words[:29], "else"])
    (tmp_path / "documents").mkdir()
    columns = {"doc_id": ["a", "b"], "text": [nearly, " ".join(words[::-1])], "split": ["train", "test"]}
    places = {"n_bytes": [1, 1], "source_file": ["f", "f"], "source_row": [0, 1]}
    pl.DataFrame(columns | places).write_parquet(tmp_path / "documents" / "00000.parquet")
    kept = without_copies(pl.DataFrame({"text": texts}), [tmp_path])
    assert kept["text"].to_list() == [texts[1], texts[3]]  # a copy of a text that is held out, too, stays


def test_a_rule_helps_or_hurts_only_beyond_the_noise_of_documents_and_seeds():
    draw = np.random.default_rng(0)
    n_bytes, base = np.full(200, 100), draw.normal(100, 5, 200)
    nats = {RECIPE: base, SEED: base + 2, "good": base + 5 + draw.normal(0, 1, 200), "bad": base - 5, "same": base + 1}
    nats |= {"little": base + 0.5, "noisy": base + 4 + draw.normal(0, 300, 200), "new": base - 5}
    used = dict.fromkeys(("good", "bad", "same", "little", "noisy"), True) | {"new": False}
    fair = np.arange(200) >= 20
    nats["good"][:20] -= 100  # on texts that a rule touches
    found = compare(nats, used, n_bytes, fair)
    rows = {row["rule"]: row for row in found["rules"]}
    assert {rule: row["verdict"] for rule, row in rows.items()} == {
        "good": "helps",
        "bad": "hurts",
        "same": "does not matter",  # less than another seed
        "little": "does not matter",
        "noisy": "not known",
        "new": "helps",  # which the recipe does not use, and which is better with it
    }
    assert found["noise"] == pytest.approx(2 / np.log(2) / 100)
    assert rows["good"]["difference_low"] > 0 > rows["good"]["on_all"]
    assert found["bits_per_byte"] == pytest.approx(base[20:].sum() / np.log(2) / 18000)
    one = compare(nats, used, n_bytes, np.arange(200) == 50)
    assert {row["verdict"] for row in one["rules"]} == {"not known"}
