"""Each correction against its closed form, and the prior it says it implies against what minimizes its loss."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from marrowscope.train.category_sets import one_hot
from marrowscope.train.config import Imbalance
from marrowscope.train.imbalance import correct_all, correct_head, sampling_weights
from marrowscope.train.loader import epoch_order
from marrowscope.train.losses import classification_losses, to_tensors
from tests.crop_sets import tiny_config

METHODS: tuple[Imbalance, ...] = get_args(Imbalance)
COUNTS = np.array([700, 200, 0, 10])
SHARES = COUNTS / COUNTS.sum()


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_logit_adjustment_adds_tau_log_prior_and_implies_the_rest_of_it(tau: float) -> None:
    found = correct_head(COUNTS, tiny_config(imbalance="logit_adjustment", tau=tau))
    known = COUNTS > 0
    np.testing.assert_allclose(found.offsets[known], tau * np.log(SHARES[known]))
    expected = np.where(known, SHARES ** (1 - tau), 0)
    np.testing.assert_allclose(found.implied, expected / expected.sum())
    np.testing.assert_array_equal(found.weights, 1)


@pytest.mark.parametrize("beta", [0.9, 0.999])
def test_class_balanced_weights_follow_cui(beta: float) -> None:
    """Weights proportional to (1 - beta) / (1 - beta^n); the mean weight of a training cell is 1."""
    found = correct_head(COUNTS, tiny_config(imbalance="class_balanced", effective_number_beta=beta))
    known = COUNTS > 0
    cui = (1 - beta) / (1 - beta ** COUNTS[known].astype(float))
    np.testing.assert_allclose(found.weights[known] / found.weights[known][0], cui / cui[0])
    assert (found.weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1)
    assert found.weights[~known] == 0


def test_focal_and_none_change_neither_offsets_nor_weights() -> None:
    for method, gamma in (("focal", 2.0), ("none", 0.0)):
        found = correct_head(COUNTS, tiny_config(imbalance=method, focal_gamma=2.0))
        assert found.focal_gamma == gamma
        np.testing.assert_array_equal(found.offsets, [0, 0, -np.inf, 0])
        np.testing.assert_allclose(found.implied, SHARES)


@pytest.mark.parametrize("method", METHODS)
@given(counts=st.lists(st.integers(0, 5000), min_size=2, max_size=6).filter(any))
def test_an_absent_class_is_shut_out_and_the_implied_prior_sums_to_one(method: Imbalance, counts: list[int]) -> None:
    found = correct_head(np.array(counts), tiny_config(imbalance=method))
    absent = np.array(counts) == 0
    assert sum(found.implied) == pytest.approx(1)
    assert np.isfinite(found.weights).all()
    assert (np.isneginf(found.offsets) == absent).all()
    assert ((np.array(found.implied) == 0) == absent).all()


@pytest.mark.parametrize("method", ["logit_adjustment", "class_balanced", "none"])
def test_the_implied_prior_is_what_a_network_that_sees_nothing_learns(method: str) -> None:
    """Without any feature the minimum of the training loss must have softmax(logits) = the implied prior."""
    counts = np.array([60, 30, 10])
    correction = correct_head(counts, tiny_config(imbalance=method, tau=0.6, effective_number_beta=0.95))
    tensors = to_tensors({"category": correction}, torch.device("cpu"))
    targets = {"category": torch.tensor(np.repeat(np.arange(3), counts))}
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = classification_losses({"category": logits.expand(100, 3)}, targets, tensors)["category"]
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(torch.softmax(logits.detach(), 0).numpy(), correction.implied, atol=2e-4)


def test_the_sampler_draws_in_proportion_to_square_roots() -> None:
    """In expectation exactly, and in 20,000 draws within four standard errors."""
    counts = np.array([4900, 900, 0, 100])
    categories = np.repeat(np.arange(4), counts)
    weights = sampling_weights(one_hot(categories, 4), "square_root_sampler")
    assert weights is not None
    expected = np.sqrt(counts) / np.sqrt(counts).sum()
    np.testing.assert_allclose(np.bincount(categories, weights=weights, minlength=4), expected)
    rows = np.arange(len(categories), dtype=np.int64)
    drawn = np.concatenate([epoch_order(rows, (0, 1, epoch), size=5000, weights=weights) for epoch in range(4)])
    found = np.bincount(categories[drawn], minlength=4) / len(drawn)
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(drawn))).all()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "square_root_sampler"])
def test_the_other_methods_use_every_crop_once(method: Imbalance) -> None:
    assert sampling_weights(one_hot(np.array([0, 0, 1]), 2), method) is None


def test_under_the_sampler_every_head_implies_the_shares_as_they_are_drawn() -> None:
    """16 crops of category 0 and 4 of category 1 are drawn 4 to 2; CBLC follows its crops."""
    category = np.array([0] * 16 + [1] * 4)
    cblc = np.array([1] * 8 + [0] * 12)  # half of category 0
    shares = {"category": one_hot(category, 3), "cblc": one_hot(cblc, 2)}
    found = correct_all(shares, tiny_config(imbalance="square_root_sampler"))
    assert found["category"].implied == pytest.approx((2 / 3, 1 / 3, 0))
    assert found["cblc"].implied == pytest.approx((2 / 3, 1 / 3))
    np.testing.assert_array_equal(found["category"].offsets, [0, 0, -np.inf])
