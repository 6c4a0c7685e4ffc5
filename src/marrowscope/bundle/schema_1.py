"""Schema 1 of bundle.toml, converted where it is read: nothing behind this door knows of it.

What schema 2 does otherwise: the segmenter's scale stands in [segmenter] alone; sections that schema 1 could leave
out or fill in part state every key; members stand in a table of their own; an empty section is absent; ``licences`` is
spelled ``licenses``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marrowscope.bundle.description import STATED
from marrowscope.cells.quality import RULES_OFF
from marrowscope.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Table = dict[str, Any]

_OF_CALIBRATION = ("method", "source", "n_patients")


_PIXEL_RULES = frozenset({"min_area_px", "max_area_px", "edge_margin_px"})
"""Limits of contours in pixels, which no image reached: each has a scale."""


def from_schema_1(values: Mapping[str, Any], path: Path) -> Table:
    """Return the tables of schema 2 for those of a bundle.toml of schema 1; what is wrong in them stays wrong.

    Raises BundleError where the two places of the segmenter's scale contradict each other.
    """
    found = {key: value for key, value in values.items() if value != {}} | {"schema_version": 2}
    for section, model in STATED.items():
        given = found.setdefault(section, {})
        if isinstance(given, dict):
            off = RULES_OFF if section == "quality_rules" else {}
            found[section] = model().model_dump(mode="json") | off | given
    _change(found, "quality_rules", lambda table: {key: table[key] for key in table if key not in _PIXEL_RULES})
    _change(found, "calibration", _calibration)
    _change(found, "training_data", _training_data)
    if "licences" in found:
        found["licenses"] = found.pop("licences")
    _drop_second_scale(found, path)
    return found


def _change(found: Table, section: str, convert: Callable[[Table], Table]) -> None:
    """Convert one section in place, where it is there and a table; anything else is left for the model to refuse."""
    table = found.get(section)
    if isinstance(table, dict):
        found[section] = convert(table)


def _drop_second_scale(found: Table, path: Path) -> None:
    """Take away the scale beside that of [segmenter], which is the one that networks were always run at."""
    segmenter, scale = found["segmenter"], found.pop("um_per_px", None)
    used = segmenter["um_per_px"] if isinstance(segmenter, dict) else scale
    if scale != used:
        message = (
            f"{path}: found um_per_px {scale!r} beside {used!r} in [segmenter], expected one scale; export the bundle "
            "again"
        )
        raise BundleError(message)


def _calibration(table: Table) -> Table:
    """Part the heads, which stood beside what holds for all of them."""
    common = {key: table[key] for key in _OF_CALIBRATION if key in table}
    return common | {"heads": {key: table[key] for key in table if key not in _OF_CALIBRATION}}


def _training_data(table: Table) -> Table:
    """Part the members, which stood beside the description; a segmenter that nobody knew was an empty text."""
    described = {key: value for key, value in table.items() if key == "description"}
    return described | {"members": {key: _without_empty_hash(table[key]) for key in table if key not in described}}


def _without_empty_hash(member: Any) -> Any:  # noqa: ANN401 - whatever stands there
    if isinstance(member, dict) and member.get("segmenter_sha256") == "":
        return {key: value for key, value in member.items() if key != "segmenter_sha256"}
    return member
