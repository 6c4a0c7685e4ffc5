"""The category head's loss of cells with coarse labels and of sources that know a part of the categories."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from marrowscope.fit import fit_classifier
from marrowscope.train.imbalance import correct_head
from marrowscope.train.losses import HeadCorrection, SetTargets, classification_losses, set_targets, to_tensors
from marrowscope.train.training_record import read_training
from tests.crop_sets import tiny_config
from tests.train.test_category_sets import BLAST, crop_set_with, sets_of

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = [6.0, 3.0, 1.0]
"""Cells of three categories: shares 0.6, 0.3 and 0.1."""
LOGITS = [[0.0, math.log(2), math.log(3)]]
"""Adjusted by the shares: 0.6, 0.6 and 0.3, so the probabilities are 0.4, 0.4 and 0.2."""


def correction(method: str = "logit_adjustment", counts: list[float] | None = None) -> dict[str, HeadCorrection]:
    return to_tensors({"category": correct_head(np.array(counts or COUNTS), tiny_config(imbalance=method))}, CPU)


CPU = torch.device("cpu")


def targets(may_be: set[int], can_label: set[int] | None = None, k: int = 3) -> SetTargets:
    sets, among = (torch.tensor([[c in chosen for c in range(k)]]) for chosen in (may_be, can_label or set(range(k))))
    return SetTargets(sets, among, sets / sets.sum(dim=1, keepdim=True))


def loss_and_gradient(
    sets: SetTargets | None, given: dict[str, HeadCorrection], label: int = -1
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor(LOGITS, requires_grad=True)
    loss = classification_losses({"category": logits}, {"category": torch.tensor([label])}, given, sets)["category"]
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


def test_a_set_by_hand() -> None:
    """P(1 or 2) = 0.6; the gradient is q(c) - q(c | set): down for 0, up for 1 and 2, twice as far for 1 as for 2."""
    loss, gradient = loss_and_gradient(targets({1, 2}), correction())
    assert float(loss) == pytest.approx(-math.log(0.6))
    np.testing.assert_allclose(gradient, [[0.4, 0.4 - 2 / 3, 0.2 - 1 / 3]], atol=1e-6)


def test_a_source_that_cannot_label_a_category_says_nothing_about_it() -> None:
    """Among 1 and 2 alone, 2 has the probability 0.3 / 0.9; category 0 gets no gradient."""
    loss, gradient = loss_and_gradient(targets({2}, {1, 2}), correction())
    assert float(loss) == pytest.approx(math.log(3))
    np.testing.assert_allclose(gradient, [[0, 2 / 3, -2 / 3]], atol=1e-6)
    assert float(gradient[0, 0]) == 0


def test_a_set_of_all_that_a_source_can_label_teaches_nothing() -> None:
    loss, gradient = loss_and_gradient(targets({1, 2}, {1, 2}), correction())
    np.testing.assert_allclose([float(loss), *gradient[0].tolist()], np.zeros(4), atol=1e-6)


@pytest.mark.parametrize("method", ["logit_adjustment", "class_balanced", "focal", "none"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_set_of_one_category_is_that_category_to_the_bit(method: str, label: int) -> None:
    given = correction(method)
    for one, other in zip(
        loss_and_gradient(targets({label}), given), loss_and_gradient(None, given, label), strict=True
    ):
        assert torch.equal(one, other)


def test_an_untrained_category_has_no_part() -> None:
    """Of {1, 2} only 1 is trained; of {2} none, so the cell is left out: no loss, no gradient, not counted."""
    given = correction(counts=[6, 3, 0])
    loss, gradient = loss_and_gradient(targets({1, 2}), given)
    alone, expected = loss_and_gradient(targets({1}), given)
    assert torch.equal(loss, alone)
    assert torch.equal(gradient, expected)
    loss, gradient = loss_and_gradient(targets({2}), given)
    assert (float(loss), gradient.tolist()) == (0, [[0, 0, 0]])


def test_a_category_that_only_the_masked_source_could_have_leaves_a_finite_loss() -> None:
    loss, gradient = loss_and_gradient(targets({2}, {2}), correction(counts=[6, 3, 0]))
    assert (float(loss), gradient.tolist()) == (0, [[0, 0, 0]])


def test_class_weights_are_divided_like_the_cell() -> None:
    given = correction("class_balanced")
    weights = given["category"].weights
    plain = HeadCorrection(torch.zeros(3), torch.ones(3), 0.0, torch.arange(3))
    loss, _ = loss_and_gradient(targets({1, 2}), given)
    unweighted, _ = loss_and_gradient(targets({1, 2}), {"category": plain})
    assert float(loss) == pytest.approx(float(unweighted * weights[1:].mean()))


def test_open_answers_of_a_binary_head_are_left_out() -> None:
    given = to_tensors({"cblc": correct_head(np.array([5.0, 5.0]), tiny_config(imbalance="none"))}, CPU)
    logits = torch.tensor([[0.0, 2.0], [1.0, -3.0]], requires_grad=True)
    loss = classification_losses({"cblc": logits}, {"cblc": torch.tensor([1, -1])}, given)["cblc"]
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == pytest.approx(math.log(1 + math.exp(-2)))
    assert gradient[1].tolist() == [0, 0]


def test_no_sets_are_made_where_no_label_needs_them() -> None:
    exact, rows = sets_of({0}, {1}), np.arange(2)
    assert set_targets(exact, rows, masked_sources=True) is None
    assert set_targets(sets_of({0}, {0, 1}), rows, masked_sources=False) is not None


def test_coarse_cells_learn_what_the_exact_ones_leave_over() -> None:
    """Weights on one-hot features alone: cells {0, 1} of a kind unlike every cell of 0 end as 1."""
    features = torch.eye(3)
    sets = SetTargets(
        torch.tensor([[True, False], [False, True], [True, True]]),
        torch.ones(3, 2, dtype=torch.bool),
        torch.ones(3, 2) / 2,
    )
    given = {"category": HeadCorrection(torch.zeros(2), torch.ones(2), 0.0, torch.arange(2))}
    weights = torch.zeros(3, 2, requires_grad=True)
    loss = classification_losses({"category": features @ weights}, {"category": torch.tensor([0, 1, -1])}, given, sets)
    (gradient,) = torch.autograd.grad(loss["category"], weights)
    np.testing.assert_allclose(gradient[2], [0, 0], atol=1e-7)  # both categories are open to it: nothing to learn


def test_a_training_with_coarse_labels_and_masked_sources(tmp_path: Path) -> None:
    """Blasts of center c0 are coarse; the network calls them right, and never what is in sets alone."""
    crop_set_with(tmp_path / "crops", {"N": BLAST}, "N,M,J,L,N5,R1,V")
    config = tiny_config(masked_sources=True)
    result = fit_classifier(tmp_path / "crops", tmp_path / "out", config)
    assert result.info.trained("category")[result.info.categories.index("N")]
    assert "M" in result.info.categories_not_trained
    best = result.best
    assert best.validation_loss is not None
    assert best.cblc_weighted_f1 is not None
    assert math.isfinite(best.validation_loss)
    (coarse,) = read_training(tmp_path / "out").coarse_labels
    assert (coarse.label, coarse.n_cells, coarse.exceptions) == (BLAST, 12, ("lymphoblast",))
    assert best.cblc_weighted_f1 > 0.9


def test_a_crop_set_of_sets_of_one_code_trains_the_same_weights(tmp_path: Path) -> None:
    hashes = set()
    for name, codes in (("codes", {}), ("sets", {"N": "BLA{N}", "L": "LY{L; countable yes}"})):
        crop_set_with(tmp_path / name, codes)
        hashes.add(fit_classifier(tmp_path / name, tmp_path / f"{name}-out", tiny_config()).weights_sha256)
    assert len(hashes) == 1


def test_a_coarse_label_taken_as_its_main_category_trains_the_weights_of_that_code(tmp_path: Path) -> None:
    hashes = set()
    for name, codes in (("codes", {}), ("main", {"N": BLAST})):
        crop_set_with(tmp_path / name, codes)
        config = tiny_config(coarse_target="main")
        hashes.add(fit_classifier(tmp_path / name, tmp_path / f"{name}-out", config).weights_sha256)
    assert len(hashes) == 1
