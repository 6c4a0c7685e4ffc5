"""A patient's slides in tiles: what a deep zoom draws, read from the slide's file when it is asked for.

Level 0 is one pixel, and each further level doubles both sides, up to the slide's own pixels at the last one. A tile
has a core of ``TILE_PX`` a side and one pixel of each neighbor around it, so that no seam shows. Only slides that the
run's tables name are opened, by their place in the list. The picture of the label, which may show a name, is never
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from marrowscope.errors import DependencyError, ImageError
from marrowscope.imaging import encode_image
from marrowscope.report.field_pixels import PictureProblem
from marrowscope.review.kept_pictures import KeptPictures
from marrowscope.slides import window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marrowscope.report.field_pixels import FieldPixels
    from marrowscope.report.shown_rows import ShownField

TILE_PX, OVERLAP_PX = 254, 1
_QUALITY = 82
_MOST_BYTES = 128 * 1024**2
"""Encoded tiles in memory at most; one takes 5 to 20 kB."""

SlideProblem = Literal["no_extra"] | PictureProblem
PROBLEMS: tuple[str, ...] = ("no_extra", *get_args(PictureProblem))


@dataclass(frozen=True, slots=True)
class RunSlide:
    """A slide that a run read, with the fields that are regions of it, in reading order."""

    path: Path
    sha256: str
    regions: tuple[ShownField, ...]


@dataclass(frozen=True, slots=True)
class TiledSlide:
    """What a deep zoom needs to know of a slide: its size in pixels, and its first and last level."""

    width_px: int
    height_px: int
    um_per_px: float | None
    min_level: int
    max_level: int


class NoTileError(LookupError):
    """A slide has no such tile."""


def slides_of(fields: Iterable[ShownField]) -> list[RunSlide]:
    """Return the slides of a patient's fields, in the order of the run; none for photographs alone."""
    found: dict[tuple[str, str], list[ShownField]] = {}
    for field in fields:
        if field.region is not None and field.sha256 is not None and field.failed is None:
            found.setdefault((field.path, field.sha256), []).append(field)
    return [RunSlide(Path(path), sha256, tuple(regions)) for (path, sha256), regions in found.items()]


class SlideTiles:
    """Cuts and keeps tiles; usable from several threads."""

    def __init__(self, pixels: FieldPixels) -> None:
        """Read slides through ``pixels``, which finds moved ones and refuses changed ones."""
        self._pixels = pixels
        self._kept = KeptPictures(_MOST_BYTES)

    def measure(self, slide: RunSlide) -> TiledSlide | SlideProblem:
        """Return the size of a slide, or why it cannot be shown; the first time its whole file is hashed."""
        try:
            with self._pixels.slide(slide.path, slide.sha256) as opened:
                if isinstance(opened, str):
                    return opened
                levels = min_level(opened.width_px, opened.height_px), max_level(opened.width_px, opened.height_px)
                um_per_px = opened.um_per_px or slide.regions[0].um_per_px
                return TiledSlide(opened.width_px, opened.height_px, um_per_px, *levels)
        except DependencyError:
            return "no_extra"
        except (ImageError, OSError):
            return "unreadable"

    def tile(self, slide: RunSlide, level: int, column: int, row: int) -> bytes | SlideProblem:
        """Return a tile as JPEG, or why there is none. Raises NoTileError where the slide has no such tile."""
        key = slide.sha256, level, column, row
        if (found := self._kept.get(key)) is not None:
            return found
        try:
            with self._pixels.slide(slide.path, slide.sha256) as opened:
                if isinstance(opened, str):
                    return opened
                box = tile_box(opened.width_px, opened.height_px, level, column, row)
                if box is None:
                    message = f"found no tile {column}, {row} at level {level}, expected one inside the slide"
                    raise NoTileError(message)
                factor = 2 ** (max_level(opened.width_px, opened.height_px) - level)
                data = encode_image(opened.reduced(window(*box), factor), ".jpg", _QUALITY)
        except DependencyError:
            return "no_extra"
        except (ImageError, OSError):
            return "unreadable"
        self._kept.put(key, data)
        return data


def max_level(width_px: int, height_px: int) -> int:
    """Return the level of the slide's own pixels: the least at which a side of one pixel, doubled, covers the slide."""
    return (max(width_px, height_px, 1) - 1).bit_length()


def min_level(width_px: int, height_px: int) -> int:
    """Return the last level that is one tile."""
    last, side = max_level(width_px, height_px), max(width_px, height_px)
    return next(level for level in range(last, -1, -1) if -(-side // 2 ** (last - level)) <= TILE_PX)


def tile_box(width_px: int, height_px: int, level: int, column: int, row: int) -> tuple[int, int, int, int] | None:
    """Return the part of a slide that a tile covers, in the slide's pixels (x0, y0, x1, y1); None for no tile."""
    last = max_level(width_px, height_px)
    if not min_level(width_px, height_px) <= level <= last or min(column, row) < 0:
        return None
    factor = 2 ** (last - level)
    x0, y0 = (max(0, place * TILE_PX - OVERLAP_PX) * factor for place in (column, row))
    if column * TILE_PX * factor >= width_px or row * TILE_PX * factor >= height_px:
        return None
    x1, y1 = (((place + 1) * TILE_PX + OVERLAP_PX) * factor for place in (column, row))
    return x0, y0, min(x1, width_px), min(y1, height_px)
