"""Many readers decide at once: the time to each committed answer, on PostgreSQL or SQLite, and what the log holds.

    python benchmarks/review_load.py --readers 20 --per-second 3 --minutes 10
    python benchmarks/review_load.py --readers 1 --sqlite --minutes 1

A synthetic run (tests/fake_runs.py), a PostgreSQL server of the script's own (Debian's package), the station as
`marrowscope review --db` serves it, and every reader a thread with a session and connection of its own, in a process of
its own beside the station's. A reader names cells of a patient, and every tenth time of the next reader's. Each
decision has its moment in a fixed schedule, and its time counts from that moment, so that waiting for an earlier one
counts. Counted are answers other than 200 and 409 (somebody else decided about that very cell meanwhile). At the end
the chain is verified, and the decisions in the log are compared with those that were acknowledged.
"""

from __future__ import annotations

import argparse
import http
import http.client
import json
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import uvicorn

from marrowscope.records import Patient
from marrowscope.review.accounts import add_account, utc_now
from marrowscope.review.database import make_private_file, sqlite_url
from marrowscope.review.guard import COOKIE
from marrowscope.review.run_cells import RunCells
from marrowscope.review.server import create_app
from marrowscope.review.sessions import begin_session
from marrowscope.review.station import Station
from marrowscope.review.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds the tests too
from tests.fake_runs import make_run
from tests.review.postgres import running_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODES = ("N", "N1", "M2", "L2", "E")
_SHARED_EVERY = 10
_PER_FIELD, _FIELDS = 20, 12
_EXPECTED = {http.HTTPStatus.OK, http.HTTPStatus.CONFLICT}
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def _ask(connection: http.client.HTTPConnection, method: str, address: str, token: str, **rest: Any) -> tuple[int, Any]:  # noqa: ANN401
    headers = {"Cookie": f"{COOKIE}={token}", "Content-Type": "application/json"}
    if csrf := rest.get("csrf"):
        headers["X-CSRF-Token"] = csrf
    body = json.dumps(rest["body"]) if "body" in rest else None
    connection.request(method, address, body, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def _read(port: int, token: str, patients: list[str], schedule: tuple[float, float, float], out: list[Any]) -> None:
    """Decide by the schedule (first moment, s between, last moment); append (s, status, error) to ``out``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    csrf = _ask(connection, "GET", "/api/session", token)[1]["csrf"]
    moment, between, end = schedule
    k = 0
    cells: dict[str, list[str]] = {}
    bases: dict[str, int] = {}
    while moment < end:
        patient = patients[1] if k % _SHARED_EVERY == 0 else patients[0]
        if patient not in cells:
            found = _ask(connection, "GET", f"/api/patients/{patient}/cells", token)[1]
            cells[patient], bases[patient] = found["cell_id"], found["sequence"]
        time.sleep(max(0.0, moment - time.time()))
        event = {"kind": "relabel", "cell_id": cells[patient][k % len(cells[patient])], "new": _CODES[k % len(_CODES)]}
        body = {"base": bases[patient], "events": [event]}
        status, said = _ask(connection, "POST", f"/api/patients/{patient}/events", token, csrf=csrf, body=body)
        out.append((time.time() - moment, status, said.get("error", "")))
        bases[patient] = said.get("sequence", bases[patient])
        moment += between
        k += 1


def _readers(port: int, tokens: list[str], options: argparse.Namespace, results: Any) -> None:  # noqa: ANN401 a queue
    out: list[Any] = []
    start = time.time() + 3
    between = 1 / options.per_second
    threads = []
    for index, token in enumerate(tokens):
        patients = [f"P{index}", f"P{(index + 1) % len(tokens)}"]
        first = start + between * index / len(tokens)
        schedule = (first, between, start + 60 * options.minutes)
        threads.append(threading.Thread(target=_read, args=(port, token, patients, schedule, out)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(out)


@contextmanager
def _database(root: Path, *, sqlite: bool) -> Iterator[str]:
    if sqlite:
        make_private_file(root / "review.sqlite")
        yield sqlite_url(root / "review.sqlite")
        return
    with running_cluster() as cluster:
        yield cluster.new_database()


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--per-second", type=float, default=3, help="decisions of each reader")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sqlite", action="store_true", help="SQLite in place of PostgreSQL")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="review-load-"))
    try:
        patients = [Patient(f"P{k}", "A", "AML") for k in range(max(2, options.readers))]
        run = make_run(root, patients, n_fields=_FIELDS, n_cells=_PER_FIELD)
        with _database(root, sqlite=options.sqlite) as url:
            store = Store(url)
            station = Station(RunCells([run.folder]), store, lone_reader=None)
            tokens = []
            for k in range(options.readers):
                add_account(store.engine, f"reader{k}", ["reader"])
                tokens.append(begin_session(store.engine, f"reader{k}", utc_now()))
            before = store.head().sequence
            with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
                config = uvicorn.Config(create_app(station), log_level="warning", access_log=False, lifespan="off")
                server = uvicorn.Server(config)
                thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
                thread.start()
                context = multiprocessing.get_context("spawn")
                results = context.Queue()
                port = listening.getsockname()[1]
                clients = context.Process(target=_readers, args=(port, tokens, options, results))
                clients.start()
                out = results.get()
                clients.join()
                server.should_exit = True
                thread.join()
            recorded = sum(event.kind == "relabel" for event in store.events(after=before))
            faults = list(store.verify())
            station.close()
        print(json.dumps(_summary(options, out, recorded, len(faults)), indent=2))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _summary(options: argparse.Namespace, out: list[Any], recorded: int, n_faults: int) -> dict[str, Any]:
    seconds = np.array([item[0] for item in out if item[1] == http.HTTPStatus.OK])
    statuses = Counter(item[1] for item in out)
    return {
        "database": "SQLite" if options.sqlite else "PostgreSQL",
        "readers": options.readers,
        "minutes": options.minutes,
        "decisions": len(out),
        "decisions_per_second": round(len(out) / (60 * options.minutes), 1),
        "statuses": dict(statuses),
        "errors": Counter(item[2] for item in out if item[1] not in _EXPECTED).most_common(5),
        "acknowledged": statuses[http.HTTPStatus.OK],
        "in_the_log": recorded,
        "faults_of_the_chain": n_faults,
        "answer_ms": {name: round(1000 * float(np.quantile(seconds, q)), 1) for name, q in _QUANTILES.items()},
        "load": [round(value, 1) for value in os.getloadavg()],
    }


if __name__ == "__main__":
    main()
