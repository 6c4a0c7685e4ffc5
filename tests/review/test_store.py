from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from marrowscope.errors import ReviewError
from marrowscope.review.database import EVENTS, reading, sqlite_url, writing
from marrowscope.review.events import GENESIS, Draft, Head
from marrowscope.review.store import ConflictError, Store
from tests.review.stations import open_store

if TYPE_CHECKING:
    from pathlib import Path

FULL = 2
"""What SQLite calls ``synchronous = FULL``."""


def relabel(cell_id: str, code: str = "N1", reader: str = "Ada", patient_id: str = "P1") -> Draft:
    return Draft(reader, patient_id, "relabel", cell_id, None, code)


def test_what_was_appended_is_read_again_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    store = open_store(path)
    assert store.head() == Head(0, GENESIS)
    value = {"category": "N", "p_cblc": 0.1 + 0.2, "contour_xy": [1 / 3, 2.0], "name": "浆\n"}
    first = store.append([Draft("Ada", "P1", "relabel", "c1", None, "N1", value), relabel("c2", patient_id="P2")])
    store.close()
    store = open_store(path)
    assert store.read() == list(first.events)
    assert store.read("P2") == [first.events[1]]
    assert store.read(after=1) == [first.events[1]]
    assert store.head() == first.head
    assert store.verify() == []
    store.close()


def test_many_threads_make_one_chain_without_a_gap(tmp_path: Path) -> None:
    store = open_store(tmp_path / "review.sqlite")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: store.append([relabel(f"c{index}", reader=f"r{index % 3}")]), range(200)))
    assert [event.sequence for event in store.read()] == list(range(1, 201))
    assert store.verify() == []
    store.close()


def test_a_conflict_records_nothing_and_names_the_other_decision(tmp_path: Path) -> None:
    store = open_store(tmp_path / "review.sqlite")
    base = store.append([relabel("c1")]).head.sequence
    store.append([relabel("c2", reader="Bo")])
    with pytest.raises(ConflictError, match="Bo decided about the same cell") as caught:
        store.append([relabel("c1"), relabel("c2")], base)
    assert [event.cell_id for event in caught.value.events] == ["c2"]
    assert store.append([relabel("c1")], base).head.sequence == 3
    assert store.append([relabel("c2", reader="Bo")], base).head.sequence == 4, "one's own decision is no conflict"
    store.close()


def test_a_closed_store_records_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "review.sqlite")
    store.close()
    with pytest.raises(ReviewError, match="closing"):
        store.append([relabel("c1")])


def test_a_store_that_only_reads_records_nothing(database_url: str) -> None:
    Store(database_url).close()
    store = Store(database_url, reads_only=True)
    with pytest.raises(ReviewError, match=r"read-?only"):
        store.append([relabel("c1")])
    assert store.read() == []
    store.close()


def test_the_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "own" / "review.sqlite"
    open_store(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="Windows does not tell whether a disk is read-only")
def test_a_review_on_a_read_only_disk_is_read_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real one SQLite cannot open the file at all, since it lays a journal and an index beside it."""
    path = tmp_path / "review.sqlite"
    store = open_store(path)
    head = store.append([relabel("c1")]).head
    store.close()
    read_only = SimpleNamespace(f_flag=os.ST_RDONLY)
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    for is_read_only in (True, False):
        read_only.f_flag = os.ST_RDONLY if is_read_only else 0
        store = Store(sqlite_url(path), reads_only=True)
        assert (store.head(), store.verify()) == (head, [])
        assert (list(tmp_path.iterdir()) == [path]) == is_read_only
        store.close()


def test_sqlite_writes_ahead_waits_for_the_disk_and_locks_before_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    store = open_store(path)
    begun: list[str] = []
    with writing(store.engine) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == FULL
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_trace_callback(begun.append)
        other = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")  # the lock is held though nothing was written yet
        assert other.execute("SELECT count(*) FROM events").fetchone() == (0,), "who reads does not wait"
        other.close()
    store.append([relabel("c1")])
    assert "BEGIN IMMEDIATE" in begun
    with reading(store.engine) as connection:
        connection.execute(sa.select(EVENTS.c.sequence)).all()
        other = sqlite3.connect(path, timeout=0)
        other.execute("BEGIN IMMEDIATE")  # and who reads holds up nobody who writes
        other.close()
    store.close()
