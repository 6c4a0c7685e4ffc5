"""A bundle's error rates measured on a simulated cohort with the demonstration networks, end to end."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from marrowscope.bundle import SPEC_NAME, load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.bundle.spec_file import description_text
from marrowscope.cli.main import app
from marrowscope.cli.quantify import _specimen_remark
from marrowscope.errors import BundleError, CohortError, InputError
from marrowscope.imaging import read_image, sha256_file, write_image
from marrowscope.patient.quantify.quantification import QUANTIFICATION_FILE
from marrowscope.predict import PredictConfig, predict
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.studies import error_rates
from marrowscope.studies.error_rates import outcomes, quantify_bundle
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = PredictConfig(backend="onnxruntime", threads=1)
RUNTIME = ("--backend", "onnxruntime")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantify") / "cohort"
    config = SimulationConfig(
        patients=4, centers=2, fields=2, seed=5, cells_per_field=(10, 12), width_px=640, height_px=480
    )
    simulate_cohort(folder, config)
    return folder


@pytest.fixture(scope="module")
def measured(cohort: Path) -> Path:
    quantify_bundle(demonstration_bundle(), cohort, cohort.parent / "bundle", threshold=0.3, config=CONFIG)
    return cohort.parent / "bundle"


def test_the_new_bundle_knows_its_rates_and_its_networks_are_the_same(measured: Path) -> None:
    bundle = load_bundle(measured)
    before = load_bundle(demonstration_bundle())
    unchanged = {name for name in before.spec.files if name.endswith((".onnx", ".npz"))}
    assert {name: bundle.spec.files[name] for name in unchanged} == {
        name: before.spec.files[name] for name in unchanged
    }
    found = bundle.quantification
    assert found is not None
    assert len(found.rates.counted) == 4
    assert found.source == "4 patients of 2 centers held back from training"
    assert bundle.spec.threshold == 0.3
    card = (measured / "CARD.md").read_text(encoding="utf-8")
    assert "## Error rates and threshold" in card
    assert "Study threshold 0.300, given, not learned." in card


def test_prediction_with_it_corrects_and_calls(measured: Path, cohort: Path, tmp_path: Path) -> None:
    result = predict([cohort], measured, tmp_path / "run", config=CONFIG)
    assert result.patients["corrected_ratio"].is_not_null().all()
    assert set(result.patients["call"]) == {"no_call"}  # two fields are too few
    assert result.manifest.bundle.threshold == 0.3


def test_measuring_again_replaces_what_the_card_says(measured: Path, cohort: Path, tmp_path: Path) -> None:
    again = quantify_bundle(measured, cohort, tmp_path / "again", threshold=0.4, config=CONFIG)
    card = (again.folder / "CARD.md").read_text(encoding="utf-8")
    assert card.count("## Error rates and threshold") == 1
    assert "Study threshold 0.400, given" in card
    assert "0.300" not in card


def with_other_rates(measured: Path, folder: Path, old: str, new: str) -> Path:
    """Copy a bundle with other rates, whose hash is right."""
    shutil.copytree(measured, folder)
    before = load_bundle(folder)
    rates = folder / QUANTIFICATION_FILE
    content = rates.read_text(encoding="utf-8")
    assert old in content
    rates.write_text(content.replace(old, new), encoding="utf-8")
    with pytest.raises(BundleError, match=r"quantification\.json: found SHA-256"):
        load_bundle(folder)
    files = before.spec.files | {QUANTIFICATION_FILE: sha256_file(rates)}
    spec = before.spec.model_copy(update={"files": files})
    (folder / SPEC_NAME).write_text(description_text(spec), encoding="utf-8")
    return folder


def test_rates_of_other_kinds_are_refused(measured: Path, tmp_path: Path) -> None:
    folder = with_other_rates(measured, tmp_path / "other", '"N4"', '"N9"')
    with pytest.raises(BundleError, match=r"found rates of \d+ kinds of cells, expected the \d+ of vocabulary"):
        load_bundle(folder)


def test_rates_of_another_version_are_refused_and_can_be_measured_again(
    measured: Path, cohort: Path, tmp_path: Path
) -> None:
    folder = with_other_rates(measured, tmp_path / "other", '"call_rules"', '"rules"')
    with pytest.raises(BundleError, match=r"no readable error rates \(.*rules: found .* measure them again with"):
        predict([cohort], folder, tmp_path / "run", config=CONFIG)
    config = CONFIG.model_copy(update={"processes": 2})  # whose processes open the bundle for themselves
    again = quantify_bundle(folder, cohort, tmp_path / "again", threshold=0.4, config=config)
    assert again.quantification is not None
    assert again.quantification.threshold is not None
    assert again.quantification.threshold.value == 0.4


def test_an_earlier_bundle_is_replaced_only_when_asked_for(measured: Path, cohort: Path) -> None:
    before = load_bundle(measured)
    with pytest.raises(BundleError, match=r"found an earlier bundle, .*add --overwrite"):
        quantify_bundle(demonstration_bundle(), cohort, measured, threshold=0.3, config=CONFIG)
    again = quantify_bundle(measured, cohort, measured, threshold=0.3, config=CONFIG, overwrite=True)
    assert again == load_bundle(measured) == before


def test_cohort_with_one_image_under_two_patients_is_refused(cohort: Path, tmp_path: Path) -> None:
    faulty = tmp_path / "faulty"
    shutil.copytree(cohort, faulty)
    first, second = sorted(path for path in faulty.iterdir() if path.is_dir())[:2]
    for path in first.glob("field_001.*"):
        shutil.copyfile(path, second / path.name)
    with pytest.raises(CohortError, match="faults that would lose data"):
        quantify_bundle(demonstration_bundle(), faulty, tmp_path / "bundle", config=CONFIG)


def test_cohort_without_annotations_is_refused_before_any_network_runs(cohort: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(cohort, bare, ignore=shutil.ignore_patterns("*.json", "*.parquet"))
    with pytest.raises(InputError, match="found no field with expert polygons"):
        quantify_bundle(demonstration_bundle(), bare, tmp_path / "bundle", config=CONFIG)
    assert not (tmp_path / "bundle").exists()


def test_the_command_prints_what_it_measured(cohort: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    answer = CliRunner().invoke(
        app, ["quantify", str(demonstration_bundle()), str(cohort), "--out", str(bundle), *RUNTIME]
    )
    assert answer.exit_code == 0, answer.output
    assert "measured on 4 patients" in answer.output
    assert "There is no study threshold" in answer.output
    assert "Specimen unknown" not in answer.output
    assert (bundle / QUANTIFICATION_FILE).is_file()


def test_cut_cells_are_left_out_and_cells_called_not_countable_are_not_counted() -> None:
    expert = pl.DataFrame(
        {
            "patient_id": ["P"] * 4,
            "field_id": ["P/1"] * 4,
            "code": ["N", "N", "N5", "N5"],
            "cut": [False, True, False, False],
            "found": [True, True, True, False],
            "cell_id": ["a", "b", "c", None],
            "predicted_category": [1, 1, 6, None],
            "predicted_cblc": [1, 1, 0, None],
        }
    )
    cells = pl.DataFrame({"cell_id": ["a", "b", "c"], "is_countable": [True, True, False]})
    found = outcomes(expert, cells, load_vocabulary())
    assert found["counted"].to_list() == [True, False, False]
    assert found["called_category"].to_list() == ["N", "N5", None]
    assert found["called_cblc"].to_list() == [True, False, None]


def test_simulated_and_real_photographs_are_not_measured_together(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        pytest.fail("images were predicted before the cohort was refused")

    monkeypatch.setattr(error_rates, "predict", refused)
    mixed = tmp_path / "mixed"
    shutil.copytree(cohort, mixed)
    one = min(mixed.glob("*/*.jpg"))
    write_image(one, read_image(one))  # without the mark
    with pytest.raises(InputError, match=r"found 7 simulated photographs \(.*\) and 1 real, expected one kind"):
        quantify_bundle(demonstration_bundle(), mixed, tmp_path / "bundle", threshold=0.3, config=CONFIG)
    assert not (tmp_path / "bundle").exists()


def test_quantify_takes_the_names_of_shipped_bundles(tmp_path: Path) -> None:
    for name, found in (("demo", "no-cohort"), ("nothing", "nothing: not found, no such file or folder")):
        made = ["quantify", name, str(tmp_path / "no-cohort"), "--out", str(tmp_path / "new")]
        result = CliRunner().invoke(app, made)
        assert found in str(result.exception)
        assert "--bundle" not in str(result.exception)


def test_quantify_says_how_many_patients_state_no_specimen(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("patient_id,center,diagnosis,specimen\np1,A,AML,\np2,A,AML,blood\np3,A,AML,\n", encoding="utf-8")
    assert _specimen_remark(tmp_path).startswith("Specimen unknown: 2 patients. Rates are of one specimen,")
    table.write_text("patient_id,center,diagnosis,specimen\np1,A,AML,marrow\n", encoding="utf-8")
    assert _specimen_remark(tmp_path) == ""
