"""Open slides shared by threads: few at once, none closed under its reader, one large image in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.errors import ImageError
from marrowscope.imaging import write_image
from marrowscope.slides import SlideCache, window
from tests.slides.pyramids import write_pyramid

if TYPE_CHECKING:
    from pathlib import Path

CORNER = window(0, 0, 8, 8)


def picture(level: int) -> np.ndarray:
    return np.full((300, 300, 3), level, dtype=np.uint8)


@pytest.fixture
def pyramids(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.tif" for index in range(3)]
    for index, path in enumerate(paths):
        write_pyramid(path, picture(index), 0.25)
    return paths


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for index, path in enumerate(paths):
        write_image(path, picture(index))
    return paths


def test_a_slide_is_opened_once_and_stays_open_while_few_are(pyramids: list[Path]) -> None:
    cache = SlideCache(n_open=2)
    with cache.slide(pyramids[0]) as first, cache.slide(pyramids[1]):
        pass
    with cache.slide(pyramids[0]) as again:
        assert again is first
    with cache.slide(pyramids[2]):
        assert list(cache._entries) == [pyramids[0], pyramids[2]]  # the one read longest ago is closed
    cache.close()
    assert not cache._entries


def test_a_slide_that_is_read_is_never_closed(pyramids: list[Path]) -> None:
    cache = SlideCache(n_open=1)
    with cache.slide(pyramids[0]) as first, cache.slide(pyramids[1]) as second:
        cache.close()
        assert (first.read(CORNER).max(), second.read(CORNER).max()) == (0, 1)
    cache.close()
    assert not cache._entries


def test_a_second_large_image_waits_until_the_first_is_read(images: list[Path]) -> None:
    cache = SlideCache()

    def read(path: Path) -> int:
        with cache.slide(path) as slide:
            return int(slide.read(CORNER).max())

    with ThreadPoolExecutor(1) as pool:
        with cache.slide(images[0]) as first:
            second = pool.submit(read, images[1])
            with pytest.raises(StillWaiting):
                second.result(timeout=0.2)
            assert first.read(CORNER).max() == 0
        assert second.result(timeout=30) == 1
    assert list(cache._entries) == [images[1]]


def test_many_threads_read_the_slides_they_asked_for(pyramids: list[Path], images: list[Path]) -> None:
    cache = SlideCache(n_open=2)
    paths = [*pyramids, *images] * 8

    def read(path: Path) -> int:
        with cache.slide(path) as slide:
            return int(slide.read(CORNER).max())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, paths)) == [int(path.stem) for path in paths]
    cache.close()
    assert not cache._entries


def test_what_cannot_be_opened_is_said_and_not_kept(tmp_path: Path) -> None:
    cache = SlideCache()
    with pytest.raises(ImageError, match=r"gone\.svs: not found"), cache.slide(tmp_path / "gone.svs"):
        pass
    assert not cache._entries
