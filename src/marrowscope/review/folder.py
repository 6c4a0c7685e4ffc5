"""The folder of a review: the database of one laboratory's decisions, apart from every run.

A run that is predicted again is replaced; this folder never is.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from marrowscope.errors import ReviewError
from marrowscope.review.database import make_private_file, sqlite_url
from marrowscope.review.run_cells import RunCells
from marrowscope.review.station import Station
from marrowscope.review.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DATABASE_NAME = "review.sqlite"


def database_path(place: Path) -> Path:
    """Return the SQLite file of a review's folder, or ``place`` itself where it is a file."""
    return place / DATABASE_NAME if place.is_dir() else place


@contextmanager
def open_folder(
    folder: Path, runs: Sequence[Path], *, lone_reader: str, images_root: Path | None = None
) -> Iterator[Station]:
    """Open the station of a review's folder, made where there is none; hold its lock meanwhile."""
    if folder.exists() and not folder.is_dir():
        message = f"{folder}: found a file, expected the folder of a review, or a name not taken; choose another --out"
        raise ReviewError(message)
    cells = RunCells(runs)
    make_private_file(folder / DATABASE_NAME)
    store = Store(sqlite_url(folder / DATABASE_NAME))
    try:
        station = Station(cells, store, lone_reader=lone_reader, images_root=images_root)
        try:
            yield station
        finally:
            station.images.close()
    finally:
        store.close()
