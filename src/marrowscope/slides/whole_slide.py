"""A whole-slide image through OpenSlide: SVS, NDPI, MRXS, DICOM, pyramidal TIFF and the rest of its formats.

OpenSlide's reading is thread-safe, and after one damaged tile a handle refuses everything: so a read that fails is
tried once more on a handle of its own, and the others go on with a new one. Colors are the file's own: an ICC profile
is not applied, as no photograph's is.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.errors import DependencyError, ImageError
from marrowscope.imaging.scale import PLAUSIBLE_UM_PER_PX
from marrowscope.slides.large_image import shrink

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from openslide import OpenSlide
    from PIL.Image import Image

    from marrowscope.records import ImageArray, Region

"""A TIFF written by no microscope says 72 dots per inch, which is 353 um per px."""
_STRIP_PX = 16_000_000
"""Pixels of the overview's level that are held at once: 64 MB."""
_LEVEL_SLACK = 1.01
"""A level stored at 1:16 is 1:16.003 where the sides do not divide by 16."""
_OPAQUE = 255


class WholeSlide:
    """An open whole-slide image; see ``Slide`` for its members."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._handle = _open(path)
        self.width_px, self.height_px = self._handle.dimensions
        properties = dict(self._handle.properties)
        self.um_per_px = _scale(properties)
        self.identity = _series(properties)
        self._background = _color(properties.get("openslide.background-color"))

    def read(self, region: Region) -> ImageArray:
        """See ``Slide.read``; what the scanner left out has the slide's background color, else white."""
        return self._read((region.x_px, region.y_px), 0, (region.width_px, region.height_px))

    def overview(self, downsample: float) -> tuple[ImageArray, float]:
        """See ``Slide.overview``: the stored level next above, shrunk by a whole number, strip by strip."""
        downsample *= _LEVEL_SLACK
        level = self._handle.get_best_level_for_downsample(downsample)
        stored = float(self._handle.level_downsamples[level])
        width, height = self._handle.level_dimensions[level]
        factor = max(1, int(downsample / stored))
        rows = max(1, _STRIP_PX // (width * factor)) * factor
        strips = [
            shrink(self._read((0, round(top * stored)), level, (width, min(rows, height - top))), factor)
            for top in range(0, height, rows)
        ]
        return np.concatenate(strips), stored * factor

    def close(self) -> None:
        """See ``Slide.close``."""
        with self._lock:
            self._handle.close()

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
    """Whether OpenSlide knows the file's format; DependencyError where OpenSlide is not installed."""
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
    """Import OpenSlide when a whole slide is opened, and only then."""
    try:
        import openslide  # noqa: PLC0415
    except (ImportError, OSError) as error:
        message = (
            f"whole-slide images need the extra wsi, which is not installed ({error}); "
            'run: pip install "marrowscope[wsi]"'
        )
        raise DependencyError(message) from error
    return openslide


def _open(path: Path) -> OpenSlide:
    openslide = _import_openslide()
    try:
        handle: OpenSlide = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        message = f"{path}: found no whole-slide image that OpenSlide reads; copy or export it again"
        raise ImageError(message) from error
    except openslide.OpenSlideError as error:
        message = f"{path}: the slide cannot be opened ({error}); copy or export it again"
        raise ImageError(message) from error
    return handle


def _scale(properties: dict[str, str]) -> float | None:
    """Mean of the two directions' micrometers per pixel, None where it is missing or no microscope's."""
    try:
        across, down = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    scale = math.sqrt(across * down) if across > 0 and down > 0 else math.nan
    low, high = PLAUSIBLE_UM_PER_PX
    return scale if low <= scale <= high else None


def _series(properties: dict[str, str]) -> str | None:
    """Return what all files of a DICOM series share; OpenSlide opens the whole slide from any of them."""
    if properties.get("openslide.vendor") != "dicom":
        return None
    return properties.get("openslide.quickhash-1")


def _color(hexadecimal: str | None) -> tuple[int, int, int]:
    """Read RRGGBB; white where the slide names no color."""
    try:
        red, green, blue = bytes.fromhex(hexadecimal or "ffffff")
    except ValueError:
        return (255, 255, 255)
    return (red, green, blue)
