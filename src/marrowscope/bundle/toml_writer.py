"""Nested tables as the text of a TOML file: Python reads TOML and does not write it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, Any]) -> str:
    """Write tables of text, numbers, booleans, lists of them, and lists of tables as TOML.

    ``tomllib.loads`` of the text gives ``values`` again. TOML has no null: leave such keys out before.
    """
    return "\n".join(_lines(values, "")) + "\n"


def _lines(values: Mapping[str, Any], prefix: str) -> list[str]:
    """Return the lines of one table: its own keys, then the tables in it, each under its full name."""
    plain = {key: value for key, value in values.items() if not (isinstance(value, dict) or _is_tables(value))}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if key in plain:
            continue
        name = f"{prefix}{_key(key)}"
        tables, heading = ([value], f"[{name}]") if isinstance(value, dict) else (value, f"[[{name}]]")
        for table in tables:
            inner = _lines(table, f"{name}.")
            # A table that holds tables alone is there without a heading of its own.
            is_implied = isinstance(value, dict) and inner[:1] == [""]
            lines += inner if is_implied else ["", heading, *inner]
    return lines


def _is_tables(value: Any) -> bool:  # noqa: ANN401 - whatever TOML can hold
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, dict) for item in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


def _value(value: Any) -> str:  # noqa: ANN401 - whatever TOML can hold
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, float):
        return repr(value)  # nan and inf as TOML spells them
    return json.dumps(value, ensure_ascii=False)
