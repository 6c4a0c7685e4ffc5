from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from marrowscope.errors import InputError, RunError, VocabularyError
from marrowscope.evaluate import EvaluateConfig, link, link_cells
from marrowscope.evaluate.link import touches_edge
from marrowscope.records import Annotation, Field, Patient
from marrowscope.runs.checked_rows import CheckedRows
from marrowscope.runs.parquet import conform, scan_table, write_table
from marrowscope.runs.schemas import CELLS, FIELDS
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
WIDTH, HEIGHT = 400, 300
PATIENTS = (Patient("P1", "A", "AML"), Patient("P2", "A", "control"))


def circle(x: float, y: float, radius: float = 20.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def expert(code: str, x: float, y: float, index: int = 0) -> Annotation:
    return Annotation(code, circle(x, y), index)


def make_field(
    *annotations: Annotation, patient_id: str = "P1", name: str = "f", exhaustive: bool = True, annotated: bool = True
) -> Field:
    return Field(
        field_id=f"{patient_id}/{name}",
        patient_id=patient_id,
        center="A",
        path=Path(f"{name}.png"),
        sha256="aa",
        width_px=WIDTH,
        height_px=HEIGHT,
        um_per_px=0.15,
        annotated=annotated,
        exhaustive=exhaustive,
        annotations=annotations,
    )


def cell(
    x: float, y: float, category: str = "N5", *, field_id: str = "P1/f", reject: str | None = None, p: float = 0.1
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "cell_id": f"{field_id}:{x}:{y}",
        "field_id": field_id,
        "patient_id": field_id.split("/", maxsplit=1)[0],
        "contour_xy": circle(x, y).ravel().tolist(),
        "reject_reason": reject,
    }
    if reject is None:
        is_cblc = category in {"N", "N1"}
        row |= {"category": category, "is_cblc": is_cblc, "is_countable": category != "Other", "p_cblc": p}
    return row


def tables(fields: list[Field], cells: list[dict[str, Any]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = [{"field_id": f.field_id, "patient_id": f.patient_id, "sha256": f.sha256, "status": "ok"} for f in fields]
    frame = pl.DataFrame(cells, schema_overrides=CELLS, infer_schema_length=None)
    return conform(pl.DataFrame(rows, schema_overrides=FIELDS), "fields"), conform(frame, "cells")


def test_found_missed_and_unlabeled_cells_stand_side_by_side() -> None:
    field = make_field(expert("N", 60, 60, 0), expert("N5", 150, 60, 1), expert("L2", 240, 60, 2))
    cells = [
        cell(62, 60, "N1", p=0.8),  # found, called another category
        cell(150, 60, reject="not_round"),  # found, then refused
        cell(300, 200, "N5"),  # nobody outlined it
    ]
    linked = link_cells(*tables([field], cells), PATIENTS, [field], VOCABULARY)
    found = linked.expert.sort("shape_index")
    assert found["found"].to_list() == [True, False, False]
    assert found["found_before_rules"].to_list() == [True, True, False]
    assert found["predicted_category"].to_list() == [VOCABULARY.categories.index("N1"), None, None]
    assert found["p_cblc"].to_list() == [0.8, None, None]
    assert found["iou"][0] == pytest.approx(0.88, abs=0.02)
    assert linked.detections["matched"].to_list() == [True, False]
    assert linked.detections["ignored"].to_list() == [False, False]


def test_a_cell_of_which_the_nucleus_alone_is_outlined_is_found_and_not_also_unlabeled() -> None:
    nucleus = Annotation("N", circle(60, 60, radius=10), 0)  # a quarter of the contour's area: IoU 0.25
    crumb = Annotation("N5", circle(150, 60, radius=5), 1)  # a sixteenth: no nucleus
    linked = link_cells(
        *tables([field := make_field(nucleus, crumb)], [cell(60, 60, "N1", p=0.8), cell(150, 60, "N5")]),
        PATIENTS, [field], VOCABULARY,
    )  # fmt: skip
    assert linked.expert["found"].to_list() == [True, False]
    assert linked.expert["nucleus_alone"].to_list() == [True, False]
    assert linked.expert["predicted_cblc"].to_list() == [1, None]
    assert linked.expert["iou"][0] == pytest.approx(0.25, abs=0.01)
    assert linked.detections["matched"].to_list() == [True, False]


def test_cells_outlined_by_a_network_are_marked_and_a_hit_on_one_is_not_counted() -> None:
    field = make_field(replace(expert("N", 60, 60, 0), network_contour=True), expert("N5", 150, 60, 1))
    cells = [cell(60, 60, "N"), cell(150, 60, "N5")]
    linked = link_cells(*tables([field], cells), PATIENTS, [field], VOCABULARY)
    assert linked.expert["network_contour"].to_list() == [True, False]
    assert linked.expert["found"].to_list() == [True, True]  # its call counts as any other
    assert linked.detections["network_contour"].to_list() == [True, False]
    assert [outcomes[0] for outcomes in linked.detections["outcomes"].to_list()] == [-1, 1]


def test_ratios_are_over_countable_cells_and_cut_cells_are_no_truth() -> None:
    field = make_field(
        expert("N", 60, 60, 0), expert("N5", 150, 60, 1), expert("V", 240, 60, 2), expert("N", 15, 200, 3)
    )
    cells = [cell(60, 60, "N"), cell(150, 60, "N5"), cell(240, 60, "Other"), cell(300, 200, "N5")]
    linked = link_cells(*tables([field], cells), PATIENTS, [field], VOCABULARY)
    (row,) = linked.ratios.iter_rows(named=True)
    assert (row["n_true_cblc"], row["n_true_countable"], row["true_ratio"]) == (1, 2, 0.5)
    assert (row["n_predicted_cblc"], row["n_predicted_countable"]) == (1, 3)
    assert row["predicted_ratio_no_seams"] is None  # a photograph has no seams
    assert linked.expert["cut"].to_list() == [False, False, False, True]


def test_field_that_is_not_exhaustive_gives_cells_but_no_ratio() -> None:
    field = make_field(expert("P2", 60, 60), exhaustive=False)
    linked = link_cells(*tables([field], [cell(60, 60, "Other"), cell(200, 200)]), PATIENTS, [field], VOCABULARY)
    assert linked.expert["found"].to_list() == [True]
    assert linked.detections["exhaustive"].to_list() == [False, False]
    assert linked.ratios["true_ratio"].to_list() == [None]
    assert linked.ratios["predicted_ratio"].to_list() == [None]


def test_only_fields_on_both_sides_are_compared_and_the_others_counted() -> None:
    both, absent = make_field(expert("N", 60, 60)), make_field(expert("N", 60, 60), patient_id="P2")
    bare = make_field(name="bare", annotated=False)
    run_fields, run_cells = tables([both, bare], [cell(60, 60), cell(60, 60, field_id="P1/bare")])
    linked = link_cells(run_fields, run_cells, PATIENTS, [both, absent, bare], VOCABULARY)
    assert (linked.n_fields_only_in_run, linked.n_fields_only_in_cohort) == (1, 1)
    assert linked.ratios["patient_id"].to_list() == ["P1"]
    assert linked.ratios["n_fields_unshared"].to_list() == [1]  # the run's ratio counts the bare field too
    assert len(linked.detections) == 1


def test_however_few_fields_are_read_at_once_and_wherever_the_cells_lie_the_link_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [make_field(expert("N", 60, 60), patient_id=patient, name=f"f{n}") for patient in "ab" for n in range(3)]
    cells = [cell(60, 60, "N", field_id=field.field_id, p=0.8) for field in fields[:-1]]
    cells += [cell(200, 200, "N5", field_id=fields[0].field_id), cell(90, 200, reject="cut", field_id="a/f1")]
    patients = [Patient(name, "A", "AML") for name in "ab"]
    run_fields, run_cells = tables(fields, cells)
    whole = link_cells(run_fields, run_cells, patients, fields, VOCABULARY)
    assert whole.ratios["n_run_countable"].to_list() == [4, 2]
    assert whole.ratios["n_run_cblc"].to_list() == [3, 2]
    path = tmp_path / "cells.parquet"
    write_table(path, run_cells, "cells")
    monkeypatch.setattr(link, "_FIELDS_AT_ONCE", 2)
    in_file = CheckedRows(scan_table(path, "cells"), path)
    for given in (run_cells, in_file):
        linked = link_cells(run_fields, given, patients, fields, VOCABULARY)
        assert linked.expert.equals(whole.expert)
        assert linked.detections.equals(whole.detections)
        assert linked.ratios.equals(whole.ratios)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(RunError, match=r"cells\.parquet: not a readable Parquet table"):
        link_cells(run_fields, in_file, patients, fields, VOCABULARY)


def test_field_that_only_one_ratio_counts_is_counted_by_patient() -> None:
    failed, partly = make_field(expert("N", 60, 60)), make_field(expert("N", 60, 60), name="partly", exhaustive=False)
    same = make_field(expert("N", 60, 60), patient_id="P2")
    run_fields, run_cells = tables([failed, partly, same], [])
    run_fields = run_fields.with_columns(
        status=pl.when(pl.col("field_id") == failed.field_id).then(pl.lit("failed")).otherwise("status")
    )
    linked = link_cells(run_fields, run_cells, PATIENTS, [failed, partly, same], VOCABULARY)
    assert dict(linked.ratios.select("patient_id", "n_fields_unshared").iter_rows()) == {"P1": 2, "P2": 0}


def test_run_of_another_cohort_is_refused() -> None:
    field = make_field(expert("N", 60, 60))
    run_fields, run_cells = tables([make_field(name="other")], [])
    with pytest.raises(InputError, match="none of the cohort's 1 annotated field among the run's 1"):
        link_cells(run_fields, run_cells, PATIENTS, [field], VOCABULARY)


def test_image_that_changed_is_refused() -> None:
    field = make_field(expert("N", 60, 60))
    run_fields, run_cells = tables([field], [])
    with pytest.raises(InputError, match="differs from the one in the run"):
        link_cells(run_fields.with_columns(sha256=pl.lit("bb")), run_cells, PATIENTS, [field], VOCABULARY)


def test_cells_of_an_image_that_failed_are_missed() -> None:
    fields = [make_field(expert("N", 60, 60)), make_field(expert("N", 60, 60), name="broken")]
    run_fields, run_cells = tables(fields, [cell(60, 60, "N")])
    is_broken = pl.col("field_id") == "P1/broken"
    run_fields = run_fields.with_columns(
        status=pl.when(is_broken).then(pl.lit("failed")).otherwise("status"),
        sha256=pl.when(is_broken).then(None).otherwise("sha256"),
    )
    linked = link_cells(run_fields, run_cells, PATIENTS, fields, VOCABULARY)
    assert linked.expert["found"].to_list() == [True, False]


def test_unknown_code_names_file_and_shape() -> None:
    field = make_field(expert("N9", 60, 60, 4))
    with pytest.raises(VocabularyError, match=r"f\.png, shape 4: found label 'N9'"):
        link_cells(*tables([field], []), PATIENTS, [field], VOCABULARY)


@pytest.mark.parametrize(
    ("x", "y", "tiles", "expected"),
    [
        (200, 150, (1, 1), False),
        (22, 150, (1, 1), True),  # 2 px from the left edge
        (378, 150, (1, 1), True),
        (200, 278, (1, 1), True),
        (200, 26, (1, 1), False),  # 6 px from the top edge
        (200, 150, (2, 1), True),  # across the seam at x = 199.5
        (100, 150, (4, 3), True),  # seam at x = 99.5
        (222, 150, (2, 1), True),  # 2.5 px right of it
        (226, 150, (2, 1), False),
        (200, 150, (1, 2), True),
        (150, 50, (2, 3), False),
    ],
)
def test_edges_are_those_of_the_image_and_of_its_tiles(x: int, y: int, tiles: tuple[int, int], expected: bool) -> None:  # noqa: FBT001
    config = EvaluateConfig(tile_columns=tiles[0], tile_rows=tiles[1])
    assert touches_edge(circle(x, y), make_field(), config) is expected


def test_unmatched_detection_at_a_seam_counts_neither_way_and_a_matched_one_counts() -> None:
    field = make_field(expert("N", 200, 60))  # sits on the seam, and is outlined all the same
    cells = [cell(200, 60, "N"), cell(200, 200, "N"), cell(90, 200, "N5")]
    config = EvaluateConfig(tile_columns=2)
    linked = link_cells(*tables([field], cells), PATIENTS, [field], VOCABULARY, config=config)
    assert linked.detections["ignored"].to_list() == [False, True, False]
    (row,) = linked.ratios.iter_rows(named=True)
    assert row["predicted_ratio"] == pytest.approx(2 / 3)
    assert row["predicted_ratio_no_seams"] == pytest.approx(1 / 2)


def test_field_without_annotations_or_cells_is_compared_as_empty() -> None:
    field = make_field()
    linked = link_cells(*tables([field], []), PATIENTS, [field], VOCABULARY)
    assert linked.expert.is_empty()
    assert linked.detections.is_empty()
    assert linked.ratios["true_ratio"].to_list() == [None]


def test_a_coarse_label_is_linked_with_what_it_says() -> None:
    blast = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"
    field = make_field(expert(blast, 60, 60, 0), expert("LYI{L,L1}", 150, 60, 1))
    linked = link_cells(*tables([field], [cell(60, 60, "N"), cell(150, 60, "L")]), PATIENTS, [field], VOCABULARY)
    first, second = linked.expert.sort("shape_index").iter_rows(named=True)
    names = [VOCABULARY.categories[index] for index in first["may_be"]]
    assert (first["coarse"], first["category"], names) == ("BLA{N,M,J,L}", None, ["N", "M", "Other", "L"])
    assert (first["cblc"], first["countable"], first["code"]) == (True, True, blast)
    assert (second["coarse"], second["category"]) == (None, VOCABULARY.categories.index("L"))
    (row,) = linked.ratios.iter_rows(named=True)
    assert (row["n_true_cblc"], row["n_true_countable"], row["n_true_undecided"]) == (1, 2, 0)


def test_undecided_cells_enter_neither_ratio_and_every_cell_is_counted_once() -> None:
    """IG leaves CBLC open; J,J2 leaves countable open. Their detections, called CBLC, leave the predicted ratio too."""
    labels = ["N", "N5", "V", "IG{N1,N2,N3}", "X{J,J2}"]
    field = make_field(*(expert(label, 40 + 80 * k, 60, k) for k, label in enumerate(labels)))
    calls = ["N", "N5", "Other", "N1", "N"]
    cells = [cell(40 + 80 * k, 60, name) for k, name in enumerate(calls)]
    linked = link_cells(*tables([field], cells), PATIENTS, [field], VOCABULARY)
    (row,) = linked.ratios.iter_rows(named=True)
    assert (row["n_true_cblc"], row["n_true_countable"], row["n_true_not_countable"]) == (1, 2, 1)
    assert row["n_true_undecided"] == 2
    assert row["n_true_countable"] + row["n_true_not_countable"] + row["n_true_undecided"] == len(linked.expert)
    assert (row["n_predicted_cblc"], row["n_predicted_countable"]) == (1, 2)
    assert (row["n_run_cblc"], row["n_run_countable"]) == (3, 4)
