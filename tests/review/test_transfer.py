from __future__ import annotations

import shutil
import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from marrowscope.errors import ReviewError
from marrowscope.review.accounts import add_account, change_account, check_password, read_accounts, utc_now
from marrowscope.review.binding import read_bindings
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
    backup, other = tmp_path / "backup.sqlite", tmp_path / "other.sqlite"
    back_up(store, backup)
    before = backup.read_bytes()
    fill(store, 1)
    back_up(store, other)
    (tmp_path / "text.sqlite").write_text("no database " * 100, encoding="utf-8")
    for taken in (backup, tmp_path / "text.sqlite"):
        with pytest.raises(ReviewError, match="expected a new name"):
            back_up(store, taken)
        with pytest.raises(ReviewError, match="a restore replaces nothing"):
            restore(other, taken)
    with pytest.raises(ReviewError, match="a restore replaces nothing"):
        restore(backup, backup)
    assert backup.read_bytes() == before
    store.close()


def test_the_same_call_ends_well_where_it_was_killed_after_its_last_step(store: Store, tmp_path: Path) -> None:
    backup, again, copied = (tmp_path / name for name in ("backup.sqlite", "again.sqlite", "copied.sqlite"))
    target = open_store(copied)
    for call, place in (
        (partial(back_up, store, backup), backup),
        (partial(restore, backup, again), again),
        (partial(copy, store, target), copied),
    ):
        assert call() == store.head()
        before = place.stat()
        assert call() == store.head()
        assert (place.stat().st_size, place.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    add_account(store.engine, "bo", ["reader"])  # an equal head is not enough
    with pytest.raises(ReviewError, match="expected a new name"):
        back_up(store, backup)
    with pytest.raises(ReviewError, match="expected an empty database"):
        copy(store, target)
    with sqlite3.connect(again) as connection:  # nor is an equal head over a log that was edited
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("UPDATE events SET new = '\"N5\"' WHERE sequence = 1")
    connection.close()
    with pytest.raises(ReviewError, match="a restore replaces nothing"):
        restore(backup, again)
    target.close()
    store.close()


def test_a_restore_needs_the_backup_alone_and_only_reads_it(tmp_path: Path) -> None:
    live = open_store(tmp_path / "live" / "review.sqlite")
    fill(live, 5)
    head = back_up(live, tmp_path / "backups" / "monday.sqlite")
    live.close()
    shutil.rmtree(tmp_path / "live")
    backup = tmp_path / "backups" / "monday.sqlite"
    with sqlite3.connect(backup) as connection:  # as a version wrote it whose schema is older than this one's
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("DROP TRIGGER events_no_delete")
    connection.close()
    before = backup.read_bytes()
    backup.chmod(0o400)
    assert restore(backup, tmp_path / "new" / "review.sqlite") == head
    assert backup.read_bytes() == before, "a backup is not changed by reading it"
    assert list(backup.parent.iterdir()) == [backup]
    (tmp_path / "text.sqlite").write_text("no database " * 100, encoding="utf-8")
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE t (x)").connection.close()
    for name, found in (("none", "found no file there"), ("text", "found no database"), ("other", "without a review")):
        with pytest.raises(ReviewError, match=rf"{found}.*, expected .* written by `marrowscope review backup`"):
            restore(tmp_path / f"{name}.sqlite", tmp_path / f"from-{name}" / "review.sqlite")
        assert not (tmp_path / f"from-{name}" / "review.sqlite").exists()
    assert not (tmp_path / "none.sqlite").exists()


def test_the_files_of_a_station_that_was_killed_are_restored_with_what_its_journal_holds(tmp_path: Path) -> None:
    store = open_store(tmp_path / "review.sqlite")
    fill(store, 5)
    (tmp_path / "taken").mkdir()
    for path in tmp_path.glob("review.sqlite*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, tmp_path / "taken")
    assert restore(tmp_path / "taken" / "review.sqlite", tmp_path / "new" / "review.sqlite") == store.head()
    store.close()


def test_a_copy_has_an_equal_head_the_same_bindings_and_accounts_but_no_session(
    database_url: str, tmp_path: Path
) -> None:
    source, target = open_store(tmp_path / "source.sqlite"), Store(database_url)
    source.append([Draft("station", "", "bind", None, None, {"tables": {"cells": "ab"}, "patients": ["P1"]})])
    fill(source, 40)
    add_account(source.engine, "ada", ["admin"], password="four plain words here", subject="5f1c2a")  # noqa: S106
    add_account(source.engine, "bo", ["reader"])
    change_account(source.engine, "bo", is_active=False)
    begin_session(source.engine, "ada", utc_now())
    assert copy(source, target) == source.head() == target.head()
    assert target.read() == source.read()
    assert read_bindings(target) == read_bindings(source)
    assert read_accounts(target.engine) == read_accounts(source.engine)
    assert check_password(target.engine, "ada", "four plain words here", "", utc_now()) is not None
    with reading(target.engine) as connection:
        assert connection.scalars(sa.select(SESSIONS.c.token_hash)).all() == []
    back = open_store(tmp_path / "back.sqlite")
    assert copy(target, back) == source.head()
    assert back.verify() == []
    for store in (source, target, back):
        store.close()


def test_a_copy_writes_over_nothing(database_url: str, tmp_path: Path) -> None:
    source, target = open_store(tmp_path / "source.sqlite"), Store(database_url)
    add_account(source.engine, "ada", ["admin", "signer"])
    fill(source, 3)
    add_account(target.engine, "ada", ["reader"])
    before = read_accounts(target.engine)
    said = r"the target: found 1 account \(ada\), expected an empty database; choose another"
    with pytest.raises(ReviewError, match=said):
        copy(source, target)
    fill(target, 2)
    with pytest.raises(ReviewError, match=r"found 2 events and 1 account \(ada\), expected"):
        copy(source, target)
    assert read_accounts(target.engine) == before
    assert len(target.read()) == 2
    assert target.verify() == []
    source.close()
    target.close()


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
