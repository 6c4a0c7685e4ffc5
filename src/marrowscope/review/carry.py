"""Decisions carried from one prediction to the next: by the image's content, and by the IoU of contours.

Pure: the log of a patient and the cells of the new prediction come in, drafts come out. A decided cell is matched to
the new cells of the same image, one to one, with an IoU of at least 0.5 (``cells.match``). A cell that a reader drew
and that the new prediction did not find stays as it was drawn. A cell whose outline a reader changed keeps it,
and is found by it or by the model's own. What cannot be carried is listed, with the reason, and is tried again with the
next prediction. Signatures are never carried: the result has to be signed again by a person.

Decisions of readers who do not see each other are carried reader by reader, and stay theirs alone: each reader's cells
are matched to the new ones as if there were no other reader, and so are those of everybody else.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from marrowscope.cells.match import match_contours
from marrowscope.review.decisions import image_of
from marrowscope.review.events import DECIDING, Draft
from marrowscope.review.fold import blind_reader, fold, settles
from marrowscope.review.patient_state import Contour, FrozenCell, ReviewedCell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.report.shown_rows import ShownField
    from marrowscope.review.events import Event
    from marrowscope.review.patient_state import Origin

Reason = Literal["no_image", "no_cell"]
"""Why a decision is not carried: its image is not in the new run, or no new cell lies where the cell was."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a decided cell lies: its image by content, and the corner of its field in it.

    ``model_contour_xy`` is the outline that the model gave it, in pixels of its field; None for one that a reader drew.
    """

    image_sha256: str | None
    origin_xy: tuple[float, float]
    model_contour_xy: Contour | None = None

    def is_redrawn(self, cell: ReviewedCell) -> bool:
        """Whether a reader changed the outline of this cell of the model."""
        return self.model_contour_xy not in {None, cell.contour_xy}


def carried_drafts(
    patient_id: str,
    events: Sequence[Event],
    frozen: Sequence[FrozenCell],
    fields: Mapping[str, ShownField],
    reader: str,
    *,
    assigned: Sequence[str] = (),
) -> list[Draft]:
    """Return what carries the decisions of ``events`` onto the cells ``frozen`` of the new prediction.

    ``events`` are those of the patient since it was last bound to a prediction; ``assigned`` are the blinded readers of
    that moment. Only what stands is carried: a decision that was taken back is not.
    """
    own = [event for event in events if event.patient_id == patient_id]
    streams: dict[str | None, list[Event]] = defaultdict(list)
    for event in own:
        if event.kind == "assign":
            assigned = event.new["readers"]
        elif event.kind in DECIDING or event.kind == "not_carried":
            streams[blind_reader(event, assigned)].append(event)
    drafts: list[Draft] = []
    for blinded, stream in streams.items():
        made = _carried_stream(patient_id, own, stream, frozen=frozen, fields=fields, reader=reader)
        drafts += made if blinded is None else [_blind(draft) for draft in made]
    return drafts


def _blind(draft: Draft) -> Draft:
    """Return a draft that says that its decision is one reader's alone: that of ``decided_by``."""
    if draft.kind == "carried":
        return replace(draft, new={**draft.new, "blind": True})
    return replace(draft, old={**draft.old, "blind": True})


def _carried_stream(
    patient_id: str,
    events: Sequence[Event],
    stream: Sequence[Event],
    *,
    frozen: Sequence[FrozenCell],
    fields: Mapping[str, ShownField],
    reader: str,
) -> list[Draft]:
    """Return what carries the decisions of ``stream``; all ``events`` tell where cells lie."""
    state, places = _before(patient_id, events, stream)
    settled: set[str | None] = set()
    for event in stream:
        settled |= {event.cell_id} if settles(event) else set()
        settled -= {event.cell_id} if event.kind == "withdraw" else set()
    decided = [cell for cell in state if cell.is_seen and (cell.cell_id in settled or not _was_never_there(cell))]
    new_by_image: dict[str | None, list[FrozenCell]] = defaultdict(list)
    for new in frozen:
        new_by_image[fields[new.field_id].sha256].append(new)
    field_of_image = {(field.sha256, _origin(field)): field for field in fields.values() if field.failed is None}
    by_image: dict[str | None, list[ReviewedCell]] = defaultdict(list)
    for cell in decided:
        by_image[places[cell.cell_id].image_sha256].append(cell)
    known = {field.sha256 for field in fields.values() if field.failed is None}
    times = {event.sequence: _decided_utc(event) for event in stream}
    drafts: list[Draft] = []
    for image, cells in by_image.items():
        found = _matches(cells, places, new_by_image[image], fields)
        for cell in cells:
            place = places[cell.cell_id]
            more: dict[str, Any] = {"adjudicated": True} if cell.cell_id in settled else {}
            more["decided_utc"] = times.get(cell.decided_at or 0)
            if cell.cell_id in found:
                match = found[cell.cell_id]
                drafts.append(
                    _carried(patient_id, reader, cell, match, place=place, field=fields[match[0].field_id], more=more)
                )
            elif cell.origin != "model" and (field := field_of_image.get((image, place.origin_xy))) is not None:
                drafts.append(_drawn_again(patient_id, reader, cell, field, more))
            elif cell.removed is None or image not in known:  # a removed cell that is not found again is no loss
                reason: Reason = "no_cell" if image in known else "no_image"
                draft = _not_carried(patient_id, reader, cell, place, reason)
                drafts.append(replace(draft, old={**draft.old, "decided_utc": more["decided_utc"]}))
    return drafts


def _decided_utc(event: Event) -> str:
    """Return when a decision was made, also where it was carried before."""
    said = {"carried": event.new, "not_carried": event.old}.get(event.kind)
    return (said or {}).get("decided_utc") or event.time_utc


def _before(
    patient_id: str, events: Sequence[Event], stream: Sequence[Event]
) -> tuple[list[ReviewedCell], dict[str, _Place]]:
    """Return the cells as ``stream`` leaves them, and their places: the first decision about a cell states them."""
    frozen: dict[str, FrozenCell] = {}
    places: dict[str, _Place] = {}
    origins: dict[str, Origin] = {}
    for event in events:
        if event.kind not in DECIDING:
            continue
        for cell_id, said in _stated(event):
            contour = tuple(said["contour_xy"]) if "contour_xy" in said else None
            place = _Place(said.get("image_sha256"), tuple(said.get("origin_xy", (0.0, 0.0))), contour)
            places.setdefault(cell_id, place)
            if contour is not None and cell_id not in frozen:
                frozen[cell_id] = _frozen(cell_id, said)
                if "origin" in said:
                    origins[cell_id] = said["origin"]
        for cell_id in _drawn_in(event):
            places.setdefault(cell_id, places.get(event.cell_id or "", _Place(None, (0.0, 0.0))))
    folded = fold(patient_id, frozen.values(), [event for event in stream if event.kind in DECIDING]).cells.values()
    cells = [replace(cell, origin=origins[cell.cell_id]) if cell.cell_id in origins else cell for cell in folded]
    for event in stream:
        if event.kind == "not_carried":
            cells.append(_pending(event))
            contour = tuple(event.old["model_contour_xy"]) if "model_contour_xy" in event.old else None
            place = _Place(event.old["image_sha256"], tuple(event.old["origin_xy"]), contour)
            places.setdefault(event.cell_id or "", place)
    return cells, places


def _pending(event: Event) -> ReviewedCell:
    """Return a cell whose decision could not be carried to the prediction before this one."""
    old = event.old
    return ReviewedCell(
        cell_id=event.cell_id or "",
        field_id=old["field_id"],
        contour_xy=tuple(old["contour_xy"]),
        origin=old["origin"],
        model_category=old["category"],
        certainty=None,
        p_cblc=None,
        model_is_cblc=None,
        model_is_countable=None,
        area_um2=old.get("area_um2"),
        code=old["code"],
        removed=old["removed"],
        decided_by=old["decided_by"],
        decided_at=event.sequence,
    )


def _stated(event: Event) -> list[tuple[str, dict[str, Any]]]:
    """Return the cells whose place an event states, each with what it says."""
    said = event.model_value or {}
    if event.kind == "merge":
        return [
            (event.cell_id or "", said),
            *((name, {**said, **own}) for name, own in said["cells"].items() if "contour_xy" in own),
        ]
    return [(event.cell_id or "", said)] if "image_sha256" in said else []


def _drawn_in(event: Event) -> list[str]:
    return [part["cell_id"] for part in event.new["parts"]] if event.kind == "split" else []


def _frozen(cell_id: str, said: Mapping[str, Any]) -> FrozenCell:
    return FrozenCell(
        cell_id=cell_id,
        field_id=said["field_id"],
        contour_xy=tuple(said["contour_xy"]),
        category=said.get("category") or "",
        certainty=said.get("certainty") or 0.0,
        p_cblc=said.get("p_cblc") or 0.0,
        is_cblc=False,
        is_countable=False,
        area_um2=None,
    )


def _was_never_there(cell: ReviewedCell) -> bool:
    """Whether a reader drew a cell and took it away again: nothing of it has to be carried."""
    return cell.origin != "model" and cell.removed is not None


def _matches(
    cells: Sequence[ReviewedCell],
    places: Mapping[str, _Place],
    new: Sequence[FrozenCell],
    fields: Mapping[str, ShownField],
) -> dict[str, tuple[FrozenCell, float]]:
    """Match decided cells to the new ones of their image, cells that are there before those that were removed.

    A redrawn cell that no new one covers is matched by the outline that the model gave it before.
    """
    found: dict[str, tuple[FrozenCell, float]] = {}
    taken: set[str] = set()
    for are_removed in (False, True):  # the parts of a split come before the whole that they replaced
        own = [cell for cell in cells if (cell.removed is not None) == are_removed]
        outlines = {cell.cell_id: cell.contour_xy for cell in own}
        redrawn = [cell.cell_id for cell in own if places[cell.cell_id].is_redrawn(cell)]
        for contours in (outlines, {name: places[name].model_contour_xy or () for name in redrawn}):
            old = [name for name in contours if name not in found]
            free = [cell for cell in new if cell.cell_id not in taken]
            pairs = match_contours(
                [_in_image(contours[name], places[name].origin_xy) for name in old],
                [_in_image(cell.contour_xy, _origin(fields[cell.field_id])) for cell in free],
            ).pairs
            for pair in pairs:
                found[old[pair.predicted]] = (free[pair.expert], pair.iou)
                taken.add(free[pair.expert].cell_id)
    return found


def _in_image(contour_xy: Sequence[float], origin_xy: tuple[float, float]) -> NDArray[np.float64]:
    return np.asarray(np.reshape(contour_xy, (-1, 2)) + np.asarray(origin_xy), dtype=np.float64)


def _origin(field: ShownField) -> tuple[float, float]:
    return (0.0, 0.0) if field.region is None else (float(field.region.x_px), float(field.region.y_px))


def _carried(
    patient_id: str,
    reader: str,
    cell: ReviewedCell,
    match: tuple[FrozenCell, float],
    *,
    place: _Place,
    field: ShownField,
    more: Mapping[str, Any],
) -> Draft:
    new, iou = match
    value: dict[str, Any] = {
        "from_cell": cell.cell_id,
        "iou": round(iou, 4),
        "code": cell.code,
        "removed": cell.removed,
        "decided_by": cell.decided_by,
        **more,
    }
    if place.is_redrawn(cell):
        outline = _in_image(cell.contour_xy, place.origin_xy) - np.asarray(_origin(field))
        value |= {"contour_xy": outline.ravel().tolist(), "area_um2": cell.area_um2}
    said = {
        "category": new.category,
        "certainty": new.certainty,
        "p_cblc": new.p_cblc,
        **image_of(field),
        "contour_xy": list(new.contour_xy),
    }
    return Draft(reader, patient_id, "carried", new.cell_id, {"category": cell.model_category}, value, said)


def _drawn_again(patient_id: str, reader: str, cell: ReviewedCell, field: ShownField, more: Mapping[str, Any]) -> Draft:
    value = {
        "from_cell": cell.cell_id,
        "iou": None,
        "drawn": cell.origin,
        "field_id": field.field_id,
        "contour_xy": list(cell.contour_xy),
        "area_um2": cell.area_um2,
        "code": cell.code,
        "removed": cell.removed,
        "decided_by": cell.decided_by,
        **({} if cell.outlined_by is None else {"outlined_by": cell.outlined_by}),
        **more,
    }
    return Draft(reader, patient_id, "carried", cell.cell_id, None, value, image_of(field))


def _not_carried(patient_id: str, reader: str, cell: ReviewedCell, place: _Place, reason: Reason) -> Draft:
    old: dict[str, Any] = {
        "category": cell.model_category,
        "origin": cell.origin,
        "code": cell.code,
        "removed": cell.removed,
        "decided_by": cell.decided_by,
        "field_id": cell.field_id,
        "image_sha256": place.image_sha256,
        "origin_xy": list(place.origin_xy),
        "contour_xy": list(cell.contour_xy),
    }
    if place.is_redrawn(cell):
        old |= {"model_contour_xy": list(place.model_contour_xy or ()), "area_um2": cell.area_um2}
    return Draft(reader, patient_id, "not_carried", cell.cell_id, old, {"reason": reason})
