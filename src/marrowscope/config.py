"""Configuration as a value: load TOML, override it with flags, hash the result.

Each stage declares its own small frozen model; this module only reads, merges and hashes them. Records that we write as
JSON are frozen models too, read and checked in one step.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from marrowscope.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from marrowscope.errors import MarrowscopeError


class FrozenModel(BaseModel):
    """Base of all typed records that are read or written: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StageConfig(FrozenModel):
    """Base of all stage configurations: no setting is NaN or infinite."""

    model_config = ConfigDict(allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=BaseModel)

_MAX_DEPTH = 32
"""Objects and lists in one another in JSON of ours; a manifest has eight."""

UNREADABLE = (ValueError, RecursionError)
"""What the readers of TOML and JSON raise: wrong bytes, wrong form, a number of too many digits, too deep a nesting."""


def load_config(model: type[ConfigT], path: Path | None, overrides: Mapping[str, Any] | None = None) -> ConfigT:
    """Read ``model`` from a TOML file (defaults if ``path`` is None), then apply the flags in ``overrides``.

    Overrides that are None, flags that were not given, are ignored. Raises ConfigError with the file and key.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, *UNREADABLE) as error:
            message = f"{path}: not a readable TOML configuration ({error}); correct the file"
            raise ConfigError(message) from error
    for key, value in (overrides or {}).items():
        if value is not None:
            values[key] = value
    return validate_config(model, values, where=str(path) if path else "configuration")


def load_record(model: type[ConfigT], path: Path, *, error: type[MarrowscopeError], advice: str) -> ConfigT:
    """Read ``model`` from a JSON file that we wrote.

    Raises ``error`` for a file that cannot be read, a wrong type or a missing key: one sentence with the file and the
    key that ends with ``advice``, what to do.
    """
    try:
        return validate_config(model, parse_json(path.read_text(encoding="utf-8")), where=str(path))
    except FileNotFoundError as cause:
        message = f"{path}: not found; {advice}"
        raise error(message) from cause
    except (OSError, *UNREADABLE) as cause:
        message = f"{path}: found no readable JSON ({cause}); {advice}"
        raise error(message) from cause
    except ConfigError as cause:
        message = f"{cause}; {advice}"
        raise error(message) from cause


def parse_json(text: str) -> Any:  # noqa: ANN401 - whatever a file holds
    """Read JSON of ours.

    Raises one of UNREADABLE, also for half of a surrogate pair, which nobody could show or write, and for deeper
    nesting than anything of ours has, which pydantic and templates would fail over later.
    """
    values = json.loads(text)
    json.dumps(values, ensure_ascii=False).encode()
    level = [values]
    for _ in range(_MAX_DEPTH):
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        message = f"nested more than {_MAX_DEPTH} deep"
        raise ValueError(message)
    return values


def validate_config(model: type[ConfigT], values: Mapping[str, Any], where: str) -> ConfigT:
    """Validate ``values`` as ``model``; raises ConfigError with ``where``, each key, and what was expected."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        message = f"{where}: {'; '.join(_word(item) for item in error.errors())}"
        raise ConfigError(message) from error


def _word(fault: ErrorDetails) -> str:
    """Phrase one of pydantic's errors: key, found, expected; without a key if values contradict each other."""
    key = ".".join(one_line(part) for part in fault["loc"])
    rule = rule_of(fault)
    if fault["type"] == "missing":
        return f"{key}: found nothing, {rule}; add it"
    found = repr(fault["input"])
    if len(found) > _MAX_SHOWN:
        found = f"{found[:_MAX_SHOWN]}..."
    return f"{key}: found {found}, {rule}" if key else rule


def rule_of(fault: ErrorDetails) -> str:
    """Return what a value that pydantic refused should have been: ``expected at most 1``."""
    words = _RULES.get(fault["type"])
    if words is None:  # our own validators, which phrase their rule, and rules that no model of ours has
        rule = fault["msg"].removeprefix("Value error, ")
        return rule if fault["type"] in {"value_error", "assertion_error"} else f"expected another value ({rule})"
    limits = {name: f"{limit:g}" if isinstance(limit, float) else limit for name, limit in fault.get("ctx", {}).items()}
    return f"expected {words.format(**limits)}"


_MAX_SHOWN = 200
"""Characters of a refused value that a message repeats: a table of numbers is no sentence."""

_RULES = {
    "missing": "a value",
    "extra_forbidden": "no key of this name",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_type": "a text in quotes",
    "string_unicode": "a text in Unicode",
    "string_pattern_mismatch": "a text of the form {pattern}",
    "string_too_short": "a text of at least {min_length} characters",
    "string_too_long": "a text of at most {max_length} characters",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "none_required": "nothing",
}
"""What each of pydantic's errors expects, by its type."""


def one_line(words: object) -> str:
    """Return words of a file as they stand in a message: in quotes where they have a line break or the like."""
    text = str(words)
    return text if text.isprintable() else repr(text)


def config_hash(config: BaseModel) -> str:
    """SHA-256 of the configuration's canonical JSON: equal values have equal hashes."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
