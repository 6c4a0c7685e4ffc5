"""How many smears a patient's fields are of: what the files state, else what a reader says, else unknown.

A photograph does not state its smear. A slide is a smear, scanned; and a folder below the patient's whose name begins
with ``smear`` or ``slide`` (``P1/smear_2/field_07.jpg``) is one. Where a field states none, nothing is guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marrowscope.report.shown_rows import ShownField

MOST_SMEARS = 20
_SMEAR_FOLDER = re.compile(r"(smear|slide)[ _-]?\w+", re.IGNORECASE)


def smear_of(field: ShownField) -> str | None:
    """Return what names the smear of a field: its slide, or its folder; None where neither does."""
    if field.region is not None:
        return field.path
    folders = field.name.replace("\\", "/").split("/")[:-1]
    return next((name.casefold() for name in folders if _SMEAR_FOLDER.fullmatch(name)), None)


def stated_smears(fields: Iterable[ShownField]) -> int | None:
    """Count the smears of a patient's readable fields; None where one of them states none, or there is no field."""
    found = {smear_of(field) for field in fields if field.failed is None}
    return None if not found or None in found else len(found)
