"""How many smears the fields of a patient are of: stated by files or by a reader, and never guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.records import Region
from marrowscope.report.shown_rows import ShownField
from marrowscope.review.smears import stated_smears
from tests.review.stations import Browser, enter

if TYPE_CHECKING:
    from marrowscope.review.station import Station


def field(name: str, region: Region | None = None, path: str = "", failed: str | None = None) -> ShownField:
    return ShownField(f"P1/{name}", "P1", path or f"cohort/P1/{name}", "ab", 0.15, 640, 480, failed, (), region)


REGION = Region(0, 0, 10, 10, 0, 0, 10, 10)


@pytest.mark.parametrize(
    ("fields", "n"),
    [
        ([field("a.jpg"), field("b.jpg")], None),
        ([], None),
        ([field("smear_1_a"), field("smear_1_b"), field("Smear 2 field 07")], 2),
        ([field("slide-A_01"), field("slide-a_02"), field("slideB"), field("slide-B")], 2),
        ([field("smear_1_a"), field("b")], None),
        ([field("smear_1_a"), field("b", failed="unreadable")], 1),
        ([field("day_1_a"), field("day_2_a")], None),
        ([field("smears"), field("slider1")], None),
        ([field("one", REGION, "s1.svs"), field("two", REGION, "s1.svs"), field("three", REGION, "s2.svs")], 2),
    ],
)
def test_smears_are_counted_where_every_field_states_its_own(fields: list[ShownField], n: int | None) -> None:
    assert stated_smears(fields) == n


def test_a_reader_states_the_smears_of_photographs(browser: Browser, station: Station) -> None:
    def progress() -> tuple[int | None, int]:
        found = browser.json("/api/patients/P1/estimate")["progress"]
        return found["n_smears"], found["wanted_smears"]

    def state(n: object) -> int:
        return browser.decide("P1", {"kind": "smears_stated", "new": {"n": n}}).status_code

    assert progress() == (None, 2)
    assert state(2) == 200
    assert progress() == (2, 2)
    assert browser.json("/api/patients/P1/cells")["n_smears"] == 2
    assert [event.old for event in station.store.read("P1") if event.kind == "smears_stated"] == [{"n": None}]
    for wrong in (0, 21, "2", True, 1.5):
        assert state(wrong) == 400
    assert state(None) == 200
    assert progress() == (None, 2)
    assert enter(station).json("/api/patients/P2/estimate")["progress"]["n_smears"] is None
    assert station.store.verify() == []
