"""The types that cross stages.

Conventions everywhere: images are RGB, uint8, (height, width, 3); contours are float64 arrays (n, 2) of
pixel coordinates, x then y, implicitly closed, never rounded, where the center of the top-left pixel is
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
"""Stands for a center or diagnosis that nobody stated; a patient of this diagnosis is neither AML nor another."""


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
class InputImage:
    """One image to be predicted; ``um_per_px`` is what patients.csv says, None where it says nothing.

    Of a slide it is one ``region``: then ``um_per_px`` is the slide's, and ``sha256`` the hash of its file.
    ``problem`` says why nothing can be read of it.
    """

    field_id: str
    patient_id: str
    path: Path
    um_per_px: float | None
    region: Region | None = None
    sha256: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class FieldImage:
    """A field's pixels, as large as the networks need them.

    ``pixels`` is RGB uint8 (h, w, 3), of which ``reduce`` x ``reduce`` pixels of the file make one. ``um_per_px``,
    ``width_px`` and ``height_px`` are the file's, or the region's of a slide; ``sha256`` is the hash of the file.
    """

    pixels: ImageArray
    um_per_px: float
    width_px: int
    height_px: int
    sha256: str
    reduce: int = 1
    region: Region | None = None

    @property
    def pixels_um_per_px(self) -> float:
        """Scale of ``pixels``."""
        return self.um_per_px * self.reduce

    def to_file(self, contour_xy: ContourArray) -> ContourArray:
        """Move a contour (n, 2) from ``pixels`` to the pixels of the file, and into its bounds."""
        if self.reduce == 1:
            return contour_xy
        inside = (contour_xy + 0.5) * self.reduce - 0.5
        return np.clip(inside, -0.5, [self.width_px - 0.5, self.height_px - 0.5])

    def from_file(self, contour_xy: ContourArray) -> ContourArray:
        """Move a contour (n, 2) from the pixels of the file to ``pixels``."""
        return contour_xy if self.reduce == 1 else (contour_xy + 0.5) / self.reduce - 0.5


@dataclass(frozen=True, slots=True)
class Call:
    """What the classifier says of one cell: probabilities (0-1), and the call that some raw code has.

    ``p_category`` is in the vocabulary's order of categories. ``contradiction``: the heads, each alone, name what no
    code has. ``member_spread`` is the standard deviation of p_cblc over the members, None with a single one.
    """

    p_cblc: float
    p_countable: float
    p_category: tuple[float, ...]
    category: str
    is_cblc: bool
    is_countable: bool
    contradiction: bool
    member_spread: float | None


@dataclass(frozen=True, slots=True)
class FoundCell:
    """One contour of a field, in pixels of its file (of the region, for a slide), judged, measured and called.

    ``reject_reason`` is None for a kept cell; only those have a ``call`` and ``morphology`` (NaN where a measure is
    not possible, empty where nothing was measured). ``n_parts`` is how many parts the mask had.
    """

    contour_xy: ContourArray
    score: float
    area_um2: float
    circularity: float
    reject_reason: str | None
    n_parts: int = 1
    morphology: Mapping[str, float] = field(default_factory=dict)
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class FoundField:
    """One field with everything found in it, or with the ``error`` that kept it from being read.

    ``measures`` are those of ``cells.field_measures`` (NaN where not measurable); size and scale are the file's, None
    where nothing was read. ``fingerprint`` tells copies of a photograph; empty for a region of a slide.
    """

    source: InputImage
    sha256: str
    um_per_px: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    cells: tuple[FoundCell, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    fingerprint: str = ""

    @property
    def n_kept(self) -> int:
        """How many contours are kept cells."""
        return sum(cell.reject_reason is None for cell in self.cells)


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
