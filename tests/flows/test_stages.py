"""What a stage's key is made of."""

from flows import recipes
from flows.environment import ROOT
from flows.stages import STAGES
from flows.store import code_files


def key_parts(**overrides) -> dict[str, tuple]:
    recipe = recipes.load(
        "python-docs", overrides={name.replace("__", "."): value for name, value in overrides.items()}
    )
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
    assert changed(runtime__threads=1, runtime__log_every=3, sample__seed=4, train__checkpoint_every=7) == set()
    assert changed(runtime__dtype="bfloat16") == {"train"}  # asked for by name it changes the numbers


def test_code_is_all_that_a_stage_imports_of_its_package_and_no_more():
    def names(*entries):
        return {str(path.relative_to(ROOT)) for path in code_files(*(ROOT / entry for entry in entries))}

    trained = names("gpt/trainer.py")
    assert {"gpt/model.py", "gpt/optim.py", "gpt/muon.py", "gpt/dataset.py", "gpt/checkpoint.py"} <= trained
    assert not {"gpt/main.py", "gpt/generate.py"} & trained  # a program's arguments, and what comes after training
    for stage in ("tokenize", "pack"):  # what they read, and the figures of gzip and xz, are made there
        assert "flows/documents.py" in names(*STAGES[stage].sources)
    packed = ("__init__", "baselines", "dataset", "layout", "report", "settings", "shards")  # packing needs no model
    assert names("gpt/baselines.py", "gpt/report.py") == {f"gpt/{name}.py" for name in packed}
