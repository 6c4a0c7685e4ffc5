"""Measure the review gallery in Chromium at 10,000 cells: nodes, scroll frames, and a key to its committed answer.

A synthetic run of circles (tests/fake_runs.py), a station on a port of this computer with its SQLite database, and one
browser with every other address blocked.

    python benchmarks/review_gallery.py --cells 10000 --codes 100
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import uvicorn

from marrowscope.records import Patient
from marrowscope.review.server import create_app

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds the tests too
from tests.chromium import launched_chromium
from tests.fake_runs import make_run
from tests.review.stations import open_station

if TYPE_CHECKING:
    from playwright.sync_api import Page

_LIMIT_MS = 100
_PER_FIELD, _KEPT_PER_FIELD = 20, 18

_SCROLL = """async ([n, by]) => {
  const grid = document.querySelector('#grid');
  const frames = [];
  let nodes = 0, last = await new Promise(requestAnimationFrame);
  for (let k = 0; k < n; k++) {
    grid.scrollTop = (grid.scrollTop + by) % (grid.scrollHeight - grid.clientHeight);
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
    if (k % 10 === 0) nodes = Math.max(nodes, document.querySelectorAll('*').length);
  }
  return { frames, nodes };
}"""
_WATCH = """() => {
  window.keyTimes = { shown: [], committed: [] };
  const saved = document.querySelector('#saved');
  let start = null;
  addEventListener('keydown', () => {
    start = performance.now();
    const now = start;
    requestAnimationFrame(() => setTimeout(() => window.keyTimes.shown.push(performance.now() - now)));
  }, { capture: true });
  new MutationObserver(() => {
    if (saved.dataset.state !== 'saved' || start === null) return;
    window.keyTimes.committed.push(performance.now() - start);
    start = null;
  }).observe(saved, { attributes: true, attributeFilter: ['data-state'] });
}"""


def _quantiles(values: list[float]) -> dict[str, float]:
    return {name: round(float(np.quantile(values, q)), 1) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))}


def _measure(page: Page, n_codes: int, n_frames: int) -> dict[str, Any]:
    """Scroll slowly and fast, then type codes one after the other, each after the one before is committed."""
    page.wait_for_timeout(3000)
    meter = page.context.new_cdp_session(page)
    meter.send("Performance.enable", {"timeDomain": "threadTicks"})  # time on the processor, whatever else it does

    def busy_ms() -> float:
        metrics = meter.send("Performance.getMetrics")["metrics"]
        return 1000 * float(next(item["value"] for item in metrics if item["name"] == "TaskDuration"))

    began = busy_ms()
    slow = page.evaluate(_SCROLL, [n_frames, 120])
    fast = page.evaluate(_SCROLL, [n_frames, 3000])
    scrolled = busy_ms()
    page.keyboard.press("Home")
    page.wait_for_timeout(2000)
    page.evaluate(_WATCH)
    page.uncheck("#go-on")
    page.focus("#grid")
    before = busy_ms()
    for k in range(n_codes):
        page.keyboard.press("n")
        page.evaluate("() => { window.keyTimes.shown.length = window.keyTimes.committed.length }")
        page.keyboard.press(str(1 + k % 5))
        page.wait_for_selector("#saved[data-state=saved]")
        page.wait_for_timeout(30)
        page.keyboard.press("ArrowRight")
    typed = busy_ms()
    page.wait_for_timeout(500)
    times = page.evaluate("() => window.keyTimes")
    return {
        "nodes": {"slow": slow["nodes"], "fast": fast["nodes"]},
        "frame_ms_slow_scroll": _quantiles(slow["frames"]),
        "frame_ms_fast_scroll": _quantiles(fast["frames"]),
        "share_of_frames_under_100_ms": round(float(np.mean(np.array(slow["frames"] + fast["frames"]) < _LIMIT_MS)), 4),
        "key_to_committed_answer_ms": _quantiles(times["committed"][-n_codes:]),
        "main_thread_ms_per_frame": round((scrolled - began) / (2 * n_frames), 1),
        "main_thread_ms_per_code": round((typed - before) / n_codes, 1),
        "n_codes": n_codes,
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--codes", type=int, default=100)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--height", type=int, default=1080)
    options = parser.parse_args()

    root = Path(tempfile.mkdtemp(prefix="review-gallery-"))
    fields = -(-options.cells // _KEPT_PER_FIELD) + 1  # the last field of such a run cannot be read
    run = make_run(root, [Patient("P1", "A", "AML")], n_fields=fields, n_cells=_PER_FIELD)
    station = open_station(run.folder, root / "review" / "review.sqlite")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(station), log_level="warning", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with launched_chromium() as browser:
            context = browser.new_context(viewport={"width": options.width, "height": options.height})
            context.set_default_timeout(120_000)
            page = context.new_page()
            page.goto(f"{address}/enter?token={station.one_time_token()}")
            began = time.perf_counter()
            page.goto(f"{address}/patients/P1")
            page.wait_for_selector("body[data-ready]")
            opened_s = time.perf_counter() - began
            n_cells = len(station.state("P1").cells)
            result = {"n_cells": n_cells, "opened_s": round(opened_s, 2)}
            print(json.dumps(result | _measure(page, options.codes, options.frames), indent=2))
    finally:
        server.should_exit = True
        thread.join()
        station.close()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
