"""The gate's arithmetic on tables made by hand, and the command from a bundle and a cohort to a new bundle."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from marrowscope.bundle import Bundle, load_bundle
from marrowscope.cli.main import app, main
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.errors import ConfigError, InputError
from marrowscope.evaluate import EvaluateConfig, LinkedCells
from marrowscope.evaluate.frames import DETECTION_COLUMNS, EXPERT_COLUMNS, RATIO_COLUMNS
from marrowscope.imaging import write_image
from marrowscope.networks import open_network, read_graph
from marrowscope.predict import PredictConfig, predict
from marrowscope.records import Annotation
from marrowscope.studies.precision_gate import center_changes, measure_precisions, processor_name
from tests.bundles import make_bundle
from tests.onnx_graphs import classifier_graph
from tests.segment.raw_outputs import ellipse_contour

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.networks import Graph, Network

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


@pytest.fixture
def in_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Give the device bf16: ONNX Runtime's float32, with the graphs that a test puts here, by name, for the bundle's.

    A network that a bundle opens in f32 is its own. What stands here are thus the weights of the lower precision.
    """
    graphs: dict[str, bytes] = {}

    def opened(graph: Graph, backend: str, device: str, precision: str, *, threads: int, streams: int) -> Network:
        if precision == "bf16" and graph.path.name in graphs:
            path = tmp_path / "in-bf16" / graph.path.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(graphs[graph.path.name])
            graph = read_graph(path)
        return open_network(graph, backend, device, threads=threads, streams=streams)

    for module in ("studies.precision_gate", "streaming.worker"):
        monkeypatch.setattr(f"marrowscope.{module}.capabilities", lambda *_: ("f32", "bf16"))
    monkeypatch.setattr("marrowscope.bundle.bundle.open_network", opened)
    return graphs


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def words(bundle: Bundle, cohort: Path, tmp_path: Path) -> list[str]:
    """Give the command that measures ``bundle`` on ``cohort``."""
    return ["precision", str(bundle.folder), str(cohort), "--out", str(tmp_path / "out"), "--backend", "onnxruntime"]


@pytest.mark.usefixtures("in_bf16")
def test_what_computes_the_same_passes_and_is_used(bundle: Bundle, cohort: Path, tmp_path: Path) -> None:
    written = measure_precisions(bundle, [cohort], tmp_path / "out", precisions=["bf16"], config=PORTABLE)
    gate = load_bundle(tmp_path / "out").spec.precisions["bf16"]
    assert gate.passed
    assert gate == written.spec.precisions["bf16"]
    assert list(gate.centers) == ["A", "B", "all centers"]
    assert gate.centers["all centers"].n_cells == 2
    assert gate.measured_on == "2 annotated cells in 2 fields of 2 patients"
    assert (gate.backend, gate.device, gate.processor) == ("onnxruntime", "CPU", processor_name())
    assert written.resolve_precision("auto", ("f32", "bf16"), backend="onnxruntime") == "bf16"


def test_a_classifier_that_calls_otherwise_fails_unless_it_stays_in_float32(
    bundle: Bundle, cohort: Path, tmp_path: Path, in_bf16: dict[str, bytes]
) -> None:
    """Without a word, all that the device has below f32 is measured, each choice for itself."""
    in_bf16["classifier-0.onnx"] = classifier_graph(seed=OTHER_SEED)
    written = measure_precisions(bundle, [cohort], tmp_path / "out", config=PORTABLE, evaluation=FEW)
    gates = written.spec.precisions
    assert {name: gate.passed for name, gate in gates.items()} == {"bf16": False, "bf16-segmenter": True}
    assert set(gates["bf16-segmenter"].centers) == {"A", "B", "all centers"}
    here = ("f32", "bf16")
    assert written.resolve_precision("auto", here, backend="onnxruntime") == "bf16-segmenter"
    alone = written.spec.model_copy(update={"precisions": {"bf16": gates["bf16"]}})
    assert replace(written, spec=alone).resolve_precision("auto", here, backend="onnxruntime") == "f32"


def test_a_segmenter_that_finds_otherwise_fails_in_either_choice(
    bundle: Bundle, cohort: Path, tmp_path: Path, in_bf16: dict[str, bytes]
) -> None:
    elsewhere = make_bundle(tmp_path / "elsewhere", cells=[(150.0, 100.0, 20.0, 20.0, 0.9)]).folder
    in_bf16["segmenter.onnx"] = (elsewhere / "segmenter" / "segmenter.onnx").read_bytes()
    written = measure_precisions(bundle, [cohort], tmp_path / "out", config=PORTABLE, evaluation=FEW)
    assert [gate.passed for gate in written.spec.precisions.values()] == [False, False]
    assert written.resolve_precision("auto", ("f32", "bf16"), backend="onnxruntime") == "f32"


@pytest.mark.usefixtures("in_bf16")
def test_gates_of_other_precisions_stay(bundle: Bundle, cohort: Path, tmp_path: Path) -> None:
    first = measure_precisions(
        bundle, [cohort], tmp_path / "first", precisions=["bf16-segmenter"], config=PORTABLE, evaluation=FEW
    )
    second = measure_precisions(
        first, [cohort], tmp_path / "second", precisions=["bf16"], config=PORTABLE, evaluation=FEW
    )
    assert set(second.spec.precisions) == {"bf16", "bf16-segmenter"}
    assert second.spec.precisions["bf16-segmenter"] == first.spec.precisions["bf16-segmenter"]


@pytest.mark.usefixtures("in_bf16")
def test_progress_counts_every_precision(bundle: Bundle, cohort: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    measure_precisions(
        bundle, [cohort], tmp_path / "out", config=PORTABLE, progress=lambda n, total: seen.append((n, total))
    )
    assert seen[-1] == (6, 6)  # two images in f32, bf16 and bf16-segmenter
    assert seen == sorted(seen)


def test_what_cannot_be_measured_is_refused(bundle: Bundle, cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found the bundle itself, expected another folder"):
        measure_precisions(bundle, [cohort], bundle.folder, config=PORTABLE)
    with pytest.raises(ConfigError, match="precision 'f8': expected auto or one of"):
        measure_precisions(bundle, [cohort], tmp_path / "out", precisions=["f8"], config=PORTABLE)
    with pytest.raises(ConfigError, match="'f32' is the reference for the others"):
        measure_precisions(bundle, [cohort], tmp_path / "out", precisions=["f32"], config=PORTABLE)
    for choice in ("bf16", "bf16-segmenter"):
        with pytest.raises(ConfigError, match=f"precision '{choice}': the device here computes in f32; choose"):
            measure_precisions(bundle, [cohort], tmp_path / "out", precisions=[choice], config=PORTABLE)
    with pytest.raises(ConfigError, match="found no precision below f32 to measure"):
        measure_precisions(bundle, [cohort], tmp_path / "out", config=PORTABLE)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("in_bf16")
def test_a_cohort_without_an_annotated_cell_is_refused(bundle: Bundle, cohort: Path, tmp_path: Path) -> None:
    for path in cohort.glob("*/f.json"):
        path.unlink()
    with pytest.raises(InputError, match="found no annotated cell, expected expert polygons"):
        measure_precisions(bundle, [cohort], tmp_path / "out", config=PORTABLE)


@pytest.mark.usefixtures("in_bf16")
def test_the_command_prints_the_gate_and_writes_the_bundle(words: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*words, "--threads", "1", "--precision", "bf16", "--precision", "bf16-segmenter"])
    assert result.exit_code == 0, result.output
    for choice in ("bf16", "bf16-segmenter"):
        assert f"{choice}: passed on 2 annotated cells in 2 fields of 2 patients" in result.output
        assert load_bundle(tmp_path / "out").spec.precisions[choice].passed


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--precision", "int8"], "found 'int8', expected bf16, bf16-segmenter or f16"),
        (["--precision", "bf16"], "precision 'bf16': the device here computes in f32"),
        (["--precision", "bf16-segmenter"], "precision 'bf16-segmenter': the device here computes in f32"),
        (["--backend", "tflite"], "found 'tflite', expected auto, openvino or onnxruntime"),
    ],
)
def test_the_command_refuses_in_a_sentence(
    words: list[str], capsys: pytest.CaptureFixture[str], option: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*words, *option])
    assert stopped.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())  # Typer draws a frame


def test_a_measured_bundle_is_predicted_in_what_passed(
    bundle: Bundle, cohort: Path, tmp_path: Path, in_bf16: dict[str, bytes]
) -> None:
    """The run says which choice it was, and has the calls of the classifier in float32."""
    in_bf16["classifier-0.onnx"] = classifier_graph(seed=OTHER_SEED)
    measured = measure_precisions(bundle, [cohort], tmp_path / "out", config=PORTABLE, evaluation=FEW)
    runs = {
        precision: predict(
            [cohort], measured, tmp_path / precision, config=PORTABLE.model_copy(update={"precision": precision})
        )
        for precision in ("auto", "f32", "bf16")
    }
    assert {name: run.manifest.precision for name, run in runs.items()} == {
        "auto": "bf16-segmenter", "f32": "f32", "bf16": "bf16",
    }  # fmt: skip
    calls = {name: run.cells["p_cblc"].to_list() for name, run in runs.items()}
    assert calls["auto"] == calls["f32"] != calls["bf16"]


def test_the_processor_has_a_name_everywhere(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n", encoding="utf-8")
    assert processor_name(listing) == "Some CPU @ 2 GHz"
    assert processor_name(tmp_path / "absent")
