"""Every route with every role: what a role may not do is refused, and a new route without a rule fails here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute, APIRouter

from marrowscope.review.accounts import PERMISSIONS, ROLES, Role, add_account, utc_now
from marrowscope.review.guard import COOKIE, Guard, Public
from marrowscope.review.server import ROUTERS
from marrowscope.review.sessions import begin_session
from tests.conftest import TWO_PATIENTS
from tests.fake_runs import make_run
from tests.review.stations import Browser, new_client, open_station

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2 as httpx

    from marrowscope.review.station import Station

RULES: dict[tuple[str, str], str] = {
    ("GET", "/"): "see",
    ("GET", "/patients/{patient_id}"): "see",
    ("GET", "/login"): "public",
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
    ("POST", "/api/patients/{patient_id}/events"): "decide",
    ("GET", "/api/patients/{patient_id}/estimate"): "see",
    ("GET", "/api/patients/{patient_id}/audit"): "see",
    ("POST", "/api/patients/{patient_id}/audit"): "decide",
    ("GET", "/api/patients/{patient_id}/checklist"): "see",
    ("POST", "/api/patients/{patient_id}/sign"): "sign",
    ("POST", "/api/patients/{patient_id}/amend"): "sign",
    ("GET", "/api/patients/{patient_id}/signed/{version}.{kind}"): "see",
    ("POST", "/api/assign"): "sign",
    ("GET", "/api/patients/{patient_id}/readings"): "sign",
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
    "/api/patients/{patient_id}/events": {"base": 10**6, "events": [{"kind": "open"}]},
    "/api/patients/{patient_id}/sign": {"base": 0},
    "/api/patients/{patient_id}/amend": {"reason": "a reason"},
    "/api/assign": {"patients": ["P2"], "readers": []},
    "/api/password": {"old": "not the password", "new": "another long password"},
    "/api/accounts": {"name": "eve", "roles": ["admin"]},
    "/api/accounts/{name}": {"roles": ["admin"]},
    "/api/runs": {"path": "run"},
}


def routes() -> list[APIRoute]:
    """Return every route; those of a router inside another one are found through it."""
    found: list[APIRoute] = []
    pending: list[APIRouter] = list(ROUTERS)
    while pending:
        for route in pending.pop().routes:
            if isinstance(route, APIRoute):
                found.append(route)
            elif (inner := getattr(route, "original_router", None)) is not None:
                pending.append(inner)
    return found


def permissions(route: APIRoute) -> list[str]:
    calls = [dependency.call for dependency in route.dependant.dependencies]
    return [call.permission for call in calls if isinstance(call, Guard | Public)]


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


def entered(station: Station, name: str) -> Browser:
    client = new_client(station)
    client.cookies.set(COOKIE, begin_session(station.store.engine, name, utc_now()))
    browser = Browser(client)
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
    }
    if (method, path) == ("POST", "/api/patients/{patient_id}/audit"):
        names["patient_id"] = "P2"  # an audit that is open hides the calls of its cells from other routes
    address = path
    for name, value in names.items():
        address = address.replace(f"{{{name}}}", value)
    return browser.get(address) if method == "GET" else browser.post(address, BODIES.get(path, {}), headers)


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    found = {(method, route.path): permissions(route) for route in routes() for method in route.methods or ()}
    assert found == {key: [rule] for key, rule in RULES.items()}


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=" ".join)
def test_nobody_is_answered_without_a_session(station: Station, method: str, path: str) -> None:
    before = station.store.head()
    assert ask(Browser(new_client(station)), station, method, path).status_code == 401
    assert station.store.head() == before


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
@pytest.mark.parametrize(("method", "path"), GUARDED, ids=" ".join)
def test_a_role_may_do_what_its_permissions_say_and_nothing_else(
    station: Station, method: str, path: str, role: Role
) -> None:
    browser, before = entered(station, role), station.store.head()
    rule = RULES[method, path]
    answer = ask(browser, station, method, path)
    if rule == "enter" or rule in PERMISSIONS.get(role, ()):
        is_wrong_password = path == "/api/password"
        assert (answer.status_code == 403) == is_wrong_password, answer.text
    else:
        assert answer.status_code == 403
        assert f"it needs the permission to {rule}" in answer.json()["error"]
        assert station.store.head() == before


@pytest.mark.parametrize(("method", "path"), CHANGING, ids=" ".join)
def test_a_changing_request_needs_the_token_of_its_own_session(station: Station, method: str, path: str) -> None:
    rule = RULES[method, path]
    role = next((role for role in ROLES if rule in PERMISSIONS[role]), "reader")
    browser, other = entered(station, role), entered(station, role)
    before = station.store.head()
    own = browser.csrf
    for wrong in ("", "x", other.csrf):
        browser.csrf = wrong
        answer = ask(browser, station, method, path)
        assert (answer.status_code, "X-CSRF-Token" in answer.json()["error"]) == (403, True)
    browser.csrf = own
    answer = ask(browser, station, method, path, Origin="https://elsewhere.example")
    assert (answer.status_code, "https://elsewhere.example" in answer.json()["error"]) == (403, True)
    assert station.store.head() == before


def test_only_a_signer_adjudicates(station: Station) -> None:
    cell_id = station.patient("P1").frozen[0].cell_id
    event = {"kind": "adjudicate", "cell_id": cell_id, "new": "N"}
    assert entered(station, "reader").decide("P1", event).status_code == 403
    assert entered(station, "signer").decide("P1", event).status_code == 200


@pytest.mark.parametrize("path", ["/etc", "../../elsewhere", "run/../../x", "."])
def test_a_run_outside_the_folder_of_runs_is_refused(
    station: Station, tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    station.runs_root = tmp_path_factory.mktemp("runs")
    try:
        answer = entered(station, "admin").post("/api/runs", {"path": path})
    finally:
        station.runs_root = None
    assert (answer.status_code, "expected one below the folder of runs" in answer.json()["error"]) == (400, True)


def test_a_link_out_of_the_folder_of_runs_is_refused(
    station: Station, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside, root = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("runs")
    make_run(outside, [*TWO_PATIENTS], n_fields=2)
    (root / "link").symlink_to(outside / "run")
    station.runs_root = root
    try:
        answer = entered(station, "admin").post("/api/runs", {"path": "link"})
    finally:
        station.runs_root = None
    assert answer.status_code == 400


def test_no_run_is_added_where_no_folder_was_named(station: Station) -> None:
    answer = entered(station, "admin").post("/api/runs", {"path": "run"})
    assert (answer.status_code, "takes no further runs" in answer.json()["error"]) == (400, True)


def test_an_admin_adds_a_run_and_its_patients_stand_in_the_worklist(
    station: Station, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from marrowscope.records import Patient

    root = tmp_path_factory.mktemp("runs")
    make_run(root / "second", [Patient("P7", "A", "AML"), Patient("P8", "A", "AML")])
    station.runs_root = root
    answer = entered(station, "admin").post("/api/runs", {"path": "second/run"})
    station.runs_root = None
    assert answer.json() == {"patients": ["P7", "P8"]}
    assert "P7" in {line["patient_id"] for line in entered(station, "reader").json("/api/worklist")}
    assert entered(station, "reader").get("/api/patients/P7/cells").status_code == 200
