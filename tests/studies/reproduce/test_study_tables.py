from __future__ import annotations

import polars as pl
import pytest

from marrowscope.studies.reproduce import PRESETS
from marrowscope.studies.reproduce.compare import CenterComparison, Comparison, Score
from marrowscope.studies.reproduce.study_tables import NOT_COMPARABLE, as_markdown, as_table


def row(center: str, n_patients: int, published: float | None, difference: float) -> CenterComparison:
    """Give one center's row whose probe stands ``difference`` below the ensemble's 0.95."""
    return CenterComparison(
        center=center,
        published=published,
        n_patients=n_patients,
        n_fields=12,
        n_cells=200,
        n_cblc=50,
        ensemble=Score(value=0.95, lower=0.9, upper=0.98),
        members={
            "fold-0": Score(value=0.94, lower=None, upper=None),
            "fold-1": Score(value=None, lower=None, upper=None),
        },
        probe=Score(value=0.95 - difference, lower=0.8, upper=0.9),
        n_probe_cells=200,
        difference=Score(value=difference, lower=difference - 0.05, upper=difference + 0.05),
        all_negative=0.5,
        further={"cblc_auc_matched": Score(value=0.99, lower=0.98, upper=1.0)},
    )


COMPARISON = Comparison(centers=(row("S4", 6, 0.9076, 0.1), row("S5", 4, 0.8696, 0.02)), n_members=2)


def test_the_table_has_the_papers_figures_in_a_column_of_their_own_and_says_what_they_are() -> None:
    text = as_markdown(PRESETS["quick"], COMPARISON)
    assert NOT_COMPARABLE in text
    lines = text.splitlines()
    assert "| CBLC AUC, matched | 0.9900 [0.9800, 1.0000] |" in text  # the title of the stored key
    assert "| S4 | 6 | 12 | 200 | 50 | 0.9500 [0.9000, 0.9800] | 0.8500 [0.8000, 0.9000] | " in text
    assert next(line for line in lines if line.startswith("| S4 |")).endswith(
        "+0.1000 [+0.0500, +0.1500] | 0.5000 | 0.9076 |"
    )
    assert "0.9500 [0.9000, 0.9800] * |" in next(line for line in lines if line.startswith("| S5 |"))
    assert "| fold-0 | 0.9400 [no interval] | 0.9400 [no interval] |" in lines
    assert "| fold-1 | not defined | not defined |" in lines
    assert "| paper, ensemble of 5 | 0.9076 | 0.8696 |" in lines


def test_every_table_is_well_formed() -> None:
    for block in as_markdown(PRESETS["quick"], COMPARISON).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_csv_has_a_row_a_model_and_center() -> None:
    table = as_table(COMPARISON)
    assert table.filter(center="S4")["model"].to_list() == [
        "fold-0", "fold-1", "ensemble", "probe", "ensemble - probe", "all negative", "paper, ensemble",
    ]  # fmt: skip
    published = table.filter(pl.col("model") == "paper, ensemble")
    assert published["value"].to_list() == [0.9076, 0.8696]
    assert published["n_cells"].null_count() == 2


@pytest.mark.parametrize(("difference", "beats"), [(0.02, True), (0.0, False), (-0.01, False)])
def test_the_probe_is_beaten_only_where_every_center_is_above(difference: float, *, beats: bool) -> None:
    centers = (COMPARISON.centers[0], row("S5", 4, 0.8696, difference))
    assert Comparison(centers=centers, n_members=2).beats_probe is beats
