"""From which share of lymphoid cells on there are many, by specimen.

Above it a ratio below the threshold says nothing about blasts, since lymphoblasts are not counted. Healthy adults have
11.1-23.2% lymphoid cells in marrow (Wintrobe, in data/reference_ranges.toml) and 20-40% lymphocytes among the
leukocytes of blood (SEER training, normal blood values); both limits are a quarter above the upper bound, rounded to a
tenth: 29.0% and 50.0%. A rule of operation, not a definition of a disease.
"""

from __future__ import annotations

from marrowscope.records import BLOOD, MARROW

MAX_LYMPHOID_MARROW, MAX_LYMPHOID_BLOOD = 0.30, 0.50
"""Share of the nucleated cells, and in blood of the leukocytes."""


def lymphoid_limit(specimen: str, marrow: float = MAX_LYMPHOID_MARROW, blood: float = MAX_LYMPHOID_BLOOD) -> float:
    """Return the limit above which ``below`` is not said; of an unknown specimen the stricter, marrow's."""
    return blood if _named(specimen) == BLOOD else marrow


def is_many(share: float | None, specimen: str) -> bool:
    """Whether there are many lymphoid cells; of an unknown specimen, those that are many in either.

    >>> [is_many(0.35, specimen) for specimen in ("marrow", "blood", "unknown")]
    [True, False, False]
    """
    limit = MAX_LYMPHOID_MARROW if is_marrow(specimen) else MAX_LYMPHOID_BLOOD
    return share is not None and share > limit


def is_marrow(specimen: str) -> bool:
    """Whether the specimen is stated as marrow."""
    return _named(specimen) == MARROW


def _named(specimen: str) -> str:
    return specimen.strip().casefold()
