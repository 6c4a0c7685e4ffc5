"""A simulated cohort on disk: deterministic, complete, and read back as it was drawn."""

from __future__ import annotations

import errno
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.annotations import AnnotationFile
from marrowscope.cohort.formats.labelme import read_labelme
from marrowscope.config import validate_config
from marrowscope.disk import MARKER_NAME, read_marker
from marrowscope.errors import ConfigError, RunError
from marrowscope.imaging import read_image, sha256_file
from marrowscope.simulate import SimulationConfig, load_parameters, simulate_cohort, writer
from marrowscope.simulate.writer import PatientPlan, is_simulated, iterate_fields, plan_patient
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.simulate import SimulatedField
    from marrowscope.simulate.parameters import Parameters

SMALL = SimulationConfig(
    patients=3,
    centers=2,
    fields=2,
    seed=5,
    cells_per_field=(4, 7),
    width_px=520,
    height_px=400,
    diagnoses=("control", "AML_M2", "APL"),
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "cohort"
    simulate_cohort(out, SMALL)
    return out


def hashes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_result_does_not_depend_on_the_workers(cohort: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    config = SMALL.model_copy(update={"workers": 2})
    simulate_cohort(tmp_path / "again", config, progress=lambda done, total: seen.append((done, total)))
    assert hashes(tmp_path / "again") == hashes(cohort)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_some_patients_alone_are_the_same_as_in_the_whole_cohort(cohort: Path, tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "some", SMALL, patients=[2, 0])
    whole, some = hashes(cohort), hashes(tmp_path / "some")
    images = {name for name in whole if name.startswith(("P0001", "P0003"))}
    assert images
    assert {name: some[name] for name in some if "/" in name} == {name: whole[name] for name in images}
    assert [patient.center for patient in read_cohort(tmp_path / "some").patients] == ["S1", "S1"]
    assert json.loads((tmp_path / "some" / "simulation.json").read_text(encoding="utf-8"))["patients"] == [2, 0]


def test_another_seed_changes_images_and_truth(cohort: Path, tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "other", SMALL.model_copy(update={"seed": 6}))
    one, other = hashes(cohort), hashes(tmp_path / "other")
    assert all(one[name] != other[name] for name in one if name in other and name.endswith((".jpg", ".parquet")))


def test_an_interrupted_cohort_goes_on_after_its_finished_patients(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "c", list[tuple[int, int]]()

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        simulate_cohort(out, SMALL, progress=stop)
    (tmp_path / "c.part" / "P0003").mkdir()
    (tmp_path / "c.part" / "P0003" / "field_009.jpg").touch()  # of the patient that was being drawn
    drawn: list[int] = []

    def noted(
        config: SimulationConfig, plan: PatientPlan, parameters: Parameters
    ) -> Iterator[tuple[int, SimulatedField]]:
        drawn.append(plan.index)
        return iterate_fields(config, plan, parameters)

    monkeypatch.setattr(writer, "iterate_fields", noted)
    assert simulate_cohort(out, SMALL, progress=lambda done, total: seen.append((done, total))) == 2
    assert drawn == [2]
    assert seen == [(3, 3)]
    assert hashes(out) == hashes(cohort)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_another_cohort_does_not_go_on_with_an_interrupted_one(tmp_path: Path) -> None:
    out = tmp_path / "c"

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(out, SMALL, progress=stop)
    assert (tmp_path / "c.part" / "unfinished" / "P0001.parquet").is_file()
    assert simulate_cohort(out, SMALL.model_copy(update={"seed": 6}), patients=[0]) == 0
    assert not (out / "P0002").exists()


def test_an_interruption_before_the_first_patient_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "iterate_fields", stop)
    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(tmp_path / "c", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_cohort_of_these_settings_is_known(cohort: Path, tmp_path: Path) -> None:
    assert is_simulated(cohort, SMALL.model_copy(update={"workers": 2}))
    assert not is_simulated(cohort, SMALL.model_copy(update={"seed": 6}))
    assert not is_simulated(tmp_path, SMALL)
    copy = tmp_path / "copy"
    shutil.copytree(cohort, copy)
    (copy / "P0001" / "field_001.jpg").unlink()
    assert not is_simulated(copy, SMALL)


def test_the_cohort_reader_takes_it_without_a_fault(cohort: Path) -> None:
    read = read_cohort(cohort, vocabulary=load_vocabulary())
    assert read.faults == ()
    assert [patient.diagnosis for patient in read.patients] == ["control", "AML", "AML"]
    assert len(read.fields) == 6
    assert all(0.11 <= (field.um_per_px or 0) <= 0.17 for field in read.fields)


def test_truth_equals_the_annotations(cohort: Path) -> None:
    truth = pl.read_parquet(cohort / "truth_cells.parquet")
    annotated = truth.filter(pl.col("shape_index").is_not_null())
    n_shapes = 0
    for path in sorted(cohort.glob("*/*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        height, width = read_image(path.parent / document["imagePath"]).shape[:2]
        assert (document["imageHeight"], document["imageWidth"]) == (height, width) == (400, 520)
        rows = annotated.filter((pl.col("patient_id") == path.parent.name) & (pl.col("field") == path.stem))
        assert rows["shape_index"].to_list() == list(range(len(document["shapes"])))
        n_shapes += len(document["shapes"])
        for shape, row in zip(document["shapes"], rows.iter_rows(named=True), strict=True):
            assert shape["label"] == row["code"]
            if not row["cut_by_edge"]:
                contour = np.array(row["contour_xy"]).reshape(-1, 2)
                assert np.array_equal(shape["points"], contour)
    assert n_shapes == annotated.height > 0


def test_contours_read_back_equal_what_was_drawn_to_the_last_bit(cohort: Path) -> None:
    parameters = load_parameters()
    n_cut = 0
    for index in range(SMALL.patients):
        plan = plan_patient(SMALL, index, parameters)
        for number, field in iterate_fields(SMALL, plan, parameters):
            file = AnnotationFile(cohort / plan.patient_id / f"field_{number:03d}.json")
            (read,) = read_labelme(file)
            drawn = [cell for cell in field.cells if cell.polygon_xy is not None]
            n_cut += sum(cell.cut_by_edge for cell in drawn)
            assert read.faults == ()
            for shape, cell in zip(read.shapes, drawn, strict=True):
                assert shape.code == cell.code
                assert cell.polygon_xy is not None
                assert cell.polygon_xy.dtype == np.float64
                np.testing.assert_array_equal(shape.contour_xy, cell.polygon_xy)
    assert n_cut > 0


def test_fields_and_cells_are_as_many_as_asked(tmp_path: Path) -> None:
    config = SimulationConfig(
        patients=2,
        centers=1,
        fields=3,
        cells_per_field=(5, 5),
        width_px=640,
        height_px=480,
        min_cells=20,
        prefix="other-",
    )
    simulate_cohort(tmp_path / "c", config)
    truth = pl.read_parquet(tmp_path / "c" / "truth_patients.parquet")
    n_fields = {p.name: len(list(p.glob("*.jpg"))) for p in (tmp_path / "c").iterdir() if p.is_dir()}
    assert truth["patient_id"].to_list() == ["other-0001", "other-0002"]
    assert min(truth["n_cells_annotated"].to_list()) >= 20
    assert all(3 < n <= 6 for n in n_fields.values())
    record = json.loads((tmp_path / "c" / "simulation.json").read_text(encoding="utf-8"))
    assert record["n_cells_annotated"] == sum(truth["n_cells_annotated"].to_list())
    assert set(record["parameters_sha256"]) == {"morphology.toml", "differentials.toml", "optics.toml"}


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="expected a new or empty folder"):
        simulate_cohort(tmp_path, SMALL)


def test_an_earlier_cohort_is_replaced_when_asked_and_files_of_others_stay(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    simulate_cohort(out, SMALL, patients=[0])
    with pytest.raises(RunError, match=r"found an earlier simulated cohort, .*add --overwrite"):
        simulate_cohort(out, SMALL, patients=[0])
    simulate_cohort(out, SMALL, patients=[1], overwrite=True)
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["P0002"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]
    (out / "P0002" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match=r"nothing is removed. It contains P0002/notes\.txt"):
        simulate_cohort(out, SMALL, patients=[1], overwrite=True)
    assert (out / "P0002" / "notes.txt").is_file()
    marker = read_marker(cohort)
    assert marker is not None
    assert {MARKER_NAME, *marker.files} == hashes(cohort).keys()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"diagnoses": ("flu",)}, "unknown diagnosis 'flu', expected one of control"),
        ({"patients": 2, "centers": 3}, "found 3 centers, expected at most 2"),
        ({"prefix": "a/b"}, "prefix: found 'a/b'"),
        ({"composition": "even"}, "'differential' or 'balanced'"),
    ],
)
def test_wrong_settings_are_explained(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_config(SimulationConfig, values, "simulate")
