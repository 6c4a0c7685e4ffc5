"""Columns of reference ranges: the shipped ones by name, a laboratory's own by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.errors import VocabularyError
from marrowscope.vocabulary import (
    DEFAULT_REFERENCE_RANGES,
    find_reference_ranges,
    load_vocabulary,
    reference_range_names,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", reference_range_names())
def test_a_shipped_column_has_the_name_it_is_asked_by_and_codes_of_the_vocabulary(name: str) -> None:
    found, vocabulary = find_reference_ranges(name), load_vocabulary()
    assert (found.column, found.vocabulary, found.specimen, found.age_group) == (
        name,
        vocabulary.name,
        "marrow",
        "adult",
    )
    for row in found.ranges.values():
        assert set(row.codes) | set(row.denominator_codes) <= set(vocabulary.codes)


def test_the_default_says_how_few_it_goes_back_to() -> None:
    assert reference_range_names() == ("wintrobe", "theml")
    assert "12 healthy men (Osgood and Seaman 1944)" in find_reference_ranges("wintrobe").source


def test_theml_has_the_ranges_of_its_table_and_no_median_as_a_range() -> None:
    ranges = {row.row: (row.low, row.high) for row in find_reference_ranges("theml").ranges.values()}
    assert ranges == {"N2": (5, 25), "N3": (5, 20), "N4": (5, 25), "E": (1, 7), "B": (0, 1), "R2_R3": (7, 40)}


def test_a_file_is_read_by_its_path_and_anything_else_refused(tmp_path: Path) -> None:
    own = tmp_path / "ours.toml"
    own.write_text(
        DEFAULT_REFERENCE_RANGES.read_text(encoding="utf-8").replace('"wintrobe"', '"ours"'), encoding="utf-8"
    )
    assert find_reference_ranges(str(own)).column == "ours"
    with pytest.raises(VocabularyError, match=r"parmentier: not found, .* expected a path or one of wintrobe, theml"):
        find_reference_ranges("parmentier")
