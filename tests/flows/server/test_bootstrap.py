"""prefect.yaml as people edit it: what is wrong is told with its place before the servers are up, or when it is deployed."""

from signal import SIGABRT, SIGBUS, SIGKILL, SIGSEGV
from uuid import uuid4

import pytest
import yaml
from prefect.events import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import UserError
from flows.recipe import corpus_names
from flows.server import bootstrap, dead_runs
from flows.server.bootstrap import AUTOMATIONS
from tests.conftest import ROOT

HEAD = "deployments:\n- name: mine\n  entrypoint: flows/train.py:train\n  work_pool: {name: gpt}\n"


def test_ours_is_sound():
    assert set(corpus_names()) <= set(bootstrap.check(ROOT / "prefect.yaml"))


def test_the_automations_know_a_killed_run_and_the_deployment_that_they_start():
    compare, restart = yaml.safe_load(AUTOMATIONS.read_text())["automations"]
    killed = [f"Process exited with status code: {-number}.*" for number in (SIGKILL, SIGSEGV, SIGABRT, SIGBUS)]
    messages = [*killed, f"{dead_runs.GONE}*", f"{dead_runs.SILENT}*"]
    assert AutomationCore.model_validate(restart).trigger.match["prefect.state-message"] == messages
    (action,) = compare["actions"]
    action["deployment_id"] = str(uuid4())
    assert AutomationCore.model_validate(compare).actions[0].schedule_after.total_seconds() == 600


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (HEAD + "  tags: [a\n  parameters: {}\n", " is no YAML: ", ["line 6"]),
        (HEAD + "  concurency_limit: 1\n", ", deployments.0.concurency_limit: ", ["not permitted"]),
        ("x: 1\n" + HEAD, ", x: ", ["not permitted"]),
        (HEAD + "  schedules:\n  - {cron: '0 3 * * 1', timezon: UTC}\n", "deployments.0.schedules", ["timezon: Extra"]),
        (HEAD + "  concurrency_limit: many\n", "deployments.0.concurrency_limit", ["valid integer"]),
        ("deployments:\n- train\n", ", deployments.0", ["valid dictionary"]),
        ("deployments: mine\n", ", deployments", ["valid list"]),
    ],
)
def test_a_wrong_edit_is_told_with_its_place(tmp_path, text, place, words):
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        bootstrap.check(path)
    said = str(error.value)
    assert said.startswith("prefect.yaml")
    assert place in said
    assert len(said.splitlines()) <= 2
    for word in words:
        assert word in said


@pytest.mark.parametrize("text", ["", "deployments: []\n", "just words\n"])
def test_a_file_without_deployments_is_told(tmp_path, text):
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(UserError, match="has no deployments"):
        bootstrap.check(tmp_path / "prefect.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        bootstrap.check(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD.replace("name: gpt", "name: nowhere"), ["work pool 'nowhere' which does not exist"]),
        (HEAD.replace("train.py", "trian.py"), ["flows/trian.py"]),
        (HEAD.replace(":train\n", ":trane\n"), ["trane", "not"]),
        ("deployments:\n- name: mine\n  work_pool: {name: gpt}\n", ["entrypoint must be provided"]),
        ("deployments:\n- entrypoint: flows/train.py:train\n", ["name must be provided"]),
        ("definitions: &a\n  entrypoint: flows/none.py:f\ndeployments:\n- <<: *a\n  name: n\n", ["none.py"]),
        (HEAD + "  schedules:\n  - cron: '0 99 * * 1'\n", ["0 99 * * 1"]),
        (HEAD + "  schedules:\n  - cron: weekly\n", ["weekly"]),
        (HEAD + "  schedules:\n  - {cron: '0 3 * * 1', timezone: Mars/Base}\n", ["Mars/Base"]),
    ],
)
def test_what_prefect_refuses_is_told(tmp_path, prefect_server, text, words):
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        bootstrap.create_pool()
        bootstrap.check(path)
        with pytest.raises(UserError) as error:
            bootstrap.deploy(path)
    said = str(error.value)
    assert said.startswith("prefect.yaml could not be deployed: ")
    assert len(said.splitlines()) <= 2
    for word in words:
        assert word in said, said
