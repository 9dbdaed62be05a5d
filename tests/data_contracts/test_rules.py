"""What the settings of cleaning refuse."""

import pytest
from pydantic import TypeAdapter, ValidationError

from data_contracts import DataError
from data_contracts.rules import Rules


def test_every_value_that_is_not_allowed_is_named():
    wrong = {
        "min_chars": 0, "max_chars": -1, "min_word_chars": -1.0, "max_word_chars": -1.0, "normalize": "NFD",
        "urls": "hide", "emails": "hide", "mentions": "hide", "phones": "hide", "ip_addresses": "hide",
        "near_duplicates": "merge", "min_words": -1, "split_chars": -1,
        "min_stop_words": -1, "max_symbols": -0.1, "min_letter_words": 1.1, "max_repeated_lines": 2.0,
        "max_repeated_ngrams": -1.0, "max_words": -1, "max_bullets": 1.1, "max_ellipses": -0.1,
        "max_repeated_paragraphs": 2.0, "max_top_ngrams": 2.0, "max_malformed": 1.5,
    }  # fmt: skip
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Rules).validate_python(wrong)
    assert {item["loc"][0] for item in error.value.errors()} == {*wrong}


def test_values_that_do_not_fit_together_are_all_said_at_once():
    with pytest.raises(DataError) as error:
        Rules(min_word_chars=4.0, max_word_chars=3.0, languages=("en", "English"), split_chars=5, val_fraction=1.0)
    message = str(error.value)
    assert message.startswith("rules: ")
    for part in ("3.0 is less than min_word_chars 4.0", "'English'", "split_chars 5 is less", "val_fraction 1.0"):
        assert part in message
    assert "'en'," not in message


def test_limits_that_are_off_do_not_quarrel():
    Rules(min_chars=500, max_chars=0, min_word_chars=3, max_word_chars=0, split_chars=0)
    with pytest.raises(DataError, match="max_chars 400 is less than min_chars 500"):
        Rules(min_chars=500, max_chars=400)
    with pytest.raises(DataError, match="split_chars 400 is less than 500"):
        Rules(min_chars=500, split_chars=400)
