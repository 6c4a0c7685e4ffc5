"""The scores of depth in words: what was found, what is usual, and which checks were not made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.wording import decimals_apart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.report.words import Words
    from marrowscope.runs.schemas import PatientRow

_SHARES = frozenset({"contradictions", "middling"})
_PREFIX = "depth_"
_DISTANCE = "distance"


def depth_words(row: PatientRow, words: Words) -> Mapping[str, str]:
    """Return what the sentence on a patient out of depth fills in; the word for none where something is not known.

    value, usual, low, high: of the score that the reason names. distance, limit: of all scores together. scale: um per
    px at which the erythrocytes would have their usual size.
    """
    name = (row.state_reason or "").removeprefix(_PREFIX)
    check = next((item for item in row.depth or () if item.score == name), None)
    total = next((item for item in row.depth or () if item.score == _DISTANCE), None)
    limits = (check.lower_limit, check.upper_limit) if check else (None, None)
    distance, limit = (total.value, total.upper_limit) if total else (None, None)
    digits = 1 if distance is None or limit is None else decimals_apart(distance, limit, 1)
    found = {
        "value": _beside(name, check.value if check else None, limits, words),
        "usual": _number(name, check.usual if check else None, words),
        "low": _number(name, limits[0], words),
        "high": _number(name, limits[1], words),
        "distance": None if distance is None else f"{distance:.{digits}f}",
        "limit": None if limit is None else f"{limit:.{digits}f}",
        "scale": None if row.fitting_um_per_px is None else f"{row.fitting_um_per_px:.3f}",
    }
    return {key: words.strings("none") if value is None else value for key, value in found.items()}


def unchecked_names(row: PatientRow, words: Words) -> list[str]:
    """Name the checks of depth that were not made; empty for a run of an older version, which states none."""
    return [words.name("depth.check", item.score) for item in row.depth or () if not item.is_made]


def no_flags(row: PatientRow, words: Words) -> str:
    """Say that no flag was raised; without reserve only where every check is known to have been made."""
    is_known = row.depth is not None and all(item.is_made for item in row.depth)
    return words.strings("flags.none" if is_known else "flags.none_unchecked")


def _beside(name: str, value: float | None, limits: tuple[float | None, float | None], words: Words) -> str | None:
    """Print a value, and never as a limit that it is beyond."""
    shown = _number(name, value, words)
    for limit in () if name in _SHARES else limits:  # the sentence on a share names no limit
        if value is not None and limit is not None and value != limit and shown == _number(name, limit, words):
            return f"{value:.{decimals_apart(value, limit, 1)}f}"
    return shown


def _number(name: str, value: float | None, words: Words) -> str | None:
    if value is None:
        return None
    return words.percent(value) if name in _SHARES else f"{value:.3g}"
