"""Every route with every role: what a role may not do is refused, and a new route without a rule fails here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import Mount

from marrowscope.records import Patient
from marrowscope.review.accounts import PERMISSIONS, ROLES, Role, add_account, utc_now
from marrowscope.review.database import DatabaseDownError
from marrowscope.review.guard import COOKIE, Guard, Public
from marrowscope.review.server import create_app
from marrowscope.review.sessions import begin_session
from tests.conftest import TWO_PATIENTS
from tests.fake_runs import make_run
from tests.review.stations import Browser, open_station

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2 as httpx
    from fastapi import FastAPI

    from marrowscope.review.station import Station

RULES: dict[tuple[str, str], str] = {
    ("GET", "/"): "see",
    ("GET", "/patients/{patient_id}"): "see",
    ("GET", "/patients/{patient_id}/adjudicate"): "sign",
    ("GET", "/agreement"): "compare",
    ("GET", "/agreement/{table}"): "compare",
    ("GET", "/accounts"): "manage",
    ("GET", "/login"): "public",
    ("GET", "/static/palette.css"): "public",
    ("GET", "/static/plot.css"): "public",
    ("POST", "/login"): "public",
    ("GET", "/enter"): "public",
    ("GET", "/oidc/start"): "public",
    ("GET", "/oidc/back"): "public",
    ("POST", "/api/leave"): "enter",
    ("GET", "/api/session"): "enter",
    ("POST", "/api/password"): "enter",
    ("GET", "/api/vocabulary"): "enter",
    ("GET", "/api/worklist"): "see",
    ("GET", "/api/patients/{patient_id}/cells"): "see",
    ("GET", "/api/patients/{patient_id}/fields"): "see",
    ("GET", "/api/patients/{patient_id}/fields/{field_id:path}"): "see",
    ("GET", "/crops/{patient_id}/{cell_id}.webp"): "see",
    ("GET", "/fields/{patient_id}/{field_id:path}.jpg"): "see",
    ("GET", "/slides/{patient_id}"): "see",
    ("GET", "/slides/{patient_id}/{number}/{level}/{column}_{row}.jpg"): "see",
    ("GET", "/api/patients/{patient_id}/slides"): "see",
    ("POST", "/api/patients/{patient_id}/events"): "decide",
    ("POST", "/api/patients/{patient_id}/outline"): "decide",
    ("GET", "/api/patients/{patient_id}/estimate"): "see",
    ("GET", "/api/patients/{patient_id}/audit"): "see",
    ("POST", "/api/patients/{patient_id}/audit"): "decide",
    ("GET", "/api/patients/{patient_id}/checklist"): "see",
    ("POST", "/api/patients/{patient_id}/sign"): "sign",
    ("POST", "/api/patients/{patient_id}/amend"): "sign",
    ("GET", "/api/patients/{patient_id}/signed/{version}.{kind}"): "see",
    ("GET", "/api/patients/{patient_id}/preliminary.{kind}"): "see",
    ("POST", "/api/assign"): "sign",
    ("GET", "/api/readers"): "sign",
    ("GET", "/api/disputes"): "sign",
    ("GET", "/api/patients/{patient_id}/readings"): "sign",
    ("GET", "/api/patients/{patient_id}/disputes"): "sign",
    ("GET", "/api/patients/{patient_id}/cells/{cell_id}/measures"): "see",
    ("GET", "/api/patients/{patient_id}/cells/{cell_id}/similar"): "see",
    ("GET", "/api/log"): "inspect",
    ("GET", "/api/verify"): "inspect",
    ("GET", "/api/accounts"): "manage",
    ("POST", "/api/accounts"): "manage",
    ("POST", "/api/accounts/{name}"): "manage",
    ("POST", "/api/runs"): "manage",
}
"""What each route needs; ``enter``: any role, ``public``: nobody's session."""

GUARDED = [(method, path) for (method, path), rule in RULES.items() if rule != "public"]
CHANGING = [(method, path) for method, path in GUARDED if method != "GET"]
BODIES: dict[str, dict[str, Any]] = {
    "/api/patients/{patient_id}/events": {"base": 0, "events": [{"kind": "open"}]},
    "/api/patients/{patient_id}/outline": {"field_id": "P1/field_0", "x": 100, "y": 100},
    "/api/patients/{patient_id}/sign": {"base": 0},
    "/api/patients/{patient_id}/amend": {"reason": "a reason"},
    "/api/assign": {"patients": ["P2"], "readers": []},
    "/api/password": {"old": "not the password", "new": "another long password"},
    "/api/accounts": {"name": "eve", "roles": ["admin"]},
    "/api/accounts/{name}": {"roles": ["admin"]},
    "/api/runs": {"path": "run"},
}


ALLOWED: dict[tuple[str, str], set[int]] = {
    ("POST", "/api/password"): {403},
    ("POST", "/api/patients/{patient_id}/audit"): {200, 400},
    ("POST", "/api/patients/{patient_id}/sign"): {400},
    ("POST", "/api/patients/{patient_id}/amend"): {400},
    ("GET", "/api/patients/{patient_id}/signed/{version}.{kind}"): {404},
    ("GET", "/slides/{patient_id}/{number}/{level}/{column}_{row}.jpg"): {404},
    ("POST", "/api/accounts"): {200, 400},
    ("POST", "/api/runs"): {400},
}
"""How a role that may is answered where it is not 200 alone: the request of this test is not complete, or came before.
"""


def rules_of(app: FastAPI) -> dict[tuple[str, str], list[str]]:
    """Return the permissions that each route of an application states; a route that is none of FastAPI's has none."""
    found: dict[tuple[str, str], list[str]] = {}
    pending = [*app.router.routes]
    while pending:
        route = pending.pop()
        inner = getattr(route, "original_router", None)  # the routes of an included router are found through it
        if inner is not None:
            pending += inner.routes
        elif isinstance(route, APIRoute):
            calls = [dependency.call for dependency in route.dependant.dependencies]
            stated = [call.permission for call in calls if isinstance(call, Guard | Public)]
            found |= {(method, route.path): stated for method in route.methods or ()}
        elif not (isinstance(route, Mount) and route.path == "/static"):
            found["?", getattr(route, "path", repr(route))] = []
    return found


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    root = tmp_path_factory.mktemp("roles")
    run = make_run(root, list(TWO_PATIENTS))
    station = open_station(run.folder, root / "review" / "review.sqlite", reader=None)
    for role in ROLES:
        add_account(station.store.engine, role, [role])
    for name in ("nobody", "victim"):
        add_account(station.store.engine, name, [])
    yield station
    station.close()


@pytest.fixture(scope="module")
def app(station: Station) -> FastAPI:
    return create_app(station)


def arrived(app: FastAPI) -> Browser:
    """Give a browser that has not entered."""
    client = TestClient(app, "http://127.0.0.1:8760", raise_server_exceptions=False, follow_redirects=False)
    return Browser(client)


def entered(app: FastAPI, name: str) -> Browser:
    browser = arrived(app)
    browser.client.cookies.set(COOKIE, begin_session(app.state.station.store.engine, name, utc_now()))
    browser.csrf = browser.json("/api/session")["csrf"]
    return browser


def ask(browser: Browser, station: Station, method: str, path: str, **headers: str) -> httpx.Response:
    frozen = station.patient("P1").frozen[0]
    names = {
        "patient_id": "P1",
        "cell_id": frozen.cell_id,
        "field_id:path": "P1%2Ffield_0",
        "name": "victim",
        "version": "1",
        "kind": "html",
        "table": "kappa.csv",
        **dict.fromkeys(("number", "level", "column", "row"), "1"),
    }
    if (method, path) == ("POST", "/api/patients/{patient_id}/audit"):
        names["patient_id"] = "P2"  # an audit that is open hides the calls of its cells from other routes
    address = path
    for name, value in names.items():
        address = address.replace(f"{{{name}}}", value)
    return browser.get(address) if method == "GET" else browser.post(address, BODIES.get(path, {}), headers)


def test_every_route_has_a_rule_and_every_rule_a_route(station: Station) -> None:
    app, stated = create_app(station), {key: [rule] for key, rule in RULES.items()}
    assert rules_of(app) == stated

    @app.get("/api/new")
    def new() -> None: ...

    assert rules_of(app) == {**stated, ("GET", "/api/new"): []}, "a route without a rule was not seen"


def test_nobody_is_answered_without_a_session(app: FastAPI, station: Station) -> None:
    before, browser = station.store.head(), arrived(app)
    answered = {(method, path): ask(browser, station, method, path).status_code for method, path in GUARDED}
    assert answered == dict.fromkeys(GUARDED, 401)
    assert station.store.head() == before


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_a_role_may_do_what_its_permissions_say_and_nothing_else(app: FastAPI, station: Station, role: Role) -> None:
    browser, wrong = entered(app, role), []
    for method, path in GUARDED:
        rule, before = RULES[method, path], station.store.head()
        answer = ask(browser, station, method, path)
        said = f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        if rule == "enter" or rule in PERMISSIONS.get(role, ()):
            if answer.status_code not in ALLOWED.get((method, path), {200}):
                wrong.append(f"may, and was not answered: {said}")
        elif answer.status_code != 403 or f"it needs the permission to {rule}" not in answer.text:
            wrong.append(f"may not, and was not refused: {said}")
        elif station.store.head() != before:
            wrong.append(f"may not, and was recorded: {said}")
        if path == "/api/leave":  # it ended the session
            browser = entered(app, role)
    assert wrong == []


def test_a_changing_request_needs_the_token_of_its_own_session(app: FastAPI, station: Station) -> None:
    before, passed = station.store.head(), []
    may: dict[str, Role] = {
        rule: next((role for role in ROLES if rule in PERMISSIONS[role]), "reader") for rule in RULES.values()
    }
    browsers = {role: entered(app, role) for role in ROLES}
    others = {role: entered(app, role).csrf for role in ROLES}
    for method, path in CHANGING:
        role = may[RULES[method, path]]
        browser = browsers[role]
        own = browser.csrf
        for wrong in ("", "x", others[role]):
            browser.csrf = wrong
            answer = ask(browser, station, method, path)
            if answer.status_code != 403 or "X-CSRF-Token" not in answer.text:
                passed.append(f"token {wrong[:1]!r}: {method} {path}: {answer.status_code} {answer.text[:200]}")
        browser.csrf = own
        answer = ask(browser, station, method, path, Origin="https://elsewhere.example")
        if answer.status_code != 403 or "https://elsewhere.example" not in answer.text:
            passed.append(f"another origin: {method} {path}: {answer.status_code} {answer.text[:200]}")
    assert passed == []
    assert station.store.head() == before


def test_an_auditor_reads_what_was_done_and_decides_nothing(app: FastAPI, station: Station) -> None:
    auditor, before = entered(app, "auditor"), station.store.head()
    own = {("POST", "/api/leave"), ("POST", "/api/password")}
    decided = {path: ask(auditor, station, method, path).status_code for method, path in set(CHANGING) - own}
    assert set(decided.values()) == {403}, decided
    assert station.store.head() == before
    for address in (
        *("/", "/agreement", "/agreement/kappa.csv", "/patients/P1", "/api/log", "/api/verify"),
        *(f"/api/patients/P1/{part}" for part in ("cells", "estimate", "audit", "checklist", "preliminary.html")),
    ):
        assert auditor.get(address).status_code == 200, address
    assert auditor.json("/api/verify")["faults"] == []
    for address in (
        "/patients/P1/adjudicate",
        "/api/patients/P1/readings",
        "/api/disputes",
        "/api/readers",
        "/accounts",
    ):
        assert auditor.get(address).status_code == 403, address
    page = auditor.get("/?lang=en").text
    assert 'href="/agreement"' in page
    assert 'href="/accounts"' not in page
    for name in ("reader", "admin"):
        assert entered(app, name).get("/agreement").status_code == 403, name


def test_only_a_signer_adjudicates(app: FastAPI, station: Station) -> None:
    cell_id = station.patient("P1").frozen[0].cell_id
    event = {"kind": "adjudicate", "cell_id": cell_id, "new": "N"}
    for name in ("reader", "auditor"):
        assert entered(app, name).decide("P1", event).status_code == 403
    assert entered(app, "signer").decide("P1", event).status_code == 200
    back = {"kind": "withdraw", "cell_id": cell_id}
    for name in ("reader", "auditor"):
        assert entered(app, name).decide("P1", back).status_code == 403
    assert entered(app, "signer").decide("P1", back).status_code == 200


def test_a_run_outside_the_folder_of_runs_is_refused(
    app: FastAPI, station: Station, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = entered(app, "admin")
    answer = admin.post("/api/runs", {"path": "run"})
    assert (answer.status_code, "takes no further runs" in answer.json()["error"]) == (400, True)
    outside, root = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("runs")
    make_run(outside, [Patient("P5", "A", "AML"), Patient("P6", "A", "AML")], n_fields=2)
    (root / "link").symlink_to(outside / "run")
    monkeypatch.setattr(station, "runs_root", root)
    below = "expected one below the folder of runs"
    make_run(root / "second", list(TWO_PATIENTS))
    for path, said in (
        ("none", "found no finished run"),
        ("second/run", "found patient 'P1', whom another run here has"),
    ):
        answer = admin.post("/api/runs", {"path": path})
        assert (answer.status_code, said in answer.text, str(root) in answer.text) == (400, True, False), answer.text
    for path in ("/etc", str(outside / "run"), f"../{outside.name}/run", "run/../../x", ".", "link"):
        answer = admin.post("/api/runs", {"path": path})
        assert (answer.status_code, below in answer.json()["error"]) == (400, True), f"{path}: {answer.text}"
    assert not {"P5", "P6"} & set(station.cells.rows)


def test_an_admin_adds_a_run_and_its_patients_stand_in_the_worklist(
    app: FastAPI, station: Station, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "second", [Patient("P7", "A", "AML"), Patient("P8", "A", "AML")])
    monkeypatch.setattr(station, "runs_root", root)
    with monkeypatch.context() as down:
        down.setattr(station.store, "append", Mock(side_effect=DatabaseDownError("down")))
        assert entered(app, "admin").post("/api/runs", {"path": "second/run"}).status_code == 503
    assert "P7" not in station.cells.rows, "a run that was not bound was registered"
    answer = entered(app, "admin").post("/api/runs", {"path": "second/run"})
    assert answer.json() == {"patients": ["P7", "P8"]}
    progress = station.progress.patients()
    assert {"P7", "P8"}.isdisjoint(progress)
    with pytest.raises(AttributeError):
        progress["P1"].is_locked = True  # type: ignore[misc]  # nobody changes what the station counts
    reader = entered(app, "reader")
    assert "P7" in {line["patient_id"] for line in reader.json("/api/worklist")}
    assert reader.get("/api/patients/P7/cells").status_code == 200
