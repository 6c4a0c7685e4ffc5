"""Single sign-on with OpenID Connect: the authorization code flow with PKCE, and the identity token checked.

Who comes back is known by the provider's subject alone; an account must have that subject, none is made by itself. What
was begun stays in memory for ten minutes and is used once; a cookie ties it to the browser that began.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from marrowscope.errors import ReviewError
from marrowscope.review.accounts import TooManyAttemptsError

_TIMEOUT_S = 10.0
_BEGUN_FOR_S = 600.0
MOST_BEGUN, MOST_BEGUN_BY_ADDRESS = 1000, 30
"""Entrances that are begun and not ended, kept at once: of all, and from one address."""

_LOG = logging.getLogger(__name__)
_ALGORITHMS = ["RS256", "PS256", "ES256"]
_LEEWAY_S = 60


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider's address and what this station is called there; ``back`` is where it sends people back to."""

    issuer: str
    client_id: str
    client_secret: str
    back: str


@dataclass(frozen=True, slots=True)
class _Begun:
    address: str
    nonce: str
    verifier: str
    at: float


class SingleSignOn:
    """Begins and ends entrances through one provider; usable from several threads."""

    def __init__(self, provider: Provider) -> None:
        """Read the provider's own description and keys at the first entrance, not before."""
        self._provider = provider
        self._begun: dict[str, _Begun] = {}
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None

    def begin(self, address: str) -> tuple[str, str]:
        """Return the address to send a browser to, and the state that must come back with it.

        Raises TooManyAttemptsError for an ``address`` that began thirty and ended none. Where too many others have
        begun, the oldest is forgotten: nobody can keep everybody out.
        """
        state = secrets.token_urlsafe(32)
        begun = _Begun(address, secrets.token_urlsafe(32), secrets.token_urlsafe(48), _now())
        with self._lock:
            self._begun = {key: item for key, item in self._begun.items() if _now() - item.at < _BEGUN_FOR_S}
            if sum(item.address == address for item in self._begun.values()) >= MOST_BEGUN_BY_ADDRESS:
                minutes = round(_BEGUN_FOR_S / 60)
                message = f"too many entrances were begun and not ended from this address; wait {minutes} minutes"
                raise TooManyAttemptsError(message)
            self._begun[state] = begun  # before the provider is asked: what cannot be reached counts, too
            if len(self._begun) > MOST_BEGUN:
                del self._begun[next(iter(self._begun))]
        with self._client() as client:
            address, _ = client.create_authorization_url(
                self._metadata()["authorization_endpoint"], state=state, nonce=begun.nonce, code_verifier=begun.verifier
            )
        return str(address), state

    def end(self, state: str, code: str) -> str:
        """Return the subject of the person who comes back; ReviewError where anything does not fit."""
        with self._lock:
            begun = self._begun.pop(state, None)
        if begun is None or _now() - begun.at > _BEGUN_FOR_S:
            message = "this entrance was not begun here, was used before, or took too long; enter again"
            raise ReviewError(message)
        try:
            with self._client() as client:
                token = client.fetch_token(self._metadata()["token_endpoint"], code=code, code_verifier=begun.verifier)
            return self._subject(str(token["id_token"]), begun.nonce)
        except ReviewError:
            raise
        except Exception as error:
            _LOG.warning("the single sign-on did not confirm an entrance: %s", type(error).__name__)
            message = "the single sign-on did not confirm this entrance; enter again"
            raise ReviewError(message) from error

    def _subject(self, id_token: str, nonce: str) -> str:
        """Check signature, issuer, audience, times and nonce of an identity token, and return its subject."""
        stated: Any = _read(self._metadata()["jwks_uri"])
        keys = KeySet.import_key_set(stated)
        try:
            claims = jwt.decode(id_token, keys, algorithms=_ALGORITHMS).claims
            jwt.JWTClaimsRegistry(
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": self._provider.issuer},
                aud={"essential": True, "value": self._provider.client_id},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
                sub={"essential": True},
            ).validate(claims)
        except JoseError as error:
            _LOG.warning("the single sign-on sent an identity that does not hold: %s", error.error)
            message = "the single sign-on sent an identity that does not hold; enter again"
            raise ReviewError(message) from error
        return str(claims["sub"])

    def _client(self) -> OAuth2Client:
        return OAuth2Client(
            self._provider.client_id,
            self._provider.client_secret,
            scope="openid",
            redirect_uri=self._provider.back,
            code_challenge_method="S256",
            timeout=_TIMEOUT_S,
        )

    def _metadata(self) -> dict[str, Any]:
        if self._known is None:
            address = f"{self._provider.issuer.rstrip('/')}/.well-known/openid-configuration"
            found = _read(address)
            if found.get("issuer") != self._provider.issuer:
                _LOG.warning("%s: found issuer %r, expected %r", address, found.get("issuer"), self._provider.issuer)
                message = "the single sign-on is not the one that this station was started for; enter with a password"
                raise ReviewError(message)
            self._known = found
        return self._known


def _read(address: str) -> dict[str, Any]:
    try:
        answer = httpx.get(address, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        _LOG.warning("%s: cannot be read (%s)", address, type(error).__name__)
        message = "the single sign-on cannot be reached; enter with a password"
        raise ReviewError(message) from error
    return found


def _now() -> float:
    return time.monotonic()
