"""What each kind of event changes in the cells of a patient; a cell that is not there is NoCellError."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from marrowscope.errors import ReviewError
from marrowscope.review.patient_state import REPLACED, ReviewedCell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from marrowscope.review.events import Event, Kind
    from marrowscope.review.patient_state import Origin


class NoCellError(ReviewError):
    """An event is about a cell that is not there."""


def drawn_cell(cell_id: str, value: Mapping[str, Any], origin: Origin, event: Event) -> ReviewedCell:
    """Make the cell that a reader drew: ``value`` has field_id, contour_xy, and code and area_um2 where known."""
    return ReviewedCell(
        cell_id=cell_id,
        field_id=value["field_id"],
        contour_xy=tuple(value["contour_xy"]),
        origin=origin,
        model_category=None,
        certainty=None,
        p_cblc=None,
        model_is_cblc=None,
        model_is_countable=None,
        area_um2=value.get("area_um2"),
        code=value.get("code"),
        decided_by=event.reader,
        decided_at=event.sequence,
        outlined_by=value.get("outlined_by"),
    )


def _set(
    cells: dict[str, ReviewedCell],
    event: Event,
    cell_id: str | None = None,
    **changes: Any,  # noqa: ANN401 - whatever a cell has
) -> None:
    name = cell_id or event.cell_id or ""
    cell = cells.get(name)
    if cell is None:
        message = f"event {event.sequence} ({event.kind}): found no cell {name!r} of patient {event.patient_id!r}"
        raise NoCellError(message)
    cells[name] = replace(cell, **{"decided_by": event.reader, "decided_at": event.sequence, **changes})


def _relabel(cells: dict[str, ReviewedCell], event: Event) -> None:
    if event.new is None:  # taken back: nobody has decided, as before
        _set(cells, event, code=None, decided_by=None, decided_at=None)
        return
    _set(cells, event, code=event.new, removed=None)


def _answer(cells: dict[str, ReviewedCell], event: Event) -> None:
    """Take the answer about a cell of an audit, or an adjudication: a code, or null for what is not a cell.

    A cell whose place others have taken (split, merged, deleted) stays away: the answer is the audit's alone.
    """
    cell = cells.get(event.cell_id or "")
    if cell is not None and cell.removed in REPLACED:
        return
    if event.new is None:
        _set(cells, event, code=None, removed="not_a_cell")
    else:
        _set(cells, event, code=event.new, removed=None)


def unname(cells: dict[str, ReviewedCell], event: Event) -> None:
    """Take the name of a cell away, for what is checked next; how it stood before is the fold's to know."""
    _set(cells, event, code=None, removed=None, decided_by=None, decided_at=None)


def _carry(cells: dict[str, ReviewedCell], event: Event) -> None:
    """Give a cell what was decided on an earlier prediction; who decided stays the reader of then."""
    value = event.new
    changes: dict[str, Any] = {"code": value.get("code"), "removed": value.get("removed")}
    if value.get("contour_xy") is not None:
        changes |= {"contour_xy": tuple(value["contour_xy"]), "area_um2": value.get("area_um2")}
    if value.get("drawn"):
        name = event.cell_id or ""
        cells[name] = replace(drawn_cell(name, value, value["drawn"], event), removed=value.get("removed"))
    _set(cells, event, decided_by=value.get("decided_by"), **changes)


def _remove(cells: dict[str, ReviewedCell], event: Event) -> None:
    _set(cells, event, removed=event.kind)


def _restore(cells: dict[str, ReviewedCell], event: Event) -> None:
    _set(cells, event, removed=None)


def _add(cells: dict[str, ReviewedCell], event: Event) -> None:
    name = event.cell_id or ""
    cells[name] = drawn_cell(name, event.new, "added", event)


def _split(cells: dict[str, ReviewedCell], event: Event) -> None:
    _set(cells, event, removed="split")
    for part in event.new["parts"]:
        cells[part["cell_id"]] = drawn_cell(part["cell_id"], part, "split", event)


def _merge(cells: dict[str, ReviewedCell], event: Event) -> None:
    if missing := [name for name in event.new["cells"] if name not in cells]:
        message = f"event {event.sequence} (merge): found no cell {missing[0]!r} of patient {event.patient_id!r}"
        raise NoCellError(message)
    for name in event.new["cells"]:
        _set(cells, event, name, removed="merge")
    name = event.cell_id or ""
    cells[name] = drawn_cell(name, event.new, "merged", event)


def _redraw(cells: dict[str, ReviewedCell], event: Event) -> None:
    changes = {"area_um2": event.new["area_um2"]} if "area_um2" in event.new else {}
    _set(cells, event, contour_xy=tuple(event.new["contour_xy"]), outlined_by=None, **changes)


CELL_CHANGES: dict[Kind, Callable[[dict[str, ReviewedCell], Event], None]] = {
    "relabel": _relabel,
    "audit_answer": _answer,
    "adjudicate": _answer,
    "withdraw": unname,
    "carried": _carry,
    "not_a_cell": _remove,
    "delete": _remove,
    "restore": _restore,
    "add": _add,
    "split": _split,
    "merge": _merge,
    "redraw": _redraw,
}
