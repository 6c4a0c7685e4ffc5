"""`marrowscope evaluate` from a cohort and a run on disk to the printed tables."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from marrowscope.cli.main import main
from marrowscope.disk import MARKER_NAME, name_files
from marrowscope.errors import InputError
from marrowscope.evaluate import evaluate_run
from marrowscope.evaluate.evaluation import refuse_other_vocabulary
from marrowscope.evaluate.frames import WRITTEN_TABLES
from marrowscope.runs.manifest import UsedBundle, read_manifest, write_manifest
from marrowscope.runs.parquet import write_table
from marrowscope.runs.table_hashes import hash_tables
from marrowscope.vocabulary import DEFAULT_VOCABULARY, load_vocabulary
from tests.bundles import make_bundle, make_spec
from tests.cli.annotated_cohort import CENTERS, make_cohort_and_run

if TYPE_CHECKING:
    from marrowscope.evaluate import EvaluateConfig, Evaluation


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw 40 resamples instead of 2000: how wide intervals are is the matter of tests/evaluate."""

    def quick(*given: Any, config: EvaluateConfig, **options: Any) -> Evaluation:  # noqa: ANN401 - passed on
        return evaluate_run(*given, config=config.model_copy(update={"n_resamples": 40}), **options)

    monkeypatch.setattr("marrowscope.evaluate.evaluate_run", quick)


@pytest.fixture
def cohort_and_run(tmp_path: Path) -> tuple[Path, Path]:
    return make_cohort_and_run(tmp_path)


def run_main(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def test_tables_are_written_and_printed_per_center(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) < 40
    for words in ("A", "2 patients", "B", "1 patient", "all centers", "0.750*=", "0.750-0.750", "no interval", "n 8"):
        assert words in printed
    assert "* fewer than 5 patients: the interval is too narrow." in printed
    names = {path.name for path in (tmp_path / "m").iterdir()}
    written = {"metrics.json", "metrics.md", "checklists.md", "index.html", "figures", *WRITTEN_TABLES}
    assert names == {MARKER_NAME, *written}
    document = json.loads((tmp_path / "m" / "metrics.json").read_text(encoding="utf-8"))
    assert [flow["boxes"][-1]["n"] for flow in document["flows"]] == [3, 3, 9, 9]
    assert "| 6a | setting and centers | 2 centers: A (2 patients), B (1 patient)." in (
        tmp_path / "m" / "checklists.md"
    ).read_text(encoding="utf-8")
    text = (tmp_path / "m" / "metrics.md").read_text(encoding="utf-8")
    assert "## B: 1 patient, 1 field" in text
    assert "| detection recall | 0.750 [0.750, 0.750] *= |" in text
    ratios = pl.read_csv(tmp_path / "m" / "patients.csv")
    assert ratios["true_ratio"].to_list() == [0.25] * 3
    assert ratios["predicted_ratio"].to_list() == pytest.approx([1 / 3] * 3)


def test_fields_that_the_run_lacks_are_said(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 0
    assert "not compared" not in capsys.readouterr().err
    last = pl.read_parquet(run / "fields.parquet")["field_id"][-1]
    for kind in ("fields", "cells"):
        table = pl.read_parquet(run / f"{kind}.parquet").filter(pl.col("field_id") != last)
        write_table(run / f"{kind}.parquet", table, kind)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8")) | {"tables": hash_tables(run)}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "n") == 0
    said = capsys.readouterr().err
    assert "! 1 annotated field of the cohort not in the run and not compared; the figures are of 2 patients." in said


def test_json_is_the_only_output_when_asked(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--json", "--tile-grid", "4x3") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["config"]["tile_columns"], document["config"]["tile_rows"]) == (4, 3)
    assert [center["center"] for center in document["centers"]] == ["A", "B", "all centers"]


@pytest.mark.parametrize("grid", ["4", "4x", "0x3", "4x3x2", "ax3"])
def test_grid_that_is_none_is_refused(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], grid: str
) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--tile-grid", grid) == 2
    assert f"--tile-grid: found {grid!r}, expected columns x rows such as 4x3" in capsys.readouterr().err


def test_option_out_of_range_is_refused(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--min-iou", "1.5") == 2
    assert "'--min-iou': found '1.5', expected at most 1" in capsys.readouterr().err


def test_folder_that_is_no_run_is_refused_before_the_cohort_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("run", "nothing"):
        (tmp_path / name).mkdir()
    assert run_main("evaluate", tmp_path / "run", tmp_path / "nothing", "--out", tmp_path / "m") == 2
    assert "found no manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize("left_behind", ["crossfit.json", "classifier.safetensors"])
def test_a_training_is_refused_with_what_makes_a_bundle_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], left_behind: str
) -> None:
    for name in ("training", "nothing"):
        (tmp_path / name).mkdir()
    (tmp_path / "training" / left_behind).touch()
    assert run_main("evaluate", tmp_path / "training", tmp_path / "nothing", "--out", tmp_path / "m") == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "found a training, expected a run or a bundle" in said
    assert "marrowscope export" in said


def test_run_of_another_vocabulary_is_refused() -> None:
    vocabulary = load_vocabulary()
    used = {"name": "ours", "version": "9", "sha256": "0" * 64}
    manifest = SimpleNamespace(bundle=UsedBundle.model_validate({"vocabulary": used}))
    expected = f"vocabulary ours 9, expected marrow-37 {vocabulary.version} as for the cohort"
    with pytest.raises(InputError, match=expected):
        refuse_other_vocabulary(Path("run"), manifest, vocabulary)  # type: ignore[arg-type]
    same = SimpleNamespace(bundle=UsedBundle.model_validate({"vocabulary": used | {"sha256": vocabulary.sha256}}))
    refuse_other_vocabulary(Path("run"), same, vocabulary)  # type: ignore[arg-type]


def test_earlier_evaluation_is_replaced_only_when_asked(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 0
    old = tmp_path / "m" / "figures" / "old.svg"
    old.write_text("of an earlier evaluation", encoding="utf-8")
    name_files(tmp_path / "m", "evaluation", ["figures/old.svg"])
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 2
    assert "found an earlier evaluation, expected a new or empty folder; add --overwrite" in capsys.readouterr().err
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--overwrite") == 0
    assert not old.exists()
    old.write_text("somebody's", encoding="utf-8")
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--overwrite") == 2
    assert "nothing is removed. It contains figures/old.svg; move them away" in capsys.readouterr().err
    assert old.is_file()


def test_a_folder_beside_the_evaluation_that_is_somebodys_survives(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    (tmp_path / "m.part").mkdir()
    (tmp_path / "m.part" / "thesis.docx").write_text("years of work", encoding="utf-8")
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 2
    assert (
        "other than an unfinished marrowscope evaluation, expected none; nothing is removed" in capsys.readouterr().err
    )
    assert (tmp_path / "m.part" / "thesis.docx").is_file()


def test_folder_of_something_else_is_never_replaced(
    cohort_and_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", run, "--overwrite") == 2
    assert (
        "found files that are not a marrowscope evaluation, expected a new or empty folder; nothing is removed"
        in capsys.readouterr().err
    )
    assert run_main("evaluate", run, cohort, "--out", cohort / "patients.csv", "--overwrite") == 2
    assert (run / "cells.parquet").is_file()


def test_failed_evaluation_leaves_nothing_new(cohort_and_run: tuple[Path, Path], tmp_path: Path) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 0
    before = (tmp_path / "m" / "metrics.json").read_bytes()
    fields = pl.read_parquet(run / "fields.parquet").with_columns(sha256=pl.lit("0" * 64))
    write_table(run / "fields.parquet", fields, "fields")
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--overwrite") == 2
    assert (tmp_path / "m" / "metrics.json").read_bytes() == before
    assert not (tmp_path / "m.part").exists()


def test_same_run_gives_the_same_bytes(cohort_and_run: tuple[Path, Path], tmp_path: Path) -> None:
    cohort, run = cohort_and_run
    for name in ("first", "second"):
        assert run_main("evaluate", run, cohort, "--out", tmp_path / name) == 0
    first = sorted(path for path in (tmp_path / "first").rglob("*") if path.is_file())
    assert len(first) > 20
    for path in first:
        assert path.read_bytes() == (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes()


def test_threshold_and_diagnoses_are_taken(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    text = (cohort / "patients.csv").read_text(encoding="utf-8").replace("Q1,B,AML", "Q1,B,APL")
    (cohort / "patients.csv").write_text(text, encoding="utf-8")
    options = ("--threshold", "0.3", "--aml-diagnosis", "AML", "--json")
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["config"]["threshold"] == 0.3
    figures = {item["key"]: item for item in document["centers"][-1]["figures"]}
    assert figures["aml_sensitivity_at_the_threshold_predicted_ratio"]["value"] == 1
    assert figures["aml_sensitivity_at_the_threshold_annotated_ratio"]["value"] == 0  # 1 of 4, below 0.3
    assert figures["aml_auc_predicted_ratio"]["value"] == 0.5
    assert "confounded by center: A (AML only), B (no AML)" in figures["aml_auc_predicted_ratio"]["warning"]["text"]
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "w") == 0
    assert "! confounded by center" in capsys.readouterr().out


def test_a_diagnosis_that_no_patient_has_is_refused(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--aml-diagnosis", "Leukemia") == 2
    assert "--aml-diagnosis: found 'Leukemia', expected a diagnosis of the patients in" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("killed_before", ["page", "metrics.json", ".marrowscope.json"])
def test_a_call_killed_after_the_prediction_or_while_files_are_moved_ends_whole_when_made_again(
    killed_before: str, cohort_and_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, _ = cohort_and_run
    bundle = make_bundle(tmp_path / "bundle", spec=make_spec(threshold=0.25))
    out = tmp_path / "m"
    move = Path.replace

    def killed_move(path: Path, target: Path) -> Path:
        if path == tmp_path / "m.part" / killed_before:
            raise KeyboardInterrupt
        return move(path, target)

    def killed_page(_folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_move)
        if killed_before == "page":
            patch.setattr("marrowscope.report.evaluation_page.write_evaluation_page", killed_page)
        assert run_main("evaluate", bundle.folder, cohort, "--out", out) == 130
    assert (out / "run").is_dir()
    predicted = (out / "run" / "cells.parquet").stat().st_mtime_ns
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    assert run_main("evaluate", bundle.folder, cohort, "--out", out) == 2
    (out / "notes.txt").unlink()
    assert run_main("evaluate", bundle.folder, cohort, "--out", out) == 0
    assert (out / "run" / "cells.parquet").stat().st_mtime_ns == predicted  # not predicted again
    assert {"metrics.json", "index.html", "metrics.md", "run", ".marrowscope.json"} <= {
        path.name for path in out.iterdir()
    }
    assert run_main("evaluate", bundle.folder, cohort, "--out", out, "--overwrite") == 0


def test_bundle_predicts_the_cohort_first_and_keeps_the_run(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, _ = cohort_and_run
    bundle = make_bundle(tmp_path / "bundle", spec=make_spec(threshold=0.25))
    out = tmp_path / "m"
    assert run_main("evaluate", bundle.folder, cohort, "--out", out) == 0
    assert read_manifest(out / "run").bundle.name == "test"
    document = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert document["config"]["threshold"] == 0.25
    assert document["run"]["bundle"]["name"] == "test"
    capsys.readouterr()
    assert run_main("evaluate", bundle.folder, cohort, "--out", out) == 0  # the same call over its own result
    assert "already complete, made by this same call" in capsys.readouterr().out
    assert run_main("evaluate", bundle.folder, cohort, "--out", out, "--seed", "5") == 2
    assert "found an earlier evaluation" in capsys.readouterr().err
    # The kept run can be evaluated again into the same folder, and stays.
    assert run_main("evaluate", out / "run", cohort, "--out", out, "--overwrite", "--threshold", "0.5") == 0
    assert (out / "run" / "cells.parquet").is_file()
    assert run_main("evaluate", bundle.folder, cohort, "--out", out, "--overwrite") == 0
    assert (out / "run" / "cells.parquet").is_file()


def test_bundle_takes_the_scale_that_images_do_not_state(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, _ = cohort_and_run
    text = (cohort / "patients.csv").read_text(encoding="utf-8").replace(",0.15", ",")
    (cohort / "patients.csv").write_text(text, encoding="utf-8")
    bundle = make_bundle(tmp_path / "bundle")
    assert run_main("evaluate", bundle.folder, cohort, "--out", tmp_path / "m") == 2
    assert "--um-per-px" in capsys.readouterr().err
    assert run_main("evaluate", bundle.folder, cohort, "--out", tmp_path / "m", "--um-per-px", "0.15") == 0
    assert read_manifest(tmp_path / "m" / "run").config["um_per_px"] == 0.15


def test_threshold_that_the_run_states_is_used_unless_one_is_given(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    write_manifest(run, read_manifest(run).model_copy(update={"bundle": UsedBundle(name="none", threshold=0.4)}))
    for options, expected in (((), 0.4), (("--threshold", "0.6"), 0.6)):
        capsys.readouterr()
        assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--json", "--overwrite", *options) == 0
        assert json.loads(capsys.readouterr().out)["config"]["threshold"] == expected


def test_corrected_ratio_and_calls_of_the_run_are_judged_and_printed(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    text = (cohort / "patients.csv").read_text(encoding="utf-8").replace("P2,A,AML", "P2,A,MDS")
    (cohort / "patients.csv").write_text(text, encoding="utf-8")
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 0
    printed = capsys.readouterr().out
    assert (
        "Corrected ratio, all centers: not defined: no corrected ratio: the run's bundle has no error rates" in printed
    )
    assert "Calls, all centers: not defined: the run has no calls" in printed
    forced = next(line for line in printed.splitlines() if line.startswith("Forced decision, all centers: "))
    assert "; by the corrected ratio not defined (no corrected ratio: the run's bundle has no error rates" in forced
    said = {
        "patient_id": list(CENTERS),
        "corrected_ratio": [0.3, 0.5, 0.1],
        "corrected_lower": [0.2, 0.4, 0.0],
        "corrected_upper": [0.4, 0.6, 0.25],
        "threshold": [0.35] * 3,
        "confidence_above": [0.3, 1.0, 0.0],
        "call": ["indeterminate", "above", "below"],
    }
    write_table(run / "patients.parquet", pl.DataFrame(said), "patients")
    write_manifest(run, read_manifest(run).model_copy(update={"bundle": UsedBundle(name="none", threshold=0.35)}))
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--overwrite") == 0
    printed = capsys.readouterr().out
    # The annotated ratio is 0.25 everywhere: inside twice, once at the limit.
    assert "annotated ratio inside the 95% interval 0.667* (0.208-0.939, n 3)" in printed
    assert "error among decided 1.000* (0.342-1.000, n 2); indeterminate 0.333* (0.061-0.792, n 3)" in printed
    assert "without a call 0.000*" in printed
    assert "measured in the center itself" not in printed
    assert "measured in the center itself" not in (tmp_path / "m" / "index.html").read_text(encoding="utf-8")
    assert "error by the predicted ratio 0.667* (0.208-0.939, n 3); by the corrected ratio 1.000*" in printed
    document = json.loads((tmp_path / "m" / "metrics.json").read_text(encoding="utf-8"))
    figures = {item["key"]: item for item in document["centers"][-1]["figures"]}
    assert figures["patient_ratio_mae_corrected_ratio"]["value"] == pytest.approx((0.05 + 0.25 + 0.15) / 3)
    assert figures["aml_specificity_at_the_threshold_corrected_ratio"]["value"] == 0
    calls = pl.read_csv(tmp_path / "m" / "calls.csv").filter(pl.col("center") == "all centers")
    assert calls.select("diagnosis", "n_above", "n_below", "n_indeterminate").rows() == [
        ("AML", 0, 1, 1),
        (None, 0, 1, 1),
        ("MDS", 1, 0, 0),
        (None, 1, 0, 0),
    ]
    said |= {"center": list(CENTERS.values()), "state_reason": ["center_measured", "center_measured", "simulated"]}
    write_table(run / "patients.parquet", pl.DataFrame(said), "patients")
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--overwrite") == 0
    own = ", ".join(sorted(set(list(CENTERS.values())[:2])))
    warning = f"Corrected with error rates measured in the center itself: {own}. Ratio, coverage and calls are a test"
    assert f"! {warning} only if" in capsys.readouterr().out
    for name in ("metrics.md", "index.html"):
        assert warning in (tmp_path / "m" / name).read_text(encoding="utf-8"), name
    document = json.loads((tmp_path / "m" / "metrics.json").read_text(encoding="utf-8"))
    assert document["own_rates"] == own.split(", ")


def test_vocabulary_of_a_laboratory_is_taken(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    own = tmp_path / "own.toml"
    own.write_text(DEFAULT_VOCABULARY.read_text(encoding="utf-8").replace('"marrow-37"', '"ours"'), encoding="utf-8")
    used = {"name": "ours", "version": "1", "sha256": load_vocabulary(own).sha256}
    write_manifest(
        run,
        read_manifest(run).model_copy(
            update={"bundle": UsedBundle.model_validate({"name": "none", "vocabulary": used})}
        ),
    )
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 2
    assert "--vocabulary" in capsys.readouterr().err
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m", "--vocabulary", own) == 0


def test_every_output_says_on_whom_the_threshold_was_learned(
    cohort_and_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, run = cohort_and_run
    used = {"name": "b", "threshold": 0.25, "error_rates": "Study threshold 0.250, learned on 9 simulated patients."}
    manifest = read_manifest(run)
    write_manifest(run, manifest.model_copy(update={"bundle": UsedBundle.model_validate(used)}))
    said = f"Threshold 0.250: that of the run's bundle. {used['error_rates']}"
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "m") == 0
    assert said in " ".join(capsys.readouterr().out.split())
    for name in ("metrics.md", "index.html"):
        assert said in unescape((tmp_path / "m" / name).read_text(encoding="utf-8")), name
    assert run_main("compare", run, run, cohort, "--out", tmp_path / "c") == 0
    assert said in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "c" / "comparison.md").read_text(encoding="utf-8").count(said) == 1  # both sides have it
    document = json.loads((tmp_path / "c" / "comparison.json").read_text(encoding="utf-8"))
    assert document["threshold_from_a"] == document["threshold_from_b"] == said
    assert run_main("evaluate", run, cohort, "--out", tmp_path / "n", "--threshold", "0.4") == 0
    assert "Threshold 0.400: given, not learned." in capsys.readouterr().out
