"""The segmenter's contour at a place that a reader clicks: a cell that the run does not have.

Steps: cut a window of the field around the click; find contours in it as a prediction does; judge them by the bundle's
quality rules where they lie in the field; take the best one that holds the click. Where none does, contours of a lower
score are looked at too: that a reader clicks there is evidence that a prediction does not have.

A run's segmenter is opened by the first click and stays in memory. Routes call this in threads of their own, one
click at a time for each bundle, so that no other request waits, and no click on a run of another bundle.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import shapely

from marrowscope import geometry
from marrowscope.bundle.precisions import FULL, by_network
from marrowscope.cells.quality import judge_contours, refuse_overlaps
from marrowscope.errors import MarrowscopeError
from marrowscope.machine import available_cores
from marrowscope.networks import available_backends, capabilities, choose_backend
from marrowscope.review.run_bundle import find_run_bundle
from marrowscope.segment.letterbox import letterbox
from marrowscope.segment.segmenter import Segmenter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from marrowscope.cells.quality import QualityRules
    from marrowscope.networks import Network
    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.runs.manifest import Manifest
    from marrowscope.segment.config import SegmenterConfig

WINDOW_UM = 128.0
"""Side of the window: a cell of 50 um, the largest that the rules keep, with its surroundings."""
LOWEST_SCORE = 0.1
"""At 0.05, a click on the background of a simulated field found a cell in 1 of 360 places; at 0.1, in none."""
_SAME_CELL_IOU = 0.5

Found = Literal["cell", "known", "none", "no_model", "no_picture"]


@dataclass(frozen=True, slots=True)
class ClickFinder:
    """What a click asks: the network, how its output becomes contours, and the rules that keep them."""

    network: Network
    config: SegmenterConfig
    rules: QualityRules


@dataclass(frozen=True, slots=True)
class ClickedOutline:
    """The answer to a click: ``contour_xy`` (n, 2), in pixels of the field, only where ``found`` is ``cell``.

    ``known``: the contour there is a cell already. ``no_model``: the run's bundle is gone, or has changed;
    ``no_picture``: the photograph is, or has no scale.
    """

    found: Found
    contour_xy: ContourArray | None = None


class ClickFinders:
    """The segmenters of a station's runs, each opened when it is first asked for; usable from several threads."""

    def __init__(self, moved: Sequence[Path] = ()) -> None:
        """Begin with none opened; ``moved`` are bundles that are not where the runs' commands name them."""
        self._moved = tuple(moved)
        self._opened: dict[str, ClickFinder] = {}
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def outline(
        self,
        manifest: Manifest,
        field_hwc: ImageArray,
        um_per_px: float,
        point_xy: tuple[float, float],
        known: Iterable[ContourArray],
    ) -> ClickedOutline:
        """Return the contour at ``point_xy`` of a field; ``known`` are the outlines of the cells that it has."""
        sha256 = manifest.bundle.sha256
        with self._lock:
            lock = self._locks.setdefault(sha256, threading.Lock())
        with lock:
            try:
                finder = self._opened.get(sha256) or open_finder(manifest, self._moved)
            except MarrowscopeError:
                return ClickedOutline("no_model")
            self._opened[sha256] = finder
            return outline_at(field_hwc, um_per_px, point_xy, known, finder)


def open_finder(manifest: Manifest, moved: Sequence[Path] = ()) -> ClickFinder:
    """Open the segmenter of a run, in the precision and runtime of its prediction where they are here.

    ``moved`` are bundles to look at first. Raises BundleError, or whatever else of ours says why it cannot be opened.
    """
    bundle = find_run_bundle(manifest, moved)
    wanted = manifest.backend if manifest.backend in available_backends() else "auto"
    backend = choose_backend(wanted, "auto")
    here = capabilities(backend, "auto")
    precision = manifest.precision if by_network(manifest.precision).segmenter in here else FULL
    network = bundle.open_segmenter(backend, "auto", precision, threads=max(1, available_cores() // 2))
    return ClickFinder(network, bundle.spec.segmenter, bundle.spec.quality_rules)


def outline_at(
    field_hwc: ImageArray,
    um_per_px: float,
    point_xy: tuple[float, float],
    known: Iterable[ContourArray],
    finder: ClickFinder,
) -> ClickedOutline:
    """Return the best contour that holds ``point_xy`` and that the rules keep; ``none`` where there is none.

    ``field_hwc`` is RGB uint8. A contour that shares half of itself with one of ``known`` (IoU) is ``known``. Raises
    ScaleError for a scale too coarse for the network.
    """
    window, corner_xy = _window(field_hwc, um_per_px, point_xy)
    canvas, transform = letterbox(window, um_per_px, finder.config)
    outputs = Segmenter(finder.network, finder.config).run(canvas)
    outlines = list(known)
    is_known = False
    for score in (finder.config.confidence, min(finder.config.confidence, LOWEST_SCORE)):
        config = finder.config.model_copy(update={"confidence": score})
        found = Segmenter(finder.network, config).cells_of(outputs, transform, window.shape[1], window.shape[0])
        contours = [item.contour_xy + corner_xy for item in found]
        height, width = field_hwc.shape[:2]
        judged = judge_contours(contours, finder.rules, width, height, um_per_px)
        judged = refuse_overlaps(judged, contours, finder.rules)
        for contour, judgment in zip(contours, judged, strict=True):
            if judgment.reason is not None or not shapely.Polygon(contour).contains(shapely.Point(point_xy)):
                continue
            if not any(geometry.iou(contour, other) >= _SAME_CELL_IOU for other in outlines):
                return ClickedOutline("cell", contour)
            is_known = True
    return ClickedOutline("known" if is_known else "none")


def _window(
    field_hwc: ImageArray, um_per_px: float, point_xy: tuple[float, float]
) -> tuple[ImageArray, tuple[float, float]]:
    """Cut the window around a click, smaller at the field's edges; gives its left top corner in the field."""
    height, width = field_hwc.shape[:2]
    half = WINDOW_UM / um_per_px / 2
    left, top = (max(0, round(value - half)) for value in point_xy)
    right, bottom = (min(size, round(value + half)) for size, value in zip((width, height), point_xy, strict=True))
    return np.ascontiguousarray(field_hwc[top:bottom, left:right]), (float(left), float(top))
