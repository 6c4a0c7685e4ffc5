"""Numbers in messages: with their noun (``1 patient``, ``2 patients``), and beside a limit that they are not at."""

from __future__ import annotations


def count_of(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 patient``, ``0 patients``, ``2 diagnoses`` (``plural`` if it adds no s)."""
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"


def decimals_apart(value: float, limit: float, fewest: int, most: int = 9) -> int:
    """Return the fewest decimals, ``fewest`` at least, in which a value is not printed as the limit it is not at.

    A verdict hangs on the side of the limit, and 0.00197 below 0.002 must not be printed as 0.0020.

    >>> [decimals_apart(value, 0.002, 4) for value in (0.0012, 0.00197, 0.002)]
    [4, 5, 4]
    """
    if value == limit:
        return fewest
    return next((n for n in range(fewest, most) if f"{value:.{n}f}" != f"{limit:.{n}f}"), most)
