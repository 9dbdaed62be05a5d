from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.flows.docs.reading import commands, run_all

OTHERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md") if path.name != "tutorial.md")


@pytest.mark.slow
@pytest.mark.parametrize("document", [name for name in OTHERS if commands(Path(name))])
def test_every_command_does_what_it_is_shown_for(document, reader, project, prefect_server):
    run_all(document, reader, project, prefect_server)
