"""Calls rest on one distribution; answers of a network that are no probabilities are refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from marrowscope.cells.calls import call_cells, decode_calls
from marrowscope.cells.embedding import ClassStatistics
from marrowscope.errors import BundleError
from marrowscope.records import FloatArray
from marrowscope.statistics.joint import JointRule, TripleRule
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()


def answers(n: int = 4) -> dict[str, FloatArray]:
    return {
        "p_cblc": np.full((n, 2), 0.5),
        "p_countable": np.full((n, 2), 0.5),
        "p_category": np.full((n, 16), 1 / 16),
    }


def test_a_full_batch_gives_the_calls_of_its_first_cells() -> None:
    assert len(call_cells([answers(), answers()], 3, VOCABULARY)) == 3


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("p_category", np.full((4, 12), 1 / 12), r"gives p_category \(4, 12\), expected \(3, 16\); do not use"),
        ("p_cblc", np.full((4, 3), 1 / 3), r"gives p_cblc \(4, 3\), expected \(3, 2\)"),
        ("p_cblc", np.full(4, 0.5), r"gives p_cblc \(4,\), expected \(3, 2\)"),
        ("p_countable", np.full((2, 2), 0.5), r"gives p_countable \(2, 2\), expected \(3, 2\)"),
        ("p_countable", np.full((4, 2), np.nan), "gives p_countable outside 0-1 or NaN, expected probabilities"),
        ("p_cblc", np.full((4, 2), np.inf), "gives p_cblc outside 0-1 or NaN"),
        ("p_category", np.full((4, 16), -0.1), "gives p_category outside 0-1 or NaN"),
        ("p_category", np.zeros((4, 16)), "gives p_category of 0 for every class"),
    ],
)  # fmt: skip
def test_other_answers_are_a_sentence(name: str, values: FloatArray, sentence: str) -> None:
    with pytest.raises(BundleError, match=f"^classifier 1 {sentence}"):
        call_cells([answers(), answers() | {name: values}], 3, VOCABULARY)


def plasma_answers(
    category: str, p_plasma: float, p_cblc: float = 0.1, p_countable: float = 0.9
) -> dict[str, FloatArray]:
    """Give one cell: its category, and the probabilities of the other heads."""
    p_category = np.full((1, 16), 0.1 / 15)
    p_category[0, VOCABULARY.categories.index(category)] = 0.9
    heads = {"p_cblc": p_cblc, "p_countable": p_countable, "p_plasma": p_plasma}
    return {"p_category": p_category, **{name: np.array([[1 - p, p]]) for name, p in heads.items()}}


@pytest.mark.parametrize(
    ("cell", "is_plasma"),
    [
        (plasma_answers("Other", 0.9), True),
        (plasma_answers("Other", 0.5), True),
        (plasma_answers("Other", 0.49), False),
        (plasma_answers("L", 0.9), False),
        (plasma_answers("Other", 0.9, p_cblc=0.95), False),  # a megakaryoblast by its other heads
        (plasma_answers("Other", 0.9, p_countable=0.05), False),  # a smudge
    ],
)
def test_a_plasma_cell_is_called_within_its_category_alone(cell: dict[str, FloatArray], *, is_plasma: bool) -> None:
    (call,) = call_cells([cell], 1, VOCABULARY, predicts_plasma=True)
    assert call.is_plasma is is_plasma
    assert call.p_plasma == cell["p_plasma"][0, 1]


def test_plasma_is_the_mean_of_the_members_and_changes_no_other_call() -> None:
    members = [plasma_answers("Other", 0.2), plasma_answers("Other", 0.9)]
    (call,) = call_cells(members, 1, VOCABULARY, predicts_plasma=True)
    assert call.p_plasma == pytest.approx(0.55)
    (without,) = call_cells(members, 1, VOCABULARY)
    assert (without.p_plasma, without.is_plasma) == (None, None)
    assert replace(call, p_plasma=None, is_plasma=None) == without


def test_a_plasma_answer_that_is_no_probability_is_a_sentence() -> None:
    broken = plasma_answers("Other", 0.9) | {"p_plasma": np.full((1, 3), 1 / 3)}
    with pytest.raises(BundleError, match=r"^classifier 0 gives p_plasma \(1, 3\), expected \(1, 2\); do not use"):
        call_cells([broken], 1, VOCABULARY, predicts_plasma=True)


def heads(category: dict[str, float], p_cblc: float, p_countable: float) -> dict[str, FloatArray]:
    """Give a network's outputs for one cell."""
    p_category = np.zeros((1, 16))
    for name, p in category.items():
        p_category[0, VOCABULARY.categories.index(name)] = p
    return {
        "p_category": p_category,
        "p_cblc": np.array([[1 - p_cblc, p_cblc]]),
        "p_countable": np.array([[1 - p_countable, p_countable]]),
    }


def test_the_probabilities_of_a_cell_are_sums_over_its_triples_worked_by_hand() -> None:
    """M is CBLC or, labeled normal, not; N is CBLC; Other is countable and not, or not countable.

    M yes 0.6 x 0.3 x 0.8 = 0.144, M no 0.6 x 0.7 x 0.8 = 0.336, N 0.3 x 0.3 x 0.8 = 0.072,
    Other yes 0.1 x 0.3 x 0.8 = 0.024, no 0.1 x 0.7 x 0.8 = 0.056, not countable 0.1 x 0.7 x 0.2 = 0.014; 0.646 in all.
    """
    (call,) = call_cells([heads({"M": 0.6, "N": 0.3, "Other": 0.1}, 0.3, 0.8)], 1, VOCABULARY)
    assert call.p_cblc == pytest.approx((0.144 + 0.072 + 0.024) / 0.646)
    assert call.p_countable == pytest.approx(1 - 0.014 / 0.646)
    shares = dict(zip(VOCABULARY.categories, call.p_category, strict=True))
    assert shares["M"] == pytest.approx(0.48 / 0.646)
    assert shares["N"] == pytest.approx(0.072 / 0.646)
    assert sum(call.p_category) == pytest.approx(1)
    assert (call.category, call.is_cblc, call.is_countable, call.embedding_distance) == ("M", False, True, None)


def test_the_call_follows_the_sum_and_not_the_likeliest_triple_alone() -> None:
    """M no is the likeliest triple, 0.135 of 0.345; yet N, M yes and R are CBLC with 0.21 together."""
    outputs = heads({"M": 0.3, "N": 0.25, "R": 0.25}, 0.5, 1.0)
    outputs["p_cblc"] = np.array([[0.52, 0.48]])
    (call,) = call_cells([outputs], 1, VOCABULARY)
    m_no, yes = 0.3 * 0.52, (0.3 + 0.25 + 0.25) * 0.48
    assert m_no > max(0.3 * 0.48, 0.25 * 0.48)
    assert call.p_cblc == pytest.approx(yes / (yes + m_no))
    assert (call.category, call.is_cblc) == ("M", True)


def test_calls_never_contradict_their_probabilities() -> None:
    random = np.random.default_rng(3)
    p_category = random.dirichlet(np.full(16, 0.2), size=(3, 500))
    p_cblc, p_countable = random.uniform(size=(2, 3, 500))
    calls = decode_calls(p_category, p_cblc, p_countable, VOCABULARY)
    np.testing.assert_array_equal(calls.is_cblc, calls.p_cblc >= 0.5)
    np.testing.assert_array_equal(calls.is_countable, calls.p_countable >= 0.5)
    assert (calls.p_cblc <= calls.p_countable + 1e-12).all()
    triples = {tuple(map(int, triple)) for triple in VOCABULARY.call_triples}
    found = zip(calls.category_index.tolist(), calls.is_cblc.tolist(), calls.is_countable.tolist(), strict=True)
    assert all(tuple(map(int, triple)) in triples for triple in found)


def test_the_ensemble_is_the_mean_of_what_each_member_says_of_the_triples() -> None:
    members = [heads({"N": 0.9, "N5": 0.1}, 0.8, 0.9), heads({"N": 0.4, "N5": 0.6}, 0.3, 0.9)]
    alone = [call_cells([member], 1, VOCABULARY)[0] for member in members]
    (together,) = call_cells(members, 1, VOCABULARY)
    assert together.p_cblc == pytest.approx((alone[0].p_cblc + alone[1].p_cblc) / 2)
    assert together.member_spread == pytest.approx(abs(alone[0].p_cblc - alone[1].p_cblc) / 2)
    assert alone[0].member_spread is None


def test_a_rule_weighs_the_heads_and_never_calls_what_it_does_not_list() -> None:
    listed = [("N", True, True, 0.25), ("M", False, True, 0.75)]
    rule = JointRule(
        weights={"category": 0.5, "cblc": 0.25, "countable": 1.0},
        triples=tuple(
            TripleRule(category=name, cblc=cblc, countable=countable, share=share, offset=float(np.log(share)))
            for name, cblc, countable, share in listed
        ),
    )
    (call,) = call_cells([heads({"N": 0.64, "M": 0.04, "R": 0.32}, 0.5, 0.9)], 1, VOCABULARY, rule)
    n, m = 0.25 * 0.8 * 0.5**0.25 * 0.9, 0.75 * 0.2 * 0.5**0.25 * 0.9
    assert call.p_cblc == pytest.approx(n / (n + m))
    assert dict(zip(VOCABULARY.categories, call.p_category, strict=True))["R"] == 0
    assert (call.category, call.is_cblc) == ("N", True)


def test_a_cell_does_not_depend_on_those_beside_it_to_the_last_bit() -> None:
    random = np.random.default_rng(4)
    statistics = ClassStatistics(
        mean=random.normal(size=1280).astype(np.float32),
        projection=random.normal(size=(1280, 64)).astype(np.float32),
        class_means=random.normal(size=(16, 64)).astype(np.float32),
        category_index=np.arange(16),
        n_cells=np.full(16, 20),
    )
    outputs = {
        "p_category": random.dirichlet(np.ones(16), size=37).astype(np.float32),
        "p_cblc": random.dirichlet(np.ones(2), size=37).astype(np.float32),
        "p_countable": random.dirichlet(np.ones(2), size=37).astype(np.float32),
        "embedding": random.normal(size=(37, 1280)).astype(np.float32),
    }
    together = call_cells([outputs, outputs], 37, VOCABULARY, None, statistics)
    for n in (1, 2, 5, 16):
        for start in range(0, 37 - n, n):
            part = {name: values[start : start + n] for name, values in outputs.items()}
            assert call_cells([part, part], n, VOCABULARY, None, statistics) == together[start : start + n]


def test_heads_alone_that_no_code_has_stay_a_contradiction() -> None:
    for p_cblc, contradiction in ((0.4, True), (0.6, False)):
        (call,) = call_cells([heads({"N": 0.9, "N5": 0.1}, p_cblc, 0.9)], 1, VOCABULARY)
        assert (call.category, call.is_cblc, call.contradiction) == ("N", True, contradiction)


STATISTICS = ClassStatistics(
    mean=np.zeros(3, np.float32),
    projection=np.eye(3, 2, dtype=np.float32),
    class_means=np.array([[1.0, 0.0]], np.float32),
    category_index=np.array([VOCABULARY.categories.index("N")]),
    n_cells=np.array([20]),
)


def test_a_cell_gets_the_distance_to_the_category_it_is_called() -> None:
    n, other = heads({"N": 1.0}, 0.9, 0.9), heads({"R": 1.0}, 0.9, 0.9)
    batch = {name: np.concatenate([n[name], other[name]]) for name in n}
    batch["embedding"] = np.array([[3.0, 4.0, 100.0], [3.0, 4.0, 100.0]])
    found = call_cells([batch], 2, VOCABULARY, None, STATISTICS)
    assert [call.embedding_distance for call in found] == [pytest.approx((2**2 + 4**2) / 2), None]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, r"embedding nothing, expected \(1, 3\); do not use the bundle"),
        (np.zeros((1, 4)), r"embedding \(1, 4\), expected \(1, 3\)"),
        (np.full((1, 3), np.nan), "embedding with values that are not finite"),
    ],
)
def test_another_embedding_than_the_statistics_are_of_is_a_sentence(given: FloatArray | None, sentence: str) -> None:
    outputs = heads({"N": 1.0}, 0.9, 0.9) | ({} if given is None else {"embedding": given})
    with pytest.raises(BundleError, match=f"^classifier 0 gives {sentence}"):
        call_cells([outputs], 1, VOCABULARY, None, STATISTICS)
