"""Answers of a network that are no probabilities of the vocabulary's classes are refused by name."""

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
