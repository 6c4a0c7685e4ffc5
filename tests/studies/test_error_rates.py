"""A bundle's error rates measured on a simulated cohort with the demonstration networks, end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from marrowscope.bundle import load_bundle, open_quantification
from marrowscope.cli.main import app
from marrowscope.errors import BundleError, CohortError, InputError
from marrowscope.patient.quantify.quantification import QUANTIFICATION_FILE
from marrowscope.predict import PredictConfig, predict
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.studies.demo import demonstration_bundle
from marrowscope.studies.error_rates import outcomes, quantify_bundle
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = PredictConfig(threads=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantify") / "cohort"
    simulate_cohort(folder, SimulationConfig(patients=4, centers=2, fields=2, seed=5))
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
    found = open_quantification(bundle)
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


def test_rates_that_were_changed_or_belong_to_other_kinds_are_refused(measured: Path) -> None:
    bundle = load_bundle(measured)
    path = measured / QUANTIFICATION_FILE
    content = path.read_text(encoding="utf-8")
    try:
        path.write_text(content.replace('"N4"', '"N9"'), encoding="utf-8")
        with pytest.raises(BundleError, match=r"found rates of \d+ kinds of cells, expected the \d+ of vocabulary"):
            open_quantification(bundle)
        with pytest.raises(BundleError, match=r"quantification\.json: found SHA-256"):
            load_bundle(measured)
        path.write_text("{}", encoding="utf-8")
        with pytest.raises(BundleError, match="no readable error rates"):
            open_quantification(bundle)
    finally:
        path.write_text(content, encoding="utf-8")


def test_cohort_with_one_image_under_two_patients_is_refused(cohort: Path, tmp_path: Path) -> None:
    import shutil

    faulty = tmp_path / "faulty"
    shutil.copytree(cohort, faulty)
    first, second = sorted(path for path in faulty.iterdir() if path.is_dir())[:2]
    for path in first.glob("field_001.*"):
        shutil.copyfile(path, second / path.name)
    with pytest.raises(CohortError, match="faults that would lose data"):
        quantify_bundle(demonstration_bundle(), faulty, tmp_path / "bundle", config=CONFIG)


def test_cohort_without_annotations_is_refused_before_any_network_runs(cohort: Path, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(cohort, bare, ignore=shutil.ignore_patterns("*.json", "*.parquet"))
    with pytest.raises(InputError, match="found no field with expert polygons"):
        quantify_bundle(demonstration_bundle(), bare, tmp_path / "bundle", config=CONFIG)
    assert not (tmp_path / "bundle").exists()


def test_the_command_prints_what_it_measured(cohort: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    answer = CliRunner().invoke(app, ["quantify", str(demonstration_bundle()), str(cohort), "--out", str(bundle)])
    assert answer.exit_code == 0, answer.output
    assert "measured on 4 patients" in answer.output
    assert "There is no study threshold" in answer.output
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
