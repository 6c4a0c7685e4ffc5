"""Mapping files with sets of codes, and which mapping belongs to which center."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.errors import VocabularyError
from marrowscope.vocabulary import load_mapping, load_mappings, load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 'schema_version = 1\nname = "own"\nversion = "1"\nvocabulary = "marrow-37"\nsource = "here"\n'


def mapping_file(folder: Path, rows: str, more: str = "") -> Path:
    path = folder / "own.toml"
    path.write_text(f"{HEAD}{more}\n[[labels]]\n{rows}\n", encoding="utf-8")
    return path


def test_a_set_of_one_code_is_that_code(tmp_path: Path) -> None:
    mapping = load_mapping(mapping_file(tmp_path, 'label = "X"\ncodes = ["N"]\ncblc = true'))
    mapping.check_against(load_vocabulary())
    assert mapping.translate("X", "f.json") == "N"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('label = "X"\ncode = "N"\ncodes = ["N"]', "expected one of code, codes, and drop"),
        ('label = "X"\ncodes = []', r"codes = \[\], expected at least one code"),
        ('label = "X"\ncodes = "N"', "expected a list of texts"),
        ('label = "X"\ncodes = ["N", "N"]', "expected each code once"),
        ('label = "X"\ncodes = ["N", "M"]\ncblc = "yes"', "cblc = 'yes', expected true or false"),
        ('label = "X"\ncodes = ["N", "M"]\nmainly = "L"', "mainly = 'L', expected one of its codes N, M"),
        ('label = "X{"\ncodes = ["N", "M"]', "the name 'X{', expected a name without any of { } ; ,"),
        ('label = "X"\ncode = "N"\ncblc = true', "cblc without codes, expected declarations only beside a set"),
        ('label = "X"\ndrop = "why"\nmainly = "N"', "mainly without codes"),
    ],
)
def test_a_broken_set_says_where_and_why(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message) as caught:
        load_mapping(mapping_file(tmp_path, row))
    assert "own.toml, labels[0]: found" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "more", "message"),
    [
        ('label = "X"\ncodes = ["N", "M7"]', "", r"label 'X': found label 'M7', expected a code of vocabulary"),
        ('label = "X"\ncodes = ["L", "L1"]\ncblc = true', "", "cblc yes declared, expected what at least one"),
        ('label = "X"\ncode = "N"', 'can_label = ["N1"]', "can_label without N, expected every code that its labels"),
        ('label = "X"\ncode = "N"', 'can_label = ["N", "Q"]', "can_label: found label 'Q'"),
    ],
)
def test_a_set_that_does_not_fit_the_vocabulary_is_refused(tmp_path: Path, row: str, more: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        load_mapping(mapping_file(tmp_path, row, more)).check_against(load_vocabulary())


def test_each_center_has_its_mapping() -> None:
    mappings = load_mappings(["M=marrow-cells", "munich-aml-15"])
    assert mappings is not None
    own, others = mappings.of("M"), mappings.of("A")
    assert own is not None
    assert others is not None
    assert (own.name, others.name) == ("marrow-cells", "munich-aml-15")
    only = load_mappings(["M=marrow-cells"])
    assert only is not None
    assert only.of("A") is None
    assert load_mappings([]) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["M=marrow-cells", "M=munich-aml-15"], "a second mapping of center 'M', expected one for each center"),
        (["barcelona-13", "munich-aml-15"], "a second mapping for all centers"),
        (["M=nowhere"], "nowhere: not found, neither a built-in mapping"),
    ],
)
def test_options_that_exclude_each_other(options: list[str], message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        load_mappings(options)


def test_a_center_that_no_patient_has_is_refused() -> None:
    mappings = load_mappings(["Munich=marrow-cells"])
    assert mappings is not None
    mappings.check_centers({"Munich", "A"})
    with pytest.raises(VocabularyError, match="found no patient of center 'Munich', expected one of A, M"):
        mappings.check_centers({"M", "A"})
