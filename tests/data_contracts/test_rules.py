"""What the settings of cleaning refuse."""

import pytest

from data_contracts import DataError
from data_contracts.rules import Rules


def test_every_problem_is_said_at_once():
    wrong = {
        "min_chars": 0, "max_chars": -1, "min_word_chars": 4.0, "max_word_chars": 3.0, "normalize": "NFD",
        "urls": "hide", "emails": "hide", "mentions": "hide", "phones": "hide", "ip_addresses": "hide",
        "near_duplicates": "merge", "min_words": -1,
        "min_stop_words": -1, "max_symbols": -0.1, "min_letter_words": 1.1, "max_repeated_lines": 2.0,
        "max_repeated_ngrams": -1.0, "max_words": -1, "max_bullets": 1.1, "max_ellipses": -0.1,
        "max_repeated_paragraphs": 2.0, "max_top_ngrams": 2.0,
        "max_malformed": 1.5, "languages": ("en", "English"), "split_chars": 5,
        "val_fraction": 1.0,
    }  # fmt: skip
    with pytest.raises(DataError) as error:
        Rules(**wrong)
    message = str(error.value)
    assert message.startswith("rules: ")
    for name in wrong:
        assert name in message, name
    for value in ("'NFD' is not one of none, NFC", "'English'", "3.0 is less than min_word_chars 4.0", "below 0"):
        assert value in message
    assert "'en'," not in message


def test_limits_that_are_off_do_not_quarrel():
    Rules(min_chars=500, max_chars=0, min_word_chars=3, max_word_chars=0, split_chars=0)
    with pytest.raises(DataError, match="max_chars 400 is less than min_chars 500"):
        Rules(min_chars=500, max_chars=400)
    with pytest.raises(DataError, match="split_chars 400 is less than 500"):
        Rules(min_chars=500, split_chars=400)
