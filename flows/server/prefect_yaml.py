"""prefect.yaml, checked before it is deployed: `prefect deploy` skips a file it cannot read, and unknown keys."""

import ast
import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import yaml
from prefect.cli import app
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, RawScheduleConfig
from prefect.client.schemas.schedules import CronSchedule
from pydantic import BaseModel, ValidationError

from flows import UserError
from flows.home import ROOT
from gpt.settings import nearest


def check(path: Path) -> dict[str, str]:
    """The work pool of each deployment, by name. Raises UserError that names the deployment and the key of what is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path.name} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("deployments"), list) or not content["deployments"]:
        raise UserError(f"{path.name} has no deployments\n{path}")
    deployments = content.pop("deployments")
    content.pop("definitions", None)  # where the file keeps what its entries share
    _check_keys(PrefectYamlModel, content, f"{path.name}, ")
    pools = {}
    for number, deployment in enumerate(deployments):
        name = deployment.get("name", "?") if isinstance(deployment, dict) else "?"
        where = f"{path.name}, deployments.{number} ({name})."
        _check_keys(DeploymentConfig, deployment, where)
        for key in ("name", "entrypoint"):
            if not deployment.get(key):
                raise UserError(f"{where}{key} is missing")
        if problem := _entrypoint_problem(deployment["entrypoint"]):
            raise UserError(f"{where}entrypoint {deployment['entrypoint']!r}: {problem}")
        for place, schedule in enumerate(deployment.get("schedules") or ()):
            _check_cron(schedule, f"{where}schedules.{place}.")
        pools[deployment["name"]] = (deployment.get("work_pool") or {}).get("name", "")
    return pools


def _check_keys(model: type[BaseModel], values: object, where: str) -> None:
    """Hold a part of the file against Prefect's own model, unknown keys included."""
    try:
        model.model_validate(values, extra="forbid")
    except ValidationError as error:
        # Where a value may have one of several forms, Prefect's models list the usual one first. Its name is no key.
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"] if "RawScheduleConfig" not in str(part)]
        place = where + ".".join(keys)
        if first["type"] != "extra_forbidden":
            raise UserError(f"{place}: {first['msg']}") from None
        models = (PrefectYamlModel, DeploymentConfig, RawScheduleConfig)
        known = [name for model in models for name in model.model_fields]
        raise UserError(f"{place} is not known{nearest(keys[-1], known)}") from None


def _check_cron(schedule: dict, where: str) -> None:
    try:
        if "cron" in schedule:
            CronSchedule(cron=schedule["cron"], timezone=schedule.get("timezone"))
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        mend = "a cron is five fields, such as '0 3 * * 1', a timezone such as Europe/Berlin"
        raise UserError(f"{where}{key}: {schedule[key]!r} is none; {mend}") from None


def _entrypoint_problem(entrypoint: str) -> str:
    """What is wrong with an entrypoint `file.py:function`, or nothing."""
    file, _, function = entrypoint.rpartition(":")
    try:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        return f"{file or 'file.py:function'} cannot be read: {getattr(error, 'strerror', None) or error}"
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return "" if function in names else f"{file} has no function {function!r}"


def check_pools(path: Path, deployments: dict[str, str], pools: set[str]) -> None:
    """Raise UserError for a work pool that the server does not have."""
    for name, pool in deployments.items():
        if pool not in pools:
            what = f"{path.name}: work pool {pool!r} of {name!r} does not exist; there is {', '.join(sorted(pools))}"
            raise UserError(f"{what}\nprefect work-pool create {pool} --type process makes it")


def deploy(path: Path) -> None:
    """Create or update every deployment of the file: `prefect deploy --all`, in this process, which has loaded Prefect."""
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
