"""Plasma cells in the differential of every surface: listed apart where they are predicted, part of Other elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from marrowscope.records import Patient
from marrowscope.report.fhir import write_fhir
from tests.fake_runs import write_run
from tests.report.test_standing import surfaces, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun

pytest.importorskip("pypdf", reason="no pypdf: install the group dev")
pytest.importorskip("typst", reason="no typst: install the extra pdf")

ADULT = Patient("P1", "A", "control", specimen="marrow", age_group="adult")
REST = "other cells without plasma cells"


def with_plasma(run: FakeRun) -> None:
    """Write the run again as if its bundle predicted plasma cells: two of its segmented neutrophils are some."""
    kept = [cell for cell in run.cells if "category" in cell]
    chosen = [cell for cell in kept if cell["category"] == "N5"][:2]
    for cell in kept:
        is_plasma = any(cell is one for one in chosen)
        cell |= {"p_plasma": 0.9 if is_plasma else 0.1, "is_plasma": is_plasma}
        if is_plasma:
            cell["category"] = "Other"
    write_run(run, [ADULT])


@pytest.mark.parametrize("predicted", [True, False])
def test_every_surface_lists_plasma_cells_apart_where_they_are_predicted(
    fake_run: Callable[..., FakeRun], *, predicted: bool
) -> None:
    run = fake_run([ADULT])
    if predicted:
        with_plasma(run)
    for name, words in surfaces(run).items():
        assert ("plasma cells" in words) == predicted, name
        assert (REST in words) == predicted, name
    row, patient = tables(run)
    (fhir,) = write_fhir(run.folder)
    named = {
        entry["resource"].get("code", {}).get("text", ""): entry["resource"]
        for entry in json.loads(fhir.read_text(encoding="utf-8"))["entry"]
    }
    assert ("Other: other cells" in named) != predicted
    if not predicted:
        assert patient["other_parts"] is None
        assert "n_plasma" not in row
        return
    plasma, rest = patient["other_parts"]
    assert (plasma["n"], rest["n"]) == (2, int(row["n_Other"]) - 2)
    assert (row["n_plasma"], row["n_other_without_plasma"]) == (str(plasma["n"]), str(rest["n"]))
    share = named["Plasma: plasma cells"]["valueQuantity"]["value"]
    assert share == pytest.approx(100 * plasma["share_nucleated"], abs=0.05)
    assert f"Other: {REST}" in named
    (fhir,) = write_fhir(run.folder, lang="zh")
    texts = [entry["resource"]["code"]["text"] for entry in json.loads(fhir.read_text(encoding="utf-8"))["entry"]]
    assert not [text for text in texts if text.startswith(("Other", "Plasma"))]
    assert "浆细胞: 浆细胞" in texts
