from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from marrowscope.errors import TrainingError
from marrowscope.train.losses import classification_losses, training_offsets, weighted_total
from marrowscope.train.model import ClassifierOutput


def _outputs(category: torch.Tensor) -> ClassifierOutput:
    n = len(category)
    return ClassifierOutput(torch.zeros(n, 2), torch.zeros(n, 2), category)


def _targets(category: list[int]) -> dict[str, torch.Tensor]:
    zeros = torch.zeros(len(category), dtype=torch.int64)
    return {"cblc": zeros, "countable": zeros, "category": torch.tensor(category)}


def _offsets(category: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"cblc": torch.zeros(2), "countable": torch.zeros(2), "category": category}


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_is_the_closed_form(tau: float) -> None:
    """-log of p_y^tau exp(z_y) / sum_k p_k^tau exp(z_k), computed in numpy."""
    logits = np.array([[0.3, -1.0, 2.0], [1.5, 0.2, -0.7]])
    prior, truth = np.array([0.7, 0.2, 0.1]), [2, 0]
    weights = prior**tau * np.exp(logits)
    expected = -np.log(weights[[0, 1], truth] / weights.sum(axis=1)).mean()

    offsets = training_offsets(torch.tensor(prior), "logit_adjustment", tau)
    losses = classification_losses(_outputs(torch.tensor(logits)), _targets(truth), _offsets(offsets))

    assert float(losses["category"]) == pytest.approx(expected, rel=1e-12)
    assert float(losses["cblc"]) == pytest.approx(math.log(2))


def test_without_correction_the_loss_is_plain_cross_entropy() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    offsets = training_offsets(torch.tensor([0.7, 0.2, 0.1]), "none", 1.0)
    found = classification_losses(_outputs(logits), _targets([1]), _offsets(offsets))["category"]
    assert float(found) == pytest.approx(-float(torch.log_softmax(logits, dim=1)[0, 1]))


@pytest.mark.parametrize("imbalance", ["logit_adjustment", "none"])
def test_an_absent_class_has_no_part_in_the_loss_and_no_gradient(imbalance: str) -> None:
    logits = torch.tensor([[0.3, 50.0, 2.0]], requires_grad=True)
    offsets = training_offsets(torch.tensor([0.5, 0.0, 0.5]), imbalance, 1.0)
    losses = classification_losses(_outputs(logits), _targets([0]), _offsets(offsets))
    torch.autograd.backward(losses["category"])
    kept = logits.detach()[0, [0, 2]]
    assert float(losses["category"].detach()) == pytest.approx(float(-torch.log_softmax(kept, dim=0)[0]))
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert torch.isfinite(logits.grad).all()


def test_a_cell_of_a_class_never_trained_is_left_out() -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 2.0]])
    offsets = training_offsets(torch.tensor([0.5, 0.0, 0.5]), "none", 1.0)
    both = classification_losses(_outputs(logits), _targets([0, 1]), _offsets(offsets))["category"]
    alone = classification_losses(_outputs(logits[:1]), _targets([0]), _offsets(offsets))["category"]
    none = classification_losses(_outputs(logits[:1]), _targets([1]), _offsets(offsets))["category"]
    assert float(both) == float(alone)
    assert float(none) == 0


def test_one_side_only_trains_without_a_fault() -> None:
    offsets = training_offsets(torch.tensor([1.0, 0.0]), "logit_adjustment", 1.0)
    given = {**_offsets(torch.zeros(3)), "cblc": offsets}
    assert float(classification_losses(_outputs(torch.zeros(2, 3)), _targets([0, 1]), given)["cblc"]) == 0


def test_a_loss_that_is_not_finite_stops_and_names_its_parts() -> None:
    losses = {"cblc": torch.tensor(0.5), "category": torch.tensor(math.nan)}
    with pytest.raises(TrainingError, match=r"stage x, step 3: .*cblc = 0\.5, category = nan.*learning_rate"):
        weighted_total(losses, {"cblc": 1.0, "category": 1.0}, "stage x, step 3")


def test_the_total_is_the_weighted_sum() -> None:
    losses = {"cblc": torch.tensor(0.5), "category": torch.tensor(2.0)}
    assert float(weighted_total(losses, {"cblc": 2.0, "category": 0.25}, "here")) == 1.5
