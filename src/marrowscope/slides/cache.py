"""Open slides, shared by threads: a few at a time, and at most one plain large image, which is in memory as a whole."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING

from marrowscope.slides.large_image import LargeImage
from marrowscope.slides.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.slides.slide import Slide


@dataclass(slots=True)
class _Entry:
    slide: Slide
    n_readers: int = 0


class SlideCache:
    """Slides by path. An unused slide is closed when another one needs its place, or by ``close``."""

    def __init__(self, n_open: int = 4) -> None:
        self._n_open = n_open
        self._entries: OrderedDict[Path, _Entry] = OrderedDict()  # least recently used first
        self._changed = Condition()

    @contextmanager
    def slide(self, path: Path) -> Iterator[Slide]:
        """Lend the slide at ``path``, open for the duration of the block; raises as ``open_slide`` does.

        A second large image waits until the first is unused. A thread must not ask for a second slide inside the block.
        """
        with self._changed:
            while (entry := self._entries.get(path)) is None:
                opened = open_slide(path)
                if isinstance(opened, LargeImage) and (others := self._large_images()):
                    if any(other.n_readers for other in others.values()):
                        self._changed.wait()
                        continue
                    self._close(list(others))
                self._entries[path] = _Entry(opened)
            self._entries.move_to_end(path)
            entry.n_readers += 1
            idle = [other for other, held in self._entries.items() if not held.n_readers]
            self._close(idle[: max(0, len(self._entries) - self._n_open)])
        try:
            yield entry.slide
        finally:
            with self._changed:
                entry.n_readers -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Close all unused slides."""
        with self._changed:
            self._close([path for path, entry in self._entries.items() if not entry.n_readers])

    def _large_images(self) -> dict[Path, _Entry]:
        return {path: entry for path, entry in self._entries.items() if isinstance(entry.slide, LargeImage)}

    def _close(self, paths: list[Path]) -> None:
        for path in paths:
            self._entries.pop(path).slide.close()
