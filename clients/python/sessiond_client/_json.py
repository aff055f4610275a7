"""Values to JSON, and JSON to the types of results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import (
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)
from uuid import UUID

T = TypeVar("T")


def dump(value: Mapping[str, Any]) -> bytes:
    """Returns an object as JSON."""
    return json.dumps(value, default=_plain, allow_nan=False).encode()


def load(kind: type[T], text: bytes) -> T:
    """Reads a dataclass from a JSON object, which may have more fields.

    Raises `ValueError` if the text is none. Nothing of the text is in the error.
    """
    try:
        value = _read(kind, json.loads(text))
    except (KeyError, TypeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ValueError(f"no {kind.__name__}")
    return value


def _plain(value: object) -> str:
    """Returns what stands for a value that JSON has no form of."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _read(kind: Any, value: Any) -> Any:
    """Reads a value as this type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Union:  # Optional
        return None if value is None else _read(arguments[0], value)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], item) for item in value)
    if kind is UUID and isinstance(value, str):
        return UUID(value)
    if kind is datetime and isinstance(value, str):
        return _read_time(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        fields = [field for field in _fields(kind) if field[2] or field[0] in value]
        return kind(**{name: _read(it, value[name]) for name, it, _ in fields})
    if type(value) is (origin or kind):
        return value
    raise TypeError


@lru_cache(maxsize=None)
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Returns the fields of a dataclass: name, type, and whether it must be there."""
    types = get_type_hints(kind)
    return tuple(
        (field.name, types[field.name], field.default is dataclasses.MISSING)
        for field in dataclasses.fields(kind)
    )


def _read_time(text: str) -> datetime:
    # Before Python 3.11, `fromisoformat` does not know `Z`.
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if time.tzinfo is None:
        raise ValueError
    return time
