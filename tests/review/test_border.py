"""What every response carries, and which requests never reach a route."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from marrowscope.report.environment import page_style
from marrowscope.review.accounts import add_account, utc_now
from marrowscope.review.guard import COOKIE
from marrowscope.review.server import POLICY, create_app
from marrowscope.review.sessions import begin_session
from tests.review.stations import new_client

if TYPE_CHECKING:
    from marrowscope.review.station import Station
    from tests.review.stations import Browser


@pytest.mark.parametrize(
    "address", ["/", "/login", "/api/worklist", "/static/review.css", "/nothing", "/enter?token=x"]
)
def test_every_response_carries_the_strict_policy(station: Station, address: str) -> None:
    headers = new_client(station).get(address).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_the_policy_allows_no_inline_script_and_nothing_from_outside() -> None:
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert "*" not in POLICY
    assert "default-src 'none'" in POLICY
    assert "frame-ancestors 'none'" in POLICY


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8760", "", "localhost:80:80", "[::2]"])
def test_a_request_under_another_name_is_not_answered(station: Station, host: str) -> None:
    answer = new_client(station).get("/login", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-security-policy"] == POLICY


@pytest.mark.parametrize("host", ["127.0.0.1:8760", "localhost", "localhost:1", "[::1]:8760"])
def test_a_request_to_this_computer_is_answered(station: Station, host: str) -> None:
    assert new_client(station).get("/login", headers={"Host": host}).status_code == 200


def test_a_request_that_is_too_long_is_refused_before_it_is_read(browser: Browser) -> None:
    answer = browser.client.post("/login", content=b"x" * (16 * 1024**2 + 1))
    assert answer.status_code == 413

    def pieces() -> list[bytes]:
        return [b"x"]

    answer = browser.client.post("/login", content=iter(pieces()))
    assert answer.status_code == 413


def test_over_https_the_cookie_travels_over_https_only(station: Station) -> None:
    app = create_app(station, hosts=("review.example.org",), secure=True)
    client = TestClient(app, base_url="https://review.example.org", follow_redirects=False)
    answer = client.get(f"/enter?token={station.one_time_token()}")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    csrf = client.get("/api/session").json()["csrf"]
    headers = {"X-CSRF-Token": csrf}
    for origin, status in (("http://review.example.org", 403), ("https://review.example.org", 200)):
        assert client.post("/api/leave", json={}, headers={**headers, "Origin": origin}).status_code == status


@pytest.mark.parametrize("address", ["/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py"])
def test_no_file_beside_the_static_ones_is_served(station: Station, address: str) -> None:
    assert new_client(station).get(address).status_code == 404


@pytest.mark.parametrize(
    "address", ["/fields/P1/..%2F..%2Fetc%2Fpasswd.jpg", "/fields/P1/P2%2Ffield_0.jpg", "/crops/P1/..%2Fx.webp"]
)
def test_only_what_the_run_names_is_served(browser: Browser, address: str) -> None:
    assert browser.get(address).status_code == 404


def test_every_color_of_a_page_is_served(station: Station) -> None:
    client = new_client(station)
    palette, style = (client.get(f"/static/{name}.css") for name in ("palette", "review"))
    assert (palette.status_code, palette.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert page_style().startswith(palette.text), "pages of runs and of the review have one palette"
    styles = style.text + "".join(client.get(f"/static/{name}.css").text for name in ("station", "plot", "slide"))
    stated = set(re.findall(r"(--[\w-]+):", palette.text + styles))
    set_by_scripts = {"--code", "--picture"}
    assert set(re.findall(r"var\((--[\w-]+)\)", styles)) <= stated | set_by_scripts
    linked = re.findall(r'<link rel="stylesheet" href="([^"]+)">', client.get("/login").text)
    assert linked == ["/static/palette.css", "/static/review.css"]


def test_the_vendored_viewer_is_the_one_of_its_package(browser: Browser) -> None:
    """The hash is that of npm's package; a changed file, or a renewed one that the docs do not name, fails."""
    script = browser.get("/static/vendor/openseadragon.min.js")
    version = re.search(rb"openseadragon ([0-9.]+)", script.content)
    assert version is not None
    page = (Path(__file__).parents[2] / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert f"OpenSeadragon](https://openseadragon.github.io) {version[1].decode()} |" in page
    assert hashlib.sha256(script.content).hexdigest() in page
    assert len(script.content) < 350 * 1024, "the base installation has a limit"
    license_text = browser.get("/static/vendor/openseadragon.LICENSE.txt").text
    assert "OpenSeadragon contributors" in license_text
    assert "Redistributions in binary form must reproduce the above copyright notice" in license_text


def test_no_address_describes_the_interface(station: Station) -> None:
    client = new_client(station)
    assert {client.get(address).status_code for address in ("/docs", "/redoc", "/openapi.json")} == {404}


def test_a_name_with_markup_is_text_on_the_page(browser: Browser, station: Station) -> None:
    row = station.cells.rows["P1"]
    name = "<script>alert(1)<img src=x onerror=alert(1)>"  # without a slash, which no address of a patient can hold
    station.cells.rows[name] = row.model_copy(update={"patient_id": name})
    station.cells._run_of[name] = station.cells.run_of("P1")
    station._bindings[name] = station._bindings["P1"]
    page = browser.get(f"/patients/{quote(name)}")
    assert page.status_code == 200, page.text
    assert page.text.count("&lt;script&gt;alert(1)") == 2, "in title and heading"
    assert "\\u003cscript\\u003ealert(1)" in page.text, "in the block of JSON"
    assert "<script>alert" not in page.text
    assert "<img" not in page.text


def test_an_error_says_nothing_of_the_inside(browser: Browser, station: Station) -> None:
    events = [{"kind": "relabel", "cell_id": "c", "new": "N"}]
    bodies: list[tuple[dict[str, Any], str]] = [
        ({"base": "x", "events": events}, "'base' of the request does not fit"),
        ({"base": 10**30, "events": events}, "'base' of the request does not fit"),
        ({"base": 0}, "the request has no events"),
        ({"base": 0, "events": [{"cell_id": "c"}]}, "the request has no events 0 kind"),
        ({"base": 0, "events": events, "more": 1}, "the request has 'more', which nobody asks for"),
    ]
    for body, found in bodies:
        answer = browser.post("/api/patients/P1/events", body)
        expected = "expected what this station's pages send; load the page again"
        assert (answer.status_code, answer.json()) == (400, {"error": f"{found}, {expected}"})
    for text in ("[]", "no JSON", ""):
        headers = {"X-CSRF-Token": browser.csrf, "Content-Type": "application/json"}
        answer = browser.client.post("/api/patients/P1/events", content=text, headers=headers)
        assert (answer.status_code, "no JSON object of this address" in answer.json()["error"]) == (400, True)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = browser.client.post("/login", content="&".join(["a=b"] * 9), headers=form)
    assert answer.json() == {"error": "found a form of too many fields, expected name and password"}
    assert browser.client.put("/api/worklist").status_code == 405
    table = station.cells.runs[0].folder / "cells.parquet"
    address = f"/api/patients/P1/cells/{station.patient('P1').frozen[0].cell_id}/measures"
    table.write_bytes(b"no table")
    assert str(table) in browser.get(address).text, "a lone reader's own file"
    station.lone_reader = None  # a department: the files are not the reader's
    add_account(station.store.engine, "Ada", ["reader"])
    browser.client.cookies.clear()
    browser.client.cookies.set(COOKIE, begin_session(station.store.engine, "Ada", utc_now()))
    answer = browser.get(address)
    said = "the station cannot read the run's files; ask who runs the station"
    assert (answer.status_code, answer.json()) == (500, {"error": said})
