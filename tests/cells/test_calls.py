"""Answers of a network that are no probabilities of the vocabulary's classes are refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from marrowscope.cells.calls import call_cells
from marrowscope.errors import BundleError
from marrowscope.records import FloatArray
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
