"""bundle.toml, read and written: every section held against its model, an older schema converted first."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from marrowscope.bundle.description import SCHEMA_VERSION, STATED, BundleSpec
from marrowscope.bundle.schema_1 import from_schema_1
from marrowscope.bundle.toml_writer import to_toml
from marrowscope.cells.quality import RULES_OFF
from marrowscope.config import UNREADABLE, one_line, rule_of
from marrowscope.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

_WITHDRAWN = frozenset({"int8"})
"""Precisions of earlier versions: nothing is computed in them now, and their gates are not read."""
_ADVICE = "correct the file or export the bundle again"


def read_description(data: bytes, path: Path) -> BundleSpec:
    """Read the content of bundle.toml at ``path``; schema 1 is converted.

    Raises BundleError, one sentence that names the file, and each section and key that is wrong.
    """
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except UNREADABLE as error:
        message = f"{path}: not readable TOML ({error}); copy the bundle again"
        raise BundleError(message) from error
    found = values.get("schema_version")
    if found == 1:
        values = from_schema_1(values, path)
    elif found != SCHEMA_VERSION:
        message = (
            f"{path}: found schema_version {found!r}, expected 1 or {SCHEMA_VERSION}; use the version of marrowscope "
            "that made the bundle, or export it again with this one"
        )
        raise BundleError(message)
    values = _without_withdrawn(_with_rules_off(values))
    faults = [f"[{section}] {key}: found nothing, expected a value" for section, key in _unstated(values)]
    try:
        # By way of JSON, whose strict reading takes lists for tuples, and a string for no number.
        spec = BundleSpec.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        faults += [_word(fault) for fault in error.errors()]
    if faults:
        message = f"{path}: {'; '.join(faults)}; {_ADVICE}"
        raise BundleError(message)
    return spec


def description_text(spec: BundleSpec) -> str:
    """Return the content of bundle.toml; what a bundle does not have is absent from it."""
    values = spec.model_dump(mode="json", exclude_none=True)
    return to_toml({key: value for key, value in values.items() if value not in ({}, [])})


def _with_rules_off(values: dict[str, Any]) -> dict[str, Any]:
    """State the quality rules that a bundle does not know because they are younger as what they were: off."""
    rules = values.get("quality_rules")
    return values | {"quality_rules": RULES_OFF | rules} if isinstance(rules, dict) else values


def _without_withdrawn(values: dict[str, Any]) -> dict[str, Any]:
    """Drop the gates of precisions that are there no more."""
    gates = values.get("precisions")
    if not isinstance(gates, dict):
        return values
    return values | {"precisions": {name: gate for name, gate in gates.items() if name not in _WITHDRAWN}}


def _unstated(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (section, key) of what a bundle has to state although the package has a default for it.

    What is None by default is stated by its absence.
    """
    return [
        (section, key)
        for section, model in STATED.items()
        for key, field in model.model_fields.items()
        if field.default is not None and isinstance(values.get(section), dict) and key not in values[section]
    ]


def _word(fault: ErrorDetails) -> str:
    """Describe one of pydantic's faults: the section, the key, what was found, what was expected."""
    *sections, key = [one_line(part) for part in fault["loc"]]
    rule = rule_of(fault)
    if fault["type"] == "value_error":  # values of one section contradict each other
        return f"[{'.'.join([*sections, key])}]: {rule}"
    where = f"[{'.'.join(sections)}] {key}" if sections else key
    if fault["type"] == "missing":
        return f"{where}: found nothing, {rule}"
    return f"{where}: found {fault['input']!r}, {rule}"
