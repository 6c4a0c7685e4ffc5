"""A patient that was predicted again, in a real browser: what did not go along is listed by name, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.review.decisions import Decision
from marrowscope.review.events import Draft
from marrowscope.review.live_estimate import audit_view
from tests.conftest import TWO_PATIENTS
from tests.fake_runs import write_run
from tests.required import AXE, module_of
from tests.review.pages.conftest import Served, expect, serving
from tests.review.stations import READER, open_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.fake_runs import FakeRun


@pytest.fixture
def served(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Served]:
    """Serve P1 after a second prediction without the first cell of its audit."""
    run, database = fake_run(n_fields=6), tmp_path / "review" / "review.sqlite"
    before = open_station(run.folder, database)
    before.draw("P1", READER)
    view = audit_view(before.state("P1"))
    assert view is not None
    answers = [Decision("audit_answer", name, "N5") for name in view.order[:2]]
    before.decide("P1", READER, answers, before.store.head().sequence)
    before.store.append([Draft(READER, "P1", "full_review", new=True)])
    before.close()
    run.cells = [cell for cell in run.cells if cell["cell_id"] != view.order[0]]
    write_run(run, list(TWO_PATIENTS))
    with serving(open_station(run.folder, database)) as served:
        yield served


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_did_not_go_along_is_listed_by_name(opened: Callable[..., Page], served: Served, lang: str) -> None:
    axe = module_of(AXE, "axe_playwright_python.sync_playwright")
    page = opened(lang=lang, bypass_csp=True)
    figure = page.locator(".figure.behind")
    expect(figure).to_contain_text("not carried: 3" if lang == "en" else "未沿用")
    figure.locator("button").click()
    items = page.locator("dialog.behind li")
    expect(items).to_have_count(3)
    violations = axe.Axe().run(page).response["violations"]
    assert [item["id"] for item in violations if item["impact"] in {"serious", "critical"}] == []
    if lang == "en":
        of = served.station.state("P1").left_behind[0].of
        expect(items.nth(0)).to_contain_text(f"Random audit by {READER}: 2 of {of} cells named")
        expect(items.nth(0)).to_contain_text("An audit belongs to the cells it was drawn from")
        expect(items.nth(1)).to_contain_text(f"Full review by {READER}")
        expect(items.nth(2)).to_contain_text(f"segmented neutrophil, decided by {READER}")
        expect(items.nth(2)).to_contain_text("No cell lies there now.")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.goto(f"{served.address}/patients/P2")
    page.wait_for_selector("body[data-ready]")
    expect(page.locator(".figure.behind")).to_be_hidden()


def test_a_decision_about_another_prediction_and_a_withdrawn_review_are_told(
    opened: Callable[..., Page], served: Served
) -> None:
    cells = [cell.cell_id for cell in served.station.patient("P2").frozen]
    named = [Draft(READER, "P2", "relabel", name, None, "N5", {"category": "N5"}) for name in cells]
    late = Draft("Bo", "P2", "relabel", cells[0], "N5", "N4", {"category": "N5"})
    gone = Draft("Cy", "P2", "relabel", "gone", None, "N", {"category": "N"})
    served.station.store.append([*named, Draft(READER, "P2", "full_review", new=True), late, gone])
    page = opened("/patients/P2")
    full = page.locator(".figure.full")
    expect(full).to_contain_text("no longer stands")
    expect(full).to_contain_text(f"recorded by {READER}; Bo decided about a cell after it")
    figure = page.locator(".figure.behind")
    expect(figure).to_contain_text("about cells of another prediction: 1")
    figure.locator("button").click()
    (item,) = page.locator("dialog.behind li").all()
    expect(item).to_contain_text("decided by Cy")
    expect(item).to_contain_text("a cell that this prediction does not have")
    page.keyboard.press("Escape")
    full.locator("button").click()
    expect(full).to_contain_text(f"confirmed by {READER}")
