import pytest

from tests.flows.docs.reading import run_all


@pytest.mark.slow
def test_every_command_does_what_it_is_shown_for(reader, project, prefect_server):
    run_all("docs/tutorial.md", reader, project, prefect_server)
