"""The heads together: a distribution over triples whose shares and weights are recovered where they are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import softmax

from marrowscope.config import validate_config
from marrowscope.errors import ConfigError, VocabularyError
from marrowscope.statistics.joint import JOINT_HEADS, JointRule, joint_probabilities, joint_rule, marginals
from marrowscope.statistics.joint_fit import (
    HeldOut,
    fit_joint,
    fit_weights,
    label_triples,
    trained_triples,
    triple_shares,
)
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
TRIPLES = VOCABULARY.call_triples
CODES = ("N", "M", "M0", "N5", "L", "P", "V")
SHARES = np.array([0.2, 0.1, 0.05, 0.3, 0.2, 0.1, 0.05])


def head_shares(codes: tuple[str, ...] = CODES, shares: np.ndarray = SHARES) -> dict[str, np.ndarray]:
    """Give the class shares of each head for cells of ``codes``."""
    found = {"category": np.zeros(16), "cblc": np.zeros(2), "countable": np.zeros(2)}
    for name, share in zip(codes, shares, strict=True):
        code = VOCABULARY.codes[name]
        found["category"][VOCABULARY.categories.index(code.category)] += share
        found["cblc"][int(code.cblc)] += share
        found["countable"][int(code.countable)] += share
    return found


def world(n: int = 20_000, copies: float = 1.0, seed: int = 0) -> tuple[list[str], dict[str, np.ndarray]]:
    """Draw cells, and the probabilities of three heads that are each calibrated for independent evidence.

    ``copies`` raises each head's likelihood ratio to that power: weights of 1 / copies undo it.
    """
    random = np.random.default_rng(seed)
    codes = random.choice(CODES, size=n, p=SHARES)
    assumed, heads = head_shares(), {}
    for head, width in (("category", 16), ("cblc", 2), ("countable", 2)):
        truth = np.array([_answer(code, head) for code in codes])
        values = random.normal(size=(n, width))
        values[np.arange(n), truth] += 1.2  # unit normals shifted by 1.2: log-likelihood ratios are 1.2 * value
        with np.errstate(divide="ignore"):
            heads[head] = softmax(copies * 1.2 * values + np.log(assumed[head]), axis=1)
    return codes.tolist(), heads


def _answer(code: str, head: str) -> int:
    row = VOCABULARY.codes[code]
    return VOCABULARY.categories.index(row.category) if head == "category" else int(getattr(row, head))


def of_heads(heads: dict[str, np.ndarray], rule: JointRule | None) -> np.ndarray:
    return joint_probabilities(heads["category"], heads["cblc"][:, 1], heads["countable"][:, 1], VOCABULARY, rule)


def test_a_cell_of_which_no_head_says_anything_has_the_shares_themselves() -> None:
    assumed = head_shares()
    shares = triple_shares(label_triples(CODES, VOCABULARY).counts_as, trained_triples(assumed, VOCABULARY))
    for weight in (0.3, 1.0):
        rule = joint_rule(dict.fromkeys(JOINT_HEADS, weight), shares, assumed, VOCABULARY)
        found = of_heads({head: values[None] for head, values in assumed.items()}, rule)[0]
        np.testing.assert_allclose(found, shares, atol=1e-12)
        assert sum(item.share for item in rule.triples) == pytest.approx(1)


def test_shares_are_counts_and_coarse_cells_are_divided_by_them() -> None:
    trained = trained_triples(head_shares(), VOCABULARY)
    exact = ["N"] * 300 + ["N5"] * 100 + ["L"] * 600
    shares = triple_shares(label_triples(exact, VOCABULARY).counts_as, trained)
    place = {code: index_of(code) for code in ("N", "N5", "L", "M", "R")}
    total = 1000 + 0.5 * trained.sum()
    assert shares[place["N"]] == pytest.approx(300.5 / total)
    assert shares[place["M"]] == pytest.approx(0.5 / total)  # trained, yet without a cell here
    assert shares[place["R"]] == 0  # never trained
    coarse = label_triples([*exact, *["X{N,N5}"] * 400], VOCABULARY)
    divided = triple_shares(coarse.counts_as, trained)
    assert divided[place["N"]] / divided[place["N5"]] == pytest.approx(300.5 / 100.5, rel=1e-3)
    assert divided[place["N"]] + divided[place["N5"]] == pytest.approx(801 / (total + 400), rel=1e-3)


def index_of(code: str) -> int:
    row = VOCABULARY.codes[code]
    return TRIPLES.index((VOCABULARY.categories.index(row.category), row.cblc, row.countable))


def test_a_coarse_label_leaves_the_triples_of_its_codes_and_counts_as_its_main_one() -> None:
    found = label_triples(["BLA{N,M,J,L; mainly N; cblc yes; countable yes}", None, "N"], VOCABULARY)
    assert set(np.flatnonzero(found.may_be[0])) == {index_of(code) for code in ("N", "M", "J")}
    assert np.flatnonzero(found.counts_as[0]).tolist() == [index_of("N")]
    assert not found.may_be[1].any()
    assert np.flatnonzero(found.may_be[2]).tolist() == [index_of("N")]
    with pytest.raises(VocabularyError, match="found label 'Q9'"):
        label_triples(["Q9"], VOCABULARY)


@pytest.mark.parametrize("copies", [1.0, 2.5])
def test_the_weights_of_known_evidence_are_recovered(copies: float) -> None:
    codes, heads = world(copies=copies)
    labels, assumed = label_triples(codes, VOCABULARY), head_shares()
    shares = triple_shares(labels.counts_as, trained_triples(assumed, VOCABULARY))
    fit = fit_weights(heads, labels.may_be, shares, assumed, VOCABULARY)
    assert (fit.n_cells, fit.reason) == (20_000, "")
    assert list(fit.weights.values()) == pytest.approx([1 / copies] * 3, rel=0.08)


def test_a_brute_force_grid_finds_no_better_weights() -> None:
    codes, heads = world(n=400, copies=2.0)
    labels, assumed = label_triples(codes, VOCABULARY), head_shares()
    shares = triple_shares(labels.counts_as, trained_triples(assumed, VOCABULARY))
    fit = fit_weights(heads, labels.may_be, shares, assumed, VOCABULARY)

    def loss(weights: tuple[float, ...]) -> float:
        rule = joint_rule(dict(zip(JOINT_HEADS, weights, strict=True)), shares, assumed, VOCABULARY)
        return float(-np.log((of_heads(heads, rule) * labels.may_be).sum(axis=1)).mean())

    best = tuple(fit.weights[head] for head in JOINT_HEADS)
    tried = [loss(weights) for weights in itertools.product(np.linspace(0.1, 1.0, 10), repeat=3)]
    assert loss(best) <= min(tried) + 1e-9
    assert min(tried) < loss(best) + 0.01


def test_heads_that_repeat_one_another_are_overconfident_summed_and_calibrated_together() -> None:
    """The CBLC head says what the category head says: a sum counts it twice, the shares of CBLC three times."""
    codes, heads = world()
    yes = np.array([triple[1] for triple in TRIPLES])
    cblc = heads["category"] @ np.array(
        [sum(TRIPLES[i][0] == c and yes[i] for i in range(len(TRIPLES))) > 0 for c in range(16)]
    )
    heads |= {"cblc": np.stack([1 - cblc, cblc], axis=1)}
    is_cblc = np.array([VOCABULARY.codes[code].cblc for code in codes]).astype(np.int64)
    folds = np.arange(len(codes)) % 2
    cells = HeldOut(codes, is_cblc, folds, head_shares())
    record, before, after = fit_joint(cells, lambda _: heads, VOCABULARY)
    assert record.nll_after is not None
    assert record.nll_before is not None
    assert record.ece_after is not None
    assert record.ece_before is not None
    assert record.nll_after < record.nll_before
    assert record.ece_after < 0.02 < record.ece_before
    assert after.mean() == pytest.approx(is_cblc.mean(), abs=0.015)
    assert set(record.nested_weights) == {"0", "1"}
    assert len(before) == len(codes)


def test_no_fold_weighs_itself() -> None:
    codes, heads = world(n=900, copies=2.0)
    folds = np.arange(900) % 3
    shuffled = np.array(codes)
    shuffled[folds == 0] = np.random.default_rng(1).permutation(shuffled[folds == 0])
    found = [
        fit_joint(HeldOut(list(labels), np.full(900, -1), folds, head_shares()), lambda _: heads, VOCABULARY)
        for labels in (codes, shuffled)
    ]
    np.testing.assert_array_equal(found[0][2][folds == 0], found[1][2][folds == 0])
    assert found[0][0].nested_weights["0"] == found[1][0].nested_weights["0"]
    assert found[0][0].nested_weights["1"] != found[1][0].nested_weights["1"]
    assert found[0][0].nll_after is None  # nobody said which cells are CBLC


@pytest.mark.parametrize(
    ("codes", "reason"),
    [(["N"] * 30, "30 labeled cells, fewer than 50"), (["N"] * 80, "only one answer among 80 cells")],
)
def test_too_little_to_fit_leaves_the_weights_at_one(codes: list[str], reason: str) -> None:
    _, heads = world(n=len(codes))
    labels, assumed = label_triples(codes, VOCABULARY), head_shares()
    shares = triple_shares(labels.counts_as, trained_triples(assumed, VOCABULARY))
    fit = fit_weights(heads, labels.may_be, shares, assumed, VOCABULARY)
    assert (set(fit.weights.values()), fit.reason) == ({1.0}, reason)


def test_a_rule_for_equal_shares_has_the_shares_of_its_tau() -> None:
    codes, heads = world(n=500)
    cells = HeldOut(codes, np.full(500, -1), np.arange(500) % 2, head_shares())
    record, *_ = fit_joint(cells, lambda _: heads, VOCABULARY)
    equal = {head: np.where(values > 0, 1 / (values > 0).sum(), 0) for head, values in head_shares().items()}
    shares = [item.share for item in record.rule(equal, 1.0, VOCABULARY).triples]
    assert shares == pytest.approx([1 / len(shares)] * len(shares))
    own = {(item.category, item.cblc, item.countable): item.share for item in record.triples}
    for item in record.rule(head_shares(), 0.0, VOCABULARY).triples:
        assert item.share == pytest.approx(own[item.category, item.cblc, item.countable])


def test_weights_of_other_heads_are_refused() -> None:
    triple = {"category": "N", "cblc": True, "countable": True, "share": 1.0, "offset": 0.0}
    for weights in ({"cblc": 1.0}, {"category": 1.0, "cblc": 0.0, "countable": 1.0}):
        with pytest.raises(ConfigError, match="expected a weight above 0 for each of category, cblc, countable"):
            validate_config(JointRule, {"weights": weights, "triples": [triple]}, where="here")


def test_sums_of_all_triples_are_one_at_most() -> None:
    _, heads = world(n=200)
    found = marginals(of_heads(heads, None), VOCABULARY)
    np.testing.assert_allclose(found.p_category.sum(axis=1), 1)
    assert (found.p_countable <= 1).all()
