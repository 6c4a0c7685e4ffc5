"""A station on a port of this computer, and Chromium in front of it with every other address blocked."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from marrowscope.review.serve import LOOPBACK
from marrowscope.review.server import create_app
from tests.chromium import launched_chromium
from tests.required import CHROMIUM, module_of
from tests.review.stations import open_station

playwright = module_of(CHROMIUM, "playwright.sync_api", whole_module=True)
expect = playwright.expect
expect.set_options(timeout=30_000)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route

    from marrowscope.review.station import Station
    from tests.fake_runs import FakeRun

WAIT_MS = 30_000
READS_PIXELS = """window.pixelsOf = (canvas, x = 0, y = 0, width = canvas.width, height = canvas.height) => {
  const copy = document.createElement("canvas");
  Object.assign(copy, { width, height });
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, -x, -y);
  return pen.getImageData(0, 0, width, height).data;
};"""
"""Gives a page ``pixelsOf``, which reads a copy: Chromium warns in the console when a canvas itself is read twice."""


@dataclass
class Served:
    """A station that answers at ``address``."""

    station: Station
    address: str

    def enter(self) -> str:
        """Return an address that opens a session, once."""
        return f"{self.address}/enter?token={self.station.one_time_token()}"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched_chromium() as launched:
        yield launched


@pytest.fixture
def served(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Served]:
    """Serve a station over two patients, P1 and P2, of two fields with twelve contours each."""
    with serving(open_station(fake_run().folder, tmp_path / "review" / "review.sqlite")) as served:
        yield served


@contextmanager
def serving(station: Station) -> Iterator[Served]:
    """Serve a station, and close it in the end."""
    listening = socket.create_server((LOOPBACK, 0))
    config = uvicorn.Config(create_app(station), log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield Served(station, f"http://{LOOPBACK}:{listening.getsockname()[1]}")
    server.should_exit = True
    thread.join()
    listening.close()
    station.close()


@pytest.fixture
def opened(chromium: Browser, served: Served) -> Iterator[Callable[..., Page]]:
    """Give a function that opens a page in a new browser; nothing may be said in its console but ``allowed``."""
    contexts: list[Any] = []
    said: list[str] = []

    def load(
        place: str = "/patients/P1",
        *,
        width: int = 1280,
        height: int = 800,
        lang: str = "en",
        bypass_csp: bool = False,
    ) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, bypass_csp=bypass_csp)
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        context.route("**/*", lambda route: only_from(route, served.address))
        page = context.new_page()
        page.add_init_script(READS_PIXELS)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(served.enter())
        page.goto(f"{served.address}{place}?lang={lang}")
        page.wait_for_selector("body[data-ready]")
        return page

    yield load
    for context in contexts:
        context.close()
    assert said == []


def only_from(route: Route, address: str) -> None:
    if route.request.url.startswith((address, "data:", "blob:")):
        route.continue_()
    else:
        route.abort()


def until(page: Page, happened: Callable[[], bool]) -> None:
    """Let the page go on until something that it does is seen here, ten seconds at most."""
    for _ in range(500):
        if happened():
            return
        page.wait_for_timeout(20)
    pytest.fail("the page did not do it in ten seconds")


def saved(page: Page) -> None:
    """Wait until every decision is on disk."""
    page.wait_for_selector("#saved[data-state=saved]")
