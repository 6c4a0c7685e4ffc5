"""fit.json, crossfit.json and prepare.json are read once: one sentence for what is wrong, older files stay readable."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from marrowscope.cells.crop import CropSpec
from marrowscope.cells.quality import QualityRules
from marrowscope.config import load_record
from marrowscope.errors import InputError, RunError
from marrowscope.train.crop_set import CropSetSummary, open_crop_set
from marrowscope.train.crossfit_record import CrossFitRecord, differences, hash_folds, read_crossfit, write_crossfit
from marrowscope.train.training_record import (
    EpochRow,
    StageCounts,
    TrainingMachine,
    TrainingRecord,
    TrainingResult,
    describe_data,
    read_finished,
    read_training,
    write_training,
)
from marrowscope.vocabulary import load_vocabulary
from tests.crop_sets import tiny_config, write_crop_set

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import JsonDict

FIGURES = {name: 0.5 for name in EpochRow.model_fields if name not in {"epoch", "train_losses"}}
FIGURES |= {"train_loss_cblc": 0.25}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> TrainingRecord:
    pytest.importorskip("torch")
    crops = write_crop_set(tmp_path_factory.mktemp("crops"), patients=2)
    vocabulary = load_vocabulary()
    described = describe_data(open_crop_set(crops, vocabulary), tiny_config(), vocabulary)
    machine = TrainingMachine(device="cpu", precision="float32", threads=1, instructions="AVX2", deterministic=True)
    return TrainingRecord(**dict(described), split_sha256="5" * 64, machine=machine)


@pytest.fixture
def finished(record: TrainingRecord) -> TrainingRecord:
    result = TrainingResult(weights_sha256="a" * 64, best_epoch=EpochRow(epoch=2, **FIGURES), initial_weights="none")
    counts = StageCounts(training_crops=9, validation_crops=3, training_patients=3, validation_patients=1)
    return record.model_copy(update={"result": result, "stages": {"gt-to-yolo": counts}})


def as_json(folder: Path, record: TrainingRecord) -> JsonDict:
    write_training(folder, record)
    value: JsonDict = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    return value


def test_a_record_is_read_as_it_was_written(record: TrainingRecord, finished: TrainingRecord, tmp_path: Path) -> None:
    assert not {"result", "stages", "resumed"} & set(as_json(tmp_path, record))
    assert read_training(tmp_path) == record
    write_training(tmp_path, finished)
    assert dict(read_finished(tmp_path)) == dict(finished)


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (
            ("split_sha256",),
            None,
            r"fit\.json: split_sha256: found None, expected a text in quotes; give the --out",
        ),
        (
            ("split_sha256",),
            ...,
            r"fit\.json: split_sha256: found nothing, expected a value; add it; give the --out of",
        ),
        (("config", "tau"), "much", r"fit\.json: config\.tau: found 'much', expected a number"),
        (("result", "best_epoch", "selection"), ..., r"fit\.json: result\.best_epoch\.selection: found nothing"),
        (("stages", "gt-to-yolo", "training_crops"), 1.5, r"stages\.gt-to-yolo\.training_crops: found 1\.5"),
        (("prepared", "crop", "size_px"), [], r"fit\.json: prepared\.crop\.size_px: found \[\]"),
    ],
)
def test_a_wrong_type_or_a_missing_key_is_one_sentence(
    finished: TrainingRecord, tmp_path: Path, keys: tuple[str, ...], value: object, expected: str
) -> None:
    document = as_json(tmp_path, finished)
    place = document
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    (tmp_path / "fit.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RunError, match=expected) as error:
        read_training(tmp_path)
    assert "\n" not in str(error.value)


def test_no_record_a_broken_one_and_an_unfinished_one_are_refused(record: TrainingRecord, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"fit\.json: not found; give the --out of `marrowscope train class"):
        read_training(tmp_path)
    (tmp_path / "fit.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"fit\.json: found no readable JSON \(.*; give the --out"):
        read_training(tmp_path)
    write_training(tmp_path, record)
    with pytest.raises(RunError, match="found an unfinished training; continue with `marrowscope train classif"):
        read_finished(tmp_path)


def test_a_record_of_an_earlier_version_stays_readable(finished: TrainingRecord, tmp_path: Path) -> None:
    document = as_json(tmp_path, finished)
    del document["machine"], document["result"]["initial_sha256"], document["config"]["workers"]
    document["prepared"] = {"crop": {"side_um": 9.6, "size_px": 32}}
    (tmp_path / "fit.json").write_text(json.dumps(document), encoding="utf-8")
    older = read_finished(tmp_path)
    assert (older.machine, older.result.initial_sha256, older.config.workers) == (None, "", 0)
    assert older.prepared == CropSetSummary(crop=CropSpec(side_um=9.6, size_px=32))
    assert older.fingerprint() == finished.fingerprint()


def test_the_fingerprint_is_of_data_split_vocabulary_and_settings_alone(record: TrainingRecord) -> None:
    def changed(**changes: object) -> str:
        return record.model_copy(update=changes).fingerprint()

    assert changed(crops="elsewhere", machine=None, versions={}) == record.fingerprint()
    assert changed(config=record.config.model_copy(update={"threads": 7, "workers": 3})) == record.fingerprint()
    others = [
        changed(split_sha256="6" * 64),
        changed(data_sha256={}),
        changed(config=record.config.model_copy(update={"tau": 0.5})),
        changed(vocabulary=record.vocabulary.model_copy(update={"sha256": "7" * 64})),
    ]
    assert len({record.fingerprint(), *others}) == 5


def test_a_training_that_goes_on_lists_each_other_machine_once(record: TrainingRecord) -> None:
    assert record.machine is not None
    elsewhere = record.model_copy(update={"machine": record.machine.model_copy(update={"threads": 9})})
    assert record.going_on_from(record).resumed == ()
    once = elsewhere.going_on_from(record)
    assert (once.machine, [item.machine for item in once.resumed]) == (record.machine, [elsewhere.machine])
    assert elsewhere.going_on_from(once) == once
    assert [item.machine for item in record.going_on_from(once).resumed] == [elsewhere.machine, record.machine]


def test_crossfit_json_is_read_as_written_and_refused_in_a_sentence(record: TrainingRecord, tmp_path: Path) -> None:
    shared = {name: value for name, value in record if name in CrossFitRecord.model_fields}
    folds = {"assigned_sha256": hash_folds({"b": None, "a": 0}), "n_folds": 1, "n_external_patients": 1}
    crossfit = CrossFitRecord(**shared, **folds, seed=0, predicted_crops="expert")
    write_crossfit(tmp_path, crossfit)
    assert read_crossfit(tmp_path) == crossfit
    assert hash_folds({"a": 0, "b": None}) == crossfit.assigned_sha256
    assert differences(crossfit, record) == []
    assert differences(crossfit, record.model_copy(update={"data_sha256": {}})) == ["data_sha256"]
    document = json.loads((tmp_path / "crossfit.json").read_text(encoding="utf-8")) | {"predicted_crops": "painted"}
    (tmp_path / "crossfit.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RunError, match=r"crossfit\.json: predicted_crops: found 'painted', .*; give the --out of `mar"):
        read_crossfit(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"crop": {"side_um": "wide"}}',
            r"prepare\.json: crop\.side_um: found 'wide', .*; make the crop set again with",
        ),
        ("{}", r"prepare\.json: crop: found nothing, expected a value; add it; make the crop set again"),
        ("[]", r"prepare\.json: expected keys with values.*; make the crop set again"),
    ],
)
def test_prepare_json_is_refused_in_a_sentence(tmp_path: Path, text: str, expected: str) -> None:
    crops = write_crop_set(tmp_path / "crops", patients=1)
    (crops / "prepare.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=expected):
        open_crop_set(crops, load_vocabulary())


def test_records_are_read_without_torch() -> None:
    code = (
        "import importlib, sys\n"
        "for name in ('train.training_record', 'train.crossfit_record', 'train.crop_set', 'prepare'):\n"
        "    importlib.import_module(f'marrowscope.{name}')\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")


def test_a_crop_set_with_limits_in_pixels_stays_readable(tmp_path: Path) -> None:
    """Versions before these limits went wrote them into prepare.json and fit.json."""
    rules = QualityRules(min_circularity=0.7).model_dump() | {"min_area_px": 300.0, "edge_margin_px": 1.0}
    text = json.dumps({"schema_version": 1, "crop": {"side_um": 28.8, "size_px": 96}, "quality_rules": rules})
    (tmp_path / "prepare.json").write_text(text, encoding="utf-8")
    summary = load_record(CropSetSummary, tmp_path / "prepare.json", error=InputError, advice="make it again")
    assert summary.quality_rules == QualityRules(min_circularity=0.7)
