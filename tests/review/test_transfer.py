from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from marrowscope.errors import ReviewError
from marrowscope.review.accounts import utc_now
from marrowscope.review.database import ACCOUNTS, EVENTS, SESSIONS, reading, sqlite_url, writing
from marrowscope.review.events import Draft
from marrowscope.review.sessions import begin_session
from marrowscope.review.store import Store
from marrowscope.review.transfer import back_up, copy, restore
from tests.review.stations import open_store

if TYPE_CHECKING:
    from pathlib import Path


def fill(store: Store, n: int, patient_id: str = "P1") -> None:
    for index in range(n):
        value = {"category": "N", "p_cblc": 0.1 * index, "name": "浆\u0000\n"}
        store.append([Draft("Ada", patient_id, "relabel", f"c{index}", None, "N1", value)])


@pytest.fixture
def store(database_url: str) -> Store:
    store = Store(database_url)
    fill(store, 5)
    with writing(store.engine) as connection:
        connection.execute(
            ACCOUNTS.insert().values(name="ada", full_name="Ada", roles="reader", active=True, created_utc="2026-03-01")
        )
    begin_session(store.engine, "ada", utc_now())
    return store


def test_a_backup_taken_while_writing_is_a_sound_earlier_state(store: Store, tmp_path: Path) -> None:
    ends = threading.Event()

    def write() -> None:
        while not ends.is_set():
            fill(store, 3)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        heads = [back_up(store, tmp_path / f"backup-{index}.sqlite") for index in range(3)]
    finally:
        ends.set()
        writer.join()
    hashes = {event.sequence: event.hash for event in store.read()}
    for head in heads:
        assert hashes[head.sequence] == head.hash
    store.close()


def test_a_restored_backup_has_the_same_head_and_accounts_but_no_session(store: Store, tmp_path: Path) -> None:
    head = back_up(store, tmp_path / "backup.sqlite")
    assert head == store.head()
    assert restore(tmp_path / "backup.sqlite", tmp_path / "new" / "review.sqlite") == head
    restored = Store(sqlite_url(tmp_path / "new" / "review.sqlite"))
    assert restored.read() == store.read()
    with reading(restored.engine) as connection:
        assert connection.scalars(sa.select(ACCOUNTS.c.name)).all() == ["ada"]
        assert connection.scalars(sa.select(SESSIONS.c.token_hash)).all() == []
    fill(restored, 1)
    assert restored.verify() == []
    restored.close()
    store.close()


def test_nothing_is_replaced_by_a_backup_or_a_restore(store: Store, tmp_path: Path) -> None:
    back_up(store, tmp_path / "backup.sqlite")
    with pytest.raises(ReviewError, match="expected a new name"):
        back_up(store, tmp_path / "backup.sqlite")
    with pytest.raises(ReviewError, match="a restore replaces nothing"):
        restore(tmp_path / "backup.sqlite", tmp_path / "backup.sqlite")
    store.close()


def test_a_copy_has_an_equal_head_and_goes_on_from_an_earlier_copy(database_url: str, tmp_path: Path) -> None:
    source, target = open_store(tmp_path / "source.sqlite"), Store(database_url)
    fill(source, 40)
    assert copy(source, target) == source.head() == target.head()
    fill(source, 3, "P2")
    assert copy(source, target) == source.head() == target.head()
    assert target.read() == source.read()
    back = open_store(tmp_path / "back.sqlite")
    assert copy(target, back) == source.head()
    assert back.verify() == []
    fill(target, 1)
    with pytest.raises(ReviewError, match="found 44 events that the source does not have"):
        copy(source, target)
    for store in (source, target, back):
        store.close()


def test_a_log_that_is_not_sound_is_not_copied(tmp_path: Path) -> None:
    source, target = open_store(tmp_path / "source.sqlite"), open_store(tmp_path / "target.sqlite")
    fill(source, 3)
    source.close()
    with sqlite3.connect(tmp_path / "source.sqlite") as connection:
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("UPDATE events SET new = '\"N5\"' WHERE sequence = 2")
    source = open_store(tmp_path / "source.sqlite")
    with pytest.raises(ReviewError, match=r"event 2 \(relabel by Ada .* was edited"):
        copy(source, target)
    assert target.read() == []
    with pytest.raises(ReviewError, match="event 2"):
        back_up(source, tmp_path / "backup.sqlite")
    assert not (tmp_path / "backup.sqlite").exists()
    source.close()
    target.close()


@pytest.mark.parametrize("statement", [EVENTS.delete(), EVENTS.update().values(new="null")])
def test_the_database_itself_refuses_to_change_an_event(store: Store, statement: sa.Executable) -> None:
    with pytest.raises(ReviewError, match="events are only ever added"), writing(store.engine) as connection:
        connection.execute(statement)
    assert store.verify() == []
    assert len(store.read()) == 5
    store.close()
