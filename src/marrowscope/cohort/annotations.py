"""Annotation formats and their common result: the labeled contours of one image, and its faults.

The ``code`` of an ``Annotation`` is still the label as written; the cohort reader translates and checks it.
Coordinates are not shifted: formats that put (0, 0) at the corner of the first pixel differ by half a pixel, less
than the variation of a hand-drawn outline.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.geometry import area
from marrowscope.records import Annotation, ContourArray, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_COORDINATES = 2


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """The annotation of one image.

    ``image_path`` is as written in the file; ``where`` names the annotation file in messages. The size is None if the
    file does not state it. ``readable`` is False if nothing could be read (the faults say why); ``n_shapes`` counts
    every shape in the file, including the refused ones. ``descriptions`` (one per shape, or none) are remarks, written
    if the format has a place for them and never read back.
    """

    image_path: str
    width_px: int | None
    height_px: int | None
    shapes: tuple[Annotation, ...]
    exhaustive: bool = True
    faults: tuple[Fault, ...] = ()
    where: str = ""
    readable: bool = True
    descriptions: tuple[str, ...] = ()

    @property
    def n_shapes(self) -> int:
        """Number of shapes in the file, accepted and refused."""
        return len(self.shapes) + sum(fault.loses_data and fault.shape_index is not None for fault in self.faults)


@dataclass(frozen=True)
class AnnotationFile:
    """An annotation file to be read by a format; its JSON is parsed once, on first use.

    ``name`` is the file's name in faults; if empty, the path is used.
    """

    path: Path
    name: str = ""

    @property
    def where(self) -> str:
        """The file's name in faults."""
        return self.name or str(self.path)

    @cached_property
    def document(self) -> Any:  # noqa: ANN401 - whatever a foreign file holds
        """The parsed JSON; None if the file cannot be opened or is not JSON (see ``broken``)."""
        return self._parsed[0]

    @cached_property
    def broken(self) -> str:
        """Why there is no document, worded to follow "found"; empty if there is one."""
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[Any, str]:
        try:
            return json.loads(self.path.read_bytes()), ""
        except OSError as error:
            return None, f"a file that cannot be opened ({error.strerror})"
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            return None, f"broken JSON ({error})"

    def holds(self) -> str:
        """Describe the file's content, worded to follow "found"."""
        if self.broken:
            return self.broken if self.path.suffix.endswith("json") else f"a {self.path.suffix} file with other content"
        return f"keys {shorten(sorted(self.document))}" if isinstance(self.document, dict) else shorten(self.document)


@dataclass(frozen=True, slots=True)
class AnnotationFormat:
    """One annotation format; each module of ``cohort/formats`` defines one as ``FORMAT``.

    ``name`` is the module's name and the value of ``--format``; ``title`` is used in sentences. ``beside`` lists the
    suffixes of files next to an image, ``in_root`` those of files in the cohort folder that cover many images. The
    suffix selects the files to examine; ``recognize`` decides whether a file is of this format. ``read`` returns one
    annotation per image and raises nothing. ``write`` gets one image for a file next to it, or all images for a file in
    the cohort folder.
    """

    name: str
    title: str
    beside: tuple[str, ...]
    in_root: tuple[str, ...]
    recognize: Callable[[AnnotationFile], bool]
    read: Callable[[AnnotationFile], tuple[AnnotatedImage, ...]]
    write: Callable[[Path, Sequence[AnnotatedImage]], None]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Every suffix, without repeats."""
        return tuple(dict.fromkeys((*self.beside, *self.in_root)))


def unreadable(image_path: str, where: str, fault: Fault) -> AnnotatedImage:
    """Return the annotation of a file from which nothing could be read."""
    return AnnotatedImage(image_path, None, None, (), exhaustive=False, faults=(fault,), where=where, readable=False)


def contour_from_points(points: object) -> ContourArray | None:
    """Read a list of [x, y] as a contour (n, 2); a closing repeat of the first point is dropped.

    None if ``points`` is not a list of pairs of finite numbers; (0, 2) for an empty list.
    """
    if not isinstance(points, list):
        return None
    if not points:
        return np.zeros((0, _COORDINATES))
    try:
        contour = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if contour.ndim != _COORDINATES or contour.shape[1] != _COORDINATES or not np.isfinite(contour).all():
        return None
    if len(contour) > 1 and np.array_equal(contour[0], contour[-1]):
        contour = contour[:-1]
    return contour


def points_from_contour(contour_xy: ContourArray) -> list[list[float]]:
    """Return the contour as [[x, y], ...]; reading it back gives equal floats."""
    return [[float(x), float(y)] for x, y in contour_xy]


def label_text(value: object) -> str | None:
    """Return a label as text (an integer becomes its digits), or None if it is not a label."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def size_px(value: object) -> int | None:
    """Return a stated image side in pixels, or None if it is absent or not a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if value > 0 else None


def broken_file(where: str, found: str, expected: str) -> Fault:
    """Return the fault for an annotation file that cannot be read at all."""
    return Fault("broken_annotation", where, found, expected, "export the annotation again")


def broken_shape(where: str, index: int, found: str, expected: str) -> Fault:
    """Return the fault for one shape that cannot be read."""
    return Fault("broken_shape", where, found, expected, "draw the cell again as a polygon", shape_index=index)


def shorten(value: Any) -> str:  # noqa: ANN401 - whatever a foreign file holds
    """Return ``value`` as short readable text for a message."""
    text = repr(value)
    limit = 60
    return text if len(text) <= limit else text[: limit - 3] + "..."


def join_parts(parts: Sequence[ContourArray], where: str, index: int, faults: list[Fault]) -> ContourArray:
    """Return the largest part of a cell stored in several parts, and add a fault that does not lose the cell."""
    if len(parts) > 1:
        action = "the largest is kept"
        found = f"a cell of {len(parts)} parts"
        faults.append(Fault("several_parts", where, found, "one outline", action, index, loses_data=False))
    return max(parts, key=area)


def shape_type_fault(where: str, index: int, found: str) -> Fault:
    """Return the fault for a shape whose type cannot outline a cell."""
    return Fault("shape_type", where, found, "a polygon", "draw the cell again as a polygon", shape_index=index)
