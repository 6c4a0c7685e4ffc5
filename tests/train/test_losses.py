from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

pytest.importorskip("torch")

import torch

from marrowscope.errors import TrainingError
from marrowscope.train.config import Imbalance
from marrowscope.train.imbalance import correct_head
from marrowscope.train.losses import (
    HeadCorrection,
    check_finite,
    classification_losses,
    consistency_loss,
    morphology_loss,
    to_tensors,
    weighted_total,
)
from tests.crop_sets import tiny_config


def _logits(category: torch.Tensor) -> dict[str, torch.Tensor]:
    n = len(category)
    return {"cblc": torch.zeros(n, 2), "countable": torch.zeros(n, 2), "category": category}


def _targets(category: list[int]) -> dict[str, torch.Tensor]:
    zeros = torch.zeros(len(category), dtype=torch.int64)
    return {"cblc": zeros, "countable": zeros, "category": torch.tensor(category)}


def _corrections(counts: list[int], imbalance: str, tau: float = 1.0) -> dict[str, HeadCorrection]:
    """Correct the category head by ``counts``; the other heads have equal classes and no correction."""
    config = tiny_config(imbalance=imbalance, tau=tau)
    plain = correct_head(np.array([5, 5]), tiny_config(imbalance="none"))
    given = {"cblc": plain, "countable": plain, "category": correct_head(np.array(counts), config)}
    return to_tensors(given, torch.device("cpu"))


def _category_loss(logits: torch.Tensor, targets: list[int], corrections: dict[str, HeadCorrection]) -> torch.Tensor:
    return classification_losses(_logits(logits), _targets(targets), corrections)["category"]


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_is_the_closed_form(tau: float) -> None:
    """-log of p_y^tau exp(z_y) / sum_k p_k^tau exp(z_k), computed in numpy."""
    logits = np.array([[0.3, -1.0, 2.0], [1.5, 0.2, -0.7]])
    prior, truth = np.array([0.7, 0.2, 0.1]), [2, 0]
    weights = prior**tau * np.exp(logits)
    expected = -np.log(weights[[0, 1], truth] / weights.sum(axis=1)).mean()
    losses = classification_losses(
        _logits(torch.tensor(logits)), _targets(truth), _corrections([7, 2, 1], "logit_adjustment", tau)
    )
    assert float(losses["category"]) == pytest.approx(expected, rel=1e-6)
    assert float(losses["cblc"]) == pytest.approx(math.log(2))


def test_without_correction_the_loss_is_plain_cross_entropy() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    found = _category_loss(logits, [1], _corrections([7, 2, 1], "none"))
    assert float(found) == pytest.approx(-float(torch.log_softmax(logits, dim=1)[0, 1]))


def test_class_balanced_weights_are_the_inverse_effective_numbers() -> None:
    """Mean of the losses times (1 - beta) / (1 - beta^n) of the true class, of mean 1 over the training cells."""
    counts = np.array([700.0, 200.0, 10.0])
    logits = torch.tensor([[0.3, -1.0, 2.0], [1.5, 0.2, -0.7]])
    each = -torch.log_softmax(logits, dim=1)[[0, 1], [2, 0]].numpy()
    weights = (1 - 0.999) / (1 - 0.999**counts)
    weights /= (weights * counts).sum() / counts.sum()
    expected = (weights[[2, 0]] * each).mean()
    found = _category_loss(logits, [2, 0], _corrections([700, 200, 10], "class_balanced"))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_class_weights_mean_the_same_in_small_batches_as_over_all_cells() -> None:
    """Else a class rarer than a cell a batch would weigh less, and the logits imply another prior than is stored."""
    counts = [90, 9, 1]
    corrections = _corrections(counts, "class_balanced")
    truth = np.repeat(np.arange(3), counts)
    logits = torch.tensor(np.random.default_rng(0).normal(size=(100, 3)))
    together = float(_category_loss(logits, truth.tolist(), corrections))
    places = np.random.default_rng(1).permutation(100).reshape(25, 4)
    apart = [float(_category_loss(logits[batch], truth[batch].tolist(), corrections)) for batch in places]
    assert np.mean(apart) == pytest.approx(together, rel=1e-5)


def test_focal_discounts_the_easy_cell() -> None:
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    truth = torch.softmax(logits, dim=1)[[0, 1], [0, 1]].numpy()
    expected = (-((1 - truth) ** 2) * np.log(truth)).mean()
    assert float(_category_loss(logits, [0, 1], _corrections([7, 2, 1], "focal"))) == pytest.approx(expected, rel=1e-5)


def test_focal_has_a_finite_gradient_at_a_cell_called_with_certainty() -> None:
    """(1 - p) ** gamma has an infinite slope at p = 1 for gamma below 1."""
    correction = correct_head(np.array([5, 5]), tiny_config(imbalance="focal", focal_gamma=0.5))
    corrections = to_tensors({"cblc": correction}, torch.device("cpu"))
    logits = torch.tensor([[200.0, 0.0], [0.0, 1.0]], requires_grad=True)
    torch.autograd.backward(
        classification_losses({"cblc": logits}, {"cblc": torch.tensor([0, 0])}, corrections)["cblc"]
    )
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1].abs().sum() > 0


@pytest.mark.parametrize("imbalance", get_args(Imbalance))
def test_an_absent_class_has_no_part_in_the_loss_and_no_gradient(imbalance: str) -> None:
    logits = torch.tensor([[0.3, 50.0, 2.0]], requires_grad=True)
    loss = _category_loss(logits, [0], _corrections([5, 0, 5], imbalance))
    torch.autograd.backward(loss)
    kept = torch.log_softmax(logits.detach()[0, [0, 2]], dim=0)[0]
    discount = (1 - kept.exp()) ** 2 if imbalance == "focal" else 1.0
    assert float(loss.detach()) == pytest.approx(float(-kept * discount))
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("imbalance", get_args(Imbalance))
def test_a_cell_of_a_class_never_trained_is_left_out(imbalance: str) -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 2.0]])
    corrections = _corrections([5, 0, 5], imbalance)
    both = _category_loss(logits, [0, 1], corrections)
    alone = _category_loss(logits[:1], [0], corrections)
    assert float(both) == pytest.approx(float(alone))
    assert float(_category_loss(logits[:1], [1], corrections)) == 0


def test_one_side_only_trains_without_a_fault() -> None:
    one_sided = correct_head(np.array([5, 0]), tiny_config())
    given = _corrections([1, 1, 1], "none") | to_tensors({"cblc": one_sided}, torch.device("cpu"))
    assert float(classification_losses(_logits(torch.zeros(2, 3)), _targets([0, 1]), given)["cblc"]) == 0


def test_missing_measurements_give_no_loss_and_no_gradient() -> None:
    predicted = torch.tensor([[0.5, 9.0], [9.0, 2.0]], requires_grad=True)
    measured = torch.tensor([[0.0, math.nan], [math.nan, 0.0]])
    loss = morphology_loss(predicted, measured)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == pytest.approx((0.5 * 0.5**2 + (2.0 - 0.5)) / 2)  # Huber's closed form, mean of two
    assert predicted.grad is not None
    assert predicted.grad[0, 1] == predicted.grad[1, 0] == 0
    assert float(morphology_loss(torch.zeros(2, 1), torch.full((2, 1), math.nan))) == 0


def test_consistency_is_the_divergence_of_the_student_and_teaches_the_student_only() -> None:
    """Against scipy's relative entropy, over the trained classes, summed over CBLC and category."""
    random = np.random.default_rng(0)
    seen, swapped = torch.tensor(random.normal(size=(4, 3))), torch.tensor(random.normal(size=(4, 3)))
    corrections = _corrections([5, 0, 5], "none")
    teacher, student = seen.clone().requires_grad_(), swapped.clone().requires_grad_()
    loss = consistency_loss(_logits(teacher), _logits(student), corrections)
    p, q = (softmax(values.numpy()[:, [0, 2]], axis=1) for values in (seen, swapped))
    assert float(loss.detach()) == pytest.approx(entropy(p, q, axis=1).mean(), rel=1e-5)
    torch.autograd.backward(loss)
    assert teacher.grad is None
    assert student.grad is not None
    assert (student.grad[:, [0, 2]] != 0).all()
    assert (student.grad[:, 1] == 0).all()


def test_a_loss_that_is_not_finite_stops_and_names_its_parts() -> None:
    with pytest.raises(TrainingError, match=r"stage x, step 3: .*cblc = 0\.5, category = nan.*learning_rate"):
        check_finite({"cblc": 0.5, "category": math.nan}, "stage x, step 3")
    check_finite({"cblc": 0.5, "category": 1e30}, "stage x, step 3")


def test_the_total_is_the_weighted_sum() -> None:
    losses = {"cblc": torch.tensor(0.5), "category": torch.tensor(2.0)}
    assert float(weighted_total(losses, {"cblc": 2.0, "category": 0.25})) == 1.5
