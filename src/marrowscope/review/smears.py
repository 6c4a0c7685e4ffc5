"""How many smears a patient's fields are of: what the files state, else what a reader says, else unknown.

A photograph does not state its smear, a cohort has no table of images, and a patient's folder no folders. A slide is a
smear, scanned; and a name that begins with one states it: ``smear_2_field_07.jpg``, ``slide-B 03.jpg``. Where a field
states none, nothing is guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marrowscope.report.shown_rows import ShownField

MOST_SMEARS = 20
SETTLED = ""
"""Under what name stands what somebody says of smears of which blinded readers state different numbers."""

_SMEAR = re.compile(r"(?:smear|slide)[ _-]?(\d+|[a-z])(?![0-9a-z])", re.IGNORECASE)


def smear_of(field: ShownField) -> str | None:
    """Return what names the smear of a field: its slide, or the beginning of its name; None where neither does."""
    if field.region is not None:
        return field.path
    found = _SMEAR.match(field.name)
    return None if found is None else found[1].casefold()


def stated_smears(fields: Iterable[ShownField]) -> int | None:
    """Count the smears of a patient's readable fields; None where one of them states none, or there is no field."""
    found = {smear_of(field) for field in fields if field.failed is None}
    return None if not found or None in found else len(found)
