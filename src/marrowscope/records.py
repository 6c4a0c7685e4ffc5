"""The types shared by several stages.

Conventions: images are RGB, uint8, (height, width, 3). Contours are float64 arrays (n, 2) of pixel coordinates, x then
y, implicitly closed and never rounded, with (0, 0) the center of the top-left pixel. Boxes are (x0, y0, x1, y1) in the
same coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

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
"""Value of a center or diagnosis that is not stated; such a patient counts neither as AML nor as another diagnosis."""

Specimen = Literal["marrow", "blood"]
MARROW: Specimen = "marrow"
BLOOD: Specimen = "blood"
SPECIMENS: tuple[Specimen, ...] = (MARROW, BLOOD)
"""Specimens whose cells are counted and judged; of any other, what needs the specimen is not shown."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One expert polygon: the label from the expert, and the contour in image pixels.

    ``code`` is a raw code, or the stored form of a coarse label (``BLA{N,M,J,L}``, see docs/vocabulary.md).

    ``shape_index`` is its position in the annotation file, for error messages. ``cell_id`` is the id that the file
    states for it; empty where it states none. ``network_contour``: the code is the
    expert's and the contour a network's, so that it enters no figure about finding or outlining cells.
    """

    code: str
    contour_xy: ContourArray
    shape_index: int
    cell_id: str = ""
    network_contour: bool = False


@dataclass(frozen=True, slots=True)
class Patient:
    """One row of patients.csv, or a folder that no row describes; what nobody stated is unknown."""

    patient_id: str
    center: str
    diagnosis: str
    specimen: str = UNKNOWN
    age_group: str | None = None
    um_per_px: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Field:
    """One image of a patient, with the expert's polygons if there are any.

    ``field_id`` is ``<patient_id>/<file stem>``. ``um_per_px`` is None if no source states a scale. ``annotated`` is
    true if an annotation exists, even without cells. ``exhaustive`` is False if the annotation leaves cells out on
    purpose; the field is then not used for ground-truth ratios. ``can_label`` are the codes that its source can give at
    all, empty if no mapping states them.
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
    can_label: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """One problem with the input: what was found, what was expected, where, what to do.

    ``kind`` is a short stable key (``unknown_code``, ``empty_polygon``, ...). ``loses_data`` is true if continuing
    would lose a cell, an image or a patient.
    """

    kind: str
    where: str
    found: str
    expected: str
    action: str
    shape_index: int | None = None
    loses_data: bool = True

    def sentence(self) -> str:
        """Return the fault as one sentence."""
        place = self.where if self.shape_index is None else f"{self.where}, shape {self.shape_index}"
        text = f"{place}: found {self.found}, expected {self.expected}; {self.action}"
        # What a file says may hold line breaks, control characters or half a pair: it is escaped, not printed.
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a slide in full-resolution pixels: the area read, and its core (half-open), the area it owns."""

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
    """One image to predict; ``um_per_px`` comes from patients.csv, None if it is not stated there.

    For a slide it is one ``region``, with ``um_per_px`` of the slide and ``sha256`` of its file. ``problem`` is the
    reason if nothing of it can be read. ``address`` is where it lies if ``path`` is only a copy for the time of a call.
    """

    field_id: str
    patient_id: str
    path: Path
    um_per_px: float | None
    region: Region | None = None
    sha256: str = ""
    problem: str | None = None
    address: str = ""

    @property
    def place(self) -> str:
        """Where it lies, as tables and messages state it."""
        return self.address or str(self.path)


@dataclass(frozen=True, slots=True)
class FieldImage:
    """A field's pixels, at the resolution that the networks need.

    ``pixels`` is RGB uint8 (h, w, 3); each pixel covers ``reduce`` x ``reduce`` pixels of the file. ``um_per_px``,
    ``width_px`` and ``height_px`` are those of the file, or of a slide's region; ``sha256`` is the hash of the file;
    ``is_simulated`` says that it carries the mark of a simulated photograph.
    """

    pixels: ImageArray
    um_per_px: float
    width_px: int
    height_px: int
    sha256: str
    reduce: int = 1
    region: Region | None = None
    is_simulated: bool = False

    @property
    def pixels_um_per_px(self) -> float:
        """Scale of ``pixels``."""
        return self.um_per_px * self.reduce

    def to_file(self, contour_xy: ContourArray) -> ContourArray:
        """Convert a contour (n, 2) from ``pixels`` to the file's pixels, clipped to its bounds."""
        if self.reduce == 1:
            return contour_xy
        inside = (contour_xy + 0.5) * self.reduce - 0.5
        return np.clip(inside, -0.5, [self.width_px - 0.5, self.height_px - 0.5])

    def from_file(self, contour_xy: ContourArray) -> ContourArray:
        """Convert a contour (n, 2) from the file's pixels to ``pixels``."""
        return contour_xy if self.reduce == 1 else (contour_xy + 0.5) / self.reduce - 0.5


@dataclass(frozen=True, slots=True)
class Call:
    """The classifier's output for one cell: probabilities (0-1), and a call that at least one raw code has.

    The probabilities are sums over the combinations (category, cblc, countable) that codes have; ``is_cblc`` says
    whether p_cblc is at least 0.5. ``p_category`` is in the vocabulary's order of categories. ``contradiction``: the
    heads, each taken alone, give a combination that no code has. ``member_spread`` is the standard deviation of p_cblc
    over the ensemble members, None for a single member. ``embedding_distance`` is that of ``cells.embedding`` to the
    training cells of the called category, None without statistics of them. ``p_plasma`` and ``is_plasma`` are None
    where the bundle does not predict plasma cells.
    """

    p_cblc: float
    p_countable: float
    p_category: tuple[float, ...]
    category: str
    is_cblc: bool
    is_countable: bool
    contradiction: bool
    member_spread: float | None
    p_plasma: float | None = None
    is_plasma: bool | None = None
    embedding_distance: float | None = None


@dataclass(frozen=True, slots=True)
class FoundCell:
    """One contour of a field, in pixels of its file (or the slide's region), judged, measured and called.

    ``reject_reason`` is None for a kept cell. Only kept cells have a ``call`` and ``morphology`` (NaN for values that
    cannot be measured, empty if nothing was measured). ``n_parts`` is the number of parts of the mask.
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
class Erythrocytes:
    """The erythrocytes of one field: how many were measured, and their median diameter, None where there are too few.

    Only whole, single, round ones are measured, so ``n`` is not the number in the field.
    """

    n: int
    diameter_um: float | None


@dataclass(frozen=True, slots=True)
class FoundField:
    """One field with everything found in it, or with the ``error`` if it could not be read.

    ``measures`` are those of ``cells.field_measures`` (NaN where not measurable). Size and scale are the file's, None
    if nothing was read. ``fingerprint`` identifies copies of a photograph; it is empty for a region of a slide.
    ``is_simulated`` and ``erythrocytes`` are None if the photograph was not read.
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
    is_simulated: bool | None = None
    erythrocytes: Erythrocytes | None = None

    @property
    def n_kept(self) -> int:
        """Number of kept cells."""
        return sum(cell.reject_reason is None for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Detection:
    """One predicted cell in image pixels: contour, box and the segmenter's score (0-1).

    ``n_parts`` is the number of separate parts of the mask before the largest was kept.
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
