"""A number with its noun in a message: ``1 patient``, ``2 patients``."""

from __future__ import annotations


def count_of(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 patient``, ``0 patients``, ``2 diagnoses`` (``plural`` if it adds no s)."""
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"
