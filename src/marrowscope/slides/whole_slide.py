"""Whole-slide images read through OpenSlide: SVS, NDPI, MRXS, DICOM, pyramidal TIFF and its other formats.

OpenSlide reads are thread-safe, but after one damaged tile a handle refuses every read. A failed read is therefore
retried once on a separate handle, and the other reads continue with a new one. Colors are as stored in the file: like
for photographs, no ICC profile is applied.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.errors import DependencyError, ImageError
from marrowscope.imaging.refusals import RefusedError
from marrowscope.imaging.scale import PLAUSIBLE_UM_PER_PX, refuse_uneven
from marrowscope.slides.large_image import shrink

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from openslide import OpenSlide
    from PIL.Image import Image

    from marrowscope.records import ImageArray, Region

"""Largest plausible scale; a TIFF not from a microscope often states 72 dots per inch, which is 353 um per px."""
_STRIP_PX = 16_000_000
"""Pixels of the overview's level in memory at a time: 64 MB."""
_LEVEL_SLACK = 1.01
"""A level stored at 1:16 is 1:16.003 if the sides are not multiples of 16."""
_OPAQUE = 255


class WholeSlide:
    """An open whole-slide image; see ``Slide`` for its members."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._handle = _open(path)
        self.width_px, self.height_px = self._handle.dimensions
        properties = dict(self._handle.properties)
        self.um_per_px = _scale(properties, path)
        self.identity = _series(properties)
        self._background = _color(properties.get("openslide.background-color"))

    def read(self, region: Region) -> ImageArray:
        """See ``Slide.read``; areas that were not scanned get the slide's background color, else white."""
        return self._read((region.x_px, region.y_px), 0, (region.width_px, region.height_px))

    def overview(self, downsample: float) -> tuple[ImageArray, float]:
        """See ``Slide.overview``: the next finer stored level, shrunk by a whole factor, strip by strip."""
        level, stored, factor = self._level_for(downsample)
        return self._strips((0, 0), level, self._handle.level_dimensions[level], factor), stored * factor

    def reduced(self, region: Region, factor: int) -> ImageArray:
        """See ``Slide.reduced``; stored levels seldom fit to the pixel, so that the last step may be a resize."""
        level, stored, whole = self._level_for(factor)
        size = max(1, round(region.width_px / stored)), max(1, round(region.height_px / stored))
        found = self._strips((region.x_px, region.y_px), level, size, whole)
        wanted = -(-region.width_px // factor), -(-region.height_px // factor)
        if found.shape[1::-1] == wanted:
            return found
        return np.asarray(cv2.resize(found, wanted, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def close(self) -> None:
        """See ``Slide.close``."""
        with self._lock:
            self._handle.close()

    def _level_for(self, downsample: float) -> tuple[int, float, int]:
        """Return the coarsest level not beyond ``downsample``, how far it is shrunk, and the whole factor left."""
        downsample *= _LEVEL_SLACK
        level = self._handle.get_best_level_for_downsample(downsample)
        stored = float(self._handle.level_downsamples[level])
        return level, stored, max(1, int(downsample / stored))

    def _strips(self, location: tuple[int, int], level: int, size: tuple[int, int], factor: int) -> ImageArray:
        """Read a part of a level as ``_read`` does and shrink it by ``factor``, a strip in memory at a time."""
        (left, above), (width, height) = location, size
        stored = float(self._handle.level_downsamples[level])
        rows = max(1, _STRIP_PX // (width * factor)) * factor
        strips = [
            shrink(self._read((left, above + round(top * stored)), level, (width, min(rows, height - top))), factor)
            for top in range(0, height, rows)
        ]
        return np.concatenate(strips)

    def _read(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> ImageArray:
        """Read a part of a level; ``location`` is in full-resolution pixels, ``size`` in the level's."""
        openslide = _import_openslide()
        handle = self._handle
        try:
            return flatten(handle.read_region(location, level, size), self._background)
        except openslide.OpenSlideError:
            with self._lock:
                if self._handle is handle:
                    self._handle = _open(self.path)
        alone = _open(self.path)
        try:
            return flatten(alone.read_region(location, level, size), self._background)
        except openslide.OpenSlideError as error:
            message = (
                f"{self.path}: the part of {size[0]} x {size[1]} px at ({location[0]}, {location[1]}), level {level}, "
                f"cannot be read ({error}); copy or export the slide again"
            )
            raise ImageError(message) from error
        finally:
            alone.close()


def is_whole_slide(path: Path) -> bool:
    """Whether OpenSlide supports the file's format; raises DependencyError if OpenSlide is not installed."""
    openslide = _import_openslide()
    try:
        return openslide.OpenSlide.detect_format(path) is not None
    except openslide.OpenSlideError:
        return False


def flatten(picture: Image, background: tuple[int, int, int]) -> ImageArray:
    """Lay an RGBA picture over ``background``: RGB uint8 (h, w, 3)."""
    pixels = np.asarray(picture, dtype=np.uint8)
    alpha = pixels[..., 3]
    colors = np.ascontiguousarray(pixels[..., :3])
    if alpha.size and alpha.min() < _OPAQUE:
        share = alpha[..., None].astype(np.float32) / np.float32(_OPAQUE)
        mixed = colors * share + np.array(background, dtype=np.float32) * (1 - share)
        colors = np.asarray(np.rint(mixed), dtype=np.uint8)
    return colors


def _import_openslide() -> ModuleType:
    """Import OpenSlide only when a whole slide is opened."""
    try:
        import openslide  # noqa: PLC0415
    except (ImportError, OSError) as error:
        message = (
            f"whole-slide images need the extra wsi, which is not installed ({error}); "
            'in a copy of the repository, run: pip install ".[wsi]"'
        )
        raise DependencyError(message) from error
    return openslide


def _open(path: Path) -> OpenSlide:
    openslide = _import_openslide()
    try:
        handle: OpenSlide = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        message = f"{path}: found a file that OpenSlide cannot read, expected a whole-slide image; export it again"
        raise ImageError(message) from error
    except openslide.OpenSlideError as error:
        message = f"{path}: the slide cannot be opened ({error}); copy or export it again"
        raise ImageError(message) from error
    return handle


def _scale(properties: dict[str, str], path: Path) -> float | None:
    """Mean micrometers per pixel of the two directions; None if missing or implausible for a microscope.

    Raises ImageError where the two are not those of square pixels.
    """
    try:
        across, down = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    scale = math.sqrt(across * down) if across > 0 and down > 0 else math.nan
    low, high = PLAUSIBLE_UM_PER_PX
    if not low <= scale <= high:
        return None
    try:
        refuse_uneven(across, down)
    except RefusedError as refusal:
        raise refusal.at(str(path)) from None
    return scale


def _series(properties: dict[str, str]) -> str | None:
    """Return the identifier shared by a DICOM series; OpenSlide opens the whole slide from any of its files."""
    if properties.get("openslide.vendor") != "dicom":
        return None
    return properties.get("openslide.quickhash-1")


def _color(hexadecimal: str | None) -> tuple[int, int, int]:
    """Parse RRGGBB; white if the slide states no color."""
    try:
        red, green, blue = bytes.fromhex(hexadecimal or "ffffff")
    except ValueError:
        return (255, 255, 255)
    return (red, green, blue)
