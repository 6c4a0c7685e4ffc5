"""Take the pictures of a department's pages for the docs: assignment, adjudication, agreement, accounts, a slide.

Simulated smears and a simulated slide, predicted with the bundle of simulated cells. The readers are made up: each
gives the machine's category, but for a share of the cells another one. Nothing of a person is in the pictures.

    python benchmarks/review_pictures.py                      # writes docs/images/review-*.webp
    python benchmarks/review_pictures.py --out /tmp/wide --width 1920 --height 1080
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import uvicorn

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.predict import predict
from marrowscope.review.accounts import add_account, change_account, utc_now
from marrowscope.review.decisions import Decision
from marrowscope.review.guard import COOKIE
from marrowscope.review.server import create_app
from marrowscope.review.sessions import begin_session
from marrowscope.simulate import SimulationConfig, simulate_cohort

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds the tests too
from tests.chromium import launched_chromium
from tests.review.stations import open_station
from tests.slides.pyramids import scanner, smear, write_pyramid

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from marrowscope.review.station import Station

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 120_000
_SLIDE, _UM_PER_PX = "S0001", 0.25
_READERS = {"ada": 0.06, "bo": 0.14, "cy": 0.1}
"""Made-up readers with the share of cells that each names otherwise than the machine."""
_OTHERWISE = {"N": "N1", "N1": "N2", "N2": "N3", "N3": "N2", "N4": "N5", "N5": "N4", "R1": "R2", "R2": "R3", "R3": "R2"}
_CODE_OF = {"Other": "V", "L": "L2"}
"""The code of a category that has several."""


def make_run(root: Path) -> Path:
    """Simulate five patients and one slide, predict them, and return the run."""
    cohort, run = root / "cohort", root / "run"
    diagnoses = ("AML_M2", "AML_M5a", "megaloblastic", "control", "reactive_leftshift")
    simulate_cohort(cohort, SimulationConfig(patients=5, centers=2, fields=3, seed=4, diagnoses=diagnoses))
    folder = root / "slides" / _SLIDE
    folder.mkdir(parents=True)
    (root / "slides" / "patients.csv").write_text(
        f"patient_id,center,diagnosis\n{_SLIDE},C2,control\n", encoding="utf-8"
    )
    style = scanner(3, _UM_PER_PX)
    rows = [np.hstack([smear(10 * y + x, style, 24, 1200, 900) for x in range(4)]) for y in range(3)]
    write_pyramid(folder / "slide.tif", np.vstack(rows), _UM_PER_PX)
    predict([cohort, root / "slides"], load_bundle(demonstration_bundle()), run)
    return run


def read_blinded(station: Station) -> list[str]:
    """Give patients to made-up readers, let them read, and return the patients, the most disputed first."""
    rng = np.random.default_rng(0)
    names = [name for name in station.cells.rows if name != _SLIDE]
    for name in names[:4]:
        readers = list(_READERS) if name == names[0] else ["ada", "bo"]
        station.assign([name], readers, "dee")
        cells = station.patient(name).frozen
        for reader in readers:
            until = len(cells) // 2 if name == names[3] and reader == "bo" else len(cells)
            codes = [_CODE_OF.get(cell.category, cell.category) for cell in cells[:until]]
            said = [_OTHERWISE.get(c, "V") if rng.random() < _READERS[reader] else c for c in codes]
            named = [Decision("relabel", cell.cell_id, code) for cell, code in zip(cells, said, strict=False)]
            done = [Decision("full_review")] if until == len(cells) else []
            station.decide(name, reader, [*named, *done], 0, is_blinded=True)
    slide = station.patient(_SLIDE).frozen
    named = [Decision("relabel", cell.cell_id, _CODE_OF.get(cell.category, cell.category)) for cell in slide[::3]]
    station.decide(_SLIDE, "dee", named, station.store.head().sequence)
    return sorted(names, key=lambda name: -len(station.state(name).disputed))


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    parser.add_argument("--run", type=Path, help="a folder that keeps the run for the next time")
    options = parser.parse_args()

    root = options.run or Path(tempfile.mkdtemp(prefix="review-pictures-"))
    run = root / "run" if (root / "run").exists() else make_run(root)
    (root / "review").mkdir(exist_ok=True)
    (root / "review" / "review.sqlite").unlink(missing_ok=True)
    station = open_station(run, root / "review" / "review.sqlite", reader=None)
    engine, phrase = station.store.engine, "four plain words here"
    for name, roles in {**dict.fromkeys(_READERS, ("reader",)), "dee": ("reader", "signer")}.items():
        add_account(engine, name, roles, full_name=f"{name.title()} (made up)", password=phrase)
    add_account(engine, "eve", ["auditor"], full_name="Eve (made up)", subject="5f1c2a")
    add_account(engine, "root", ["admin"], full_name="Root (made up)", password=phrase)
    add_account(engine, "fay", ["reader"], full_name="Fay (made up)", password=phrase)
    change_account(engine, "fay", is_active=False)
    disputed = read_blinded(station)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(station), log_level="warning", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with launched_chromium() as browser:
            take_all(browser, station, address, disputed, options)
    finally:
        server.should_exit = True
        thread.join()
        station.close()
        if options.run is None:
            shutil.rmtree(root)


def take_all(
    browser: Browser, station: Station, address: str, disputed: list[str], options: argparse.Namespace
) -> None:
    """Take every picture; ``disputed`` are the patients with disputes."""

    def opened(name: str, place: str) -> Page:
        context = browser.new_context(viewport={"width": options.width, "height": options.height})
        token = begin_session(station.store.engine, name, utc_now())
        context.add_cookies(
            [
                {"name": COOKIE, "value": token, "url": address},
                {"name": "marrowscope_language", "value": options.lang, "url": address},
            ]
        )
        page = context.new_page()
        page.goto(f"{address}{place}")
        page.wait_for_selector("body[data-ready]")
        page.wait_for_timeout(1500)
        return page

    def take(page: Page, name: str) -> None:
        page.wait_for_timeout(1500)
        save(page.screenshot(), options.out / f"{name}.webp")
        page.context.close()

    page = opened("dee", "/")
    page.locator(f"tr[data-patient={disputed[-1]}] .pick input").check()
    page.click("#assign")
    page.locator("dialog input[value=ada]").check()
    page.locator("dialog input[value=bo]").check()
    take(page, "review-assign")
    page = opened("dee", f"/patients/{disputed[0]}/adjudicate")
    page.locator(".answer:enabled").first.click()
    page.locator(".answer:enabled").last.click()
    page.keyboard.press("Home")
    take(page, "review-adjudicate")
    take(opened("eve", "/agreement"), "review-agreement")
    take(opened("root", "/accounts"), "review-accounts")
    page = opened("dee", f"/slides/{_SLIDE}")
    for _ in range(3):
        page.click("#closer")
    page.locator("#deep .openseadragon-canvas").first.focus()
    page.wait_for_timeout(2500)
    page.keyboard.press("ArrowRight")
    take(page, "review-slide")


def save(png: bytes, path: Path) -> None:
    """Write a picture as WebP, as good as ``MOST_BYTES`` allow."""
    image = np.asarray(cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_COLOR))
    for quality in (90, 82, 74, 66, 58, 50):
        data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
        if len(data) < MOST_BYTES:
            break
    path.write_bytes(data.tobytes())
    print(f"{path.name}: {len(data) / 1000:.0f} kB at quality {quality}")


if __name__ == "__main__":
    main()
