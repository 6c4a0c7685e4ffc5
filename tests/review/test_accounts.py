from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from marrowscope.errors import ReviewError
from marrowscope.review import accounts
from marrowscope.review.accounts import (
    ATTEMPTS_WITHIN,
    MOST_BY_ACCOUNT,
    MOST_BY_ADDRESS,
    TooManyAttemptsError,
    add_account,
    change_account,
    check_password,
    find_account,
    read_accounts,
    utc_now,
)
from marrowscope.review.database import ACCOUNTS, SESSIONS, reading
from marrowscope.review.guard import COOKIE
from marrowscope.review.sessions import IDLE, LONGEST, begin_session, end_session, find_session
from marrowscope.review.store import Store
from tests.review.conftest import HASHER_IN_USE
from tests.review.stations import Browser, enter, new_client, open_station, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from marrowscope.review.station import Station
    from tests.fake_runs import FakeRun

PASSWORD = "four plain words here"  # noqa: S105
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    store = Store(database_url)
    add_account(store.engine, "ada", ["admin", "signer"], full_name="Ada L.", password=PASSWORD)
    yield store.engine
    store.close()


def test_a_password_is_kept_as_argon2id_and_nowhere_else(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "_HASHER", HASHER_IN_USE)
    assert check_password(engine, "ada", PASSWORD, "10.0.0.1", utc_now())  # which renews a hash that is too weak
    with reading(engine) as connection:
        kept = connection.scalar(sa.select(ACCOUNTS.c.password_hash)) or ""
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,")
    assert PASSWORD not in kept


def test_the_right_password_enters_and_no_other(engine: sa.Engine) -> None:
    account = check_password(engine, "ada", PASSWORD, "10.0.0.1", utc_now())
    assert account is not None
    assert (account.full_name, account.roles) == ("Ada L.", frozenset({"admin", "signer"}))
    for name, password in (("ada", PASSWORD + " "), ("ada", ""), ("eve", PASSWORD), ("ada", PASSWORD * 100)):
        assert check_password(engine, name, password, "10.0.0.1", utc_now()) is None


def test_an_account_is_closed_for_a_while_after_five_failures(engine: sa.Engine) -> None:
    now = utc_now()
    for index in range(MOST_BY_ACCOUNT):
        assert check_password(engine, "ada", "wrong", f"10.0.0.{index}", now) is None
    with pytest.raises(TooManyAttemptsError, match="wait 15 minutes"):
        check_password(engine, "ada", PASSWORD, "10.0.0.9", now)
    later = now + ATTEMPTS_WITHIN + timedelta(seconds=1)
    assert check_password(engine, "ada", PASSWORD, "10.0.0.9", later) is not None


def test_an_address_is_closed_whatever_names_it_tries(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.review.accounts._fits", lambda *_: False)  # thirty real hashes take seconds
    now = utc_now()
    for index in range(MOST_BY_ADDRESS):
        assert check_password(engine, f"name-{index}", "wrong", "10.0.0.1", now) is None
    with pytest.raises(TooManyAttemptsError):
        check_password(engine, "ada", PASSWORD, "10.0.0.1", now)


def test_only_failures_count_against_an_address(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.review.accounts._fits", lambda _, password: password == PASSWORD)
    now = utc_now()
    for index in range(MOST_BY_ADDRESS - 1):
        assert check_password(engine, f"name-{index}", "wrong", "10.0.0.1", now) is None
    for _ in range(MOST_BY_ADDRESS):
        assert check_password(engine, "ada", PASSWORD, "10.0.0.1", now) is not None
    assert check_password(engine, "a\0b", "wrong", "10.0.0.1", now) is None
    with pytest.raises(TooManyAttemptsError):
        check_password(engine, "ada", PASSWORD, "10.0.0.1", now)


def test_attempts_at_one_moment_are_counted_one_after_another(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marrowscope.review.accounts._fits", lambda *_: False)
    n, now = 3 * MOST_BY_ACCOUNT, utc_now()
    begins = threading.Barrier(n)

    def attempt(index: int) -> bool:
        begins.wait()
        try:
            return check_password(engine, "ada", "wrong", f"10.0.0.{index}", now) is None
        except TooManyAttemptsError:
            return False

    with ThreadPoolExecutor(n) as pool:
        tried = list(pool.map(attempt, range(n)))
    assert sum(tried) == MOST_BY_ACCOUNT


def test_the_right_password_forgets_earlier_failures(engine: sa.Engine) -> None:
    for _ in range(2):
        for _ in range(MOST_BY_ACCOUNT - 1):
            check_password(engine, "ada", "wrong", "10.0.0.1", utc_now())
        assert check_password(engine, "ada", PASSWORD, "10.0.0.1", utc_now()) is not None


@pytest.mark.parametrize(
    ("password", "words"),
    [("short", "of 5 characters, expected 12 to 128"), ("x" * 129, "of 129"), ("I am Eve, surely", "name")],
)
def test_a_poor_password_is_refused(engine: sa.Engine, password: str, words: str) -> None:
    with pytest.raises(ReviewError, match=words):
        add_account(engine, "eve", ["reader"], password=password)
    assert find_account(engine, "eve") is None


def test_a_long_password_with_any_characters_is_taken(engine: sa.Engine) -> None:
    for index, password in enumerate(("浆细胞 浆细胞 原始粒细胞 早幼", "a b c d e f g h i j k l" * 5)):
        add_account(engine, f"name{index}", ["reader"], password=password)
        assert check_password(engine, f"name{index}", password, "10.0.0.1", utc_now()) is not None


@pytest.mark.parametrize(
    ("name", "roles", "words"),
    [
        ("ada", ["reader"], "already"),
        ("", ["reader"], "account name"),
        ("a\nb", ["reader"], "printable"),
        ("eve", ["king"], "role 'king'"),
    ],
)
def test_an_account_that_cannot_be_is_refused(engine: sa.Engine, name: str, roles: list[str], words: str) -> None:
    with pytest.raises(ReviewError, match=words):
        add_account(engine, name, roles)


def test_the_last_admin_stays_one(engine: sa.Engine) -> None:
    with pytest.raises(ReviewError, match="the last admin"):
        change_account(engine, "ada", roles=["reader"])
    with pytest.raises(ReviewError, match="the last admin"):
        change_account(engine, "ada", is_active=False)
    add_account(engine, "bo", ["admin"])
    change_account(engine, "ada", roles=["reader"])
    assert [(item.name, sorted(item.roles)) for item in read_accounts(engine)] == [
        ("ada", ["reader"]),
        ("bo", ["admin"]),
    ]
    with pytest.raises(ReviewError, match="found no account 'eve'"):
        change_account(engine, "eve", roles=["reader"])


def test_a_session_ends_when_idle_after_a_day_when_left_and_when_its_account_changes(engine: sa.Engine) -> None:
    start = utc_now()

    def is_open(token: str, after: timedelta) -> bool:
        return find_session(engine, token, lambda name: find_account(engine, name), start + after) is not None

    token = begin_session(engine, "ada", start)
    assert is_open(token, IDLE - timedelta(minutes=1))
    assert is_open(token, 2 * IDLE - timedelta(minutes=2)), "each request begins the eight hours anew"
    assert not is_open(token, 3 * IDLE)
    token = begin_session(engine, "ada", start)
    for hours in range(7, 24, 7):
        assert is_open(token, timedelta(hours=hours))
    assert not is_open(token, LONGEST + timedelta(seconds=1))
    token = begin_session(engine, "ada", start)
    end_session(engine, token)
    assert not is_open(token, timedelta())
    token = begin_session(engine, "ada", start)
    change_account(engine, "ada", password="five other plain words")  # noqa: S106
    assert not is_open(token, timedelta())


def test_the_database_holds_no_token_that_opens_a_session(engine: sa.Engine) -> None:
    token = begin_session(engine, "ada", utc_now())
    with reading(engine) as connection:
        (kept,) = connection.execute(sa.select(SESSIONS.c.token_hash)).scalars()
    assert kept != token
    assert find_session(engine, kept, lambda name: find_account(engine, name), utc_now()) is None


@pytest.fixture
def department(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Station]:
    station = open_station(fake_run().folder, tmp_path / "review" / "review.sqlite", reader=None)
    add_account(station.store.engine, "ada", ["reader"], password=PASSWORD)
    yield station
    station.close()


def test_the_form_enters_and_the_cookie_is_for_this_site_alone(department: Station) -> None:
    client = new_client(department)
    wrong = client.post("/login", content="name=ada&password=wrong", headers=FORM)
    unknown = client.post("/login", content="name=eve&password=wrong", headers=FORM)
    assert (wrong.status_code, wrong.text) == (unknown.status_code, unknown.text) == (401, wrong.text)
    assert "set-cookie" not in wrong.headers
    right = client.post("/login", content="name=ada&password=four+plain+words+here", headers=FORM)
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"].lower()
    assert all(flag in cookie for flag in ("httponly", "samesite=strict", "path=/"))
    assert Browser(client).json("/api/session")["reader"] == "ada"


def test_each_entrance_begins_a_new_session(department: Station) -> None:
    client = new_client(department)
    client.cookies.set("marrowscope_session", "chosen by somebody else")
    answer = client.post("/login", content="name=ada&password=four+plain+words+here", headers=FORM)
    assert "chosen" not in answer.headers["set-cookie"]


def test_the_form_is_closed_after_too_many_failures(department: Station) -> None:
    client = new_client(department)
    for _ in range(MOST_BY_ACCOUNT):
        client.post("/login", content="name=ada&password=wrong", headers=FORM)
    answer = client.post("/login", content="name=ada&password=four+plain+words+here", headers=FORM)
    assert (answer.status_code, answer.json()["error"]) == (429, "too many failed attempts to enter; wait 15 minutes")


def test_a_form_of_another_site_is_refused(department: Station) -> None:
    headers = {**FORM, "Origin": "https://elsewhere.example"}
    answer = new_client(department).post("/login", content="name=ada&password=four+plain+words+here", headers=headers)
    assert answer.status_code == 403


def test_a_reader_changes_the_own_password_and_has_to_enter_again(department: Station) -> None:
    client = new_client(department)
    client.post("/login", content="name=ada&password=four+plain+words+here", headers=FORM)
    browser = Browser(client)
    browser.csrf = browser.json("/api/session")["csrf"]
    changed = browser.post("/api/password", {"old": PASSWORD, "new": "five other plain words"})
    assert changed.status_code == 200
    assert browser.get("/api/session").status_code == 401
    assert check_password(department.store.engine, "ada", "five other plain words", "x", utc_now()) is not None


def test_no_one_time_token_opens_a_station_with_accounts(department: Station) -> None:
    assert new_client(department).get(f"/enter?token={department.one_time_token()}").status_code == 403


def test_a_session_of_a_lone_reader_is_none_of_the_account_of_that_name(
    fake_run: Callable[..., FakeRun], tmp_path: Path
) -> None:
    run, place = fake_run().folder, tmp_path / "review" / "review.sqlite"

    def answer(reader: str | None, token: str) -> int:
        station = open_station(run, place, reader=reader)
        client = new_client(station)
        client.cookies.set(COOKIE, token)
        status = client.get("/api/worklist").status_code
        station.close()
        return status

    def enter_alone() -> str:
        alone = open_station(run, place, reader="ada")
        token = enter(alone).client.cookies[COOKIE]
        alone.close()
        return token

    store = open_store(place)
    add_account(store.engine, "ada", ["reader"], password=PASSWORD)
    of_account = begin_session(store.engine, "ada", utc_now())
    store.close()
    assert (answer("ada", enter_alone()), answer(None, of_account)) == (200, 200)
    assert answer(None, enter_alone()) == 401
    assert answer("ada", of_account) == 401
