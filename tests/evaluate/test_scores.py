from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from marrowscope.evaluate import EvaluateConfig, Evaluation, LinkedCells, as_markdown, score_center, write_evaluation
from marrowscope.evaluate.catalog import DETECTIONS, PATIENTS
from marrowscope.evaluate.document import EvaluatedRun
from marrowscope.evaluate.frames import DETECTION_COLUMNS, EXPERT_COLUMNS, RATIO_COLUMNS
from marrowscope.evaluate.ranking import IOU_LEVELS
from marrowscope.evaluate.written_tables import tables as written_tables
from marrowscope.statistics.clustered_auc import clustered_auc_interval
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.evaluate import CenterScores, Figure

RUN = EvaluatedRun(
    created_utc="",
    marrowscope_version="0",
    bundle={},
    backend="none",
    device="none",
    precision="f32",
    input_sha256="",
    config_sha256="",
)
VOCABULARY = load_vocabulary()
CATEGORIES = VOCABULARY.categories


def expert(code: str, predicted: str | None, *, patient: str = "P1", p: float = 0.5, **other: Any) -> dict[str, Any]:  # noqa: ANN401
    facts = VOCABULARY.read_label(code)
    may_be = [CATEGORIES.index(name) for name in facts.categories]
    is_open = len(may_be) > 1
    row: dict[str, Any] = {
        "patient_id": patient,
        "center": "A",
        "field_id": f"{patient}/f",
        "shape_index": 0,
        "code": code,
        "category": None if is_open else may_be[0],
        "coarse": facts.short if is_open else None,
        "may_be": may_be if is_open else None,
        "cblc": facts.cblc,
        "countable": facts.countable,
        "normal_blast": code in {"N0", "M0"},
        "cut": False,
        "network_contour": False,
        "exhaustive": True,
        "found_before_rules": predicted is not None,
        "found": predicted is not None,
        "nucleus_alone": False,
    }
    if predicted is not None:
        called = VOCABULARY.lookup(predicted)
        row |= {"cell_id": "c", "iou": 0.9, "predicted_category": VOCABULARY.category_index(predicted)}
        row |= {"predicted_cblc": int(called.cblc), "p_cblc": p, "p_called": 0.8}
    return row | other


def detection(*, matched: bool, ignored: bool = False, exhaustive: bool = True, patient: str = "P1") -> dict[str, Any]:
    row = {"patient_id": patient, "center": "A", "field_id": f"{patient}/f", "cell_id": "c", "matched": matched}
    outcomes = [-1 if ignored else int(matched)] * len(IOU_LEVELS)
    row |= {
        "network_contour": False,
        "ignored": ignored,
        "exhaustive": exhaustive,
        "is_cblc": False,
        "is_countable": True,
    }
    return row | {"score": 0.9, "outcomes": outcomes}


def ratio(patient: str, truth: float | None, predicted: float | None, **other: Any) -> dict[str, Any]:  # noqa: ANN401
    row = {"patient_id": patient, "center": "A", "diagnosis": "AML", "true_ratio": truth, "predicted_ratio": predicted}
    row |= {"true_ratio_with_normal": truth, "n_true_normal_blasts": 0, "run_ratio": predicted}
    return row | other


def score(
    cells: list[dict[str, Any]],
    found: list[dict[str, Any]] | None = None,
    ratios: list[dict[str, Any]] | None = None,
    config: EvaluateConfig | None = None,
) -> CenterScores:
    return score_center(
        "A",
        pl.DataFrame(cells, schema=EXPERT_COLUMNS),
        pl.DataFrame(found or [], schema=DETECTION_COLUMNS),
        pl.DataFrame(ratios or [], schema=RATIO_COLUMNS),
        CATEGORIES,
        config=EvaluateConfig(n_resamples=60) if config is None else config,
    )


def figure(scores: CenterScores, key: str) -> Figure:
    assert [item.key for item in scores.figures].count(key) == 1
    return scores.figure(key)


def test_matched_and_all_expert_differ_by_the_misses() -> None:
    cells = [expert("N", "N"), expert("N", None), expert("N5", "N5"), expert("N5", "N")]
    scores = score(cells)
    assert figure(scores, "cblc_positive_class_f1_matched").value.estimate == pytest.approx(2 / 3)
    everything = figure(scores, "cblc_positive_class_f1_all_expert")
    assert everything.value.estimate == pytest.approx(2 * 1 / (2 + 2))
    assert (figure(scores, "cblc_weighted_f1_matched").n, everything.n) == (3, 4)
    assert everything.note == "2 CBLC of 4; a missed cell counts as wrong"


def test_auc_of_cells_has_two_intervals_and_the_second_is_clustered_by_patient() -> None:
    cells = [
        expert(code, code, patient=f"P{k % 4}", p=((k * 7) % 10) / 10 + (0.05 if code == "N" else 0))
        for k, code in enumerate(["N", "N5", "N5"] * 8)
    ]
    scores = score(cells)
    found, bootstrapped = figure(scores, "cblc_auc_clustered_matched"), figure(scores, "cblc_auc_matched")
    expected = clustered_auc_interval(
        np.array([cell["cblc"] for cell in cells]),
        np.array([cell["p_cblc"] for cell in cells]),
        np.array([int(cell["patient_id"][1:]) for cell in cells]),
    )
    assert (found.value.lower, found.value.upper) == (expected.lower, expected.upper)
    assert found.value.estimate == pytest.approx(bootstrapped.value.estimate)
    assert (found.note, found.n, found.n_patients) == (bootstrapped.note, 24, 4)
    assert figure(score([expert("N", "N")]), "cblc_auc_clustered_matched").undefined == "only CBLC among 1 cell"
    assert math.isfinite(figure(scores, "cblc_calibration_slope_matched").value.lower)
    assert "interval: Obuchowski, clustered by patient" in as_markdown(make_evaluation(scores))


def test_all_negative_stands_beside_the_figure() -> None:
    scores = score([expert("N", "N"), *[expert("N5", "N5")] * 19])
    beside = figure(scores, "cblc_weighted_f1_matched")
    assert beside.value.estimate == 1
    assert beside.reference == pytest.approx(0.95 * 2 * 19 / (19 + 20))
    assert figure(scores, "cblc_positive_class_f1_matched").reference == 0
    assert figure(scores, "cblc_auc_matched").reference == 0.5


def test_auc_ranks_by_the_probability_of_the_found_cells() -> None:
    cells = [expert("N", "N5", p=0.4), expert("N5", "N5", p=0.3), expert("N5", "N", p=0.6), expert("N", None)]
    assert figure(score(cells), "cblc_auc_matched").value.estimate == 0.5


def test_averaged_categories_are_named() -> None:
    scores = score([expert("N", "N"), expert("N5", "L2"), expert("L2", "L2")])
    macro = figure(scores, "category_macro_f1_matched")
    assert macro.note.startswith("averaged over 3: N N5 L;")
    assert macro.value.estimate == pytest.approx((1 + 0 + 2 / 3) / 3)


def test_cut_cells_are_left_out_but_for_the_figure_that_says_so() -> None:
    scores = score([expert("N", "N"), expert("N", None, cut=True)])
    assert figure(scores, "detection_recall").value.estimate == 1
    assert "1 cut cell left out" in figure(scores, "detection_recall").note
    assert figure(scores, "detection_recall_cut_cells_included").value.estimate == 0.5
    assert figure(scores, "cblc_weighted_f1_all_expert").n == 1


def test_precision_ignores_edges_and_fields_that_are_not_exhaustive() -> None:
    found = [
        detection(matched=True),
        detection(matched=False),
        detection(matched=False, ignored=True),
        detection(matched=False, exhaustive=False),
    ]
    precision = figure(score([expert("N", "N")], found), "detection_precision")
    assert precision.value.estimate == 0.5
    assert (precision.n, precision.kind.unit) == (2, DETECTIONS)
    assert precision.note.startswith("1 unmatched detection at an edge ignored")


def test_cells_outlined_by_a_network_are_in_no_detection_figure_and_in_every_call() -> None:
    """Two of them, one found and one missed, beside one drawn cell that was found: recall and precision are 1."""
    drawn, found = expert("N", "N"), expert("N1", "N1", network_contour=True, iou=0.5)
    cells = [drawn, found, expert("E", None, network_contour=True)]
    scores = score(cells, [detection(matched=True), detection(matched=True) | {"network_contour": True}])
    for key in ("detection_recall", "detection_recall_before_quality_rules", "detection_precision"):
        assert (figure(scores, key).value.estimate, figure(scores, key).n) == (1.0, 1)
    assert figure(scores, "mean_iou_of_matched_contours").value.estimate == pytest.approx(0.9)
    assert figure(scores, "detection_recall").note.endswith("and 2 whose outline a network drew")
    assert [item.label for item in scores.class_recalls if item.kind == "code"] == ["N"]
    assert figure(scores, "category_weighted_f1_matched").n == 2


def test_recall_by_class_before_and_after_the_rules() -> None:
    refused = expert("J2", None, found_before_rules=True)
    scores = score([expert("N", "N"), refused, expert("J2", None), expert("A", "A")])
    by_code = {item.label: item for item in scores.class_recalls if item.kind == "code"}
    assert (by_code["J2"].n, by_code["J2"].before_rules.estimate, by_code["J2"].after_rules.estimate) == (2, 0.5, 0)
    by_category = {item.label: item for item in scores.class_recalls if item.kind == "category"}
    assert list(by_category) == ["Other", "N"]
    assert by_category["Other"].after_rules.estimate == pytest.approx(1 / 3)


def test_patient_ratio_figures_leave_out_patients_without_a_ratio() -> None:
    ratios = [ratio("P1", 0.2, 0.3), ratio("P2", 0.6, 0.5), ratio("P3", None, 0.5)]
    scores = score([expert("N", "N")], ratios=ratios)
    mae = figure(scores, "patient_ratio_mae")
    assert mae.value.estimate == pytest.approx(0.1)
    assert (mae.n, mae.kind.unit) == (2, PATIENTS)
    assert mae.note == "1 patient without a ratio on both sides left out"
    assert figure(scores, "patient_ratio_bias").value.estimate == pytest.approx(0)
    assert not any("seams" in item.key for item in scores.figures)


def test_interval_resamples_patients_not_cells() -> None:
    """Two patients, one wholly right and one wholly wrong: a resample is 0, 1/2 or 1, however many cells."""
    cells = [expert("N", "N", patient="P1")] * 50 + [expert("N", None, patient="P2")] * 50
    recall = figure(score(cells), "detection_recall")
    assert (recall.value.lower, recall.value.estimate, recall.value.upper) == (0, 0.5, 1)
    assert recall.n_patients == 2


def test_figures_are_those_of_scikit_learn_on_random_cells() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(4)
    codes = list(VOCABULARY.codes)
    cells = [
        expert(
            codes[generator.integers(len(codes))],
            codes[generator.integers(len(codes))] if generator.random() < 0.9 else None,
            patient=f"P{generator.integers(4)}",
            p=float(generator.random()),
        )
        for _ in range(300)
    ]
    scores = score(cells)
    truth = [row["category"] for row in cells]
    predicted = [row.get("predicted_category", -1) for row in cells]
    keywords = {"labels": sorted(set(truth)), "zero_division": 0.0}
    for average in ("weighted", "macro"):
        oracle = sklearn_metrics.f1_score(truth, predicted, average=average, **keywords)
        found = figure(scores, f"category_{average}_f1_all_expert").value
        assert found.estimate == pytest.approx(oracle)
        assert found.lower < found.estimate < found.upper
    matched = [row for row in cells if row["found"]]
    auc = sklearn_metrics.roc_auc_score([row["cblc"] for row in matched], [row["p_cblc"] for row in matched])
    assert figure(scores, "cblc_auc_matched").value.estimate == pytest.approx(auc)


def test_nothing_to_measure_is_nan_never_zero() -> None:
    scores = score([])
    assert all(math.isnan(item.value.estimate) for item in scores.figures)
    assert scores.class_recalls == ()


def make_evaluation(*scores: CenterScores) -> Evaluation:
    linked = LinkedCells(
        expert=pl.DataFrame(schema=EXPERT_COLUMNS),
        detections=pl.DataFrame(schema=DETECTION_COLUMNS),
        ratios=pl.DataFrame([ratio("P1", 0.2, 0.3)], schema=RATIO_COLUMNS),
        n_fields_only_in_run=1,
        n_fields_only_in_cohort=2,
    )
    return Evaluation(scores, linked, EvaluateConfig(), CATEGORIES, RUN)


def test_files_hold_the_same_figures_and_no_nan(tmp_path: Path) -> None:
    evaluation = make_evaluation(score([expert("N", "N"), expert("N5", None)]), score([]))
    write_evaluation(evaluation, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    table = pl.read_csv(tmp_path / "out" / "metrics.csv")
    rows = [row for center in document["centers"] for row in center["figures"]]
    assert table["metric"].to_list() == [row["name"] for row in rows]
    assert table["value"].to_list() == [row["value"] for row in rows]
    assert "NaN" not in (tmp_path / "out" / "metrics.csv").read_text(encoding="utf-8")
    assert document["n_fields_only_in_cohort"] == 2
    assert pl.read_csv(tmp_path / "out" / "patients.csv")["true_ratio"].to_list() == [0.2]
    confusion = pl.read_csv(tmp_path / "out" / "confusion.csv").filter(over="all expert")
    assert confusion.select("true", "called", "n").rows() == [("N", "N", 1), ("N5", "missed", 1)]


def test_markdown_gives_every_figure_with_n_and_keeps_text_in_its_cell() -> None:
    scores = score([expert("N", "N"), expert("N5", "N5")])
    text = as_markdown(make_evaluation(scores))
    for item in scores.figures:
        assert f"| {item.kind.title} | " in text
    assert "1.000 [no interval]" in text  # one patient
    assert "| 2 cells | 1 | 1 CBLC of 2; found cells only: classification alone |" in text
    assert "For research use" in text
    hostile = replace(score([]), center="A|\nB")
    assert "## A\\| B: 0 patients" in as_markdown(make_evaluation(hostile))


def test_calls_stand_in_markdown_and_csv_by_center_and_diagnosis(tmp_path: Path) -> None:
    said = {"corrected_ratio": 0.5, "confidence_above": 1.0, "run_threshold": 0.3, "diagnosis": "A|L"}
    scores = score([expert("N", "N")], ratios=[ratio("P1", 0.5, 0.5, call="above", **said)])
    evaluation = make_evaluation(scores)
    text = as_markdown(evaluation)
    assert "| A\\|L | 1 | 1 | 0 | 0 | 0 | 0 | 0 of 1 | specificity 0.000 [0.000, 0.793] |" in text
    assert "| **all other** | 1 | 1 |" in text
    write_evaluation(evaluation, tmp_path)
    assert pl.read_csv(tmp_path / "calls.csv").select("center", "diagnosis", "n_above").rows() == [
        ("A", "A|L", 1),
        ("A", None, 1),
    ]
    assert pl.read_csv(tmp_path / "risk_coverage.csv")["n_wrong"].to_list() == [1]
    without = as_markdown(make_evaluation(score([expert("N", "N")], ratios=[ratio("P1", 0.5, 0.5)])))
    assert "### Calls by diagnosis: the run has no calls" in without


def test_average_precision_is_that_of_the_ranked_list() -> None:
    """Scores 0.9 hit, 0.8 false, 0.7 hit of 3 cells: precision 1 up to recall 1/3, 2/3 up to recall 2/3."""
    cells = [expert("N", "N"), expert("N", "N"), expert("N", None), expert("N", None, cut=True)]
    found = [detection(matched=hit) | {"score": s} for hit, s in ((True, 0.9), (False, 0.8), (True, 0.7))]
    found.append(detection(matched=False, ignored=True) | {"score": 0.95})
    found.append(detection(matched=False, exhaustive=False) | {"score": 0.99})
    scores = score(cells, found)
    assert figure(scores, "ap50").value.estimate == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert figure(scores, "ap50_95").value.estimate == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert figure(scores, "ap50").n == 3
    half = [row | {"outcomes": [1] * 5 + [0] * 5} for row in (detection(matched=True),)]
    assert figure(score(cells[:1], half), "ap50_95").value.estimate == pytest.approx(0.5)


def test_patient_without_a_detection_counts_in_the_average_precision() -> None:
    cells = [expert("N", "N", patient="P1"), expert("N", None, patient="P2")]
    value = figure(score(cells, [detection(matched=True, patient="P1")]), "ap50").value
    assert value.estimate == pytest.approx(51 / 101)
    assert (value.lower, value.upper) == (0, 1)


def test_calibration_of_both_heads_against_scikit_learn() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(1)
    cells = []
    for index, p in enumerate(generator.permutation(np.linspace(0.02, 0.98, 90))):
        code = "N" if generator.random() < p else "N5"
        cells.append(expert(code, "N" if p > 0.5 else "N5", patient=f"P{index % 5}", p=float(p)))
        cells[-1]["p_called"] = float(max(p, 1 - p))
    scores = score([*cells, expert("N", None)], config=EvaluateConfig(n_resamples=60, n_bins=9))
    p, y = np.array([row["p_cblc"] for row in cells]), np.array([row["cblc"] for row in cells])
    brier = figure(scores, "cblc_brier_score_matched")
    assert brier.value.estimate == pytest.approx(sklearn_metrics.brier_score_loss(y, p))
    order = np.argsort(p).reshape(9, 10)
    by_hand = np.mean([abs(p[rows].mean() - y[rows].mean()) for rows in order])
    error = figure(scores, "cblc_calibration_error_matched")
    assert error.value.estimate == pytest.approx(by_hand)
    assert error.n == 90
    right = np.array([row["category"] == row["predicted_category"] for row in cells])
    confidence = np.array([row["p_called"] for row in cells])
    top = figure(scores, "category_brier_score_matched")
    assert top.value.estimate == pytest.approx(np.mean((confidence - right) ** 2))
    bins = [item for item in scores.reliability if item.head == "cblc"]
    assert [item.n for item in bins] == [10] * 9
    assert [item.share.estimate for item in bins] == pytest.approx([y[rows].mean() for rows in order])
    assert all(item.share.lower <= item.share.estimate <= item.share.upper for item in bins)


def test_class_figures_are_those_of_scikit_learn_with_and_without_misses() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(7)
    codes = ["N", "N1", "N5", "R2", "L2", "A"]
    cells = [
        expert(str(generator.choice(codes[:5])), str(generator.choice(codes)), patient=f"P{k % 6}") for k in range(200)
    ]
    cells += [expert("N", None, patient="P1")] * 20
    scores = score(cells)
    for over, rows in (("matched", cells[:200]), ("all expert", cells)):
        truth = [row["category"] for row in rows]
        called = [row.get("predicted_category", -1) for row in rows]
        labels = sorted(set(truth))
        oracle = np.array(
            sklearn_metrics.precision_recall_fscore_support(truth, called, labels=labels, zero_division=0.0)
        )
        items = {item.label: item for item in scores.class_figures if item.over == over}
        for column, label in enumerate(labels):
            item = items[CATEGORIES[label]]
            values = [item.precision.estimate, item.recall.estimate, item.f1.estimate, item.n]
            assert values == pytest.approx(oracle[:, column].tolist())
            assert item.f1.lower <= item.f1.estimate <= item.f1.upper
        assert items["Other"].n == 0  # called, never true: a precision, no recall
        assert items["Other"].precision.estimate == 0
        assert math.isnan(items["Other"].recall.estimate)


def test_roc_curve_has_the_area_of_the_auc_after_straight_points_are_dropped() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(3)
    cells = [expert(str(generator.choice(["N", "N5"])), "N", p=float(p)) for p in generator.random(300)]
    scores = score(cells)
    curve = scores.curves["CBLC of a cell, matched"]
    area = sklearn_metrics.auc(curve.false_positive_rate, curve.true_positive_rate)
    assert area == pytest.approx(figure(scores, "cblc_auc_matched").value.estimate)
    assert len(curve.threshold) < 250
    assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1, 1)


def test_figure_that_is_not_defined_says_why() -> None:
    scores = score([expert("N5", "N5")], ratios=[ratio("P1", 0.0, 0.0)])
    assert figure(scores, "cblc_positive_class_f1_matched").undefined == "no CBLC among 1 cell"
    assert figure(scores, "cblc_auc_matched").undefined == "no CBLC among 1 cell"
    assert figure(scores, "aml_auc_predicted_ratio").undefined == "only AML among 1 patient"
    assert figure(scores, "ap50").value.estimate == 0  # a cell and no detection: found nothing, which is a value
    assert "differ" in figure(scores, "patient_ratio_concordance").undefined
    assert figure(score([]), "category_weighted_f1_matched").undefined == "no cells to measure"
    assert all(bool(item.undefined) == math.isnan(item.value.estimate) for item in scores.figures)


def test_marks_say_few_patients_and_intervals_without_width() -> None:
    few = figure(score([expert("N", "N", patient=f"P{k}") for k in range(4)]), "detection_recall")
    assert few.marks == "*="
    many = figure(score([expert("N", "N", patient=f"P{k}") for k in range(5)]), "detection_recall")
    assert many.marks == "="
    assert figure(score([expert("N", "N")]), "detection_recall").marks == "*"  # one patient: no interval at all
    assert figure(score([]), "detection_recall").marks == ""


def test_key_is_one_word() -> None:
    scores = score([expert("N", "N")])
    assert figure(scores, "cblc_weighted_f1_all_expert").key == "cblc_weighted_f1_all_expert"
    assert len({item.key for item in scores.figures}) == len(scores.figures)


def test_center_without_that_figure_says_so() -> None:
    with pytest.raises(KeyError, match="no such"):
        score([]).figure("no such")


# Coarse labels -------------------------------------------------------------------------------------------------

BLAST = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"


def test_coarse_labels_by_hand() -> None:
    """Four blasts: called N and L (in the set), N5 (outside), missed. Two cells of N5: called N5 and N.

    Accuracy: 3 of 6. F1 of N5: 1 hit, 2 called (one of them a blast), 2 true. N has no true cell and 2 calls, of which
    the blast's is no error. CBLC is decided by declaration: all six count.
    """
    cells = [expert(BLAST, called) for called in ("N", "L2", "N5", None)] + [expert("N5", "N5"), expert("N5", "N")]
    scores = score(cells)
    assert figure(scores, "category_accuracy_all_expert").value.estimate == pytest.approx(3 / 6)
    assert figure(scores, "category_accuracy_matched").value.estimate == pytest.approx(3 / 5)
    weighted = figure(scores, "category_weighted_f1_all_expert")
    assert weighted.value.estimate == pytest.approx(2 / 4)
    assert weighted.n == 2
    assert "4 cells with coarse labels: only a call outside" in weighted.note
    rows = {item.label: item for item in scores.class_figures if item.over == "all expert"}
    assert set(rows) == {"N", "N5", "BLA{N,M,J,L}"}
    assert (rows["N5"].n, rows["N5"].n_called, rows["N5"].precision.estimate) == (2, 2, 0.5)
    assert (rows["N"].n, rows["N"].n_called) == (0, 1)
    blast = rows["BLA{N,M,J,L}"]
    assert (blast.n, blast.n_called, blast.recall.estimate) == (4, 2, 0.5)
    assert math.isnan(blast.precision.estimate)
    assert math.isnan(blast.f1.estimate)
    table = written_tables(make_evaluation(scores))["confusion.csv"].filter(pl.col("over") == "all expert")
    counts = {(row["true"], row["called"]): row["n"] for row in table.iter_rows(named=True)}
    assert counts == {
        ("N5", "N5"): 1, ("N5", "N"): 1,
        ("BLA{N,M,J,L}", "N"): 1, ("BLA{N,M,J,L}", "L"): 1, ("BLA{N,M,J,L}", "N5"): 1, ("BLA{N,M,J,L}", "missed"): 1,
    }  # fmt: skip
    assert figure(scores, "cblc_weighted_f1_all_expert").n == 6


def test_cells_that_leave_cblc_open_are_counted_as_left_out() -> None:
    cells = [expert("N", "N"), expert("N5", "N5"), expert("IG{N1,N2,N3}", "N1"), expert("IG{N1,N2,N3}", "N4")]
    scores = score(cells)
    found = figure(scores, "cblc_weighted_f1_matched")
    assert (found.value.estimate, found.n) == (1, 2)
    assert found.note.endswith("2 cells left out: coarse labels that do not decide CBLC")
    assert figure(scores, "category_accuracy_matched").value.estimate == pytest.approx(3 / 4)
    assert figure(scores, "cblc_calibration_error_matched").n == 2
    assert figure(scores, "category_calibration_error_matched").n == 2


def test_exact_labels_are_scored_as_before_the_coarse_ones_came() -> None:
    exact = [expert("N", "N"), expert("N5", "N"), expert("L2", None), expert("V", "N5")]
    alone, beside = score(exact), score([*exact, expert(BLAST, "N")])
    for key in ("category_weighted_f1_all_expert", "category_macro_f1_matched"):
        assert figure(alone, key).value == figure(beside, key).value
    accuracy = figure(alone, "category_accuracy_all_expert").value.estimate
    assert accuracy == pytest.approx(1 / 4)
