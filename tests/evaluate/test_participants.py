"""Table 1 and the flows: counts by hand, and nothing lost between two boxes."""

from __future__ import annotations

import polars as pl
import pytest

from marrowscope.evaluate import LinkedCells
from marrowscope.evaluate.frames import DETECTION_COLUMNS, EXPERT_COLUMNS
from marrowscope.evaluate.participants import Characteristic, Flow, FlowBox, characteristics, flows
from tests.evaluate.patient_rows import CONFIG, frame, patient


def cell(name: str, *, center: str = "A", found: bool = True, **other: object) -> dict[str, object]:
    row: dict[str, object] = {"patient_id": name, "center": center, "field_id": f"{name}/f", "cut": False}
    return row | {"found": found, "found_before_rules": found, "cblc": True} | other


LINKED = LinkedCells(
    expert=pl.DataFrame(
        [
            cell("P1"),
            cell("P1", found=False),
            cell("P1", found=False, found_before_rules=True),
            cell("P2", cut=True),
            cell("P3", center="B", cblc=None),
        ],
        schema=EXPERT_COLUMNS,
    ),
    detections=pl.DataFrame(schema=DETECTION_COLUMNS),
    ratios=frame(
        patient("P1", "AML", 0.2, 0.3, sex="female", specimen="marrow"),
        patient("P2", "MDS", 0.4, None, sex=None, specimen="marrow"),
        patient("P3", None, None, 0.1, sex="male", specimen="marrow", center="B"),
    ),
    n_fields_only_in_run=0,
    n_fields_only_in_cohort=0,
)


def measured() -> dict[tuple[str, str, str], Characteristic]:
    return {(item.center, item.name, item.value): item for item in characteristics(LINKED)}


def test_table_1_counts_patients_and_cells_by_center() -> None:
    table = measured()
    assert [table[center, "patients", ""].n for center in ("A", "B", "all centers")] == [2, 1, 3]
    women = table["A", "sex", "female"]
    assert (women.n, women.share) == (1, 0.5)
    assert table["A", "sex", "not stated"].n == 1
    assert table["B", "sex", "female"].n == 0
    assert table["all centers", "specimen", "marrow"].share == 1
    assert not any(name == "age group" for _, name, _ in table)
    assert (table["A", "fields", ""].n, table["A", "expert cells", ""].n) == (2, 4)
    spread = table["all centers", "expert cells per patient", ""]
    assert (spread.lower_quartile, spread.median, spread.upper_quartile) == (1, 1, 2)
    assert table["B", "annotated CBLC ratio", ""].median is None
    for center, n in (("A", 2), ("B", 1), ("all centers", 3)):
        counts = [item.n or 0 for key, item in table.items() if key[0] == center and key[1] == "diagnosis"]
        assert sum(counts) == n


def test_flows_lead_from_all_to_those_measured() -> None:
    found = {
        flow.key: flow
        for flow in flows(
            LINKED,
            CONFIG,
            n_patients=6,
            n_rejected_patients={"patient_without_images": 2},
            n_contours=9,
            n_rejected_contours={"min_area": 2, "edge": 1},
        )
    }
    assert [(box.name, box.n) for box in found["patients_ratio"].boxes] == [
        ("rows of patients.csv", 6),
        ("patients with images", 4),
        ("patients compared", 3),
        ("patients in the figures of the ratio", 1),
    ]
    assert found["patients_ratio"].boxes[1].left_out == (("patient without images", 2),)
    assert found["patients_ratio"].boxes[3].left_out == (("no annotated ratio", 1), ("no counted ratio", 1))
    last = found["patients_aml"].boxes[-1]
    assert (last.name, last.n) == ("patients in the figures of AML (1 with AML, 0 without)", 1)
    assert [box.n for box in found["expert_cells"].boxes] == [5, 4, 2, 1]
    assert found["expert_cells"].boxes[2].left_out == (
        ("not found by the segmenter", 1),
        ("found, left out by the quality rules", 1),
    )
    assert [box.n for box in found["contours"].boxes] == [9, 6]


def test_a_flow_that_loses_something_is_refused() -> None:
    with pytest.raises(ValueError, match="found 3 b, expected 5 a less 1 left out"):
        Flow("x", (FlowBox("a", 5), FlowBox("b", 3, (("why", 1),))))
