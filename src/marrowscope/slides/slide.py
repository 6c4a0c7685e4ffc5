"""What is a slide, and the one face that all of them have.

A slide is a picture too large to be read at once: a whole-slide image, read through OpenSlide, or a plain image of more
than 100 megapixels. It is read region by region, at full resolution, and once as a whole, at low resolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from marrowscope.errors import ImageError
from marrowscope.imaging import MAX_PIXELS, SLIDE_SUFFIXES, is_image_path
from marrowscope.slides.large_image import LargeImage
from marrowscope.slides.pyramids import read_header
from marrowscope.slides.whole_slide import WholeSlide, is_whole_slide

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray, Region


class Slide(Protocol):
    """A slide that is open. Reading is safe from several threads at once."""

    @property
    def path(self) -> Path:
        """The file it was opened from."""

    @property
    def width_px(self) -> int:
        """Width at full resolution."""

    @property
    def height_px(self) -> int:
        """Height at full resolution."""

    @property
    def um_per_px(self) -> float | None:
        """Micrometers per pixel at full resolution as the slide itself states it; None where it does not."""

    @property
    def identity(self) -> str | None:
        """What two files of one slide have in common (a DICOM series has several); None where a file is a slide."""

    def read(self, region: Region) -> ImageArray:
        """Read what ``region`` reads, RGB uint8 (height, width, 3) at full resolution; it lies within the slide.

        Raises ImageError naming the file where the pixels are damaged.
        """

    def overview(self, downsample: float) -> tuple[ImageArray, float]:
        """Read the whole slide shrunk by about ``downsample`` and not more: RGB uint8, and the factor it was shrunk by.

        Pixel (x, y) of it covers the slide's pixels from x * factor up to (x + 1) * factor.
        """

    def close(self) -> None:
        """Return the file and its memory back; nothing can be read afterwards."""


def is_slide(path: Path) -> bool:
    """Whether a file is read as a slide, from its name and its header alone.

    A file without a readable header is no slide: it is recorded where images are read.
    """
    if path.suffix.lower() in SLIDE_SUFFIXES:
        return True
    if not is_image_path(path):
        return False
    header = read_header(path)
    if header is None:
        return False
    pyramid = header.tiled and header.n_directories > 1
    return pyramid or header.width_px * header.height_px > MAX_PIXELS


def open_slide(path: Path) -> Slide:
    """Open a slide for reading.

    Raises ImageError where the file is missing, empty or no slide, and DependencyError where it needs OpenSlide and
    the extra ``wsi`` is not installed.
    """
    if not path.is_file():
        message = f"{path}: not found, expected a whole-slide image or a large image; check the path"
        raise ImageError(message)
    if path.stat().st_size == 0:
        message = f"{path}: found an empty file, expected a slide; copy or export it again"
        raise ImageError(message)
    if path.suffix.lower() in SLIDE_SUFFIXES:
        return WholeSlide(path)
    header = read_header(path)
    if header is not None and header.cut_short:
        message = f"{path}: found a TIFF that ends too early, expected a whole slide; copy or export it again"
        raise ImageError(message)
    if header is not None and header.tiled and is_whole_slide(path):
        return WholeSlide(path)
    if header is None or not is_image_path(path):
        message = (
            f"{path}: found no slide, expected {', '.join(sorted(SLIDE_SUFFIXES))}, a pyramidal TIFF or a plain image; "
            "copy or export it again"
        )
        raise ImageError(message)
    return LargeImage(path)
