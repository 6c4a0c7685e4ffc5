from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from marrowscope.report.gallery import CBLC_LIMITS, N_NEAR_MISSES, OTHER_LIMITS, galleries, near_misses
from tests.report.test_marks import mark_of

NUMBERS = count()


def marks(category: str, n: int, *, is_cblc: bool) -> list[object]:
    base = replace(mark_of(), category=category, is_cblc=is_cblc)
    return [replace(base, cell_id=f"{next(NUMBERS):04d}", p_category=k / n, p_cblc=k / n) for k in range(n)]


def test_few_cells_are_all_shown_the_most_certain_first() -> None:
    (gallery,) = galleries(marks("N", 5, is_cblc=True), ["N", "L"])  # type: ignore[arg-type]
    assert [mark.p_category for mark in gallery.most_certain] == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert gallery.least_certain == gallery.between == ()
    assert (gallery.n, gallery.n_cblc, gallery.n_shown) == (5, 5, 5)


@pytest.mark.parametrize(("is_cblc", "limits"), [(True, CBLC_LIMITS), (False, OTHER_LIMITS)])
def test_many_cells_show_both_ends(limits: tuple[int, int], *, is_cblc: bool) -> None:
    (gallery,) = galleries(marks("N", 200, is_cblc=is_cblc), ["N"])  # type: ignore[arg-type]
    assert (len(gallery.most_certain), len(gallery.least_certain)) == limits
    assert gallery.least_certain[-1].p_category == 0
    assert gallery.n_shown == sum(limits)
    shown = (*gallery.most_certain, *gallery.between, *gallery.least_certain)
    assert len({mark.cell_id for mark in shown}) == 200
    certainty = [mark.p_category for mark in gallery.between]
    assert certainty == sorted(certainty, reverse=True)


def test_galleries_follow_the_order_given_and_keep_a_category_of_its_own() -> None:
    kept = [*marks("X9", 1, is_cblc=False), *marks("L", 1, is_cblc=False), *marks("N", 1, is_cblc=True)]
    found = galleries(kept, ["N", "N1", "L"])  # type: ignore[arg-type]
    assert [gallery.category for gallery in found] == ["N", "L", "X9"]


def test_near_misses_are_the_cells_not_called_with_the_highest_probability() -> None:
    kept = [*marks("N", 10, is_cblc=True), *marks("L", 100, is_cblc=False)]
    found = near_misses(kept)  # type: ignore[arg-type]
    assert len(found) == N_NEAR_MISSES
    assert found[0].p_cblc == 0.99
    assert all(not mark.is_cblc for mark in found)
