"""Serve a station over HTTP until it is asked to end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn

from marrowscope.errors import ReviewError
from marrowscope.review.server import create_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.review.station import Station

LOOPBACK = "127.0.0.1"
_BACKLOG = 256
_GRACE_S = 3
"""Seconds that open connections have to end."""


def serve(station: Station, *, port: int, on_ready: Callable[[str], None], public_host: str | None = None) -> None:
    """Answer on this computer until SIGINT or SIGTERM; ``on_ready`` gets the address once requests are accepted.

    With ``public_host``, a proxy on this computer speaks HTTPS under that name and hands requests on.
    """
    with _listen(LOOPBACK, port) as listening:
        bound = listening.getsockname()[1]
        app = create_app(station) if public_host is None else create_app(station, hosts=(public_host,), secure=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=public_host is not None,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Server(config, lambda: on_ready(f"http://{LOOPBACK}:{bound}"))
        server.run(sockets=[listening])


def public_host(url: str) -> str:
    """Return the host of the address that browsers use; ReviewError for one that is not HTTPS."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path not in {"", "/"}:
        message = f"--public-url: found {url!r}, expected https:// and a host: passwords travel over HTTPS only"
        raise ReviewError(message)
    return parts.hostname


class _Server(uvicorn.Server):
    """A server that says when it has started."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_started()


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        message = f"port {port} of {host}: cannot be taken ({error.strerror}); choose another with --port, or 0 for any"
        raise ReviewError(message) from error
    listening.listen(_BACKLOG)
    return listening
