"""What a stage's key is made of."""

from flows.recipe import load_recipe
from flows.stages.definitions import STAGES


def key_parts(**overrides) -> dict[str, tuple]:
    recipe = load_recipe("python-docs", overrides={name.replace("__", "."): value for name, value in overrides.items()})
    return {name: (stage.parameters(recipe), stage.code(recipe)) for name, stage in STAGES.items()}


def changed(**overrides) -> set[str]:
    before, after = key_parts(), key_parts(**overrides)
    return {name for name in STAGES if before[name] != after[name]}


def test_a_setting_changes_the_key_of_the_stage_that_it_belongs_to():
    assert changed(train__lr=0.5) == {"train"}
    assert changed(model__n_layer=3) == {"train"}
    assert changed(pack__block_size=64) == {"pack", "train"}
    assert changed(tokenizer__vocab_size=999) == {"tokenize"}  # and pack and train by what it makes
    assert changed(clean__min_chars=9) == {"clean"}


def test_hardware_logs_and_wishes_for_the_summary_change_none():
    assert changed(runtime__threads=1, runtime__log_every=3, sample__seed=4) == set()
    assert changed(train__checkpoint_every=7, train__keep_checkpoints=9) == set()
    assert changed(runtime__dtype="bfloat16") == {"train"}  # asked for by name it changes the numbers


def test_masks_are_pieces_of_the_tokenizer_where_the_rules_write_them():
    def symbols(corpus: str, **overrides) -> list[str]:
        recipe = load_recipe(corpus, overrides={name.replace("__", "."): value for name, value in overrides.items()})
        return STAGES["tokenize"].parameters(recipe)["tokenizer"]["user_defined_symbols"]

    assert symbols("wsb") == ["<url>", "<email>", "<user>", "<ip>", "<phone>"]
    assert symbols("covid-tweets", clean__phones="keep") == ["<email>", "<user>", "<ip>"]  # its addresses are dropped
    assert symbols("shakespeare") == []
    assert symbols("wsb", tokenizer__user_defined_symbols=["==>"]) == ["==>"]
