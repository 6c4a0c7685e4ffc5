"""The gallery in a real browser, by keyboard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.review.pages.conftest import Served, saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page


def codes(served: Served, patient_id: str = "P1") -> dict[str, str | None]:
    return {name: cell.code for name, cell in served.station.state(patient_id).cells.items()}


def cursor(page: Page) -> str:
    return str(page.locator(".tile.cursor").get_attribute("data-cell"))


def labels(page: Page) -> dict[str, str]:
    read = "tiles => Object.fromEntries(tiles.map(tile => [tile.dataset.cell, tile.querySelector('.label').textContent]))"
    return dict(page.locator(".tile:not([hidden])").evaluate_all(read))


def test_two_keys_name_a_cell_and_the_name_survives_a_reload(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    cell = cursor(page)
    page.keyboard.type("n1")
    saved(page)
    assert codes(served)[cell] == "N1"
    assert labels(page)[cell] == "N1"
    assert cursor(page) != cell, "the next cell follows"
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert labels(page)[cell] == "N1"
