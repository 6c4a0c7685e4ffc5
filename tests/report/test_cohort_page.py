from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from marrowscope.records import Patient
from marrowscope.report import write_report
from marrowscope.report.cohort_page import cohort_page
from marrowscope.runs.manifest import UsedBundle, UsedVocabulary, read_manifest, write_manifest
from marrowscope.runs.schemas import PatientRow, patient_row
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import EMPTY_PATIENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun


def row(patient_id: str, diagnosis: str, ratio: float | None, **more: object) -> PatientRow:
    limits = (None, None) if ratio is None else (max(ratio - 0.05, 0), ratio + 0.05)
    values = {
        "patient_id": patient_id,
        "center": "A",
        "diagnosis": diagnosis,
        "cblc_ratio": ratio,
        "cblc_ratio_lower": limits[0],
        "cblc_ratio_upper": limits[1],
        "n_rejected": 3,
        "n_not_countable": 4,
        **more,
    }
    return patient_row(EMPTY_PATIENT | values)


def test_strips_are_ordered_by_median_and_hold_every_patient_with_a_ratio() -> None:
    page = cohort_page([row("1", "control", 0.05), row("2", "AML", 0.6), row("3", "AML", 0.9), row("4", "ALL", None)])
    assert [strip.name for strip in page.by_diagnosis] == ["AML", "control", "ALL"]
    aml, _, none = page.by_diagnosis
    assert (aml.median, aml.lowest, aml.highest) == (0.75, 0.6, 0.9)
    assert (none.n, none.dots, none.median) == (1, (), None)
    assert page.n_without_ratio == 1
    assert [strip.n for strip in page.by_center] == [4]


def test_dots_at_one_place_stand_above_each_other() -> None:
    page = cohort_page([row(str(k), "control", 0.1) for k in range(4)] + [row("far", "control", 0.5)])
    (strip,) = page.by_diagnosis
    assert [dot.level for dot in strip.dots] == [0, 1, 2, 3, 0]
    assert strip.levels == 4


def test_a_crowd_is_never_higher_than_the_strip() -> None:
    (strip,) = cohort_page([row(str(k), "control", 0.1) for k in range(50)]).by_diagnosis
    assert len(strip.dots) == 50
    assert strip.levels == 9


def test_corrected_ratio_and_threshold_are_used_where_they_are_known() -> None:
    corrected = {"corrected_ratio": 0.3, "corrected_lower": 0.2, "corrected_upper": 0.4, "call": "above"}
    limit = {"threshold": 0.21, "threshold_lower": 0.17, "threshold_upper": 0.25}
    page = cohort_page([row("1", "AML", 0.2, **corrected, **limit), row("2", "AML", 0.1)])
    assert page.rows[0].ratio.share == 0.3
    assert page.threshold is not None
    assert page.threshold.share == 0.21
    assert page.is_corrected
    assert page.calls == ["above", "none"]


def test_threshold_that_was_given_has_no_limits() -> None:
    for limit in (None, 0.21):
        given = {"threshold": 0.21, "threshold_lower": limit, "threshold_upper": limit}
        threshold = cohort_page([row("1", "AML", 0.2, **given)]).threshold
        assert threshold is not None
        assert (threshold.share, threshold.lower, threshold.upper) == (0.21, None, None)


def test_filters_offer_what_occurs() -> None:
    flags = [{"flag": "few_cells", "value": 20.0, "limit": 100.0, "n_fields": None}]
    page = cohort_page([row("1", "b", 0.2, flags=flags), row("2", "A", 0.1)])
    assert page.values("diagnosis") == ["A", "b"]
    assert page.flags == ["few_cells"]
    assert page.rows[0].n_left_out == 7


def test_no_patient_gives_an_empty_page() -> None:
    page = cohort_page([])
    assert (page.rows, page.by_center, page.threshold, page.is_corrected) == ((), (), None, False)


@pytest.mark.parametrize(
    ("lang", "named"),
    [
        ("en", ("Study threshold", "Error rates", "Vocabulary, SHA-256", "Bundle, purpose")),
        ("zh", ("研究阈值", "误差率", "编码表", "模型包")),
    ],
)
def test_versions_and_hashes_are_named_in_words(
    fake_run: Callable[..., FakeRun], lang: str, named: tuple[str, ...]
) -> None:
    run = fake_run([Patient("P1", "A", "control")])
    vocabulary = UsedVocabulary(name="marrow-37", version="2", sha256=load_vocabulary().sha256)
    used = UsedBundle(name="b", version="2", purpose="p", vocabulary=vocabulary, threshold=0.29559, error_rates="50")
    write_manifest(run.folder, read_manifest(run.folder).model_copy(update={"bundle": used}))
    text = write_report(run.folder, lang=lang).read_text(encoding="utf-8")
    rows = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text.split('id="provenance"')[1]))
    assert set(named) <= set(rows), rows
    assert rows[named[0]] == "29.6%"
    assert not [label for label in rows if "_" in label or "<code" in label]
