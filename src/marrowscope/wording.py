"""Words around the numbers of a message: a counted noun is written here, so that one patient is never "1 patients"."""

from __future__ import annotations


def count_of(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 patient``, ``0 patients``, ``2 diagnoses`` (``plural`` if it adds no s)."""
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"
