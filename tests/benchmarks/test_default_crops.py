"""The choice of crops that the default bundle learns from."""

from __future__ import annotations

import polars as pl

from benchmarks.default_crops import chosen_rows, never_trained

BLAST = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"


def cells() -> pl.DataFrame:
    """Two centers, three of whose patients are put aside, and a simulated one with 200 cells of every code."""
    rows = [("M001", "M", BLAST, False), ("M001", "M", "L2", False), ("M035", "M", "L2", False)]
    rows += [(f"B{k}", "B", "N5", False) for k in range(7)] + [("B0b2d22", "B", "N5", False)]
    rows += [("S1", "S", code, True) for code in ("L1", "M0", "N", "R1", "P2", "V") for _ in range(200)]
    both = [(*row, source) for row in rows for source in ("expert", "predicted")]
    names = ["patient_id", "center", "expert_code", "simulated", "source"]
    return pl.DataFrame(both, schema=names, orient="row").with_columns(pl.lit("N,L2").alias("can_label"))


def test_what_ships_never_sees_the_patients_put_aside() -> None:
    aside = never_trained(cells())
    assert {"M034", "M035", "M036", "M037", "B0b2d22"} <= aside
    assert len(aside) == 4 + 6
    assert not aside & set(chosen_rows(cells(), None, 0)["patient_id"])


def test_simulated_cells_stand_in_only_for_categories_without_real_ones() -> None:
    chosen = chosen_rows(cells(), None, 0)
    counts = dict(chosen.filter("simulated").group_by("expert_code").len().iter_rows())
    assert counts == {"R1": 120, "P2": 60, "V": 120}
    assert chosen["source"].unique().to_list() == ["predicted"]
    assert chosen.filter(pl.col("patient_id") == "M001")["expert_code"].sort().to_list() == ["L2", "N"]
    assert chosen["can_label"].is_null().all()


def test_a_source_that_is_left_out_is_replaced_where_no_other_has_its_categories() -> None:
    chosen = chosen_rows(cells(), "M", 0)
    assert "M" not in chosen["center"].to_list()
    assert {"L1", "N"} <= set(chosen.filter("simulated")["expert_code"])
