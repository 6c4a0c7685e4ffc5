"""Read the pixels of a run's fields again: a whole photograph, or the predicted region of a slide."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Literal

from marrowscope.disk.addresses import address_of, place_of
from marrowscope.errors import DependencyError, InputError
from marrowscope.imaging import decode_image, read_file, sha256_bytes, sha256_file
from marrowscope.imaging.names import path_below
from marrowscope.slides import SlideCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.records import ImageArray, Region
    from marrowscope.slides import Slide

PictureProblem = Literal["not_found", "changed", "unreadable"]


class FieldPixels:
    """Reads fields, from several threads; ``images_root`` is where the images are now, if they have moved.

    A slide stays open between its regions and is hashed once; ``close`` releases it.
    """

    def __init__(self, images_root: Path | None = None) -> None:
        self._images_root = images_root
        self._slides = SlideCache()
        self._digests: dict[Path, str] = {}
        self._hashing = Lock()

    def is_there(self, path: Path) -> bool:
        """Tell whether the file of a field is found; it is not opened."""
        return _locate_image(path, self._images_root) is not None

    def read(self, path: Path, sha256: str, region: Region | None = None) -> ImageArray | PictureProblem:
        """Read a field, RGB uint8 (h, w, 3), or return why that is not possible.

        A file that has changed since it was predicted (its SHA-256 differs) is not read, so that contours are never
        drawn on another image. Raises DependencyError for a slide if OpenSlide is missing.
        """
        try:
            found = _locate_image(path, self._images_root)
            if found is None:
                return "not_found"
            if region is not None:
                return self._read_region(found, sha256, region)
            data = read_file(found)
            return decode_image(data, path.name) if sha256_bytes(data) == sha256 else "changed"
        except DependencyError:
            raise
        except Exception:  # noqa: BLE001  whatever a file raises, MemoryError too: the page says that it lacks a picture
            return "unreadable"

    @contextmanager
    def slide(self, path: Path, sha256: str) -> Iterator[Slide | PictureProblem]:
        """Lend the whole slide of a run's regions, open for the duration of the block, or say why that is not possible.

        Raises DependencyError as ``read`` does, and ImageError where it cannot be opened.
        """
        found = _locate_image(path, self._images_root)
        if found is None:
            yield "not_found"
        elif self._digest(found) != sha256:
            yield "changed"
        else:
            with self._slides.slide(found) as slide:
                yield slide

    def close(self) -> None:
        """Close the slides."""
        self._slides.close()

    def _read_region(self, path: Path, sha256: str, region: Region) -> ImageArray | PictureProblem:
        if self._digest(path) != sha256:
            return "changed"
        with self._slides.slide(path) as slide:
            return slide.read(region)

    def _digest(self, path: Path) -> str:
        with self._hashing:
            if path not in self._digests:
                self._digests[path] = sha256_file(path)
            return self._digests[path]


def _locate_image(path: Path, images_root: Path | None) -> Path | None:
    """Find a field's file: under ``images_root`` (by patient folder and name, or by name only), else at ``path``."""
    candidates = [path]
    if images_root is not None:
        names = [f"{path.parent.name}/{path.name}", path.name]
        if (address := address_of(path)) is not None:
            names = [place_of(address), *names]  # a folder that stands for a whole store
        moved = [_below(images_root, name) for name in names]
        candidates = [*filter(None, moved), path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _below(root: Path, name: str) -> Path | None:
    """Return the path that a table names below ``root``, or None if it would lead out; links inside are allowed."""
    try:
        return path_below(root, name, where="fields.parquet", links=True)
    except InputError:
        return None
