"""prefect.yaml, checked before it is deployed: `prefect deploy` skips a file it cannot read, and unknown keys."""

import ast
import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, RawScheduleConfig
from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

from flows import UserError
from flows.home import ROOT

ANCHORS = "definitions"  # where the file keeps what its entries share


def check(path: Path) -> dict[str, tuple[int, str]]:
    """The line and the work pool of each deployment, by name. Raises UserError that names the line of what is wrong."""
    node, content = _read(path)
    if not isinstance(content, dict) or not content.get("deployments"):
        raise UserError(f"{path.name} has no deployments\n{path}")
    found = {}
    try:
        _check_keys(content)
        for number, deployment in enumerate(content["deployments"]):
            where = ("deployments", number)
            _check_deployment(deployment, where)
            pool = (deployment.get("work_pool") or {}).get("name", "")
            found[deployment["name"]] = (_line(node, (*where, "work_pool")), pool)
    except _WrongError as error:
        raise UserError(f"{path.name}, line {_line(node, error.where)}: {error}\n{path}") from None
    return found


class _WrongError(Exception):
    """What is wrong, and where: the keys and indices that lead there from the top of the file."""

    def __init__(self, where: tuple[str | int, ...], what: str):
        super().__init__(what)
        self.where = where


def _read(path: Path) -> tuple[yaml.Node, object]:
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.compose(text) or yaml.ScalarNode("", ""), yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path.name}{line}: this is no YAML: {getattr(error, 'problem', error)}\n{path}") from None


def _check_keys(content: dict) -> None:
    """Hold the file against Prefect's own models, unknown keys included."""
    try:
        PrefectYamlModel.model_validate({k: v for k, v in content.items() if k != ANCHORS}, extra="forbid")
    except ValidationError as error:
        # Where a value may have one of several forms, Prefect's models list the usual one first.
        first = error.errors()[0]
        where: tuple[str | int, ...] = ()
        value: Any = content
        for part in first["loc"]:  # which also names the models that were tried
            if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
                where, value = (*where, part), cast(Any, value)[part]
        if first["type"] != "extra_forbidden":
            raise _WrongError(where, f"{where[-1] if where else 'the file'}: {first['msg']}") from None
        known = (PrefectYamlModel, DeploymentConfig, RawScheduleConfig)
        close = get_close_matches(str(where[-1]), [name for model in known for name in model.model_fields], 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise _WrongError(where, f"{where[-1]!r} is not known there{hint}") from None


def _check_deployment(deployment: dict, where: tuple[str | int, ...]) -> None:
    for name in ("name", "entrypoint"):
        if not deployment.get(name):
            raise _WrongError(where, f"this deployment has no {name}")
    if problem := _entrypoint_problem(deployment["entrypoint"]):
        raise _WrongError((*where, "entrypoint"), f"entrypoint {deployment['entrypoint']!r}: {problem}")
    for number, schedule in enumerate(deployment.get("schedules") or ()):
        if "cron" not in schedule:
            continue
        try:
            CronSchedule(cron=schedule["cron"], timezone=schedule.get("timezone"))
        except ValidationError as error:
            key = error.errors()[0]["loc"][0]
            raise _WrongError(
                (*where, "schedules", number, key),
                f"{key} {schedule[key]!r} of {deployment['name']!r} is none; "
                "a cron is five fields, such as '0 3 * * 1', a timezone such as Europe/Berlin",
            ) from None


def check_pools(path: Path, deployments: dict[str, tuple[int, str]], pools: set[str]) -> None:
    """Raise UserError for a work pool that the server does not have."""
    for name, (line, pool) in deployments.items():
        if pool not in pools:
            what = f"work pool {pool!r} of {name!r} does not exist; there is {', '.join(sorted(pools))}"
            raise UserError(
                f"{path.name}, line {line}: {what}\nprefect work-pool create {pool} --type process makes it"
            )


def deploy(path: Path) -> None:
    """Create or update every deployment of the file: `prefect deploy --all`, in this process, which has loaded Prefect."""
    before = sys.argv
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
    output = io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            runpy.run_module("prefect", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print(output.getvalue())
        if end.code:
            text = output.getvalue().replace("An exception occurred.", "")
            lines = [line.strip(" │") for line in text.splitlines() if line.strip(" │╭╰─╮╯")]
            raise UserError(f"{path.name} could not be deployed: {' '.join(lines[-2:])[-300:]}\n{path}") from None
    finally:
        sys.argv = before


def _entrypoint_problem(entrypoint: str) -> str:
    """What is wrong with an entrypoint `file.py:function`, or nothing."""
    file, _, function = str(entrypoint).rpartition(":")
    try:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        return f"{file or 'file.py:function'} cannot be read: {getattr(error, 'strerror', None) or error}"
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return "" if function in names else f"{file} has no function {function!r}"


def _line(node: yaml.Node, where: tuple) -> int:
    """The line of a key, or of the nearest one above it. A key that comes from an anchor has the anchor's line."""
    line = node.start_mark.line
    for part in where:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        pairs = {key.value: (key, value) for key, value in _pairs(node)}
        if part not in pairs:
            break
        key, node = pairs[part]
        line = key.start_mark.line
    return line + 1


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Keys and values, merged ones first, so that a mapping's own win."""
    merged = [pair for key, value in node.value if key.value == "<<" for pair in _pairs(value)]
    return merged + [(key, value) for key, value in node.value if key.value != "<<"]
