"""From `simulate` to `predict` and `report` on the command line, as a new user types it."""

import json
import shutil
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from marrowscope.bundle.shipped import default_bundle, demonstration_bundle
from marrowscope.cli.main import main
from marrowscope.errors import BundleError
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.studies import demo, real_patients
from tests.slides.pyramids import scanner, smear, write_pyramid


def run(*arguments: str) -> int:
    """Give the exit code of ``marrowscope ARGUMENTS``."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small fields: the command draws larger ones."""
    out = tmp_path_factory.mktemp("cli") / "cohort"
    config = SimulationConfig(
        patients=1, centers=1, fields=2, seed=4, cells_per_field=(10, 12), width_px=640, height_px=480
    )
    simulate_cohort(out, config)
    return out


def test_simulate_of_one_patient_needs_no_word_about_centers(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    assert run("simulate", str(out), "--patients", "1", "--fields", "2", "--seed", "4") == 0
    assert pl.read_csv(out / "patients.csv")["center"].to_list() == ["S1"]
    assert len(list(out.glob("*/*.jpg"))) == 2


def test_simulate_refuses_an_unknown_diagnosis_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("simulate", str(tmp_path / "x"), "--diagnosis", "AML_M7") == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "found 'AML_M7', expected control, reactive_leftshift" in said


def test_predict_writes_tables_and_report_and_says_the_counts(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("predict", str(cohort), "-b", "demo", "--out", str(out), "--backend", "onnxruntime", "--json") == 0
    printed = capsys.readouterr()
    assert "Demonstration models, trained mostly on simulated cells, not for real smears" in printed.err
    assert "Made with demonstration models" in (out / "report" / "index.html").read_text(encoding="utf-8")
    assert "Made with demonstration models" in min(out.glob("report/patients/*")).read_text(encoding="utf-8")
    counts = json.loads(printed.out)
    assert counts["images"] == counts["images_read"] == 2
    assert counts["contours"] == counts["cells"] + sum(counts["rejected"].values())
    assert (out / "report" / "index.html").is_file()
    assert run("predict", str(cohort), "--out", str(out)) == 2
    assert "found an earlier run, expected a new or empty folder; add --overwrite" in capsys.readouterr().err


def test_what_is_known_of_a_loose_folder_is_stated_and_the_rest_is_unknown(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loose = tmp_path / "P7"
    loose.mkdir()
    (loose / "field.jpg").write_bytes(min(cohort.glob("*/*.jpg")).read_bytes())
    common = ("predict", str(loose), "-b", "demo", "--um-per-px", "0.14", "--backend", "onnxruntime", "--no-report")
    known = ("--specimen", "blood", "--age-group", "adult", "--sex", "female", "--diagnosis", "MDS")
    rows = []
    for name, facts in (("plain", ()), ("stated", known)):
        assert run(*common, "--out", str(tmp_path / name), *facts) == 0
        assert ("Specimen unknown: 1 patient, without reference ranges" in capsys.readouterr().err) == (not facts)
        table = pl.read_parquet(tmp_path / name / "patients.parquet")
        rows.append(table.select("center", "diagnosis", "specimen", "age_group", "sex").row(0))
        assert table["who_least"].is_null().all() or facts
        assert table["reference_source"].is_null().all()
    assert rows == [("unknown", "unknown", "unknown", None, None), ("unknown", "MDS", "blood", "adult", "female")]
    assert run("predict", str(cohort), "-b", "demo", "--out", str(tmp_path / "no"), "--specimen", "blood") == 2
    assert "found --specimen, but patients.csv describes every patient given" in capsys.readouterr().err


def test_corrupt_image_is_named_and_the_exit_code_says_so(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "patient"
    broken.mkdir()
    good = min(cohort.glob("*/*.jpg"))
    (broken / "good.jpg").write_bytes(good.read_bytes())
    (broken / "bad.jpg").write_bytes(good.read_bytes()[:5000])
    out = tmp_path / "run"
    arguments = ("predict", str(broken), "--out", str(out), "--um-per-px", "0.14", "--backend", "onnxruntime")
    assert run(*arguments, "--no-report") == 1
    printed = capsys.readouterr()
    assert "bad.jpg: found an image that ends too early; copy or export it again" in printed.err
    assert "from 1 patient in 1 image:" in printed.out
    assert (out / "manifest.json").is_file()


def test_demo_compares_real_cells_with_their_labels_and_six_patients_with_their_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        default_bundle()
    except BundleError:  # a build without it: the steps are the same with the other one
        monkeypatch.setattr(demo, "default_bundle", demonstration_bundle)
    monkeypatch.setattr(demo, "_MIN_FIELDS", 1)  # the whole demonstration is run, and its error checked, by .ci/run
    monkeypatch.setattr(demo, "MIN_CELLS", 0)
    small = partial(SimulationConfig, width_px=640, height_px=480, cells_per_field=(10, 12))
    monkeypatch.setattr(demo, "SimulationConfig", small)
    photographs = shutil.copytree(real_patients.real_cohort(), tmp_path / "photographs")
    for path in [*photographs.glob("*/field_00[4-9].*"), *photographs.glob("*/field_01?.*")]:
        path.unlink()
    for module in (demo, real_patients):
        monkeypatch.setattr(module, "real_cohort", lambda: photographs)
    n_labels = {
        patient: sum(len(json.loads(path.read_bytes())["shapes"]) for path in photographs.glob(f"{patient}/*.json"))
        for patient in ("M037", "B0b2d22")
    }
    out = tmp_path / "demo"
    assert run("demo", "--out", str(out), "--seed", "5", "--workers", "1", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    real = {patient["patient_id"]: patient for patient in result["real_patients"]}
    assert {name: patient["n_labeled"] for name, patient in real.items()} == n_labels
    assert min(n_labels.values()) >= 30
    for patient in real.values():
        assert 0 < patient["n_category_right"] <= patient["n_found"] <= patient["n_labeled"]
        assert 0 < patient["n_cblc_right"] <= patient["n_cblc_stated"] == patient["n_found"]
        assert "cells" not in patient
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert all(f"{name}: " in page for name in real)
    for link in ("real-run/report/index.html", "run/report/index.html"):
        assert f'href="{link}"' in page
        assert (out / link).is_file()
    assert Path(result["report"]).is_file()
    assert len(result["patients"]) == 6
    assert len({patient["center"] for patient in result["patients"]}) == 2
    for patient in result["patients"]:
        assert patient["n_countable"] > 0
        assert 0 <= patient["true_n_cblc"] <= patient["true_n_countable"]


def test_a_setting_out_of_range_is_a_sentence(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("0", "inf", "nan", "15", "1,5,0", "", "0.15 um"):
        assert run("predict", str(cohort), "--out", str(tmp_path / "run"), "--um-per-px", value) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"Error: --um-per-px: found {value!r}, expected micrometers per pixel from 0.01 to 2.0;")
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_predict_takes_a_decimal_comma_as_the_scale(cohort: Path, tmp_path: Path) -> None:
    image = tmp_path / "A1" / "f1.jpg"
    image.parent.mkdir()
    shutil.copyfile(min(cohort.glob("*/*.jpg")), image)
    out = tmp_path / "run"
    assert run("predict", str(image), "--um-per-px", "0,15", "--out", str(out), "--no-report") == 0
    assert pl.read_parquet(out / "fields.parquet")["um_per_px"].to_list() == [0.15]


def test_images_of_nobody_are_named_and_the_exit_code_says_so(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = tmp_path / "cohort"
    shutil.copytree(cohort, faulty)
    (faulty / "nobody").mkdir()
    shutil.copyfile(min(cohort.glob("*/*.jpg")), faulty / "nobody" / "a.jpg")
    out = tmp_path / "run"
    assert run("predict", str(faulty), "--out", str(out), "--backend", "onnxruntime") == 1
    sentence = "found 1 image of no patient in patients.csv, expected a folder named after a patient_id"
    assert sentence in capsys.readouterr().err
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert sentence in page
    assert "Images and rows of patients.csv that were not predicted: 1." in page


def test_predict_reads_a_slide_until_it_has_the_cells_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = tmp_path / "P1" / "slide.tif"
    slide.parent.mkdir()
    write_pyramid(slide, smear(2, scanner(2, 0.25), 40, 1300, 700), 0.25)
    assert run("predict", str(slide), "--cells", "1", "--out", str(tmp_path / "run")) == 0
    assert "from 1 patient in 1 image:" in capsys.readouterr().out
    regions = pl.read_parquet(tmp_path / "run" / "regions.parquet")
    assert regions["reason_skipped"].to_list().count("enough_cells") >= 1
    assert (tmp_path / "run" / "report" / "patients" / "P1.html").is_file()


def test_a_shard_prints_no_figure_and_is_merged(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = ("--bundle", "demo")
    assert run("predict", str(cohort), *bundle, "--shard", "1/1", "--out", str(tmp_path / "shard")) == 0
    said = capsys.readouterr()
    assert "CBLC" not in said.out
    assert "put all 1 together" in said.err
    assert not (tmp_path / "shard" / "report").exists()
    assert run("report", str(tmp_path / "shard")) == 2
    assert "found one shard of a prediction" in capsys.readouterr().err
    assert run("merge", str(tmp_path / "shard"), *bundle, "--out", str(tmp_path / "run")) == 0
    assert "1 shard: 1 patient, 2 images" in capsys.readouterr().out
    assert run("merge", str(tmp_path / "shard"), *bundle, "--out", str(tmp_path / "run")) == 0  # the same call again
    assert "already complete, made by this same call" in capsys.readouterr().out
