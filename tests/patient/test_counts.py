from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope.cells.calls import decode_calls
from marrowscope.patient.counts import aggregate_patient
from marrowscope.records import Patient
from marrowscope.runs.parquet import conform
from marrowscope.runs.schemas import CELLS, FIELDS
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
CATEGORIES = VOCABULARY.categories
PATIENT = Patient("P1", "A", "AML")


def one_hot(category: str, p: float = 0.9) -> np.ndarray:
    values = np.full(len(CATEGORIES), (1 - p) / (len(CATEGORIES) - 1))
    values[CATEGORIES.index(category)] = p
    return values


def decode(category: np.ndarray, p_cblc: float, p_countable: float) -> tuple[str, bool, bool, bool]:
    calls = decode_calls(category[None], np.array([p_cblc]), np.array([p_countable]), VOCABULARY)
    return (
        CATEGORIES[calls.category_index[0]],
        bool(calls.is_cblc[0]),
        bool(calls.is_countable[0]),
        bool(calls.contradiction[0]),
    )


@pytest.mark.parametrize(
    ("category", "p_cblc", "p_countable", "expected"),
    [
        ("N", 0.9, 0.9, ("N", True, True, False)),
        ("N5", 0.1, 0.9, ("N5", False, True, False)),
        ("Other", 0.9, 0.9, ("Other", True, True, False)),  # a megakaryoblast
        ("Other", 0.1, 0.9, ("Other", False, True, False)),  # a plasma cell
        ("Other", 0.1, 0.1, ("Other", False, False, False)),  # a macrophage
        ("M", 0.1, 0.9, ("M", False, True, False)),  # a monoblast labeled normal
        ("N", 0.4, 0.9, ("N", True, True, True)),  # a myeloblast is always CBLC: the category is surer
        ("N5", 0.9, 0.05, ("N5", False, True, True)),  # CBLC and not countable exist nowhere
    ],
)
def test_call_is_the_likeliest_one_the_vocabulary_has(
    category: str, p_cblc: float, p_countable: float, expected: tuple[str, bool, bool, bool]
) -> None:
    p = 0.999 if expected[3] else 0.9
    assert decode(one_hot(category, p), p_cblc, p_countable) == expected


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31))
def test_call_and_probabilities_agree_with_trying_every_triple(seed: int) -> None:
    generator = np.random.default_rng(seed)
    p_category = generator.dirichlet(np.full(len(CATEGORIES), 0.3), size=4)
    p_cblc, p_countable = generator.uniform(0.01, 0.99, size=(2, 4))
    calls = decode_calls(p_category, p_cblc, p_countable, VOCABULARY)
    for cell in range(4):
        worth = {}
        for triple in itertools.product(range(len(CATEGORIES)), (False, True), (False, True)):
            if triple in VOCABULARY.call_triples:
                head_1 = p_cblc[cell] if triple[1] else 1 - p_cblc[cell]
                head_2 = p_countable[cell] if triple[2] else 1 - p_countable[cell]
                worth[triple] = p_category[cell, triple[0]] * head_1 * head_2
        total = sum(worth.values())
        yes = sum(value for triple, value in worth.items() if triple[1]) / total
        counted = sum(value for triple, value in worth.items() if triple[2]) / total
        assert (calls.p_cblc[cell], calls.p_countable[cell]) == (pytest.approx(yes), pytest.approx(counted))
        for category in range(len(CATEGORIES)):
            of_category = sum(value for triple, value in worth.items() if triple[0] == category) / total
            assert calls.p_category[cell, category] == pytest.approx(of_category)
        found = (int(calls.category_index[cell]), bool(calls.is_cblc[cell]), bool(calls.is_countable[cell]))
        assert found[1:] == (yes >= 0.5, counted >= 0.5)
        rivals = [value for triple, value in worth.items() if triple[1:] == found[1:]]
        assert worth[found] == pytest.approx(max(rivals), rel=1e-9)


def test_category_that_was_not_trained_is_never_called() -> None:
    p = np.zeros(len(CATEGORIES))
    p[CATEGORIES.index("L")] = 1.0
    assert decode(p, 0.9999999, 0.9)[0] == "L"


def test_certain_heads_that_contradict_each_other_still_give_a_call() -> None:
    category, is_cblc, _, contradiction = decode(one_hot("N5", 1.0), 1.0, 0.0)
    assert (category, is_cblc, contradiction) == ("N5", False, True)


def test_no_cells_give_no_calls() -> None:
    calls = decode_calls(np.empty((0, 16)), np.empty(0), np.empty(0), VOCABULARY)
    assert len(calls.category_index) == len(calls.contradiction) == 0


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5])
def test_numbers_that_are_no_probabilities_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="outside 0-1"):
        decode_calls(one_hot("N")[None], np.array([bad]), np.array([0.5]), VOCABULARY)


def test_wrong_number_of_categories_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 3\), expected \(1, 16\)"):
        decode_calls(np.full((1, 3), 0.3), np.array([0.5]), np.array([0.5]), VOCABULARY)


def make_tables(calls: list[tuple[str, bool, bool]], rejected: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows: list[dict[str, object]] = [
        {"category": c, "is_cblc": x, "is_countable": n, "contradiction": False} for c, x, n in calls
    ]
    rows += [{"reject_reason": reason} for reason in rejected]
    cells = pl.DataFrame(rows, schema_overrides=CELLS, infer_schema_length=None) if rows else pl.DataFrame()
    fields = pl.DataFrame([{"status": "ok"}, {"status": "failed"}], schema_overrides=FIELDS)
    return conform(fields, "fields"), conform(cells, "cells")


def test_patient_counts_reconcile_and_the_ratio_is_over_countable_cells() -> None:
    calls = (
        [("N", True, True)] * 3 + [("N5", False, True)] * 6 + [("Other", True, True)] + [("Other", False, False)] * 5
    )
    fields, cells = make_tables(calls, ["too_small", "edge", "edge"])
    summary = aggregate_patient(PATIENT, fields, cells)
    assert (summary.n_fields, summary.n_fields_failed) == (2, 1)
    assert summary.n_contours == summary.n_cells + sum(summary.rejected.values()) == 18
    assert summary.rejected == {"edge": 2, "too_small": 1}
    assert (summary.n_cblc, summary.n_countable, summary.n_cells) == (4, 10, 15)
    assert summary.cblc_ratio == wilson_interval(4, 10)
    row = summary.row()
    assert row["n_not_countable"] == 5
    assert (row["ratio_all_unclassified_not_cblc"], row["ratio_all_unclassified_cblc"]) == (4 / 15, 9 / 15)
    assert conform(pl.DataFrame([row], infer_schema_length=None), "patients").height == 1


def test_no_countable_cell_gives_no_ratio() -> None:
    fields, cells = make_tables([("Other", False, False)], ["edge"])
    summary = aggregate_patient(PATIENT, fields, cells)
    assert summary.cblc_ratio is None
    assert summary.row()["cblc_ratio"] is None


def test_patient_without_any_contour_is_a_row_of_zeros() -> None:
    fields, cells = make_tables([], [])
    summary = aggregate_patient(PATIENT, fields, cells)
    assert (summary.n_contours, summary.n_cells, summary.n_cblc, summary.cblc_ratio) == (0, 0, 0, None)
