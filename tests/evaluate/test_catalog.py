"""The catalog of figures against what is measured, and against the page that lists it."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from marrowscope.evaluate import score_center
from marrowscope.evaluate.catalog import (
    CATALOG,
    CORRECTED,
    HEADLINES,
    NO_SEAMS,
    PAGE_FIGURES,
    SUMMARY_FIGURES,
    Better,
)
from marrowscope.evaluate.frames import DETECTION_COLUMNS, EXPERT_COLUMNS
from marrowscope.evaluate.scorer import Scorer
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.vocabulary import load_vocabulary
from tests.evaluate.patient_rows import CONFIG, frame, patient

PAGE = Path(__file__).parents[2] / "docs" / "evaluate.md"


def measured(*rows: dict[str, object]) -> list[str]:
    expert, detections = (pl.DataFrame(schema=columns) for columns in (EXPERT_COLUMNS, DETECTION_COLUMNS))
    scores = score_center("A", expert, detections, frame(*rows), load_vocabulary().categories, config=CONFIG)
    return [figure.key for figure in scores.figures]


def test_every_figure_of_the_catalog_is_measured_once_and_no_other_is() -> None:
    other = {"predicted_ratio_no_seams": 0.2, "corrected_ratio": 0.2}
    keys = measured(patient("P1", "AML", 0.2, 0.3, **other), patient("P2", "MDS", 0.1, 0.1, center="B", **other))
    assert len(set(keys)) == len(keys)
    assert set(keys) == set(CATALOG)


def test_only_seams_and_several_centers_make_a_figure_more() -> None:
    left_out = set(CATALOG) - set(measured(patient("P1", "AML", 0.2, 0.3)))
    assert all(key.endswith(NO_SEAMS.key) or key.startswith("aml_auc_within_centers") for key in left_out)
    assert len(left_out) == 3 + 4


def test_keys_are_words_in_lower_case_and_titles_tell_figures_apart() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", key) for key in CATALOG)
    assert [kind.key for kind in CATALOG.values()] == list(CATALOG)
    assert len({kind.title for kind in CATALOG.values()}) == len(CATALOG)


def test_what_repeats_a_figure_has_its_group_its_scale_and_its_unit() -> None:
    repeating = [kind for kind in CATALOG.values() if kind.repeats]
    assert len(repeating) == 3 * 2 + 1 + 5
    for kind in repeating:
        first = CATALOG[kind.repeats]
        assert (kind.group, kind.scale, kind.unit, kind.method) == (first.group, first.scale, first.unit, first.method)
        assert not first.repeats


def test_scales_hold_the_values_they_are_for() -> None:
    scale = CATALOG["patient_ratio_bias"].scale
    assert (scale.low, scale.high, scale.better) == (-0.25, 0.25, Better.ZERO)
    scale = CATALOG["patient_ratio_mae_corrected_predicted"].scale
    assert (scale.low, scale.high, scale.better) == (-0.25, 0.25, Better.LESS)
    scale = CATALOG[f"patient_ratio_mae{NO_SEAMS.key}"].scale
    assert (scale.low, scale.high, scale.better) == (0, 0.25, Better.LESS)
    scale = CATALOG["detection_recall"].scale
    assert (scale.low, scale.high, scale.better) == (0, 1, Better.MORE)


def test_headlines_are_figures_and_say_where_they_stand() -> None:
    assert [kind.key for kind in CATALOG.values() if kind.headline] == list(HEADLINES)
    assert set(PAGE_FIGURES) | set(SUMMARY_FIGURES) == set(HEADLINES)
    assert set(PAGE_FIGURES) - set(SUMMARY_FIGURES) == {f"patient_ratio_mae{CORRECTED.key}"}
    assert set(SUMMARY_FIGURES) - set(PAGE_FIGURES) == {"detection_precision"}


def test_figure_without_an_entry_is_refused_where_it_is_made() -> None:
    with pytest.raises(KeyError, match="cblc_f2"):
        Scorer(["P1"], 0, 0).figure("cblc_f2", wilson_interval(1, 2), frame(patient("P1", "AML", 0.2, 0.3)))


def test_the_page_in_docs_lists_every_key_with_its_title() -> None:
    listed = re.findall(
        r"^\| `([a-z0-9_]+)` \| (.*?) \| (.*?) \| (.*?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    words = {
        Better.MORE: "more",
        Better.LESS: "less",
        Better.ZERO: "nearest to 0",
        Better.ONE: "nearest to 1",
        Better.NONE: "",
    }
    assert listed == [
        (kind.key, kind.title, f"{kind.scale.low:g} to {kind.scale.high:g}", words[kind.scale.better])
        for kind in CATALOG.values()
    ]
