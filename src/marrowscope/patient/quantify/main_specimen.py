"""The specimen whose patients rates and a threshold are learned on: the one that most patients have."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from marrowscope.records import SPECIMENS, Specimen

if TYPE_CHECKING:
    from collections.abc import Iterable


def main_specimen(stated: Iterable[str]) -> Specimen | None:
    """Return the specimen that most patients have, marrow where as many have blood; None if nobody states either.

    >>> main_specimen(["unknown", "blood", "Marrow", "blood"])
    'blood'
    """
    found = Counter(name.strip().casefold() for name in stated)
    first: Specimen = min(SPECIMENS, key=lambda name: -found[name])  # the first of as many
    return first if found[first] else None
