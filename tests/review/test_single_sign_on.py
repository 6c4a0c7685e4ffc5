"""Single sign-on against a provider of the test's own, over a real socket."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from marrowscope.review.accounts import add_account, change_account
from marrowscope.review.single_sign_on import MOST_BEGUN_BY_ADDRESS, Provider, SingleSignOn
from tests.review.stations import Browser, new_client, open_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastapi.testclient import TestClient

    from marrowscope.review.station import Station
    from tests.fake_runs import FakeRun

SECRET = "known to both"  # noqa: S105


class FakeProvider:
    """Answers as a provider does; a test may change the claims, the key or the issuer that it states."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "first"})
        self.signing_key = self.key
        self.claims: dict[str, Any] = {}
        self.asked: dict[str, str] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                self._answer(provider.metadata() if "well-known" in self.path else provider.keys())

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
                found = provider.token({name: values[0] for name, values in parse_qs(sent).items()}, self.headers)
                self._answer(*found)

            def _answer(self, body: dict[str, Any], status: int = 200) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.stated_issuer = self.issuer
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.stated_issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def keys(self) -> dict[str, Any]:
        return {"keys": [self.key.as_dict(private=False)]}

    def token(self, sent: dict[str, str], headers: Any) -> tuple[dict[str, Any], int]:  # noqa: ANN401
        basic = base64.b64encode(f"marrowscope:{SECRET}".encode()).decode()
        digest = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if headers["Authorization"] != f"Basic {basic}" or challenge != self.asked["code_challenge"]:
            return {"error": "invalid_grant"}, 400
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": "marrowscope", "sub": "5f1c2a", "iat": now, "exp": now + 60}
        claims |= {"nonce": self.asked["nonce"], **self.claims}
        header = {"alg": "RS256", "kid": "first"}
        token = jwt.encode(header, {key: value for key, value in claims.items() if value is not None}, self.signing_key)
        return {"access_token": "x", "token_type": "Bearer", "id_token": token}, 200

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    provider = FakeProvider()
    yield provider
    provider.close()


@pytest.fixture
def station(fake_run: Callable[..., FakeRun], tmp_path: Path, provider: FakeProvider) -> Iterator[Station]:
    station = open_station(fake_run().folder, tmp_path / "review" / "review.sqlite", reader=None)
    back = "http://127.0.0.1:8760/oidc/back"
    station.single_sign_on = SingleSignOn(Provider(provider.issuer, "marrowscope", SECRET, back))
    add_account(station.store.engine, "ada", ["reader"], subject="5f1c2a")
    add_account(station.store.engine, "bo", ["admin"])
    yield station
    station.close()


def begin(client: TestClient, provider: FakeProvider) -> str:
    """Begin an entrance as a browser does; gives the state that comes back."""
    answer = client.get("/oidc/start")
    assert answer.status_code == 303, answer.text
    assert "samesite=lax" in answer.headers["set-cookie"].lower()
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    provider.asked = {name: values[0] for name, values in asked.items()}
    assert provider.asked["code_challenge_method"] == "S256"
    return provider.asked["state"]


def test_who_comes_back_enters_with_the_account_of_that_subject(station: Station, provider: FakeProvider) -> None:
    client = new_client(station)
    state = begin(client, provider)
    answer = client.get(f"/oidc/back?state={state}&code=c")
    assert answer.status_code == 200, answer.text
    assert Browser(client).json("/api/session")["reader"] == "ada"
    assert client.get(f"/oidc/back?state={state}&code=c").status_code in {400, 403}, "a state is used once"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another station"},
        {"iss": "https://elsewhere.example"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
    ],
    ids=str,
)
def test_an_identity_that_does_not_fit_is_refused(
    station: Station, provider: FakeProvider, claims: dict[str, Any]
) -> None:
    client = new_client(station)
    state = begin(client, provider)
    provider.claims = claims
    answer = client.get(f"/oidc/back?state={state}&code=c")
    assert (answer.status_code, "does not hold" in answer.json()["error"]) == (400, True)
    assert client.get("/api/session").status_code == 401


def test_an_identity_signed_by_another_key_is_refused(station: Station, provider: FakeProvider) -> None:
    client = new_client(station)
    state = begin(client, provider)
    provider.signing_key = RSAKey.generate_key(2048, {"kid": "first"})
    assert client.get(f"/oidc/back?state={state}&code=c").status_code == 400
    assert client.get("/api/session").status_code == 401


def test_a_state_of_another_browser_is_refused(station: Station, provider: FakeProvider) -> None:
    state = begin(new_client(station), provider)
    answer = new_client(station).get(f"/oidc/back?state={state}&code=c")
    assert (answer.status_code, "not begun in this browser" in answer.json()["error"]) == (403, True)


def test_a_wrong_secret_or_verifier_gives_no_session(station: Station, provider: FakeProvider) -> None:
    client = new_client(station)
    state = begin(client, provider)
    provider.asked["code_challenge"] = "another"
    answer = client.get(f"/oidc/back?state={state}&code=c")
    assert (answer.status_code, "did not confirm" in answer.json()["error"]) == (400, True)


def test_who_has_no_account_or_a_closed_one_does_not_enter(station: Station, provider: FakeProvider) -> None:
    client = new_client(station)
    state = begin(client, provider)
    provider.claims = {"sub": "nobody"}
    answer = client.get(f"/oidc/back?state={state}&code=c")
    assert (answer.status_code, "ask an admin" in answer.json()["error"]) == (403, True)
    change_account(station.store.engine, "ada", is_active=False)
    provider.claims = {}
    state = begin(client, provider)
    assert client.get(f"/oidc/back?state={state}&code=c").status_code == 403


def test_a_provider_that_states_another_issuer_is_refused(station: Station, provider: FakeProvider) -> None:
    provider.stated_issuer = "https://elsewhere.example"
    answer = new_client(station).get("/oidc/start")
    assert (answer.status_code, "not the one" in answer.text, "elsewhere" in answer.text) == (400, True, False)


def test_nobody_fills_the_memory_with_entrances_or_keeps_others_out(
    station: Station, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_on = station.single_sign_on
    assert sign_on is not None
    client = new_client(station)
    states = [begin(client, provider) for _ in range(MOST_BEGUN_BY_ADDRESS)]
    answer = client.get("/oidc/start")
    assert (answer.status_code, "from this address; wait 10 minutes" in answer.json()["error"]) == (429, True)
    assert client.get(f"/oidc/back?state={states[-1]}&code=c").status_code == 200
    assert client.get("/oidc/start").status_code == 303, "an entrance that ended counts no more"
    monkeypatch.setattr("marrowscope.review.single_sign_on.MOST_BEGUN", MOST_BEGUN_BY_ADDRESS + 5)
    for index in range(20):
        sign_on.begin(f"10.0.0.{index}")
    assert len(sign_on._begun) == MOST_BEGUN_BY_ADDRESS + 5
    assert client.get("/oidc/start").status_code == 303


def test_a_station_without_single_sign_on_says_so(station: Station) -> None:
    client = new_client(station)
    assert 'href="/oidc/start"' in client.get("/login").text
    station.single_sign_on = None
    assert client.get("/oidc/start").status_code == 404
    assert 'href="/oidc/start"' not in client.get("/login").text
