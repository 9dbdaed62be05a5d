"""Settings as frozen dataclasses, and the JSON documents that hold them: checked when they are read or made.

Names, types and ranges: every problem is in one message.
"""

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from gpt import GPTError

Config = TypeVar("Config")


def from_dict(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Build a dataclass of settings from parsed TOML or JSON.

    where: file or section to name in messages. Raises GPTError for an unknown or missing key, or a bad value.
    """
    if not isinstance(values, Mapping):
        raise GPTError(f"{where}: expected a table of settings, got {type(values).__name__}")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    problems = [f"unknown setting {key!r}{nearest(key, known)}" for key in values if key not in known]
    missing = [name for name, field in known.items() if field.default is MISSING and name not in values]
    problems += [f"{name} is missing" for name in missing]
    try:
        config = None if missing else kind(**{key: value for key, value in values.items() if key in known})
    except GPTError as error:
        problems.append(str(error))
    if problems or config is None:
        raise GPTError(f"{where}: " + "; ".join(problems))
    return config


def read_document(path: Path, form: str, version: int, *needed: str) -> dict[str, Any]:
    """A JSON file that names its "format" and "version". Raises GPTError: missing, cut, foreign, of another version, or without
    one of the `needed` entries."""
    document = read_json(path)
    if document.get("format") != form:
        raise GPTError(f"{path} is not of the format {form}: another program wrote it")
    if document.get("version") != version:
        raise GPTError(f"{path} has version {document.get('version')!r}; this program reads version {version}")
    for name in (name for name in needed if name not in document):
        raise GPTError(f"{path} has no {name}: it was edited")
    return document


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file with a table in it. Raises GPTError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GPTError(f"{path} is missing: its folder is of another kind, or its writing was cut off") from None
    except (OSError, ValueError) as error:
        raise GPTError(f"{path} is cut or not JSON ({error})") from None
    return document if isinstance(document, dict) else {}


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that suggests the known name closest to a misspelt one; empty if none is close."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def check(config: Any) -> list[str]:
    """Check each value against its annotation, such as `Annotated[int, (0, 9)]` (both included). Returns the problems.

    A whole number given for a float becomes one.
    """
    problems = list[str]()
    for name, kind in get_type_hints(type(config), include_extras=True).items():
        value, (low, high) = getattr(config, name), (-math.inf, math.inf)
        if get_origin(kind) is Annotated:
            kind, (low, high) = get_args(kind)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            value = float(value)  # so that 1 and 1.0 are one configuration, byte for byte
            object.__setattr__(config, name, value)
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                hint = nearest(value, get_args(kind)) or "; known are " + ", ".join(get_args(kind))
                problems.append(f"{name} is {value!r}{hint}")
        elif type(value) is not kind:
            problems.append(f"{name} is {value!r}; it must be {_NAMES[kind]}")
        elif kind in (int, float) and not low <= value <= high:
            problems.append(f"{name} is {value}; it must be from {low} to {high}")
    return problems


def refuse(what: str, problems: list[str]) -> None:
    if problems:
        raise GPTError(f"{what} configuration: " + "; ".join(problems))
