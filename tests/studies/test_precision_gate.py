"""The gate's arithmetic on tables made by hand, and the command from a bundle and a cohort to a new bundle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from marrowscope.bundle import Bundle, load_bundle, write_bundle
from marrowscope.cli.main import app, main
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.errors import ConfigError, InputError
from marrowscope.evaluate import EvaluateConfig, LinkedCells
from marrowscope.evaluate.frames import DETECTION_COLUMNS, EXPERT_COLUMNS, RATIO_COLUMNS
from marrowscope.imaging import write_image
from marrowscope.predict import PredictConfig
from marrowscope.records import Annotation
from marrowscope.studies.precision_gate import center_changes, measure_precisions, processor_name
from tests.bundles import make_bundle
from tests.onnx_graphs import classifier_graph
from tests.segment.raw_outputs import ellipse_contour

if TYPE_CHECKING:
    from pathlib import Path

FEW = EvaluateConfig(n_resamples=200)
OTHER_SEED = 6
"""The classifier of this seed calls the cells otherwise than that of seed 0."""

PORTABLE = PredictConfig(backend="onnxruntime", threads=1)

# Each patient's center, and for each expert cell: is it CBLC, its call in f32 and in the lower precision.
CELLS: dict[str, Any] = {  # None: missed
    "P1": ("A", [(1, 1, 1), (1, 1, 0), (0, 0, 0), (0, 0, 0)]),
    "P2": ("A", [(1, 1, 1), (0, 1, 0), (0, 0, None), (0, 0, 0)]),
    "Q1": ("B", [(1, 1, 1), (0, 0, 0)]),
}
RATIOS = {"P1": (0.50, 0.50, 0.25), "P2": (0.25, 0.50, 1 / 3), "Q1": (0.50, 0.50, 0.50)}


def linked(side: int, cells: dict[str, Any] = CELLS, ratios: dict[str, Any] = RATIOS) -> LinkedCells:
    """Give one side, 0 for f32 and 1 for the lower precision, as ``link_cells`` does."""
    expert = [
        {"patient_id": patient, "center": center, "field_id": f"{patient}/f", "cblc": bool(truth), "cut": False}
        | {"predicted_cblc": calls[side], "found": calls[side] is not None}
        for patient, (center, rows) in cells.items()
        for truth, *calls in rows
    ]
    rows = [
        {"patient_id": patient, "center": cells[patient][0], "true_ratio": true, "predicted_ratio": found[side]}
        for patient, (true, *found) in ratios.items()
    ]
    return LinkedCells(
        pl.DataFrame(expert, schema_overrides=EXPERT_COLUMNS),
        pl.DataFrame(schema=DETECTION_COLUMNS),
        pl.DataFrame(rows, schema_overrides=RATIO_COLUMNS),
        0,
        0,
    )


def test_changes_are_the_differences_of_both_sides_in_each_center() -> None:
    changes = center_changes(linked(0), linked(1), config=FEW)
    assert list(changes) == ["A", "B", "all centers"]
    a = changes["A"]
    assert (a.n_patients, a.n_cells, a.n_ratios) == (2, 8, 2)
    assert a.cblc_weighted_f1 == pytest.approx(
        f1_score([1, 1, 0, 0, 1, 0, 0, 0], [1, 1, 0, 0, 1, 1, 0, 0], average="weighted")
    )
    assert a.ratio_mae == pytest.approx((0 + 0.25) / 2)
    assert a.ratio_mae_change == pytest.approx((0.25 + 1 / 12) / 2 - 0.125)
    assert (changes["B"].cblc_weighted_f1_change, changes["B"].ratio_mae_change) == (0, 0)
    assert changes["all centers"].n_cells == 10


def test_the_f1_of_either_side_is_scikit_learns_where_nothing_is_missed() -> None:
    found = {patient: (center, [row for row in rows if None not in row]) for patient, (center, rows) in CELLS.items()}
    change = center_changes(linked(0, found), linked(1, found), config=FEW)["A"]
    rows = [row for center, rows in found.values() if center == "A" for row in rows]
    full, lower = (
        f1_score([row[0] for row in rows], [row[side] for row in rows], average="weighted") for side in (1, 2)
    )
    assert change.cblc_weighted_f1 == pytest.approx(full)
    assert change.cblc_weighted_f1_change == pytest.approx(lower - full)


def test_a_cell_that_only_the_lower_precision_misses_costs_f1() -> None:
    seen = {"P1": ("A", [(1, 1, 1), (0, 0, 0)])}
    missed = {"P1": ("A", [(1, 1, 1), (0, 0, None)])}
    ratios = {"P1": (0.5, 0.5, 1.0)}
    assert (
        center_changes(linked(0, seen, ratios), linked(1, seen, ratios), config=FEW)["A"].cblc_weighted_f1_change == 0
    )
    assert center_changes(linked(0, missed, ratios), linked(1, missed, ratios), config=FEW)[
        "A"
    ].cblc_weighted_f1_change == pytest.approx(-0.5)


def test_the_interval_draws_the_same_patients_on_both_sides() -> None:
    """Two sides that differ alike in every patient differ alike in every resample, however unlike the patients are."""
    ratios = {f"P{n}": (0.0, n / 10, n / 10 + 0.01) for n in range(1, 6)}
    cells = {patient: ("A", [(1, 1, 1)]) for patient in ratios}
    change = center_changes(linked(0, cells, ratios), linked(1, cells, ratios), config=FEW)["A"]
    assert change.ratio_mae_interval == pytest.approx((0.01, 0.01))
    assert change.cblc_weighted_f1_interval == (0, 0)


def test_one_patient_has_no_interval_and_none_with_a_ratio_no_mae() -> None:
    cells, ratios = {"Q1": CELLS["Q1"]}, {"Q1": (0.5, 0.5, None)}
    change = center_changes(linked(0, cells, ratios), linked(1, cells, ratios), config=FEW)["B"]
    assert change.cblc_weighted_f1_interval is None
    assert change.n_ratios == 0
    assert math.isnan(change.ratio_mae_change)
    assert not change.is_within(0.002)


def test_cells_cut_by_the_edge_are_left_out() -> None:
    full, lower = linked(0), linked(1)
    is_cut = pl.Series("cut", [False, True] + [False] * 8)
    full = LinkedCells(full.expert.with_columns(is_cut), full.detections, full.ratios, 0, 0)
    lower = LinkedCells(lower.expert.with_columns(is_cut), lower.detections, lower.ratios, 0, 0)
    assert center_changes(full, lower, config=FEW)["A"].n_cells == 7


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Two patients of two centers, a field each, its one cell where the tiny segmenter sees one."""
    folder = tmp_path / "cohort"
    generator = np.random.default_rng(0)
    for patient, code in (("P1", "N"), ("P2", "N5")):
        path = folder / patient / "f.png"
        path.parent.mkdir(parents=True)
        write_image(path, generator.integers(0, 255, (128, 192, 3), dtype=np.uint8))
        shape = Annotation(code, ellipse_contour((60.0, 50.0, 20.0, 20.0)), 0)
        write_labelme(path.with_suffix(".json"), path.name, 192, 128, [shape])
    rows = "patient_id,center,diagnosis,um_per_px\nP1,A,AML,0.3\nP2,B,control,0.3\n"
    (folder / "patients.csv").write_text(rows, encoding="utf-8")
    return folder


def with_int8(folder: Path, *, seed: int) -> Bundle:
    """Give a bundle whose quantized classifier is the one of ``seed``; the float one has seed 0."""
    bundle = make_bundle(folder)
    files: dict[str, Path | bytes] = {name: bundle.folder / name for name in bundle.spec.files}
    files["classifier-0-int8.onnx"] = classifier_graph(seed=seed)
    return write_bundle(folder.with_name("with-int8"), bundle.spec, files)


def test_the_same_graph_under_another_name_passes_and_is_used(cohort: Path, tmp_path: Path) -> None:
    written = measure_precisions(with_int8(tmp_path / "bundle", seed=0), [cohort], tmp_path / "out", config=PORTABLE)
    gate = load_bundle(tmp_path / "out").spec.precisions["int8"]
    assert gate.passed
    assert gate == written.spec.precisions["int8"]
    assert list(gate.centers) == ["A", "B", "all centers"]
    assert gate.centers["all centers"].n_cells == 2
    assert gate.measured_on == "2 annotated cells in 2 fields of 2 patients"
    assert (gate.backend, gate.device, gate.processor) == ("onnxruntime", "CPU", processor_name())
    assert written.resolve_precision("auto", ("f32", "int8"), backend="onnxruntime") == "int8"


def test_a_graph_that_calls_otherwise_fails_and_is_not_used(cohort: Path, tmp_path: Path) -> None:
    source = with_int8(tmp_path / "bundle", seed=OTHER_SEED)
    written = measure_precisions(source, [cohort], tmp_path / "out", config=PORTABLE, evaluation=FEW)
    gate = written.spec.precisions["int8"]
    assert not gate.passed
    assert written.resolve_precision("auto", ("f32", "int8"), backend="onnxruntime") == "f32"


def test_gates_of_other_precisions_stay(cohort: Path, tmp_path: Path) -> None:
    first = measure_precisions(with_int8(tmp_path / "bundle", seed=0), [cohort], tmp_path / "first", config=PORTABLE)
    gates = {"bf16": first.spec.precisions["int8"]}
    spec = first.spec.model_copy(update={"precisions": gates})
    files: dict[str, Path | bytes] = {name: first.folder / name for name in first.spec.files}
    second = measure_precisions(
        write_bundle(tmp_path / "second", spec, files), [cohort], tmp_path / "third", config=PORTABLE
    )
    assert set(second.spec.precisions) == {"bf16", "int8"}


def test_progress_counts_every_precision(cohort: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    bundle = with_int8(tmp_path / "bundle", seed=0)
    measure_precisions(
        bundle, [cohort], tmp_path / "out", config=PORTABLE, progress=lambda n, total: seen.append((n, total))
    )
    assert seen[-1] == (4, 4)
    assert seen == sorted(seen)


def test_what_cannot_be_measured_is_refused(cohort: Path, tmp_path: Path) -> None:
    bundle = with_int8(tmp_path / "bundle", seed=0)
    with pytest.raises(InputError, match="found the bundle itself, expected another folder"):
        measure_precisions(bundle, [cohort], bundle.folder, config=PORTABLE)
    with pytest.raises(ConfigError, match="precision 'f8': expected auto or one of"):
        measure_precisions(bundle, [cohort], tmp_path / "out", precisions=["f8"], config=PORTABLE)
    with pytest.raises(ConfigError, match="'f32' is the reference for the others"):
        measure_precisions(bundle, [cohort], tmp_path / "out", precisions=["f32"], config=PORTABLE)
    with pytest.raises(ConfigError, match="precision 'bf16': the device here computes in f32, int8"):
        measure_precisions(bundle, [cohort], tmp_path / "out", precisions=["bf16"], config=PORTABLE)
    plain = load_bundle(tmp_path / "bundle")
    with pytest.raises(ConfigError, match="found no precision below f32 to measure"):
        measure_precisions(plain, [cohort], tmp_path / "out", config=PORTABLE)
    assert not (tmp_path / "out").exists()


def test_a_cohort_without_an_annotated_cell_is_refused(cohort: Path, tmp_path: Path) -> None:
    for path in cohort.glob("*/f.json"):
        path.unlink()
    with pytest.raises(InputError, match="found no annotated cell, expected expert polygons"):
        measure_precisions(with_int8(tmp_path / "bundle", seed=0), [cohort], tmp_path / "out", config=PORTABLE)


def test_the_command_prints_the_gate_and_writes_the_bundle(cohort: Path, tmp_path: Path) -> None:
    bundle = with_int8(tmp_path / "bundle", seed=0).folder
    words = ["precision", str(bundle), str(cohort), "--out", str(tmp_path / "out"), "--backend", "onnxruntime"]
    result = CliRunner().invoke(app, [*words, "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "int8: passed on 2 annotated cells in 2 fields of 2 patients" in result.output
    assert load_bundle(tmp_path / "out").spec.precisions["int8"].passed


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--precision", "f8"], "'f8' is not one of 'bf16', 'f16', 'int8'"),
        (["--precision", "bf16"], "precision 'bf16': the device here computes in f32, int8"),
        (["--backend", "tflite"], "'tflite' is not one of 'auto'"),
    ],
)
def test_the_command_refuses_in_a_sentence(
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: list[str],
    sentence: str,
) -> None:
    bundle = with_int8(tmp_path / "bundle", seed=0).folder
    words = ["precision", str(bundle), str(cohort), "--out", str(tmp_path / "out"), "--backend", "onnxruntime"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, *option])
    assert stopped.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())  # Typer draws a frame


def test_the_processor_has_a_name_everywhere(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n", encoding="utf-8")
    assert processor_name(listing) == "Some CPU @ 2 GHz"
    assert processor_name(tmp_path / "absent")
