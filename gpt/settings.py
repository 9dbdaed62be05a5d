"""Checks of frozen dataclasses that hold settings: names, types and ranges, with every problem in one message."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

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


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that suggests the known name closest to a misspelt one; empty if none is close."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def check_types(config: Any) -> list[str]:
    """Check each value against its annotation; a whole number given for a float becomes one. Returns the problems."""
    problems = []
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                hint = nearest(value, get_args(kind)) if isinstance(value, str) else ""
                problems.append(f"{name} is {value!r}{hint or '; known are ' + ', '.join(get_args(kind))}")
        elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            object.__setattr__(config, name, float(value))  # so that 1 and 1.0 are one configuration, byte for byte
            if not math.isfinite(value):
                problems.append(f"{name} is {value}; it must be a finite number")
        elif type(value) is not kind:
            problems.append(f"{name} is {value!r}; it must be {_NAMES[kind]}")
    return problems


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def out_of_range(config: Any, **limits: tuple[float, float]) -> list[str]:
    """A problem for each field whose value is not within its limits (both included)."""
    values = ((name, getattr(config, name), low, high) for name, (low, high) in limits.items())
    return [
        f"{name} is {value}; it must be from {low} to {high}"
        for name, value, low, high in values
        if not low <= value <= high
    ]


def refuse(what: str, problems: list[str]) -> None:
    """Raise GPTError if there are problems."""
    if problems:
        raise GPTError(f"{what} configuration: " + "; ".join(problems))
