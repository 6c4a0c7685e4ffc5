"""A database that is down is told apart from a decision that is refused: 503, and nothing of the inside."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from marrowscope.errors import ReviewError
from marrowscope.review.database import DatabaseDownError
from marrowscope.review.events import Draft
from marrowscope.review.run_cells import RunCells
from marrowscope.review.station import Station
from marrowscope.review.store import ConflictError, Store
from tests.review.stations import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fake_runs import FakeRun
    from tests.review.postgres import Cluster
    from tests.review.stations import Browser

SENTENCE = "the station cannot reach its database; nothing is lost in this browser, try again soon"


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Write to the SQLite file as another program does that does not end."""
    other = sqlite3.connect(store.engine.url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


@contextmanager
def unreadable(store: Store) -> Iterator[None]:
    """Put something that is no database in the place of the SQLite file."""
    file = Path(store.engine.url.database or "")
    file.rename(file.with_suffix(".away"))
    file.mkdir()
    yield
    file.rmdir()
    file.with_suffix(".away").rename(file)


@contextmanager
def gone(store: Store) -> Iterator[None]:
    """Take the SQLite file away: none is made in its place."""
    file = Path(store.engine.url.database or "")
    for name in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        if name.exists():
            name.rename(name.with_name(f"{name.name}.away"))
    yield
    assert not file.exists()
    for name in file.parent.glob("*.away"):
        name.rename(name.with_suffix(""))


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    cluster.stop("immediate")
    yield
    cluster.start()


def post(browser: Browser, cell_id: str, code: str = "N1") -> tuple[int, str]:
    events = [{"kind": "relabel", "cell_id": cell_id, "new": code}]
    answer = browser.post("/api/patients/P1/events", {"base": 0, "events": events})
    return answer.status_code, answer.json().get("error", "")


@pytest.mark.parametrize("kind", ["locked", "unreadable", "gone", pytest.param("stopped", marks=pytest.mark.apart)])
def test_a_database_that_is_down_answers_503_and_takes_the_decision_when_it_is_back(
    kind: str,
    fake_run: Callable[..., FakeRun],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("marrowscope.review.database.BUSY_S", 0.05)
    cluster: Cluster | None = request.getfixturevalue("cluster") if kind == "stopped" else None
    store = Store(cluster.new_database() if cluster else f"sqlite:///{tmp_path / 'review.sqlite'}")
    station = Station(RunCells([fake_run().folder]), store, lone_reader="Ada")
    browser, cell_id = enter(station), station.patient("P1").frozen[0].cell_id
    assert post(browser, cell_id, "N2")[0] == 200
    store.engine.dispose()
    head = store.head()
    down = stopped(cluster) if cluster else {"locked": locked, "unreadable": unreadable, "gone": gone}[kind](store)
    if kind in {"unreadable", "gone"}:
        store.engine.dispose()
    with down:
        assert post(browser, cell_id) == (503, SENTENCE)
        with pytest.raises(DatabaseDownError, match="check that it can be reached"):
            store.append([Draft("Ada", "P1", "comment")])
        if kind != "locked":
            answer = browser.get("/api/worklist")
            assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"error": SENTENCE}, "2")
    assert store.head() == head
    assert post(browser, cell_id, "Q9")[0] == 400, "a decision that is refused is another thing"
    assert post(browser, cell_id)[0] == 200
    assert store.verify() == []
    station.close()


def test_a_conflict_that_meets_a_database_that_is_down_is_tried_again_too(
    fake_run: Callable[..., FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'review.sqlite'}")
    station = Station(RunCells([fake_run().folder]), store, lone_reader="Ada")
    browser, cell_id = enter(station), station.patient("P1").frozen[0].cell_id

    def conflict(*_: object, **__: object) -> None:
        monkeypatch.setattr(store, "head", down)
        raise ConflictError([])

    def down() -> None:
        message = "down"
        raise DatabaseDownError(message)

    monkeypatch.setattr(store, "append", conflict)
    assert post(browser, cell_id) == (503, SENTENCE)
    station.close()


@pytest.mark.apart
def test_a_value_that_the_database_does_not_take_is_no_database_that_is_down(cluster: Cluster) -> None:
    store = Store(cluster.new_database())
    with pytest.raises(ReviewError, match="value that the review database does not take") as caught:
        store.append([Draft("Ada", "P\0", "comment")])
    assert not isinstance(caught.value, DatabaseDownError)
    assert store.append([Draft("Ada", "P1", "comment")]).head.sequence == 1
    store.close()
