"""Match a run's contours to the experts' polygons, image by image, and keep the unmatched ones of both sides.

An unmatched detection at the image edge, or at a tile edge if fields are mosaics, is not counted, because experts do
not outline cut cells. A polygon around the nucleus alone is matched to the contour that holds it (``cells.match``): one
cell is not counted as missed and as called at once. Only fields in both the run and the cohort are compared; the number
of others is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field as Setting

from marrowscope import geometry
from marrowscope.cells.match import MIN_MATCH_IOU, add_nuclei, match_iou_matrix
from marrowscope.config import StageConfig
from marrowscope.errors import InputError
from marrowscope.evaluate.frames import DETECTION_COLUMNS, EXPERT_COLUMNS, RATIO_COLUMNS
from marrowscope.evaluate.ranking import rank_outcomes
from marrowscope.runs.checked_rows import CheckedRows
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.cells.match import Matching
    from marrowscope.records import ContourArray, Field, Patient
    from marrowscope.vocabulary import Vocabulary

    _Found = tuple[dict[str, Any], ContourArray]
    """A cell of the run and its outline (n, 2)."""


_FIELDS_AT_ONCE = 256
_CELL_COLUMNS = (
    "cell_id",
    "field_id",
    "reject_reason",
    "contour_xy",
    "score",
    "category",
    "is_cblc",
    "is_countable",
    "p_cblc",
    "p_category",
)


class EvaluateConfig(StageConfig):
    """What counts as found, what is not counted, and who has AML."""

    min_iou: float = Setting(
        default=MIN_MATCH_IOU, gt=0, le=1, description="lowest contour IoU at which a cell counts as found"
    )
    tile_columns: int = Setting(default=1, ge=1, description="tiles across a mosaic field; 1 = a single photograph")
    tile_rows: int = Setting(default=1, ge=1, description="tiles down a mosaic field; 1 = a single photograph")
    edge_margin_px: float = Setting(
        default=4.0, ge=0, description="an unmatched detection this close to an image or tile edge is not counted"
    )
    threshold: float | None = Setting(
        default=None, ge=0, le=1, description="ratio above which a patient counts as AML; without it, no sensitivity"
    )
    aml_diagnoses: tuple[str, ...] = Setting(
        default=("AML",), min_length=1, description="diagnoses that count as AML, case ignored; all others do not"
    )
    n_bins: int = Setting(default=15, ge=1, description="bins of equal cell number for the calibration error")
    n_resamples: int = Setting(default=2000, ge=0, description="bootstrap resamples of patients")
    seed: int = Setting(default=0, ge=0, description="seed of the bootstrap")


@dataclass(frozen=True, slots=True)
class LinkedCells:
    """Run and ground truth side by side; the columns are in ``evaluate.frames``.

    ``expert`` has one row per expert cell, ``detections`` per kept detection, ``ratios`` per patient. The counts give
    the fields that could not be compared, and the expert cells of slides outside the regions that were read.
    """

    expert: pl.DataFrame
    detections: pl.DataFrame
    ratios: pl.DataFrame
    n_fields_only_in_run: int
    n_fields_only_in_cohort: int
    n_cells_outside_regions: int = 0


def link_cells(
    run_fields: pl.DataFrame,
    run_cells: pl.DataFrame | CheckedRows,
    patients: Sequence[Patient],
    fields: Sequence[Field],
    vocabulary: Vocabulary,
    *,
    config: EvaluateConfig | None = None,
) -> LinkedCells:
    """Match the run's contours to the expert polygons, image by image; a few fields' contours are in memory at a time.

    An image that the run could not read has no contours, so all its expert cells are missed.
    """
    config = config or EvaluateConfig()
    rows = CheckedRows.of(run_cells) if isinstance(run_cells, pl.DataFrame) else run_cells
    hashes = dict(run_fields.select("field_id", "sha256").iter_rows())
    failed = set(run_fields.filter(pl.col("status") != "ok")["field_id"])
    annotated = [field for field in fields if field.annotated]
    compared = [field for field in annotated if field.field_id in hashes]
    if not compared:
        message = (
            f"found none of the cohort's {count_of(len(annotated), 'annotated field')} among the run's {len(hashes)}, "
            "expected "
            "some in common; evaluate a run with the cohort that it predicted"
        )
        raise InputError(message)
    for field in compared:
        if field.field_id not in failed and hashes[field.field_id] != field.sha256:
            message = (
                f"{field.path}: found an image that differs from the one in the run (SHA-256 {field.sha256[:12]}, "
                f"expected {hashes[field.field_id][:12]}); predict this cohort again"
            )
            raise InputError(message)
    experts, detected = [pl.DataFrame(schema=EXPERT_COLUMNS)], [pl.DataFrame(schema=DETECTION_COLUMNS)]
    for start in range(0, len(compared), _FIELDS_AT_ONCE):
        linked = _link_fields(compared[start : start + _FIELDS_AT_ONCE], rows, vocabulary, config)
        experts.append(linked[0])
        detected.append(linked[1])
    expert, detection = pl.concat(experts), pl.concat(detected)
    known = {field.patient_id for field in compared}
    compared_patients = [patient for patient in patients if patient.patient_id in known]
    compared_ids = {field.field_id for field in compared}
    return LinkedCells(
        expert=expert,
        detections=detection,
        ratios=_patient_ratios(compared_patients, expert, detection, _counted(rows), config).with_columns(
            n_fields_unshared=_count_unshared(compared_patients, compared, run_fields)
        ),
        n_fields_only_in_run=len(hashes.keys() - compared_ids),
        n_fields_only_in_cohort=len(annotated) - len(compared),
    )


def _link_fields(
    fields: Sequence[Field], run_cells: CheckedRows, vocabulary: Vocabulary, config: EvaluateConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the expert rows and the detection rows of some images."""
    names = [field.field_id for field in fields]
    cells = run_cells.read(run_cells.rows.filter(pl.col("field_id").is_in(names)).select(_CELL_COLUMNS))
    found: dict[str, list[_Found]] = {name: [] for name in names}
    for row, points in zip(cells.drop("contour_xy").iter_rows(named=True), cells["contour_xy"], strict=True):
        found[row["field_id"]].append((row, np.asarray(points.to_numpy(), dtype=np.float64).reshape(-1, 2)))
    expert_rows: list[dict[str, Any]] = []
    detection_rows: list[dict[str, Any]] = []
    for field in fields:
        experts, detections = _link_field(field, found[field.field_id], vocabulary, config)
        expert_rows += experts
        detection_rows += detections
    return pl.DataFrame(expert_rows, schema=EXPERT_COLUMNS), pl.DataFrame(detection_rows, schema=DETECTION_COLUMNS)


def _counted(run_cells: CheckedRows) -> dict[str, tuple[int, int]]:
    """Return the countable cells and the CBLC of each patient, over all kept cells of the run."""
    countable = run_cells.rows.filter(pl.col("reject_reason").is_null() & pl.col("is_countable"))
    counts = countable.group_by("patient_id").agg(pl.len(), pl.col("is_cblc").sum())
    return {patient_id: (n, int(x)) for patient_id, n, x in run_cells.read(counts).iter_rows()}


def _link_field(
    field: Field, cells: Sequence[_Found], vocabulary: Vocabulary, config: EvaluateConfig
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the expert rows and the detection rows of one image."""
    rows, contours = [row for row, _ in cells], [contour for _, contour in cells]
    is_kept = np.array([row["reject_reason"] is None for row in rows], dtype=bool)
    kept = [row for row, keep in zip(rows, is_kept, strict=True) if keep]
    outlines = [annotation.contour_xy for annotation in field.annotations]
    iou = geometry.iou_matrix(contours, outlines).reshape(len(rows), len(outlines))
    areas, expert_areas = (geometry.areas(geometry.Rings.of(drawn)) for drawn in (contours, outlines))
    before, after = (
        add_nuclei(match_iou_matrix(iou[of], config.min_iou), iou[of], areas[of], expert_areas)
        for of in (np.ones(len(rows), dtype=bool), is_kept)
    )
    place = {
        "patient_id": field.patient_id,
        "center": field.center,
        "field_id": field.field_id,
        "exhaustive": field.exhaustive,
    }
    experts = _expert_rows(field, before, after, kept, vocabulary)
    unmatched = set(after.unmatched_predicted)
    undecided = {pair.predicted for pair in after.pairs if not _is_decided(experts[pair.expert])}
    of_kept = [contour for contour, keep in zip(contours, is_kept, strict=True) if keep]
    at_edge = np.array([touches_edge(contour, field, config) for contour in of_kept], dtype=bool)
    uncounted = np.array([row["cut"] or row["network_contour"] for row in experts], dtype=bool)
    of_network = {pair.predicted for pair in after.pairs if field.annotations[pair.expert].network_contour}
    scores = np.array([row["score"] if row["score"] is not None else 0.0 for row in kept], dtype=np.float64)
    outcomes = rank_outcomes(iou[is_kept], scores, uncounted, at_edge)
    detections = [
        {
            "cell_id": row["cell_id"],
            "matched": index not in unmatched,
            "ignored": index in unmatched and bool(at_edge[index]),
            "undecided": index in undecided,
            "network_contour": index in of_network,
            "is_cblc": row["is_cblc"],
            "is_countable": row["is_countable"],
            "score": row["score"],
            "outcomes": outcomes[index].tolist(),
        }
        for index, row in enumerate(kept)
    ]
    return [place | row for row in experts], [place | row for row in detections]


def _expert_rows(
    field: Field, before: Matching, after: Matching, kept: Sequence[dict[str, Any]], vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    found_before = {pair.expert for pair in before.pairs}
    found = {pair.expert: pair for pair in after.pairs}
    normal_blasts = vocabulary.codes_where(who_blast=True, cblc=False)
    rows: list[dict[str, Any]] = []
    for index, annotation in enumerate(field.annotations):
        label = vocabulary.read_label(annotation.code, str(field.path), annotation.shape_index)
        may_be = [vocabulary.categories.index(name) for name in label.categories]
        is_open = len(may_be) > 1
        row: dict[str, Any] = {
            "shape_index": annotation.shape_index,
            "code": label.text,
            "category": None if is_open else may_be[0],
            "coarse": label.short if is_open else None,
            "may_be": may_be if is_open else None,
            "cblc": label.cblc,
            "countable": label.countable,
            "normal_blast": all(code.code in normal_blasts for code in label.codes),
            "cut": geometry.is_cut(annotation.contour_xy, field.width_px, field.height_px),
            "network_contour": annotation.network_contour,
            "found_before_rules": index in found_before,
            "found": index in found,
            "nucleus_alone": index in found and found[index].nucleus_alone,
        }
        if index in found:
            cell = kept[found[index].predicted]
            called = vocabulary.categories.index(cell["category"])
            row |= {
                "cell_id": cell["cell_id"],
                "iou": found[index].iou,
                "predicted_category": called,
                "predicted_cblc": int(cell["is_cblc"]),
                "p_cblc": cell["p_cblc"],
                "p_called": cell["p_category"][called] if cell["p_category"] else None,
            }
        rows.append(row)
    return rows


def _is_decided(expert: dict[str, Any]) -> bool:
    """Tell whether an expert's label says if the cell is in the CBLC ratio, and on which side."""
    return expert["countable"] is False or (expert["countable"] is True and expert["cblc"] is not None)


def touches_edge(contour_xy: ContourArray, field: Field, config: EvaluateConfig) -> bool:
    """Tell whether a contour comes within the margin of the image edge or of a seam between tiles."""
    if geometry.is_cut(contour_xy, field.width_px, field.height_px, config.edge_margin_px):
        return True
    low, high = contour_xy.min(axis=0) - config.edge_margin_px, contour_xy.max(axis=0) + config.edge_margin_px
    for axis, (length, tiles) in enumerate(
        ((field.width_px, config.tile_columns), (field.height_px, config.tile_rows))
    ):
        seams = np.arange(1, tiles) * length / tiles - 0.5
        if bool(np.any((low[axis] <= seams) & (seams <= high[axis]))):
            return True
    return False


def _patient_ratios(
    patients: Sequence[Patient],
    expert: pl.DataFrame,
    detections: pl.DataFrame,
    counted: Mapping[str, tuple[int, int]],
    config: EvaluateConfig,
) -> pl.DataFrame:
    """Compute each patient's true and predicted ratio, both over the same exhaustively annotated fields.

    The true ratio leaves out cells cut by the image edge, as the quality rules do for the predicted ratio. Both leave
    out the cells of which a coarse label does not decide the place in the ratio.
    """
    whole = expert.filter(pl.col("exhaustive") & ~pl.col("cut"))
    is_undecided = pl.col("countable").is_null() | (pl.col("countable") & pl.col("cblc").is_null())
    truth, undecided = whole.filter(~is_undecided), whole.filter(is_undecided)
    called = detections.filter(pl.col("exhaustive") & ~pl.col("undecided").fill_null(value=False))
    is_mosaic = config.tile_columns * config.tile_rows > 1
    rows: list[dict[str, Any]] = []
    for patient in patients:
        of_patient = pl.col("patient_id") == patient.patient_id
        cells, found = truth.filter(of_patient), called.filter(of_patient)
        n_true, x_true = _ratio_counts(cells, "cblc", "countable")
        n_normal = int((cells["normal_blast"] & cells["countable"]).sum())
        n_called, x_called = _ratio_counts(found, "is_cblc", "is_countable")
        n_inner, x_inner = _ratio_counts(found.filter(~pl.col("ignored")), "is_cblc", "is_countable")
        n_run, x_run = counted.get(patient.patient_id, (0, 0))
        rows.append(
            {
                "patient_id": patient.patient_id,
                "center": patient.center,
                "diagnosis": patient.diagnosis,
                "specimen": patient.specimen,
                "age_group": patient.age_group,
                "sex": patient.extra.get("sex"),
                "subtype": patient.extra.get("subtype"),
                "n_true_countable": n_true,
                "n_true_cblc": x_true,
                "n_true_normal_blasts": n_normal,
                "n_true_not_countable": len(cells) - n_true,
                "n_true_undecided": len(undecided.filter(of_patient)),
                "true_ratio": x_true / n_true if n_true else None,
                "true_ratio_with_normal": (x_true + n_normal) / n_true if n_true else None,
                "n_predicted_countable": n_called,
                "n_predicted_cblc": x_called,
                "predicted_ratio": x_called / n_called if n_called else None,
                "predicted_ratio_no_seams": x_inner / n_inner if is_mosaic and n_inner else None,
                "n_run_countable": n_run,
                "n_run_cblc": x_run,
                "run_ratio": x_run / n_run if n_run else None,
            }
        )
    return pl.DataFrame(rows, schema=RATIO_COLUMNS)


def _count_unshared(patients: Sequence[Patient], compared: Sequence[Field], run_fields: pl.DataFrame) -> pl.Series:
    """Count each patient's fields that enter only one ratio: the annotated one, or the one over the whole run."""
    annotated = {(field.patient_id, field.field_id) for field in compared if field.exhaustive}
    read = set(run_fields.filter(pl.col("status") == "ok").select("patient_id", "field_id").iter_rows())
    alone = [patient_id for patient_id, _ in annotated ^ read]
    return pl.Series([alone.count(patient.patient_id) for patient in patients], dtype=pl.Int64())


def _ratio_counts(frame: pl.DataFrame, cblc: str, countable: str) -> tuple[int, int]:
    """Count the countable cells, and the CBLC among them."""
    counted = frame.filter(pl.col(countable))
    return len(counted), int(counted[cblc].sum())
