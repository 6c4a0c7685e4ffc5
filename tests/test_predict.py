"""Prediction with the demonstration bundle on simulated fields: tables, counts, faults, equivalences."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import marrowscope.predict
import marrowscope.runs.parts
from marrowscope import geometry
from marrowscope.bundle import SEGMENTER_FILE, load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.errors import BundleError, ConfigError, InputError, RunError, ScaleError, VocabularyError
from marrowscope.imaging import read_image, write_image
from marrowscope.networks import available_backends, capabilities
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.runs.manifest import read_manifest
from marrowscope.runs.parquet import read_table
from marrowscope.segment.segmenter import Segmenter
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.worker import Worker
from marrowscope.studies.demo import compare_with_truth
from marrowscope.vocabulary import DEFAULT_REFERENCE_RANGES

CONFIG = PredictConfig(backend="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predict") / "cohort"
    size: dict[str, int] = {"width_px": 800, "height_px": 600}
    config = SimulationConfig(
        patients=2, centers=2, fields=2, seed=11, diagnoses=("AML_M2", "control"), cells_per_field=(14, 18), **size
    )
    simulate_cohort(out, config)
    return out


@pytest.fixture(scope="module")
def prediction(cohort: Path) -> Prediction:
    return predict([cohort], demonstration_bundle(), cohort.parent / "run", config=CONFIG)


def test_tables_and_manifest_reconcile_and_are_read_back_equal(prediction: Prediction, cohort: Path) -> None:
    counts = prediction.manifest.counts
    assert (counts.patients, counts.images, counts.images_failed) == (2, 4, 0)
    assert counts.cells >= 20
    assert prediction.fields["n_contours"].sum() == prediction.cells.height
    assert counts.cells + sum(counts.rejected.values()) == counts.contours
    for kind in ("fields", "cells", "patients"):
        assert read_table(prediction.folder / f"{kind}.parquet", kind).equals(getattr(prediction, kind))
    assert read_manifest(prediction.folder) == prediction.manifest
    assert prediction.manifest.precision == "f32"
    centers = prediction.fields.select("patient_id", "center").unique().sort("patient_id")["center"].to_list()
    assert centers == prediction.patients.sort("patient_id")["center"].to_list()
    assert prediction.manifest.bundle.files
    assert set(prediction.patients["diagnosis"]) == set(pl.read_csv(cohort / "patients.csv")["diagnosis"])


def test_kept_cells_are_classified_and_rejected_ones_are_not(prediction: Prediction) -> None:
    kept = prediction.cells.filter(pl.col("reject_reason").is_null())
    rejected = prediction.cells.filter(pl.col("reject_reason").is_not_null())
    assert rejected.height > 0
    assert rejected["p_cblc"].null_count() == rejected.height
    assert kept["p_cblc"].is_between(0, 1).all()
    sums = kept["p_category"].list.sum().to_numpy()
    assert np.allclose(sums, 1, atol=1e-4)
    assert kept.filter(pl.col("is_cblc") & ~pl.col("is_countable")).is_empty()
    assert prediction.cells["cell_id"].n_unique() == prediction.cells.height


def test_ratio_is_near_the_exact_one(prediction: Prediction, cohort: Path) -> None:
    compared = compare_with_truth(prediction.folder, cohort)
    assert len(compared) == 2
    for patient in compared:
        # As counted: with so few cells, a patient may be out of depth and have no ratio.
        assert patient.n_cblc is not None
        assert abs(patient.n_cblc / patient.n_countable - patient.true_ratio) < 0.25


TABLES = ("fields.parquet", "cells.parquet", "patients.parquet")


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (7, 3), (64, 2)])
def test_tables_are_the_same_to_the_byte_whatever_the_batch_and_the_threads(
    prediction: Prediction, cohort: Path, tmp_path: Path, batch_size: int, threads: int
) -> None:
    config = CONFIG.model_copy(update={"batch_size": batch_size, "threads": threads})
    other = predict([cohort], demonstration_bundle(), tmp_path / "run", config=config)
    for name in TABLES:
        assert (other.folder / name).read_bytes() == (prediction.folder / name).read_bytes(), name


def test_a_stopped_run_goes_on_and_ends_with_the_same_tables(
    prediction: Prediction, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marrowscope.predict, "IMAGES_A_PART", 2)
    monkeypatch.setattr(marrowscope.runs.parts, "IMAGES_A_PART", 2)
    out = tmp_path / "run"

    def stop(done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict([cohort], demonstration_bundle(), out, config=CONFIG, progress=stop)
    assert not out.exists()
    done = []
    resumed = predict(
        [cohort],
        demonstration_bundle(),
        out,
        config=CONFIG.model_copy(update={"threads": 2}),
        progress=lambda n, _total: done.append(n),
    )
    assert done[0] == 3
    assert resumed.manifest.images_resumed == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert resumed.fields.equals(prediction.fields)
    assert resumed.cells.equals(prediction.cells)
    assert resumed.patients.equals(prediction.patients)


@pytest.mark.skipif("openvino" not in available_backends(), reason="openvino is not installed")
def test_openvino_gives_the_same_tables_whatever_the_threads(cohort: Path, tmp_path: Path) -> None:
    """Nor does it matter which cells are left over at the end, in a batch of another size: processes leave many."""
    precision = "bf16" if "bf16" in capabilities("openvino") else "f32"
    for name, update in {
        "one": {"threads": 1},
        "more": {"threads": 3},
        "apart": {"threads": 2, "processes": 2},
    }.items():
        config = PredictConfig(backend="openvino", precision=precision).model_copy(update=update)
        predict([cohort], demonstration_bundle(), tmp_path / name, config=config)
    for table, name in itertools.product(TABLES, ("more", "apart")):
        assert (tmp_path / "one" / table).read_bytes() == (tmp_path / name / table).read_bytes(), (table, name)


@pytest.mark.skipif("openvino" not in available_backends(), reason="openvino is not installed")
def test_openvino_moves_no_call_with_the_batch(cohort: Path, tmp_path: Path) -> None:
    """Without AVX-512 the last digits of a probability depend on the size of the batch, never on the others in it."""
    tables = {
        size: predict(
            [cohort], demonstration_bundle(), tmp_path / str(size), config=PredictConfig(threads=1, batch_size=size)
        ).cells
        for size in (5, 16)
    }
    for column in ("p_cblc", "p_countable"):
        assert np.allclose(tables[5][column].drop_nulls(), tables[16][column].drop_nulls(), atol=1e-5), column
    assert tables[5]["category"].equals(tables[16]["category"])


def test_without_morphology_the_calls_are_the_same(prediction: Prediction, cohort: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"morphology": False})
    plain = predict([cohort], demonstration_bundle(), tmp_path / "run", config=config)
    kept = [name for name in plain.cells.columns if name not in MORPHOLOGY_COLUMNS]
    assert plain.cells.select(kept).equals(prediction.cells.select(kept))
    assert all(plain.cells[name].is_null().all() for name in MORPHOLOGY_COLUMNS)


def test_corrupt_image_is_recorded_and_the_rest_is_as_before(
    prediction: Prediction, cohort: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "cohort"
    shutil.copytree(cohort, damaged)
    patient = min(path for path in damaged.iterdir() if path.is_dir())
    (patient / "field_000.jpg").write_bytes((patient / "field_001.jpg").read_bytes()[:20_000])
    (patient / "field_009.png").write_bytes(b"")
    result = predict([damaged], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    assert result.manifest.counts.images_failed == 2
    assert result.manifest.counts.cells == prediction.manifest.counts.cells
    errors = {failure.field_id: failure.error for failure in result.manifest.failures}
    assert "field_009.png: found an empty file" in errors[f"{patient.name}/field_009"]
    assert "ends too early; copy or export it again" in errors[f"{patient.name}/field_000"]
    assert result.fields["status"].to_list().count("failed") == 2
    assert result.patients["n_fields_failed"].to_list() == [2, 0]


def test_what_is_not_predicted_is_said_in_manifest_and_counts(cohort: Path, tmp_path: Path) -> None:
    faulty = tmp_path / "cohort"
    shutil.copytree(cohort, faulty)
    (faulty / "nobody").mkdir()
    image = min(faulty.glob("*/*.jpg"))
    shutil.copyfile(image, faulty / "nobody" / "a.jpg")
    with (faulty / "patients.csv").open("a", encoding="utf-8") as stream:
        stream.write("P0001,again\n")
    manifest = predict([faulty], demonstration_bundle(), tmp_path / "run", config=CONFIG).manifest
    assert (manifest.counts.patients, manifest.counts.left_out) == (2, 2)
    assert len(manifest.faults) == 2
    assert "found 2 cells, expected 7 as in the header" in manifest.faults[0]
    assert "nobody: found 1 image of no patient in patients.csv" in manifest.faults[1]


def test_image_without_a_cell_gives_a_patient_without_a_ratio(tmp_path: Path) -> None:
    folder = tmp_path / "empty-patient"
    folder.mkdir()
    write_image(folder / "blank.png", np.full((300, 400, 3), 235, dtype=np.uint8))
    result = predict(
        [folder], demonstration_bundle(), tmp_path / "run", config=CONFIG.model_copy(update={"um_per_px": 0.15})
    )
    assert result.cells.is_empty()
    assert result.patients["patient_id"].to_list() == ["empty-patient"]
    assert result.patients["cblc_ratio"].to_list() == [None]
    assert result.patients["n_countable"].to_list() == [0]


def test_loose_images_belong_to_the_patient_named_after_their_folder(
    prediction: Prediction, cohort: Path, tmp_path: Path
) -> None:
    known = min(path for path in cohort.iterdir() if path.is_dir())
    patient = tmp_path / known.name  # no patients.csv beside it
    shutil.copytree(known, patient)
    scale = prediction.fields.filter(pl.col("patient_id") == patient.name)["um_per_px"][0]
    config = CONFIG.model_copy(update={"um_per_px": scale})
    images = sorted(patient.glob("*.jpg"))
    result = predict(images, demonstration_bundle(), tmp_path / "run", config=config)
    of_patient = prediction.cells.filter(pl.col("patient_id") == patient.name)
    assert result.patients["patient_id"].to_list() == [patient.name]
    assert result.cells["cell_id"].to_list() == of_patient["cell_id"].to_list()


def test_whatever_can_be_refused_early_is_refused_before_a_run_exists(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    bundle = demonstration_bundle()
    with pytest.raises(InputError, match=r"nowhere: not found, expected a cohort, a patient folder or an image"):
        predict([tmp_path / "nowhere"], bundle, out)
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"found no image, expected files ending in"):
        predict([tmp_path / "bare"], bundle, out)
    for name in ("b.pdf", "c.docx"):
        (tmp_path / "bare" / name).touch()
    with pytest.raises(InputError, match=r"found no image but 2 other files \(.*b\.pdf, \.\.\.\), expected files"):
        predict([tmp_path / "bare"], bundle, out)
    image = tmp_path / "bare" / "a.jpg"
    shutil.copyfile(next(cohort.glob("*/*.jpg")), image)
    with pytest.raises(ScaleError, match=r"found no scale.*set --um-per-px"):
        predict([image], bundle, out)
    with pytest.raises(BundleError, match=r"found no bundle.toml"):
        predict([cohort], tmp_path, out)
    assert not out.exists()
    out.mkdir()
    (out / "notes.txt").touch()
    with pytest.raises(
        RunError, match=r"files that are not a marrowscope run.*nothing is removed. It contains notes\.txt"
    ):
        predict([cohort], bundle, out)
    with pytest.raises(RunError, match=r"found the working folder or one above it"):
        predict([cohort], bundle, Path())


def test_of_two_images_of_one_name_one_is_left_out_and_no_other_is_lost(tmp_path: Path) -> None:
    """What `cohort check` says of them; other images and patients are predicted."""
    for name, levels in (("P1/a.png", 235), ("P1/a.jpg", 230), ("P1/b.png", 225), ("P2/a.png", 220)):
        path = tmp_path / "cohort" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((64, 64, 3), levels, dtype=np.uint8))
    assert read_image(tmp_path / "cohort" / "P1" / "a.jpg").shape == (64, 64, 3)
    inputs = collect_inputs([tmp_path / "cohort"])
    assert [image.field_id for image in inputs.images] == ["P1/a", "P1/b", "P2/a"]
    (fault,) = [fault for fault in inputs.faults if fault.kind == "same_name"]
    assert "a.png: found the same name 'P1/a' as" in fault.sentence()
    assert "a.jpg" in fault.sentence()
    assert inputs.n_left_out == 1
    config = CONFIG.model_copy(update={"um_per_px": 0.15})
    run = predict([tmp_path / "cohort"], demonstration_bundle(), tmp_path / "run", config=config)
    assert run.manifest.counts.left_out == 1
    assert run.fields["field_id"].to_list() == ["P1/a", "P1/b", "P2/a"]


def test_a_file_that_is_named_twice_is_predicted_once(tmp_path: Path) -> None:
    path = tmp_path / "P1" / "a.png"
    path.parent.mkdir()
    write_image(path, np.full((64, 64, 3), 235, dtype=np.uint8))
    inputs = collect_inputs([path, path])
    assert len(inputs.images) == 1
    (fault,) = [fault for fault in inputs.faults if fault.kind == "same_name"]
    assert "found the file given twice" in fault.sentence()


def test_both_runtimes_find_the_same_cells_with_the_shipped_segmenter(cohort: Path) -> None:
    if len(available_backends()) < 2:
        pytest.skip("only one runtime is installed")
    image = read_image(min(cohort.glob("*/*.jpg")))
    graph = demonstration_bundle() / SEGMENTER_FILE
    ours, theirs = (Segmenter.from_onnx(graph, backend=name).detect(image, 0.14) for name in available_backends())
    overlap = geometry.iou_matrix([item.contour_xy for item in ours], [item.contour_xy for item in theirs])
    assert len(ours) == len(theirs) >= 10
    assert overlap.max(axis=1).min() >= 0.99
    assert overlap.max(axis=0).min() >= 0.99


def test_image_of_a_scale_too_coarse_is_recorded_and_ends_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "P1"
    folder.mkdir()
    write_image(folder / "a.png", np.full((64, 64, 3), 235, dtype=np.uint8))
    coarse = CONFIG.model_copy(update={"um_per_px": 1.5})
    result = predict([folder], demonstration_bundle(), tmp_path / "run", config=coarse)
    assert result.manifest.counts.images_failed == 1
    assert "a.png: found 1.5 um per px, expected more than 0 and at most 1.2" in result.manifest.failures[0].error


def test_exact_truth_leaves_out_cut_cells_and_counts_by_the_vocabulary(tmp_path: Path) -> None:
    run, cohort = tmp_path / "run", tmp_path / "cohort"
    run.mkdir()
    cohort.mkdir()
    counts = {
        "corrected_upper": [0.9],
        "n_cblc": [1],
        "n_countable": [3],
        "cblc_ratio": [1 / 3],
        "corrected_ratio": [0.3],
        "corrected_lower": [0.1],
    }
    names = {"patient_id": ["P1"], "center": ["S1"], "diagnosis": ["AML"], "call": ["above"]}
    threshold = {"threshold": [0.3], "threshold_n_patients": [50], "threshold_simulated": [True]}
    pl.DataFrame(names | threshold | counts).write_parquet(run / "patients.parquet")
    codes = ["N", "N", "J1", "N5", "V", "M0"]
    cut = [False, True, False, False, False, False]
    truth = pl.DataFrame({"patient_id": ["P1"] * 6, "code": codes, "cut_by_edge": cut})
    truth.write_parquet(cohort / "truth_cells.parquet")
    (patient,) = compare_with_truth(run, cohort)
    assert (patient.true_n_cblc, patient.true_n_countable) == (2, 4)
    assert patient.true_ratio == pytest.approx(0.5)


def test_a_run_that_is_interrupted_before_its_first_image_leaves_no_folder(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_worker: Worker, _item: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "_find_field", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict([cohort], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_reference_ranges_that_cannot_be_used_are_refused_before_anything_is_predicted(
    cohort: Path, tmp_path: Path
) -> None:
    def predict_with(ranges: str) -> None:
        config = CONFIG.model_copy(update={"reference_ranges": ranges})
        predict([cohort], demonstration_bundle(), tmp_path / "run", config=config)

    with pytest.raises(VocabularyError, match=r"parmentier: not found, neither a column of reference"):
        predict_with("parmentier")
    own = tmp_path / "own.toml"
    text = DEFAULT_REFERENCE_RANGES.read_text(encoding="utf-8")
    own.write_text(text.replace('vocabulary = "marrow-37"', 'vocabulary = "ours"'), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"own\.toml: found reference ranges for vocabulary 'ours', expected 'marrow-37'"
    ):
        predict_with(str(own))
    assert not (tmp_path / "run").exists()


def test_named_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt: found a file that is not an image, expected .* in \.bmp"):
        predict([tmp_path / "notes.txt"], demonstration_bundle(), tmp_path / "run", config=CONFIG)


def test_processes_give_the_tables_that_threads_give(prediction: Prediction, cohort: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"processes": 2, "threads": 2})
    other = predict([cohort], demonstration_bundle(), tmp_path / "run", config=config)
    for name in TABLES:
        assert (other.folder / name).read_bytes() == (prediction.folder / name).read_bytes(), name


def test_files_without_a_picture_do_not_hide_the_scale_of_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "P1"
    folder.mkdir()
    Image.new("RGB", (64, 64), (230, 230, 230)).save(folder / "a.tif", dpi=(25_400 / 0.15, 25_400 / 0.15))
    (folder / "b.tif").touch()
    (folder / "c.jpg").write_text("no picture", encoding="utf-8")
    counts = predict([folder], demonstration_bundle(), tmp_path / "run", config=CONFIG).manifest.counts
    assert (counts.images_read, counts.images_failed) == (1, 2)


def test_a_center_corrected_between_two_calls_begins_anew(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marrowscope.predict, "IMAGES_A_PART", 1)
    copy = tmp_path / "cohort"
    shutil.copytree(cohort, copy)

    def stop(done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict([copy], demonstration_bundle(), tmp_path / "run", config=CONFIG, progress=stop)
    table = pl.read_csv(copy / "patients.csv").with_columns(center=pl.lit("corrected"))
    table.write_csv(copy / "patients.csv")
    done = predict([copy], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    assert done.manifest.images_resumed == 0
    assert set(done.fields["center"]) == set(done.patients["center"]) == {"corrected"}


def test_a_worker_of_another_bundle_is_refused(cohort: Path, tmp_path: Path) -> None:
    bundle = load_bundle(demonstration_bundle())
    worker = Worker(replace(bundle, spec_sha256="another"), CONFIG)
    with pytest.raises(ConfigError, match="found a worker of another bundle"):
        predict([cohort], bundle, tmp_path / "run", config=CONFIG, worker=worker)
    assert list(tmp_path.iterdir()) == []
