"""What counts as a slide, and the common interface of all slides.

A slide is an image too large to read at once: a whole-slide image, read through OpenSlide, or a plain image of more
than 100 megapixels. It is read region by region at full resolution, and once as a whole at low resolution.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from marrowscope.errors import ImageError
from marrowscope.imaging import MAX_PIXELS, SLIDE_SUFFIXES, is_image_path
from marrowscope.imaging import read_header as read_whole_header
from marrowscope.imaging.scale import metadata_scale
from marrowscope.slides.large_image import MAX_LARGE_PX, LargeImage, read_large_file
from marrowscope.slides.pyramids import read_header
from marrowscope.slides.whole_slide import WholeSlide, is_whole_slide

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray, Region


class Slide(Protocol):
    """An open slide. Reading is thread-safe."""

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
        """Micrometers per pixel at full resolution, as stated in the slide's file; None if it is not stated."""

    @property
    def identity(self) -> str | None:
        """Identifier shared by the files of one slide (a DICOM series has several); None if each file is a slide."""

    def read(self, region: Region) -> ImageArray:
        """Read a region inside the slide, with its margin: RGB uint8 (height, width, 3) at full resolution.

        Raises ImageError with the file's name if the pixels are damaged.
        """

    def overview(self, downsample: float) -> tuple[ImageArray, float]:
        """Read the whole slide shrunk by at most about ``downsample``: RGB uint8, and the actual factor.

        Overview pixel (x, y) covers the slide's pixels from x * factor to (x + 1) * factor.
        """

    def reduced(self, region: Region, factor: int) -> ImageArray:
        """Read a region inside the slide, shrunk by ``factor``: RGB uint8 (h, w, 3), sides rounded up.

        Raises ImageError as ``read`` does.
        """

    def close(self) -> None:
        """Close the file and free its memory; nothing can be read afterwards."""


def is_slide(path: Path) -> bool:
    """Whether a file is read as a slide, judged only by its name and header.

    A file without a readable header is not a slide; it is recorded where images are read.
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

    Raises ImageError if the file is missing, empty or not a slide, and DependencyError if it needs OpenSlide and the
    extra ``wsi`` is not installed.
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
            f"{path}: found a file that is not a slide, expected {', '.join(sorted(SLIDE_SUFFIXES))}, a pyramidal "
            "TIFF or a plain image; copy or export it again"
        )
        raise ImageError(message)
    return LargeImage(path)


def measure_slide(path: Path) -> tuple[int, int, float | None]:
    """Return width and height of a slide in pixels, and the scale it states; no pixels are decoded.

    Raises as ``open_slide`` does, and ImageError for a plain image whose header is damaged.
    """
    with closing(open_slide(path)) as slide:
        if isinstance(slide, LargeImage):
            data = read_large_file(path)
            header = read_whole_header(data, str(path), max_pixels=MAX_LARGE_PX)
            return header.width_px, header.height_px, metadata_scale(data)
        return slide.width_px, slide.height_px, slide.um_per_px
