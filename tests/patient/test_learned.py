"""What a bundle learned from real cells and what from simulated ones alone, by the counts of its sources."""

from __future__ import annotations

import pytest

from marrowscope.patient.learned import NOTED_CODES, learned_from
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
ALL = dict.fromkeys(VOCABULARY.codes, 3)
BLAST = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"


def test_a_class_with_a_real_cell_is_no_simulated_one() -> None:
    found = learned_from([(False, {"N": 1, "P2": 1, "R1": 0}), (True, ALL)], VOCABULARY)
    assert found is not None
    assert set(VOCABULARY.categories) - set(found.simulated_only) == {"N", "Other"}
    assert "plasma" not in found.simulated_only
    assert found.simulated_only_codes == NOTED_CODES


def test_codes_are_named_though_their_category_has_real_cells() -> None:
    found = learned_from([(False, {"M0": 4, "J2": 4, "P3": 0}), (True, ALL)], VOCABULARY)
    assert found is not None
    assert found.simulated_only[-1] == "plasma"
    assert not {"M", "Other"} & set(found.simulated_only)
    assert {"M", "J", "J1"} <= set(found.simulated_only_codes)


def test_a_class_without_any_cell_is_not_said_to_be_simulated() -> None:
    found = learned_from([(True, {"N": 5})], VOCABULARY)
    assert found is not None
    assert (found.simulated_only, found.simulated_only_codes) == (("N",), ())


@pytest.mark.parametrize(
    ("label", "learned"),
    [(BLAST, {"N"}), ("LYM{L1,L2}", {"L"}), ("X{N2,N3}", set()), ("PLA{P,P2}", {"Other", "plasma"})],
)
def test_a_coarse_label_teaches_its_main_code_or_what_all_its_codes_share(label: str, learned: set[str]) -> None:
    found = learned_from([(False, {label: 9}), (True, ALL)], VOCABULARY)
    assert found is not None
    assert {*VOCABULARY.categories, "plasma"} - set(found.simulated_only) == learned
    assert found.real_codes == ({"N"} if label == BLAST else set())


@pytest.mark.parametrize(
    ("real", "condition", "missing"),
    [
        ({"N", "M", "M1", "J"}, None, ()),
        ({"N0", "M0", "M1", "J"}, None, ()),
        ({"N", "M1", "J"}, None, ("M",)),
        ({"N", "M", "M1", "J"}, "apl", ("N1",)),
        ({"N", "M", "M1", "J", "R"}, "pure_erythroid_leukaemia", ()),
        (set(), None, ("N", "M", "M1", "J")),
    ],
)
def test_an_estimate_needs_real_cells_of_every_code_it_counts(
    real: set[str], condition: str | None, missing: tuple[str, ...]
) -> None:
    """A blast labelled normal has no look of its own: N teaches N0, M teaches M0, and the other way round."""
    found = learned_from([(False, dict.fromkeys(real, 3)), (True, ALL)], VOCABULARY)
    assert found is not None
    assert found.blasts_not_learned(condition) == missing


def test_without_sources_nothing_is_known() -> None:
    assert learned_from([], VOCABULARY) is None
