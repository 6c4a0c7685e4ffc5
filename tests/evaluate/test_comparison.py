"""A reader's annotations in the form of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marrowscope.errors import InputError
from marrowscope.evaluate.comparison import reader_side
from marrowscope.records import Annotation, Field
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
SQUARE = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 50.0], [10.0, 50.0]])


def field(*codes: str, annotated: bool = True) -> Field:
    shapes = tuple(Annotation(code, SQUARE, index) for index, code in enumerate(codes))
    return Field("P1/f", "P1", "A", Path("P1/f.png"), "0" * 64, 100, 100, 0.1, annotated, annotations=shapes)


def test_every_polygon_is_a_kept_cell_called_by_its_code() -> None:
    side = reader_side(Path("second"), [field("N", "J2", "L1"), field("N", annotated=False)], VOCABULARY)
    assert side.fields.select("field_id", "patient_id", "status").rows() == [("P1/f", "P1", "ok")]
    cells = side.cells.read()
    called = cells.select("category", "is_cblc", "is_countable", "reject_reason").rows()
    assert called == [("N", True, True, None), ("Other", False, False, None), ("L", False, True, None)]
    assert cells["contour_xy"][0].to_list() == SQUARE.ravel().tolist()
    assert cells["cell_id"].n_unique() == 3
    assert (side.patients, side.threshold, side.described) == (None, None, "reader second")


def test_a_field_without_cells_is_one_too() -> None:
    side = reader_side(Path("second"), [field()], VOCABULARY)
    assert (len(side.fields), len(side.cells.read())) == (1, 0)
    assert reader_side(Path("second"), [], VOCABULARY).fields.is_empty()


def test_a_label_that_is_no_call_is_refused() -> None:
    with pytest.raises(InputError, match=r"in shape 1, which leaves the category, CBLC or countable open"):
        reader_side(Path("second"), [field("N", "blast{N,M,J,L}")], VOCABULARY)
