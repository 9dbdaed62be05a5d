"""Recipes: typed, validated, every problem in one message."""

import pytest

from data_contracts import corpora
from flows import UserError
from flows.recipe import FOLDER, OWN, corpus_names, load_recipe, parse_override, recorded_recipe
from flows.recipe import settle as settle_by


@pytest.mark.parametrize("corpus", corpus_names())
def test_every_recipe_is_valid_and_has_a_reader(corpus):
    recipe = load_recipe(corpus)
    assert recipe.title
    assert recipe.model.block_size == recipe.pack.block_size
    assert recipe.reader in corpora.names()
    assert corpora.find(recipe.reader).FILES


def test_every_problem_is_told_at_once_with_the_nearest_known_name():
    wrong = {
        "train.stpes": 5,
        "train.lr": "abc",
        "pack.block_size": 1,
        "tokeniser.vocab_size": 300,
        "clean.min_chars": -3,
        "model.n_head": 3,
    }
    with pytest.raises(UserError) as caught:
        load_recipe("python-docs", overrides=wrong)
    message = str(caught.value)
    assert len(message.splitlines()) == 6
    assert "train.stpes is not known; did you mean 'train.steps'?" in message
    assert "tokeniser is not known; did you mean 'tokenizer'?" in message
    assert "train.lr = 'abc'" in message
    assert "pack.block_size = 1: Input should be greater than or equal to 2" in message
    assert "clean.min_chars = -3" in message
    assert "n_embd 128 is not a multiple of n_head 3" in message


def test_a_wrong_field_does_not_hide_the_rest_of_its_section():
    with pytest.raises(UserError) as caught:
        load_recipe("python-docs", overrides={"train.lrr": 2, "train.steps": -4, "sample.seed": -1, "reader": "own"})
    assert len(str(caught.value).splitlines()) == 4
    for part in ("train.lrr", "steps is -4", "sample.seed = -1", "reader follows"):
        assert part in str(caught.value)


def test_a_recipe_that_is_not_toml_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("[train\nsteps = 3")
    monkeypatch.setattr("flows.recipe.FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"mine\.toml is not TOML"):
        load_recipe("mine")


def test_a_copy_of_the_users_recipe_becomes_a_corpus(tmp_path, monkeypatch):
    text = (FOLDER / "own.toml").read_text()
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setattr("flows.recipe.FOLDER", tmp_path)
    assert (load_recipe("mine").corpus, load_recipe("mine").reader) == ("mine", OWN)


def test_secrets_in_an_address_do_not_reach_the_parameters(monkeypatch):
    url = "https://user:sekret@example.org/input.txt?token=sekret"
    monkeypatch.setenv("MY_URL", url)
    recipe = load_recipe("shakespeare", overrides={"source.url": "${MY_URL}"})
    assert recipe.source.address == url
    assert "sekret" not in str(recipe.flat())
    for secret in (url, "https://me@example.org/input.txt", "https://example.org/input.txt?key=1"):
        with pytest.raises(UserError, match=r"source\.url may hold a secret .* set source\.url='\$\{MY_URL\}'"):
            load_recipe("shakespeare", overrides={"source.url": secret})
    assert load_recipe("shakespeare", overrides={"source.url": "https://example.org/a.txt"}).source.url


@pytest.mark.parametrize("value", [1.5, True, "12", [1]])
def test_types_are_strict(value):
    with pytest.raises(UserError, match=r"train\.steps"):
        load_recipe("python-docs", overrides={"train.steps": value})


def test_whole_numbers_pass_for_fractions():
    assert load_recipe("python-docs", overrides={"train.lr": 1}).train.lr == 1.0


def test_unknown_corpus_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'python-docs'"):
        load_recipe("pythn-docs")
    with pytest.raises(UserError, match="should match pattern"):
        load_recipe("../etc", source="/tmp")


def test_size_keeps_the_family_and_whole_presets_replace_it():
    assert load_recipe("python-docs", size="tiny").model.positions == "rotary"
    classic = load_recipe("python-docs", size="classic-tiny").model
    assert (classic.positions, classic.n_embd) == ("learned", 384)
    with pytest.raises(UserError, match="huge"):
        load_recipe("python-docs", size="huge")


def test_vocabulary_and_length_have_one_home():
    with pytest.raises(UserError, match=r"set by tokenizer\.vocab_size"):
        load_recipe("python-docs", overrides={"model.vocab_size": 100})
    recipe = load_recipe("python-docs", overrides={"tokenizer.vocab_size": 777, "pack.block_size": 33})
    assert (recipe.model.vocab_size, recipe.model.block_size) == (777, 33)


def test_a_folder_makes_any_name_a_corpus(tmp_path):
    recipe = load_recipe("my-notes", source=str(tmp_path))
    assert (recipe.corpus, recipe.reader, recipe.source.path) == ("my-notes", OWN, str(tmp_path.resolve()))
    assert load_recipe("shakespeare", source=str(tmp_path)).reader == "shakespeare"


def test_overrides_are_read_as_toml_or_as_text():
    assert parse_override("train.steps=500") == ("train.steps", 500)
    assert parse_override("train.lr = 1e-3") == ("train.lr", 0.001)
    assert parse_override("model.preset=classic-nano") == ("model.preset", "classic-nano")
    assert parse_override('sample.prompts=["a", "b"]') == ("sample.prompts", ["a", "b"])
    with pytest.raises(UserError, match=r"section\.name=value"):
        parse_override("steps")


def test_flat_parameters_are_text_by_section():
    flat = load_recipe("python-docs").flat()
    assert flat["train.seed"] == "1"
    assert all(isinstance(value, str) for value in flat.values())


def test_options_are_texts_whatever_they_look_like(tmp_path):
    assert load_recipe("mine", source=str(tmp_path), overrides={"options.header": False}).options == {"header": "false"}


def settle(recipe, train_bytes, held_out_bytes=10**5):
    return settle_by(recipe, {"train_bytes": train_bytes, "val_bytes": 10**5, "test_bytes": held_out_bytes})


def test_what_nobody_gave_is_settled_by_the_corpus_and_only_then_told():
    recipe = load_recipe("shakespeare", overrides={"model.dropout": 0.05, "train.lr": 0.003})
    assert {"model.n_layer", "train.steps", "pack.block_size"} < set(recipe.dial)
    assert not set(recipe.dial) & recipe.flat().keys()
    (small, why), (large, _) = (settle(recipe, train_bytes) for train_bytes in (10**4, 10**9))
    assert small.pack.block_size == small.model.block_size < large.pack.block_size == large.model.block_size == 256
    assert (small.train.lr, small.model.dropout) == (large.train.lr, large.model.dropout) == (0.003, 0.05)
    assert set(recipe.dial) < large.flat().keys()
    assert f"T {small.pack.block_size}" in why
    assert settle(large, 1) == (large, "")
    assert settle(recipe, 10**6, held_out_bytes=600)[0].pack.block_size == 64  # what is held out holds a sequence


def test_a_named_size_leaves_only_the_rest_to_the_dial():
    recipe = load_recipe("shakespeare", size="classic-tiny")
    assert not {"model.n_layer", "model.n_head", "model.n_embd"} & set(recipe.dial)
    settled, _ = settle(recipe, 10**6)
    assert (settled.model.n_layer, settled.model.positions, settled.train.lr) == (6, "learned", 0.00877)
    assert settle(load_recipe("shakespeare", overrides={"model.preset": "classic"}), 10**6)[0].model.n_layer == 2


def test_minutes_are_what_the_dial_plans_the_steps_for_and_explicit_steps_win():
    few, many = (
        settle(load_recipe("shakespeare", size="nano", minutes=minutes), 10**6)[0].train.steps for minutes in (1, 2)
    )
    assert many == pytest.approx(2 * few, rel=0.05)
    assert settle(load_recipe("shakespeare", minutes=1, steps=77), 10**6)[0].train.steps == 77
    with pytest.raises(UserError, match="minutes"):
        load_recipe("shakespeare", minutes=-1)


def test_a_record_with_settings_of_an_older_version_is_read_without_them():
    values = load_recipe("shakespeare").public_values()
    values["pack"]["strategy"] = "best_fit"
    values["train"] |= {"ema": 0.0, "minutes": 0.0}
    recipe, problems = recorded_recipe(values)
    assert recipe == load_recipe("shakespeare")
    assert [problem.split()[0] for problem in problems] == ["pack.strategy", "train.ema", "train.minutes"]
