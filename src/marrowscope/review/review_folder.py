"""Where a review is kept: a folder of its own with a SQLite file, or PostgreSQL; and how it is opened.

A run that is predicted again is replaced; this folder never is.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.errors import ReviewError
from marrowscope.review.database import make_private_file, sqlite_url
from marrowscope.review.run_cells import RunCells
from marrowscope.review.station import Station
from marrowscope.review.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from marrowscope.review.single_sign_on import SingleSignOn

DATABASE_NAME = "review.sqlite"


@contextmanager
def open_store(place: str | Path, *, reads_only: bool = False, makes: bool = False) -> Iterator[Store]:
    """Open a review by its folder, its SQLite file or its address; ``makes`` one where there is none."""
    store = Store(_url(place, makes=makes), reads_only=reads_only)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def open_station(
    place: str | Path,
    runs: Sequence[Path],
    *,
    lone_reader: str | None,
    images_root: Path | None = None,
    runs_root: Path | None = None,
    reads_only: bool = False,
    single_sign_on: SingleSignOn | None = None,
    bundles: Sequence[Path] = (),
) -> Iterator[Station]:
    """Open the station over ``runs`` whose review is kept at ``place``, which is made where there is none.

    ``bundles`` predicted ``runs`` and were moved since. With ``reads_only`` nothing is made or recorded: ReviewError
    for no review, or one of another prediction.
    """
    cells = RunCells(runs)
    with open_store(place, reads_only=reads_only, makes=not reads_only) as store:
        station = Station(
            cells,
            store,
            lone_reader=lone_reader,
            images_root=images_root,
            runs_root=runs_root,
            single_sign_on=single_sign_on,
            reads_only=reads_only,
            bundles=bundles,
        )
        try:
            yield station
        finally:
            station.images.close()


def _url(place: str | Path, *, makes: bool) -> str:
    if "://" in str(place):
        return str(place)
    path = Path(place)
    file = path if path.is_file() or path.suffix == ".sqlite" else path / DATABASE_NAME
    if not file.is_file():
        if not makes:
            message = f"{path}: found no review there, expected its folder, its SQLite file or its address"
            raise ReviewError(message)
        if path.exists() and not path.is_dir():
            message = f"{path}: found a file that is no review, expected a folder; choose another"
            raise ReviewError(message)
        make_private_file(file)
    return sqlite_url(file)
