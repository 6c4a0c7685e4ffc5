"""Images with YOLO boxes as labeled fields: erythrocytes give the scale, boxes give ellipses.

Public blood smear data sets state no um/px and outline no cells. Their erythrocytes serve as a ruler, and the ellipse
inscribed in a white cell's box is a contour good enough to train on beside true contours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marrowscope.errors import ConfigError
from marrowscope.imaging import is_image_path, read_image
from marrowscope.train.segmenter_data import LabeledField
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ContourArray

FloatMatrix = NDArray[np.float64]

_ERYTHROCYTE_DIAMETER_UM = 7.7
"""Diameter of an erythrocyte in a dried smear (HEMATOLOGY T4); the scale of images that state none."""

_BOX_COLUMNS = 5
# A box is whole when it ends before 0.49 of the image's side from the middle: it then touches no edge.
_INSIDE = 0.49


def box_fields(folder: Path, *, erythrocyte_class: int = 1, cell_class: int = 0) -> list[LabeledField]:
    """Read a YOLO box data set (``images/*/``, ``labels/*/``) whose erythrocyte boxes give the scale.

    Images of one size count as one source: its um/px is 7.7 um over the median erythrocyte box that touches no edge. A
    cell's contour is the ellipse inscribed in its box. Sources without an erythrocyte raise ConfigError, since they
    have no scale.
    """
    rows: list[tuple[Path, int, int, FloatMatrix]] = []
    sides: dict[tuple[int, int], list[float]] = {}
    for image_path in sorted(path for path in (folder / "images").rglob("*") if is_image_path(path)):
        label_path = folder / "labels" / image_path.relative_to(folder / "images").with_suffix(".txt")
        if not label_path.is_file():
            continue
        height, width = read_image(image_path).shape[:2]
        boxes = _read_boxes(label_path)
        rows.append((image_path, width, height, boxes))
        inside = (np.abs(boxes[:, 1:3] - 0.5) + boxes[:, 3:5] / 2 < _INSIDE).all(axis=1)
        whole = boxes[(boxes[:, 0] == erythrocyte_class) & inside]
        sides.setdefault((width, height), []).extend(np.sqrt(whole[:, 3] * width * whole[:, 4] * height).tolist())
    if not rows:
        message = (
            f"{folder}: found no image with a label file, expected images/ and labels/ with equal names; check --boxes"
        )
        raise ConfigError(message)
    scales: dict[tuple[int, int], float] = {}
    for size, values in sides.items():
        if not values:
            message = (
                f"{folder}: found no whole erythrocyte box among the images of {size[0]} x {size[1]} px, "
                "expected some to take the scale from; leave those images out"
            )
            raise ConfigError(message)
        scales[size] = _ERYTHROCYTE_DIAMETER_UM / float(np.median(values))
    return [
        LabeledField(
            path,
            scales[width, height],
            tuple(_ellipse(row[1:5], width, height) for row in boxes if row[0] == cell_class),
            group=path.stem,
            source=folder.name,
        )
        for path, width, height, boxes in rows
    ]


def _read_boxes(label_path: Path) -> FloatMatrix:
    """Read rows of class, center x, center y, width, height (n, 5), the last four as shares of the image."""
    text = label_path.read_text(encoding="utf-8")
    if not text.strip():
        return np.zeros((0, _BOX_COLUMNS))
    try:
        boxes = np.loadtxt(text.splitlines(), ndmin=2)
        reason = count_of(boxes.shape[1], "column")
    except ValueError as error:
        boxes, reason = np.zeros((0, 0)), str(error)
    if boxes.shape[1] != _BOX_COLUMNS:
        message = f"{label_path}: found {reason}, expected rows of class, center and size as five numbers; fix the file"
        raise ConfigError(message)
    return boxes


def _ellipse(box_cxcywh: FloatMatrix, width: int, height: int) -> ContourArray:
    """Contour (48, 2) of the ellipse inscribed in a normalized box."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    size = np.array([width, height], dtype=np.float64)
    contour: ContourArray = (box_cxcywh[:2] + unit * box_cxcywh[2:4] / 2) * size - 0.5
    return contour
