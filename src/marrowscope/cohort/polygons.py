"""Turn expert shapes into usable annotations: translate the label to a raw code, check the contour.

Every shape of an image has one outcome: kept, kept but changed (repaired, clipped), or rejected with a reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cohort.annotations import broken_shape
from marrowscope.errors import VocabularyError
from marrowscope.geometry import (
    Rings,
    are_valid,
    area,
    areas,
    bounding_box,
    clip_to_image,
    is_valid,
    lie_in_boxes,
    overlaps_within,
    repair,
)
from marrowscope.records import Annotation, ContourArray, Fault
from marrowscope.vocabulary import is_coarse, nearest
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.cohort.annotations import AnnotatedImage
    from marrowscope.vocabulary import LabelMapping, Vocabulary

MIN_POINTS = 3
_MIN_AREA_PX = 1.0
_EDGE_TOLERANCE_PX = 1.0
_DUPLICATE_IOU = 0.9
_DROPPED = "dropped_by_mapping"
TO_NAME = "to_name"
"""The outcome of a cell whose label leaves its code open."""


def leaves_code_open(label: str, vocabulary: Vocabulary) -> bool:
    """Say whether a label is a category with a question mark, or that mark alone: a cell that waits for its code."""
    return label.endswith("?") and (label == "?" or label[:-1] in vocabulary.categories)


@dataclass(slots=True)
class CheckedShapes:
    """The usable annotations of one image, the faults of its shapes, and the outcomes of the others.

    ``to_name`` are cells whose labels leave the code open; they are counted among the rejected ones.
    """

    annotations: list[Annotation] = field(default_factory=list)
    to_name: list[Annotation] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    @property
    def lost_a_cell(self) -> bool:
        """Whether a cell that the expert marked is missing, so that the image is not exhaustively annotated."""
        return bool(self.to_name) or any(fault.loses_data for fault in self.faults)


def check_shapes(
    annotated: AnnotatedImage,
    width_px: int,
    height_px: int,
    vocabulary: Vocabulary,
    mapping: LabelMapping | None = None,
) -> CheckedShapes:
    """Check every shape of one annotation against its image of ``width_px`` x ``height_px``."""
    checked = CheckedShapes(faults=list(annotated.faults))
    converted = {fault.shape_index: fault.kind for fault in annotated.faults if not fault.loses_data}
    checked.rejected.update(annotated.refused.values())
    shapes = _each_id_once(annotated.where, list(annotated.shapes), checked.faults)
    usable = _usable_as_they_are(shapes, width_px, height_px)
    for shape, is_usable in zip(shapes, usable, strict=True):
        code, code_reason = _raw_code(shape, annotated.where, vocabulary, mapping, checked.faults)
        contour, outcome = (
            (shape.contour_xy, "")
            if is_usable
            else _checked_contour(shape, annotated.where, width_px, height_px, checked.faults)
        )
        if contour is None or (code is None and code_reason != TO_NAME):
            checked.rejected[code_reason or outcome] += 1
            continue
        if code is None:
            checked.rejected[TO_NAME] += 1
            checked.to_name.append(replace(shape, contour_xy=contour))
            continue
        checked.annotations.append(replace(shape, code=code, contour_xy=contour))
        outcome = outcome or converted.get(shape.shape_index, "")
        if outcome:
            checked.changed[outcome] += 1
    checked.faults += _duplicate_polygons(annotated.where, checked.annotations)
    if checked.to_name:
        checked.faults.append(_cells_to_name(annotated.where, checked.to_name))
    return checked


def _cells_to_name(where: str, shapes: list[Annotation]) -> Fault:
    """Describe the note on cells without a code, which are kept in their file and used for nothing."""
    labels = ", ".join(f"{n} {label!r}" for label, n in sorted(Counter(shape.code for shape in shapes).items()))
    found = f"{len(shapes)} {'cell' if len(shapes) == 1 else 'cells'} whose label leaves the code open ({labels})"
    action = "name them; until then they are not used, and the image does not count as exhaustively annotated"
    return Fault(TO_NAME, where, found, "a raw code", action, loses_data=False)


def _raw_code(
    shape: Annotation, where: str, vocabulary: Vocabulary, mapping: LabelMapping | None, faults: list[Fault]
) -> tuple[str | None, str]:
    """Return (what is stored for the label, "") or (None, reason); an unknown label adds its fault.

    A label that leaves the code open adds none.
    """
    if mapping is not None and shape.code in mapping.labels:
        code = mapping.labels[shape.code].target
        return code, "" if code else _DROPPED
    if mapping is None and is_coarse(shape.code):
        return _coarse_label(shape, where, vocabulary, faults)
    if mapping is None and shape.code in vocabulary.codes:
        return shape.code, ""
    if leaves_code_open(shape.code, vocabulary):
        return None, TO_NAME
    known = vocabulary.codes if mapping is None else mapping.labels
    scheme = (
        f"a code of vocabulary {vocabulary.name}"
        if mapping is None
        else f"a label of mapping {mapping.name} {mapping.version}"
    )
    candidate = nearest(shape.code, known)
    action = "correct the label" if mapping else "correct the label or use a mapping"
    faults.append(
        Fault(
            "unknown_code",
            where,
            f"label {shape.code!r}",
            f"{scheme} (the nearest is {candidate!r})" if candidate else f"{scheme} ({', '.join(known)})",
            action,
            shape_index=shape.shape_index,
        )
    )
    return None, "unknown_code"


def _coarse_label(shape: Annotation, where: str, vocabulary: Vocabulary, faults: list[Fault]) -> tuple[str | None, str]:
    """Return (the coarse label in its one spelling, "") or (None, reason) with the fault of one that cannot be."""
    try:
        return vocabulary.read_label(shape.code).text, ""
    except VocabularyError as error:
        expected = f"a code of vocabulary {vocabulary.name}, or a coarse label of its codes ({error})"
        faults.append(
            Fault("unknown_code", where, f"label {shape.code!r}", expected, "correct the label", shape.shape_index)
        )
        return None, "unknown_code"


def _usable_as_they_are(shapes: list[Annotation], width_px: int, height_px: int) -> list[bool]:
    """Say of each shape whether its outline is valid, has an area and is inside the image: all in a few operations.

    A shape for which this is False is looked at alone; so are all where an outline makes the operations fail.
    """
    try:
        rings = Rings.of([shape.contour_xy for shape in shapes])
        low = -_EDGE_TOLERANCE_PX
        box = np.array([[low, low, width_px - 1 - low, height_px - 1 - low]])
        return [bool(each) for each in are_valid(rings) & (areas(rings) >= _MIN_AREA_PX) & lie_in_boxes(rings, box)]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - foreign outlines; each is checked alone, and what it raises is its own fault
        return [False] * len(shapes)


def _checked_contour(
    shape: Annotation, where: str, width_px: int, height_px: int, faults: list[Fault]
) -> tuple[ContourArray | None, str]:
    """Check a contour; whatever geometry raises is the shape's fault, and the other shapes are checked."""
    try:
        return _usable_contour(shape, where, width_px, height_px, faults)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a foreign shape; nothing that it raises may end the cohort
        found = f"an outline that cannot be checked ({type(error).__name__})"
        faults.append(broken_shape(where, shape.shape_index, found, "a polygon"))
        return None, "broken_shape"


def _usable_contour(
    shape: Annotation, where: str, width_px: int, height_px: int, faults: list[Fault]
) -> tuple[ContourArray | None, str]:
    """Return (contour, how it was changed or "") or (None, reason), and add the fault in either case."""

    def add(kind: str, found: str, expected: str, action: str, *, loses_data: bool) -> str:
        faults.append(Fault(kind, where, found, expected, action, shape.shape_index, loses_data))
        return kind

    contour: ContourArray | None = shape.contour_xy
    n_points = len(shape.contour_xy)
    outcome = ""
    if n_points < MIN_POINTS:
        found = f"a polygon of {count_of(n_points, 'point')}"
        return None, add("empty_polygon", found, "at least 3", "redraw or remove the cell", loses_data=True)
    if not is_valid(shape.contour_xy):
        contour = repair(shape.contour_xy)
        if contour is not None and area(contour) >= _MIN_AREA_PX:
            found = "a polygon that crosses or touches itself"
            action = f"it is repaired by keeping its largest part, {area(contour):.0f} square px"
            outcome = add("self_crossing", found, "a simple outline", action, loses_data=False)
    if contour is None or area(contour) < _MIN_AREA_PX:
        found, expected = "a polygon without area", f"at least {_MIN_AREA_PX:g} square px"
        return None, add("empty_polygon", found, expected, "redraw or remove the cell", loses_data=True)
    x0, y0, x1, y1 = bounding_box(contour)
    size = f"inside the image of {width_px} x {height_px} px"
    beyond = max(-x0, -y0, x1 - (width_px - 1), y1 - (height_px - 1))
    if beyond <= _EDGE_TOLERANCE_PX:
        return contour, outcome
    clipped = clip_to_image(contour, width_px, height_px)
    if clipped is None or area(clipped) < _MIN_AREA_PX:
        found = f"a polygon around x {x0:.0f}-{x1:.0f}, y {y0:.0f}-{y1:.0f}"
        return None, add("outside_image", found, size, "move or remove the polygon", loses_data=True)
    found = f"a polygon that extends {beyond:.1f} px outside"
    return clipped, add("clipped_polygon", found, size, "it is clipped at the image edge", loses_data=False)


def _duplicate_polygons(where: str, annotations: list[Annotation]) -> list[Fault]:
    """Find cells annotated twice (IoU above 0.9); both are kept, since only the expert knows which one is right."""
    first_of, second_of, iou = overlaps_within([item.contour_xy for item in annotations])
    pairs = sorted(zip(first_of[iou > _DUPLICATE_IOU], second_of[iou > _DUPLICATE_IOU], strict=True))
    return [
        Fault(
            "duplicate_polygon",
            where,
            f"{annotations[second].code} with the same outline as shape {annotations[first].shape_index} "
            f"({annotations[first].code})",
            "each cell once",
            "remove one of them; both are counted",
            annotations[second].shape_index,
            loses_data=False,
        )
        for first, second in pairs
    ]


def _each_id_once(where: str, shapes: list[Annotation], faults: list[Fault]) -> list[Annotation]:
    """Return the shapes with each cell's id once: programs copy it with a shape; the copy is a cell without an id."""
    seen: dict[str, int] = {}
    result: list[Annotation] = []
    for shape in shapes:
        first = seen.setdefault(shape.cell_id, shape.shape_index) if shape.cell_id else shape.shape_index
        if first != shape.shape_index:
            found = f"cell_id {shape.cell_id!r} again, which shape {first} has"
            action = "both cells are kept, this one without an id"
            fault = Fault("duplicate_id", where, found, "each id once", action, shape.shape_index, loses_data=False)
            faults.append(fault)
        result.append(shape if first == shape.shape_index else replace(shape, cell_id=""))
    return result
