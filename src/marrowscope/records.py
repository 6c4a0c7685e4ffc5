"""The types that cross stages.

Conventions everywhere: images are RGB, uint8, (height, width, 3); contours are float64 arrays (n, 2) of
pixel coordinates, x then y, implicitly closed, never rounded, where the centre of the top-left pixel is
(0, 0); a box is (x0, y0, x1, y1) in the same frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ImageArray = NDArray[np.uint8]
MaskArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
ContourArray = NDArray[np.float64]

UNKNOWN = "unknown"
"""Stands for a centre or diagnosis that nobody stated; a patient of this diagnosis is neither AML nor another."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One expert polygon: the raw code the expert wrote, and its contour in image pixels.

    ``shape_index`` is the position in the annotation file, so that a message can name it.
    """

    code: str
    contour_xy: ContourArray
    shape_index: int


@dataclass(frozen=True, slots=True)
class Patient:
    """One row of patients.csv."""

    patient_id: str
    center: str
    diagnosis: str
    specimen: str = "marrow"
    age_group: str | None = None
    um_per_px: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Field:
    """One image of a patient, with the expert's polygons where there are any.

    ``field_id`` is ``<patient_id>/<file stem>``; ``um_per_px`` is None where no source gives a scale;
    ``annotated`` says that an annotation exists (it may hold no cell); ``exhaustive`` is False where the
    annotation leaves cells out on purpose, so that the field enters no true ratio.
    """

    field_id: str
    patient_id: str
    center: str
    path: Path
    sha256: str
    width_px: int
    height_px: int
    um_per_px: float | None
    annotated: bool = False
    exhaustive: bool = True
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the input: what was found, what was expected, where, what to do.

    ``kind`` is a short stable word (``unknown_code``, ``empty_polygon``, ...); ``loses_data`` says that going
    on would lose a cell, an image or a patient.
    """

    kind: str
    where: str
    found: str
    expected: str
    action: str
    shape_index: int | None = None
    loses_data: bool = True

    def sentence(self) -> str:
        """Give the fault as one readable line."""
        place = self.where if self.shape_index is None else f"{self.where}, shape {self.shape_index}"
        return f"{place}: found {self.found}, expected {self.expected}; {self.action}"


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a slide in full-resolution pixels: what is read, and its core (half-open), what it owns."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, slots=True)
class Detection:
    """One predicted cell in image pixels: contour, box and the segmenter's score (0-1).

    ``n_parts`` is how many separate parts the mask had before the largest was kept.
    """

    contour_xy: ContourArray
    box_xyxy: tuple[float, float, float, float]
    score: float
    n_parts: int = 1


@dataclass(frozen=True, slots=True)
class Crop:
    """A standard single-cell crop: ``image`` (s, s, 3) uint8 RGB and ``mask`` (s, s) bool of the cell."""

    image: ImageArray
    mask: MaskArray


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its limits, all in the unit of the estimate (ratios 0-1)."""

    estimate: float
    lower: float
    upper: float


JsonDict = dict[str, Any]
