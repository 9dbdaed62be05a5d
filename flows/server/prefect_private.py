"""All that uses what Prefect keeps to itself, so that another version of Prefect is held against one file: its model of
prefect.yaml, since `prefect deploy` skips a file that it cannot read, and unknown keys; and the lease of a run's slot."""

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import yaml
from pydantic import ValidationError

from flows import UserError


def check(path: Path) -> list[str]:
    """The names of the deployments of a prefect.yaml. Raises UserError that says where what is wrong: what YAML or Prefect's
    model does not take, and unknown keys. `deploy` finds the rest."""
    from prefect.cli.deploy._models import PrefectYamlModel

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path.name} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content.get("deployments"):
        raise UserError(f"{path.name} has no deployments\n{path}")
    content.pop("definitions", None)  # where the file keeps what its entries share
    try:
        deployments = PrefectYamlModel.model_validate(content, extra="forbid").deployments
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path.name}, {place}: {first['msg']}") from None
    return [str(deployment.name) for deployment in deployments]


def deploy(path: Path) -> None:
    """Create or update every deployment of the file: `prefect deploy --all`, in this process, which has loaded Prefect."""
    from prefect.cli import app

    sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
    output = io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            app()
    except SystemExit as end:
        if end.code:
            words = re.sub("[│╭╰─╮╯]", " ", output.getvalue()).split()
            raise UserError(f"{path.name} could not be deployed: {' '.join(words)[-300:]}\n{path}") from None
    finally:
        print(output.getvalue())


def go_on_without_slot() -> None:
    """From now on a run that lost the slot of its deployment while the machine slept goes on; Prefect would cancel it."""
    from prefect import flow_engine
    from prefect.concurrency._leases import maintain_concurrency_lease

    flow_engine.maintain_concurrency_lease = lambda lease_id, seconds, **_: maintain_concurrency_lease(
        lease_id, seconds, raise_on_lease_renewal_failure=False
    )
