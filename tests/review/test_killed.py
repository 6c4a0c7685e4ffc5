"""Nothing that was acknowledged is lost when the server, or the database's, is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest

from marrowscope.errors import ReviewError
from marrowscope.review.database import sqlite_url
from marrowscope.review.events import Draft
from marrowscope.review.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_runs import FakeRun
    from tests.review.postgres import Cluster

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
_N_READERS = 3
_STARTED_WITHIN_S = 120
_COMMAND = "from marrowscope.cli.main import main; main()"


def start(run: Path, out: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the station as a user does; gives the process and the address that opens it."""
    words = ["review", str(run), "--out", str(out), "--no-browser", "--port", "0", "--reader", "Ada"]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = []
    ends = time.monotonic() + _STARTED_WITHIN_S
    while time.monotonic() < ends and (line := process.stdout.readline()):
        said.append(line)
        if "http://" in line:
            return process, line.split()[-1]
    process.kill()
    process.communicate()
    raise AssertionError("".join(said))


def decide_until_killed(address: str, cookies: dict[str, str], csrf: str, own: list[str], done: list[Any]) -> None:
    """Post one decision after another; ``done`` gets each that was acknowledged, with its number."""
    with httpx.Client(base_url=address, cookies=cookies, headers={"X-CSRF-Token": csrf}) as client:
        for index in range(100_000):
            cell_id, code = own[index % len(own)], ("N", "N1", "N2", "R")[index % 4]
            body = {"base": 0, "events": [{"kind": "relabel", "cell_id": cell_id, "new": code}]}
            try:
                answer = client.post("/api/patients/P1/events", json=body)
            except httpx.HTTPError:
                return
            assert answer.status_code == 200, answer.text
            done.append((answer.json()["sequence"], cell_id, code))


def test_a_killed_server_loses_nothing_that_it_acknowledged(fake_run: Callable[..., FakeRun], tmp_path: Path) -> None:
    run, out = fake_run().folder, tmp_path / "review"
    acknowledged: list[tuple[int, str, str]] = []
    for seconds in (0.4, 0.9):
        process, entrance = start(run, out)
        try:
            with httpx.Client() as client:
                client.get(entrance)
                address = entrance.partition("/enter")[0]
                csrf = client.get(f"{address}/api/session").json()["csrf"]
                cells = client.get(f"{address}/api/patients/P1/cells").json()["cell_id"]
                cookies = dict(client.cookies)
            done: list[tuple[int, str, str]] = []
            threads = [
                threading.Thread(
                    target=decide_until_killed, args=(address, cookies, csrf, cells[index::_N_READERS], done)
                )
                for index in range(_N_READERS)
            ]
            for thread in threads:
                thread.start()
            while not done:
                time.sleep(0.01)
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join()
            acknowledged += done
        finally:
            process.kill()
            process.communicate()
        store = Store(sqlite_url(out / "review.sqlite"))
        recorded = {event.sequence: (event.cell_id, event.new) for event in store.read("P1")}
        assert store.verify() == []
        store.close()
        assert done, "nothing was acknowledged before the server was killed"
        for sequence, cell_id, code in acknowledged:
            assert recorded[sequence] == (cell_id, code)


@pytest.mark.apart
def test_a_database_server_that_is_killed_loses_nothing_that_was_acknowledged(cluster: Cluster) -> None:
    url = cluster.new_database()
    store = Store(url)
    done: list[int] = []

    def append() -> None:
        index = 0
        while True:
            try:
                done.append(store.append([Draft("Ada", "P1", "relabel", f"c{index}", None, "N")]).head.sequence)
            except ReviewError:
                return
            index += 1

    threads = [threading.Thread(target=append) for _ in range(_N_READERS)]
    for thread in threads:
        thread.start()
    while len(done) < 20:
        time.sleep(0.01)
    cluster.stop("immediate")
    for thread in threads:
        thread.join()
    store.close()
    cluster.start()
    store = Store(url)
    assert {event.sequence for event in store.read()} >= set(done)
    assert store.verify() == []
    store.close()
