"""A station over a fake run, and a browser's side of it, for the tests of the review."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.testclient import TestClient

from marrowscope.review.accounts import utc_now
from marrowscope.review.database import make_private_file, sqlite_url
from marrowscope.review.guard import COOKIE
from marrowscope.review.run_cells import RunCells
from marrowscope.review.server import create_app
from marrowscope.review.sessions import begin_session
from marrowscope.review.station import Station
from marrowscope.review.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx2 as httpx

READER = "Ada"


def open_store(path: Path) -> Store:
    make_private_file(path)
    return Store(sqlite_url(path))


def open_station(run: Path, database: Path, reader: str | None = READER) -> Station:
    return Station(RunCells([run]), open_store(database), lone_reader=reader)


@dataclass
class Browser:
    """Somebody who has entered: requests with the session's cookie and CSRF token."""

    client: TestClient
    csrf: str = ""

    def get(self, address: str) -> httpx.Response:
        return self.client.get(address)

    def json(self, address: str) -> Any:  # noqa: ANN401 - any value of JSON
        response = self.client.get(address)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, address: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.client.post(address, json=body, headers={"X-CSRF-Token": self.csrf, **(headers or {})})

    def decide(self, patient_id: str, *events: dict[str, Any], base: int | None = None) -> httpx.Response:
        seen = self.json(f"/api/patients/{patient_id}/cells")["sequence"] if base is None else base
        return self.post(f"/api/patients/{patient_id}/events", {"base": seen, "events": list(events)})


def new_client(station: Station) -> TestClient:
    return TestClient(create_app(station), base_url="http://127.0.0.1:8760", follow_redirects=False)


def enter(station: Station) -> Browser:
    client = new_client(station)
    response = client.get(f"/enter?token={station.one_time_token()}")
    assert response.status_code == 303, response.text
    browser = Browser(client)
    browser.csrf = browser.json("/api/session")["csrf"]
    return browser


def enter_as(station: Station, name: str) -> Browser:
    """Give a browser in which the account ``name`` is entered, without its password."""
    client = new_client(station)
    client.cookies.set(COOKIE, begin_session(station.store.engine, name, utc_now()))
    browser = Browser(client)
    browser.csrf = browser.json("/api/session")["csrf"]
    return browser
