from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.differential import nucleated_differential
from marrowscope.records import Patient
from marrowscope.report.pages import cell_mark, differential_bars, file_names, reason_words
from marrowscope.report.palette import CATEGORY_COLORS, LINEAGE_COLORS, category_color, category_names
from marrowscope.report.pictures import svg_path
from marrowscope.tables import REJECT_REASONS
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()


@given(st.lists(st.text(min_size=1), unique=True, max_size=8))
def test_file_names_are_safe_and_shared_by_no_two_patients(patient_ids: list[str]) -> None:
    names = file_names(patient_ids)
    assert len({name.casefold() for name in names.values()}) == len(patient_ids)
    assert all(name.isascii() and set(name) & set('/\\:*?"<>| ') == set() for name in names.values())


def test_plain_ids_keep_their_name_and_others_a_readable_part() -> None:
    names = file_names(["P1", "Müller 7/8", "case", "CASE", "", "../x"])
    assert names["P1"] == "P1.html"
    assert names["Müller 7/8"].startswith("M-ller-7-8-")
    assert names["case"].startswith("case-")
    assert names["case"].casefold() != names["CASE"].casefold()
    assert names[""].startswith("patient-")
    assert names["../x"].startswith("x-")


def test_every_category_has_a_colour_and_a_name_of_its_own() -> None:
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
def test_colours_stand_out_from_white(color: str) -> None:
    assert 1.05 / (_luminance(color) + 0.05) > 2.2


def test_own_category_of_a_laboratory_takes_its_lineages_colour() -> None:
    assert category_color("X9", "erythroid") == LINEAGE_COLORS["erythroid"]
    assert category_color("X9", "mast") == LINEAGE_COLORS["other"]


def test_bars_add_up_and_other_outside_the_count_stands_apart() -> None:
    kept = pl.DataFrame(
        {
            "field_id": ["f"] * 6,
            "category": ["N", "N", "L", "Other", "Other", "Other"],
            "is_cblc": [True, True, False, False, False, False],
            "is_countable": [True, True, True, True, False, False],
        }
    )
    table = nucleated_differential(Patient("P1", "A", "control"), kept, VOCABULARY, None, 0.04)["differential"]
    by_lineage, by_category, n_apart = differential_bars(table, category_names(VOCABULARY), {"N": 2})
    assert n_apart == 2
    assert sum(bar.n for bar in by_category) == sum(bar.n for bar in by_lineage) == 4
    assert sum(bar.share or 0 for bar in by_lineage) == pytest.approx(1)
    by_key = {bar.key: bar for bar in by_category}
    assert (by_key["N"].length, by_key["N"].n_cblc, by_key["L"].length, by_key["L"].n_cblc) == (1, 2, 0.5, 0)
    assert [bar.group_order for bar in by_category] == sorted(bar.group_order for bar in by_category)


def test_bars_of_nothing_have_no_share() -> None:
    table = [{"category": "N", "lineage": "granulocytic", "n": 0, "n_countable": 0, "share": None}]
    by_lineage, by_category, _ = differential_bars(table, {}, {})
    assert by_lineage[0].share is None
    assert by_category[0].length == 0


def test_path_puts_pixel_centres_at_half_pixels() -> None:
    assert svg_path(np.array([[0, 0], [2, 0], [2, 1.25]])) == "M0.5,0.5 2.5,0.5 2.5,1.8Z"
    assert svg_path(np.empty((0, 2))) == ""


def test_label_stays_inside_the_image_for_a_cell_at_the_top() -> None:
    cell: dict[str, Any] = {
        "cell_id": "x",
        "contour_xy": [10.0, 0.0, 30.0, 0.0, 20.0, 20.0],
        "category": "N",
        "p_category": [0.1, 0.9],
    }
    cell |= {"p_cblc": 0.9, "is_cblc": True, "is_countable": True, "contradiction": False, "reject_reason": None}
    mark = cell_mark(cell, 1, 750, {"N": "granulocytic"})
    assert (mark.label_x, mark.label_y) == (20.0, 10.0)
    assert mark.sentence == "N (0.90), CBLC 0.90, called CBLC"
    assert not mark.uncertain


def test_every_reject_reason_has_words() -> None:
    assert all("_" not in reason_words(reason) and reason_words(reason) != reason for reason in REJECT_REASONS)
    assert reason_words("touches_seam") == "touches seam"
