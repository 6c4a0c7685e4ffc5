"""Shards of an input, put together, are the run of one call; what does not belong together is refused by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import marrowscope.cluster.merge
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import default_bundle, demonstration_bundle
from marrowscope.cluster.merge import merge
from marrowscope.cohort.shards import Shard
from marrowscope.disk import begin_folder
from marrowscope.errors import RunError
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.records import InputImage, Patient
from marrowscope.report import write_report
from marrowscope.runs.parts import RunParts
from marrowscope.runs.shard_record import ShardPatient, ShardRecord
from marrowscope.runs.table_hashes import hash_tables, read_checked_manifest
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.worker import Worker

CONFIG = PredictConfig(backend="onnxruntime", threads=1, morphology=False)
TABLES = ("fields.parquet", "cells.parquet", "patients.parquet")
N_SHARDS = 3


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker(load_bundle(demonstration_bundle()), CONFIG)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients with copies of every kind: a file of two patients, of one, in another encoding, and empty files."""
    out = tmp_path_factory.mktemp("shards") / "cohort"
    config = SimulationConfig(
        patients=4, centers=2, fields=2, seed=11, cells_per_field=(10, 12), width_px=640, height_px=480
    )
    simulate_cohort(out, config)
    first, _, third, last = sorted(path for path in out.iterdir() if path.is_dir())
    photographs = sorted(first.glob("*.jpg"))
    shutil.copyfile(photographs[0], last / "zz_same.jpg")
    Image.open(photographs[1]).save(third / "zz_again.png")
    shutil.copyfile(photographs[0], first / "zz_mine_again.jpg")
    shutil.copyfile(min(third.glob("*.jpg")), third / "zz_twice.jpg")
    (last / "zz_broken.jpg").write_bytes(b"no photograph")
    for patient in (first, last):
        (patient / "zz_empty.jpg").touch()
    return out


@pytest.fixture(scope="module")
def whole(cohort: Path, worker: Worker) -> Prediction:
    return predict([cohort], demonstration_bundle(), cohort.parent / "whole", config=CONFIG, worker=worker)


@pytest.fixture(scope="module")
def shards(cohort: Path, worker: Worker) -> list[Path]:
    folders = [cohort.parent / f"shard-{index}" for index in range(1, N_SHARDS + 1)]
    for index, folder in enumerate(folders, 1):
        predict([cohort], demonstration_bundle(), folder, config=CONFIG, worker=worker, shard=Shard(index, N_SHARDS))
    return folders


@pytest.fixture
def copied(shards: list[Path], tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in shards]


def change(folder: Path, name: str, **values: object) -> None:
    """Change values of a JSON file of a run; a changed shard.json is hashed again."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    if name == "shard.json":
        change(folder, "manifest.json", tables=hash_tables(folder))


def test_the_merged_run_is_that_of_one_call_to_the_byte(whole: Prediction, shards: list[Path], tmp_path: Path) -> None:
    run = merge([shards[2], shards[0], shards[1]], demonstration_bundle(), tmp_path / "run")
    for name in TABLES:
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert run.manifest.counts == whole.manifest.counts
    assert run.manifest.counts.left_out == 5  # three files of one content, a copy, a photograph in another encoding
    assert run.manifest.counts.images_failed == 3
    assert run.manifest.input_sha256 == whole.manifest.input_sha256
    assert sorted(run.manifest.faults) == sorted(whole.manifest.faults)
    assert run.manifest.failures == whole.manifest.failures


def test_parts_of_any_size_give_the_tables_of_one_call(
    cohort: Path, worker: Worker, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of three images spans shards and patients."""
    monkeypatch.setattr("marrowscope.cluster.merge.IMAGES_A_PART", 3)
    monkeypatch.setattr("marrowscope.predict.IMAGES_A_PART", 3)
    one = predict([cohort], demonstration_bundle(), tmp_path / "one", config=CONFIG, worker=worker)
    run = merge(shards, demonstration_bundle(), tmp_path / "run")
    for name in TABLES:
        assert (run.folder / name).read_bytes() == (one.folder / name).read_bytes(), name


def test_a_merge_that_was_stopped_goes_on(
    whole: Prediction, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(marrowscope.cluster.merge, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            merge(shards, demonstration_bundle(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with monkeypatch.context() as counted:  # what is written already is not written again
        counted.setattr(RunParts, "write_tables", lambda *_: pytest.fail("a part was made again"))
        run = merge(shards, demonstration_bundle(), tmp_path / "run")
    assert (run.folder / "patients.parquet").read_bytes() == (whole.folder / "patients.parquet").read_bytes()


def test_every_patient_is_in_one_shard(whole: Prediction, shards: list[Path]) -> None:
    named = [json.loads((folder / "shard.json").read_text(encoding="utf-8"))["patients"] for folder in shards]
    assert [patient["patient_id"] for part in named for patient in part] == whole.patients["patient_id"].to_list()
    assert all(named)


def test_a_shard_that_is_not_finished_is_refused(shards: list[Path], tmp_path: Path) -> None:
    """As `merge shards/*` finds one that was killed."""
    begin_folder(tmp_path / "3.part", "run")
    with pytest.raises(RunError, match=r"3\.part: found a prediction that is not finished, expected a"):
        merge([*shards[:2], tmp_path / "3.part"], demonstration_bundle(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [((0, 2), "missing: 2"), ((0, 1, 1, 2), "found shard 2/3 again"), ((), "found no shards")],
)
def test_shards_that_are_missing_or_given_twice_are_refused(
    shards: list[Path], tmp_path: Path, chosen: tuple[int, ...], said: str
) -> None:
    with pytest.raises(RunError, match=said):
        merge([shards[index] for index in chosen], demonstration_bundle(), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("shard.json", {"inputs_sha256": "0" * 64}, "of another input"),
        ("shard.json", {"of": 4}, "one of 4"),
        ("shard.json", {"processor": "x86_64 avx"}, "a processor that differs"),
        ("manifest.json", {"marrowscope_version": "0.0"}, "marrowscope_version 0.0"),
        ("manifest.json", {"versions": {"numpy": "1.0"}}, "numpy 1.0"),
        ("manifest.json", {"precision": "bf16"}, "precision bf16"),
        ("manifest.json", {"device": "GPU"}, "device GPU"),
        ("manifest.json", {"config": {"morphology": True}}, "found backend auto"),
        ("shard.json", {"keep_copies": True}, "another --keep-copies"),
        ("manifest.json", {"bundle": {"name": "another"}}, "bundle another"),
        ("manifest.json", {"tables": {"cells.parquet": "0" * 64}}, "found SHA-256"),
    ],
)
def test_a_shard_made_in_another_way_is_refused_by_name(
    copied: list[Path], tmp_path: Path, name: str, values: dict[str, object], said: str
) -> None:
    change(copied[1], name, **values)
    with pytest.raises(RunError, match=said) as refused:
        merge(copied, demonstration_bundle(), tmp_path / "run")
    assert str(copied[1]) in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_other_processors_are_taken_where_the_user_says_so_and_that_is_written_down(
    copied: list[Path], tmp_path: Path
) -> None:
    change(copied[1], "shard.json", processor="x86_64 avx")
    manifest = merge(copied, demonstration_bundle(), tmp_path / "run", mixed=True).manifest
    assert manifest.counts.patients == 4
    assert any("processors with different features" in fault for fault in manifest.faults)


def test_a_changed_record_and_another_bundle_are_refused(copied: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="found another bundle"):
        merge(copied, default_bundle(), tmp_path / "run")
    record = copied[1] / "shard.json"
    record.write_text(record.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(RunError, match=r"shard\.json: found SHA-256"):
        merge(copied, demonstration_bundle(), tmp_path / "run")


def test_one_shard_is_no_run_for_any_other_command(shards: list[Path]) -> None:
    said = "found one shard of a prediction, expected a whole run"
    with pytest.raises(RunError, match=said):
        write_report(shards[0])
    with pytest.raises(RunError, match=said):
        read_checked_manifest(shards[0])
    assert not (shards[0] / "report").exists()


def test_a_slide_of_two_patients_is_one_file_of_each() -> None:
    """Its regions are rows of their own, and no copies of each other."""
    images = [
        InputImage(f"{patient}/slide_{k}", patient, Path(patient, "slide.tif"), None, sha256="a" * 64)
        for patient in ("P1", "P2")
        for k in range(3)
    ]
    record = ShardRecord(
        index=1,
        of=1,
        inputs_sha256="",
        processor="",
        patients=tuple(ShardPatient.of(Patient(name, "A", "AML")) for name in ("P1", "P2")),
        fingerprints={},
        input_faults=(),
        left_out_of_input=0,
        faults=(),
        copies=(),
    )
    run = marrowscope.cluster.merge._ShardRun(Path(), record, None)  # type: ignore[arg-type]
    ((group, kept),) = marrowscope.cluster.merge._equal_files([run], images)
    assert [image.patient_id for image in group] == ["P1", "P2"]
    assert kept is None
    several = [replace(image, path=image.path.with_suffix(".mrxs")) for image in images]
    assert not marrowscope.cluster.merge._equal_files([run], several)


def test_a_run_that_is_no_shard_is_refused(whole: Prediction, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected the run of a shard"):
        merge([whole.folder], demonstration_bundle(), tmp_path / "run")
