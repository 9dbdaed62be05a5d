"""prefect.yaml as people edit it: what is wrong is told with its place, before anything is deployed."""

import pytest

from flows import UserError
from tests.conftest import ROOT

HEAD = "deployments:\n- name: mine\n  entrypoint: flows/train.py:train\n  work_pool: {name: gpt}\n"


def test_ours_is_sound():
    from flows.recipe import corpus_names
    from flows.server import prefect_yaml

    found = prefect_yaml.check(ROOT / "prefect.yaml")
    assert set(corpus_names()) <= found.keys()
    assert set(found.values()) == {"gpt"}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (HEAD + "  tags: [a\n  parameters: {}\n", " is no YAML: ", ["line 6"]),
        (HEAD + "  concurency_limit: 1\n", ", deployments.0 (mine).concurency_limit is not", ["'concurrency_limit'"]),
        ("x: 1\n" + HEAD, ", x is not known", []),
        (HEAD + "  schedules:\n  - {cron: '0 3 * * 1', timezon: UTC}\n", "(mine).schedules.0.timezon is", ["'timezone'"]),
        (HEAD + "  schedules:\n  - cron: '0 99 * * 1'\n", "(mine).schedules.0.cron: '0 99 * * 1' is none", []),
        (HEAD + "  schedules:\n  - cron: weekly\n", "(mine).schedules.0.cron: 'weekly'", []),
        (HEAD + "  schedules:\n  - {cron: '0 3 * * 1', timezone: Mars/Base}\n", "schedules.0.timezone: 'Mars/Base'", []),
        (HEAD + "  concurrency_limit: many\n", "(mine).concurrency_limit", ["valid integer"]),
        ("deployments:\n- name: mine\n  work_pool: {name: gpt}\n", ", deployments.0 (mine).entrypoint is missing", []),
        ("deployments:\n- entrypoint: flows/train.py:train\n", ", deployments.0 (?).name is missing", []),
        ("deployments:\n- train\n", ", deployments.0 (?)", ["valid dictionary"]),
        (HEAD.replace("train.py", "trian.py"), "(mine).entrypoint", ["flows/trian.py cannot be read"]),
        (HEAD.replace(":train\n", ":trane\n"), "(mine).entrypoint", ["no function 'trane'"]),
        ("definitions: &a\n  entrypoint: flows/none.py:f\ndeployments:\n- <<: *a\n  name: n\n", "(n).entrypoint", ["none.py"]),
    ],
)  # fmt: skip
def test_a_wrong_edit_is_told_with_its_place(tmp_path, text, place, words):
    from flows.server import prefect_yaml

    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        prefect_yaml.check(path)
    said = str(error.value)
    assert said.startswith("prefect.yaml")
    assert place in said
    assert len(said.splitlines()) <= 2
    for word in words:
        assert word in said


@pytest.mark.parametrize("text", ["", "deployments: []\n", "just words\n"])
def test_a_file_without_deployments_is_told(tmp_path, text):
    from flows.server import prefect_yaml

    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(UserError, match="has no deployments"):
        prefect_yaml.check(tmp_path / "prefect.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        prefect_yaml.check(tmp_path / "none.yaml")


def test_a_work_pool_that_is_not_there_is_told(tmp_path):
    from flows.server import prefect_yaml

    path = tmp_path / "prefect.yaml"
    path.write_text(HEAD)
    found = prefect_yaml.check(path)
    prefect_yaml.check_pools(path, found, {"gpt", "other"})
    with pytest.raises(UserError, match=r"prefect\.yaml: work pool 'gpt' of 'mine' does not exist; there is other"):
        prefect_yaml.check_pools(path, found, {"other"})
