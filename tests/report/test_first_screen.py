"""The first screen of a patient's page: five items, each agreeing with the figure that it repeats."""

from __future__ import annotations

from typing import Any

import pytest

from marrowscope.report.first_screen import Item, first_screen, worst_flag
from marrowscope.report.verdict import verdict
from marrowscope.report.words import load_words
from marrowscope.runs.schemas import RaisedFlag, patient_row
from tests.fake_runs import EMPTY_PATIENT

WORDS = load_words()
COUNTED: dict[str, Any] = EMPTY_PATIENT | {
    "state": "validated",
    "state_reason": "center_measured",
    "n_cblc": 30,
    "n_countable": 290,
    "cblc_ratio": 30 / 290,
    "cblc_ratio_lower": 0.08,
    "cblc_ratio_upper": 0.14,
    "n_nucleated": 288,
    "adequacy": "under_300",
    "cblc_by_category": [
        {"category": "N", "codes": ["N"], "n": 28},
        {"category": "Other", "codes": ["J", "J1"], "n": 2},
    ],
    "who_n_least": 28,
    "who_n_most": 30,
    "who_least": 0.097,
    "who_most": 0.104,
    "who_lower": 0.07,
    "who_upper": 0.15,
}


def items(**changes: object) -> dict[str, Item]:
    row = patient_row(COUNTED | changes)
    return {item.key: item for item in first_screen(row, verdict(row, WORDS), WORDS)}


def test_five_items_say_what_a_reader_needs_first() -> None:
    found = items(flags=[{"flag": "few_cells", "value": 50.0, "limit": 100.0, "n_fields": None}])
    assert list(found) == ["state", "blasts", "cblc", "cells", "flag"]
    assert (found["state"].value, found["state"].warns) == ("validated", False)
    assert str(found["blasts"].value) == "<strong>9.7% to 10.4%</strong> of nucleated cells"
    assert str(found["cblc"].value) == "10.3% · 30 of 290"
    assert str(found["cblc"].beside) == "Composite Blast-like Cells (CBLC) = N 28 + J/J1 2"
    assert (found["cells"].value, found["cells"].warns) == ("288 of 500", True)
    assert "below the minimum of 300" in found["cells"].beside
    assert (found["flag"].value, found["flag"].warns) == ("Few countable cells or fields", True)


def test_a_specimen_that_is_unknown_is_not_judged_and_has_no_estimate() -> None:
    found = items(specimen="unknown", adequacy=None, who_least=None, who_most=None)
    assert (found["cells"].value, found["cells"].beside) == (
        "288",
        "specimen unknown, so not judged by the 300 and 500 of a marrow",
    )
    assert "No estimate: the specimen is unknown." in found["blasts"].beside


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"who_not_learned": ["M"]}, "No estimate: the bundle did not learn M from real cells, which it counts."),
        ({"who_least": None, "state": "not_validated"}, "No estimate: how well blasts are recognized here is not"),
        ({"who_least": None, "n_nucleated": 0}, "No nucleated cells, so there is no estimate."),
        ({"who_least": None}, "No estimate: the bundle does not state its training cells, so that nobody knows"),
    ],
)
def test_without_an_estimate_it_says_why(changes: dict[str, object], why: str) -> None:
    found = items(**changes)["blasts"]
    assert found.value == "no estimate"  # "none" would read as no blasts
    assert str(found.beside).startswith(why)


def test_an_older_run_and_an_unjudged_count_say_no_more_than_is_known() -> None:
    found = items(state=None, state_reason=None, adequacy=None, cblc_by_category=None)
    assert found["state"].value == "not stated (older run)"
    assert (found["cells"].value, found["cells"].beside, found["cblc"].beside) == ("288", "", "")
    assert str(found["flag"].beside).startswith("No flag was raised, but this run does not state")
    simulated = items(state_reason="simulated", adequacy=None)
    assert simulated["state"].beside == "for simulated photographs only"
    assert simulated["cells"].beside == "simulated, so not judged by the 300 and 500 of a smear"


def test_the_worst_flag_is_farthest_beyond_its_limit() -> None:
    def flag(key: str, value: float | None, limit: float | None) -> RaisedFlag:
        return RaisedFlag(flag=key, value=value, limit=limit, n_fields=None)

    twice, half, slightly = flag("twice", 0.4, 0.2), flag("third", 33.0, 100.0), flag("slightly", 0.21, 0.2)
    assert worst_flag([slightly, twice, half]) is half
    assert worst_flag([slightly, twice]) is twice
    assert worst_flag([flag("unmeasured", None, None), slightly]) is slightly
    assert worst_flag([twice, flag("any", 0.1, 0.0)]).flag == "any"  # type: ignore[union-attr]
    assert worst_flag([]) is None
    unchecked = flag("unchecked", 9.0, 0.0)
    assert worst_flag([slightly, unchecked]) is slightly
    assert worst_flag([unchecked]) is unchecked


def test_the_flag_item_says_how_many_more_there_are() -> None:
    few = {"flag": "few_cells", "value": 50.0, "limit": 100.0, "n_fields": None}
    other = {"flag": "lymphoid_high", "value": 0.31, "limit": 0.3, "n_fields": None}
    assert items(flags=[few, other])["flag"].beside == "measured 50, limit 100; 1 more below"
    assert items(flags=[few])["flag"].beside == "measured 50, limit 100"


def test_the_blasts_of_a_promyelocytic_or_lymphoid_marrow_do_not_stand_alone() -> None:
    alt = {"who_alt_least": 0.857, "who_alt_most": 0.857, "who_alt_lower": 0.796, "who_alt_upper": 0.905}
    beside = str(items(**alt, lymphoid_share=0.31)["blasts"].beside)
    assert beside == (
        "With promyelocytes: 85.7% (95% sampling limits 79.6% to 90.5%). "
        "Lymphoid cells 31.0%: lymphoblasts are not in this estimate."
    )
    assert items()["blasts"].beside == ""
    assert str(items(who_declared="apl")["blasts"].beside) == WORDS.strings("blasts.declared.apl")
    assert "With promyelocytes" not in items(**alt, who_not_learned=["M"])["blasts"].beside
