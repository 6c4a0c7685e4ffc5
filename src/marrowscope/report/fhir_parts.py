"""Small parts of FHIR resources: codes as text, quantities in UCUM units, ranges, integers."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
UCUM = "http://unitsofmeasure.org"
_DIGITS = 4


def code(text: str) -> Json:
    """Make a CodeableConcept with text only: a code that cannot be verified is not guessed."""
    return {"text": text}


def quantity(value: float, unit: str) -> Json:
    """Make a Quantity in a UCUM ``unit``, ``%`` or ``1``."""
    return {"value": round(value, _DIGITS), "unit": unit, "system": UCUM, "code": unit}


def percent(share: float | None) -> Json:
    """Return a share (0-1) as ``valueQuantity`` in percent; empty for None."""
    return {} if share is None else {"valueQuantity": quantity(100 * share, "%")}


def percent_range(name: str, low: float | None, high: float | None) -> Json:
    """Make a component whose value is a range of shares (0-1) in percent; without a value if both are None."""
    ends = {key: quantity(100 * share, "%") for key, share in (("low", low), ("high", high)) if share is not None}
    return {"code": code(name), **({"valueRange": ends} if ends else {})}


def integer_part(name: str, n: int | None) -> Json:
    """Make a component whose value is a count; without a value for None."""
    return {"code": code(name), **({} if n is None else {"valueInteger": n})}


def reference_range(low: float | None, high: float | None, unit: str, factor: float, mark: str | None = None) -> Json:
    """Return ``referenceRange`` with limits times ``factor`` in ``unit``; empty if a limit is None."""
    if low is None or high is None:
        return {}
    ends: Json = {"low": quantity(factor * low, unit), "high": quantity(factor * high, unit)}
    return {"referenceRange": [ends | ({"text": mark} if mark else {})]}
