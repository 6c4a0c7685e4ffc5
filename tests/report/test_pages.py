from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.report.pages import page_names
from marrowscope.report.palette import CATEGORY_COLORS, LINEAGE_COLORS, category_color, category_names
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()


@given(st.lists(st.text(min_size=1), unique=True, max_size=8))
def test_page_names_are_safe_and_shared_by_no_two_patients(patient_ids: list[str]) -> None:
    names = page_names(patient_ids)
    assert len({name.casefold() for name in names.values()}) == len(patient_ids)
    assert all(name.isascii() and set(name) & set('/\\:*?"<>| ') == set() for name in names.values())


def test_plain_ids_keep_their_name_and_others_a_readable_part() -> None:
    names = page_names(["P1", "Müller 7/8", "case", "CASE", "", "../x"])
    assert names["P1"] == "P1.html"
    assert names["Müller 7/8"].startswith("M-ller-7-8-")
    assert names["case"].startswith("case-")
    assert names["case"].casefold() != names["CASE"].casefold()
    assert names[""].startswith("patient-")
    assert names["../x"].startswith("x-")


def test_every_category_has_a_color_and_a_name_of_its_own() -> None:
    assert set(CATEGORY_COLORS) == set(VOCABULARY.categories)
    assert len(set(CATEGORY_COLORS.values())) == len(CATEGORY_COLORS)
    names = category_names(VOCABULARY)
    assert len(set(names.values())) == len(VOCABULARY.categories)
    assert (names["N"], names["E"], names["L"]) == ("myeloblast", "eosinophil", "lymphoid cells")
    assert names["R2"] == "polychromatic erythroblast"


def _luminance(color: str) -> float:
    """Relative luminance of WCAG 2.2."""
    rgb = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("color", [*CATEGORY_COLORS.values(), *LINEAGE_COLORS.values()])
def test_colors_stand_out_from_white(color: str) -> None:
    assert 1.05 / (_luminance(color) + 0.05) > 2.2


def test_own_category_of_a_laboratory_takes_its_lineages_color() -> None:
    assert category_color("X9", "erythroid") == LINEAGE_COLORS["erythroid"]
    assert category_color("X9", "mast") == LINEAGE_COLORS["other"]
