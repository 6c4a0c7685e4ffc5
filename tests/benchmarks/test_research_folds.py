"""Figures of cells out of fold, counted by hand: misses are wrong, and ratios are of what was called countable."""

from __future__ import annotations

import polars as pl
import pytest

from benchmarks.research_folds import OutOfFold, differences, measure, ratios, with_facts
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
N = len(VOCABULARY.categories)


def called(codes: list[str], cblc: list[int], countable: list[bool] | None = None) -> pl.DataFrame:
    cells = pl.DataFrame(
        {
            "patient_id": [f"P{index % 2}" for index in range(len(codes))],
            "field_id": ["F"] * len(codes),
            "expert_code": codes,
            "p_cblc": [0.9 if yes else 0.2 for yes in cblc],
            "predicted_cblc": cblc,
            "predicted_countable": countable or [True] * len(codes),
            "predicted_category": [0] * len(codes),
        }
    )
    return with_facts(cells, VOCABULARY)


def missed(*codes: str) -> pl.DataFrame:
    return with_facts(pl.DataFrame({"patient_id": ["P0"] * len(codes), "expert_code": list(codes)}), VOCABULARY)


def test_a_missed_cell_has_the_wrong_call() -> None:
    cells = OutOfFold(called(["N", "N", "L2", "L2"], [1, 1, 0, 0]), missed("N", "A"))  # A does not count
    found = measure(cells, N, 10)
    assert found["f1"][0] == 1
    assert found["f1_misses_wrong"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert (found["n_matched"], found["n_missed"]) == (4, 1)


def test_a_ratio_is_of_countable_calls_against_all_annotated_cells() -> None:
    cells = OutOfFold(called(["N", "N", "L2", "L2"], [1, 1, 0, 0], [True, True, False, True]), missed("N"))
    # P0: N and L2 matched, N missed; its L2 was called not countable
    assert ratios(cells).rows() == [("P0", pytest.approx(2 / 3), 1.0), ("P1", 0.5, 0.5)]


def test_differences_are_of_the_same_cells() -> None:
    right = OutOfFold(called(["N", "N", "L2", "L2"], [1, 1, 0, 0]), missed())
    wrong = OutOfFold(called(["N", "N", "L2", "L2"], [0, 0, 0, 0]), missed())
    assert differences(right, wrong, N, 10)["f1"][0] == 1
    with pytest.raises(SystemExit, match="other cells"):
        differences(right, OutOfFold(called(["N", "N", "L2"], [0, 0, 0]), missed()), N, 10)
