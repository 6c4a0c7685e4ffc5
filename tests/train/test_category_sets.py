"""How cells with coarse labels count: class shares, which categories are trained, and what a crop set reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from marrowscope.errors import TrainingError, VocabularyError
from marrowscope.train.category_sets import CategorySets, one_hot
from marrowscope.train.crop_set import class_priors, open_crop_set
from marrowscope.train.imbalance import correct_all, sampling_weights
from marrowscope.vocabulary import load_vocabulary
from tests.crop_sets import tiny_config, write_crop_set

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.crop_set import CropSet

BLAST = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"
CATEGORIES = load_vocabulary().categories


def sets_of(*sets: set[int], mainly: dict[int, int] | None = None, n_classes: int = 4) -> CategorySets:
    may_be = np.array([[c in cell for c in range(n_classes)] for cell in sets], dtype=bool).reshape(-1, n_classes)
    leads = np.array([(mainly or {}).get(row, -1) for row in range(len(sets))], dtype=np.int64)
    return CategorySets(may_be, np.ones_like(may_be), leads)


def crop_set_with(folder: Path, codes: dict[str, str], can_label: str | None = None) -> CropSet:
    """Open the synthetic crop set with other labels: ``codes`` replaces raw codes by what is stored for them."""
    write_crop_set(folder)
    cells = pl.read_parquet(folder / "cells.parquet").with_columns(pl.col("expert_code").replace(codes))
    if can_label is not None:
        cells = cells.with_columns(
            pl.when(pl.col("center") == "c0").then(pl.lit(can_label)).otherwise(None).alias("can_label")
        )
    cells.write_parquet(folder / "cells.parquet")
    return open_crop_set(folder, load_vocabulary())


def test_a_coarse_cell_is_divided_as_the_decided_cells_are() -> None:
    """Three cells of 0, one of 1, two of {0, 1}, one of {1, 2}: 2 has no decided cell and is not trained."""
    sets = sets_of({0}, {0}, {0}, {1}, {0, 1}, {0, 1}, {1, 2})
    np.testing.assert_array_equal(sets.decided(), [3, 1, 0, 0])
    shares = sets.shares(sets.decided())
    assert shares[4:].tolist() == [[0.75, 0.25, 0, 0], [0.75, 0.25, 0, 0], [0, 1, 0, 0]]
    np.testing.assert_allclose(shares.sum(axis=0), [4.5, 2.5, 0, 0])
    assert sets.labels().tolist() == [0, 0, 0, 1, -1, -1, -1]


def test_a_main_category_takes_the_cell_and_is_trained() -> None:
    sets = sets_of({0}, {1, 2, 3}, {1, 2, 3}, mainly={1: 2, 2: 2})
    np.testing.assert_array_equal(sets.decided(), [1, 0, 2, 0])
    np.testing.assert_array_equal(sets.shares(sets.decided())[1], [0, 0, 1, 0])


def test_taken_as_its_main_category_a_coarse_label_is_closed() -> None:
    sets = sets_of({0}, {1, 2, 3}, {1, 2}, mainly={1: 2}).taken_as_main()
    assert sets.labels().tolist() == [0, 2, -1]
    assert sets.open.tolist() == [False, False, True]


def test_a_cell_without_a_trained_category_has_no_mass() -> None:
    sets = sets_of({0}, {1, 2})
    np.testing.assert_array_equal(sets.shares(sets.decided())[1], np.zeros(4))
    priors = class_priors({"category": sets.shares(sets.decided())})
    assert priors["category"] == (1, 0, 0, 0)


@given(arrays(bool, st.tuples(st.integers(1, 12), st.just(5))), st.data())
def test_mass_is_kept_and_stays_in_the_set(may_be: np.ndarray, data: st.DataObject) -> None:
    mainly = np.array(
        [data.draw(st.sampled_from([-1, *np.flatnonzero(row).tolist()])) if row.sum() > 1 else -1 for row in may_be],
        dtype=np.int64,
    )
    sets = CategorySets(may_be, np.ones_like(may_be), mainly)
    decided = sets.decided()
    shares = sets.shares(decided)
    reachable = (may_be & (decided > 0)).any(axis=1)
    np.testing.assert_allclose(shares.sum(axis=1), reachable.astype(float))
    assert (shares[~may_be] == 0).all()
    assert (shares[:, decided == 0] == 0).all()
    fixed_point = shares.sum(axis=0)
    if (
        len(np.unique(may_be[sets.open & (mainly < 0)], axis=0)) == 1
    ):  # one kind of set: its shares reproduce themselves
        np.testing.assert_allclose(sets.shares(fixed_point), shares, atol=1e-12)


def test_labels_and_sets_of_a_crop_set(tmp_path: Path) -> None:
    crop_set = crop_set_with(tmp_path / "crops", {"N": BLAST, "R1": "X{J,J2}"}, "N,M,J,L,N5")
    code = crop_set.cells["expert_code"].to_numpy()
    blast, vague = np.flatnonzero(code == BLAST)[0], np.flatnonzero(code == "X{J,J2}")[0]
    answers = {head: values[[blast, vague]].tolist() for head, values in crop_set.labels.items()}
    assert answers == {
        "cblc": [1, -1],
        "countable": [1, -1],
        "category": [-1, CATEGORIES.index("Other")],
        "plasma": [-1, -1],
    }
    of_set = {CATEGORIES[index] for index in np.flatnonzero(crop_set.sets.may_be[blast])}
    assert of_set == {"N", "M", "Other", "L"}
    assert crop_set.sets.mainly[[blast, vague]].tolist() == [CATEGORIES.index("N"), -1]
    limited = (crop_set.cells["center"] == "c0").to_numpy()
    assert crop_set.sets.can_label[~limited].all()
    assert {CATEGORIES[k] for k in np.flatnonzero(crop_set.sets.can_label[limited][0])} == {
        "N",
        "M",
        "Other",
        "L",
        "N5",
    }


def test_a_category_that_only_occurs_in_sets_is_not_trained(tmp_path: Path) -> None:
    """M is in the set alone; L has cells of its own; N leads the set and is trained by it."""
    crop_set = crop_set_with(tmp_path / "crops", {"N": BLAST})
    rows = crop_set.rows({"p0", "p1"}, "expert")
    shares = crop_set.class_shares(rows)
    priors = dict(zip(CATEGORIES, class_priors(shares)["category"], strict=True))
    assert {name for name, share in priors.items() if share} == {"N", "N5", "R1", "L", "Other"}
    assert priors["N"] == 0.2
    without = crop_set_with(tmp_path / "again", {"N": "BLA{N,M; cblc yes}"})
    shares = without.class_shares(without.rows({"p0", "p1"}, "expert"))
    assert class_priors(shares)["category"][CATEGORIES.index("N")] == 0


def test_a_head_that_no_cell_answers_is_refused(tmp_path: Path) -> None:
    crop_set = crop_set_with(tmp_path / "crops", dict.fromkeys(("N", "N5", "R1", "L", "V"), "X{N1,N2}"))
    with pytest.raises(TrainingError, match="labels all leave cblc open"):
        class_priors(crop_set.class_shares(crop_set.rows({"p0"}, "expert")))


def test_a_source_that_can_label_an_unknown_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"column can_label: found label 'Q'"):
        crop_set_with(tmp_path / "crops", {}, "N,Q")


def test_the_sampler_draws_a_divided_cell_with_the_mean_weight_of_its_categories() -> None:
    sets = sets_of(*[{0}] * 9, {1}, {0, 1}, {2, 3})
    weights = sampling_weights(sets.shares(sets.decided()), "square_root_sampler")
    assert weights is not None
    assert weights.sum() == pytest.approx(1)
    assert weights[10] / weights[0] == pytest.approx(0.9 + 0.1 * np.sqrt(9.9 / 1.1))
    assert weights[11] == pytest.approx(weights[:11].mean())


def test_open_answers_leave_the_shares_of_a_head_to_the_others() -> None:
    cblc = one_hot(np.array([1, 0, 0, -1]), 2)
    category = one_hot(np.array([0, 1, 1, 1]), 2)
    for method in ("logit_adjustment", "square_root_sampler", "class_balanced"):
        found = correct_all({"cblc": cblc, "category": category}, tiny_config(imbalance=method))
        assert sum(found["cblc"].implied) == pytest.approx(1)
    np.testing.assert_allclose(
        correct_all({"cblc": cblc, "category": category}, tiny_config())["cblc"].offsets, np.log([2 / 3, 1 / 3])
    )
