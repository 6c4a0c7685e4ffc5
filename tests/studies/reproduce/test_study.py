"""The whole study on nine patients: nothing leaks, everything is traced, and an interrupted one ends the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest

pytest.importorskip("torch")

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort.folds import read_folds
from marrowscope.errors import RunError
from marrowscope.imaging import sha256_file
from marrowscope.studies.reproduce import study
from tests.reproduce_presets import MACHINE, RATES, TINY

if TYPE_CHECKING:
    from pathlib import Path

STEPS_UNTIL_THE_BUNDLE = ("simulate", "prepare", "folds", "crossfit")


def outputs(out: Path, names: tuple[str, ...] = STEPS_UNTIL_THE_BUNDLE) -> dict[str, object]:
    """Read what the markers of these steps say was made: hashes and counts."""
    markers = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (out / "steps").glob("*.json")}
    return {name: marker["outputs"] for name, marker in sorted(markers.items()) if name.startswith(names)}


def test_the_result_is_written_with_all_that_made_it(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"]["segmenter"]["segmenter_sha256"] == load_bundle(demonstration_bundle()).segmenter_sha256
    assert load_bundle(finished / "bundle").segmenter_sha256 == load_bundle(demonstration_bundle()).segmenter_sha256
    assert len(load_bundle(finished / "bundle").classifier_files) == TINY.n_folds
    assert [row["center"] for row in summary["comparison"]["centers"]] == ["S4", "S5", "S6", "all centers"]
    assert [row["published"] for row in summary["comparison"]["centers"]] == [0.9076, 0.8696, 0.9124, None]
    assert set(summary["seconds"]) == {path.stem for path in (finished / "steps").glob("*.json")}
    assert "not comparable" in (finished / "table.md").read_text(encoding="utf-8")
    assert pl.read_csv(finished / "table.csv").height == 4 * 6 + 3  # two folds and four more a group; the paper thrice


def test_no_external_patient_trains(finished: Path) -> None:
    folds = read_folds(finished / "folds.csv")
    internal = pl.read_parquet(finished / "crops" / "internal" / "cells.parquet")
    external = pl.read_parquet(finished / "crops" / "external" / "cells.parquet")
    assert set(internal["center"]) == {"S1", "S2", "S3"}
    assert set(external["center"]) == {"S4", "S5", "S6"}
    assert {patient for patient, fold in folds.items() if fold is None} == set(external["patient_id"])
    for fold in range(TINY.n_folds):
        split = pl.read_csv(finished / "crossfit" / f"fold-{fold}" / "split.csv")
        assert not set(split["patient_id"]) & set(external["patient_id"])


def test_ensemble_members_and_probe_stand_on_the_same_cells(finished: Path) -> None:
    rows = json.loads((finished / "comparison.json").read_text(encoding="utf-8"))["centers"]
    figures = pl.read_csv(finished / "evaluation" / "metrics.csv", infer_schema_length=None)
    for row in rows:
        of_center = figures.filter(center=row["center"], metric="CBLC weighted F1, matched")
        assert row["ensemble"]["value"] == pytest.approx(of_center["value"].item())
        assert row["n_cells"] == row["n_probe_cells"] == of_center["n"].item()
        assert row["difference"]["value"] == pytest.approx(row["ensemble"]["value"] - row["probe"]["value"])
        assert set(row["members"]) == {"fold-0", "fold-1"}
    cells = [pl.read_parquet(finished / "runs" / name / "cells.parquet") for name in ("ensemble", "fold-0", "fold-1")]
    assert cells[0]["cell_id"].equals(cells[1]["cell_id"])
    both = (cells[1]["p_cblc"] + cells[2]["p_cblc"]) / 2  # the ensemble is the mean probability of its members
    assert cells[0]["p_cblc"].drop_nulls().to_list() == pytest.approx(both.drop_nulls().to_list(), abs=1e-6)


def test_a_finished_study_is_not_done_again(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shutil.copytree(finished, tmp_path / "again")
    before = {path: sha256_file(path) for path in (*out.glob("steps/*"), out / "table.md", out / "table.csv")}

    def fail(*_: object, **__: object) -> None:
        pytest.fail("a finished step was done again")

    for name in ("simulate_cohort", "prepare_crops", "fit_folds", "export_bundle", "predict", "evaluate_run"):
        monkeypatch.setattr(study, name, fail)
    monkeypatch.setattr(study, "measure_rates", fail)
    left: list[float] = []
    study.reproduce(out, TINY, MACHINE, on_plan=lambda _, seconds: left.append(seconds))
    assert left == [0.0]
    assert {path: sha256_file(path) for path in before} == before


def test_interrupted_in_every_long_step_it_ends_in_the_same_weights(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop inside the second center, inside the fields that are cut, inside a training; then go on."""
    monkeypatch.setattr(study, "measure_rates", lambda *_: RATES)
    monkeypatch.setattr(study, "export_bundle", interrupt)
    out = tmp_path / "study"
    for title, at in (("Simulate center S2", 1), ("Cut the crops of the internal", 2), ("Fold 1 of 0-1, yolo", 1)):

        def stop(step: str, done: int, _total: int, title: str = title, at: int = at) -> None:
            if step.startswith(title) and done >= at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            study.reproduce(out, TINY, MACHINE, progress=stop)
    assert set(outputs(out)) == set(outputs(finished)) - {"crossfit-1"}
    with pytest.raises(KeyboardInterrupt):  # now at the export, which this test leaves out
        study.reproduce(out, TINY, MACHINE)
    assert outputs(out) == outputs(finished)


def interrupt(*_: object, **__: object) -> None:
    """Stop as a user does."""
    raise KeyboardInterrupt


def test_other_settings_in_the_same_folder_are_refused(finished: Path) -> None:
    other = TINY.model_copy(update={"fields": 2})
    with pytest.raises(RunError, match=r"other settings \(preset\.fields: 1 there, 2 here\)"):
        study.reproduce(finished, other, MACHINE)


def test_another_machine_may_go_on_and_is_measured_itself(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(finished, tmp_path / "moved")
    monkeypatch.setattr(study, "measure_rates", lambda *_: pytest.fail("measured once more"))
    here = study.plan_study(out, TINY, MACHINE).seconds
    assert study.plan_study(out, TINY, replace(MACHINE, workers=3)).seconds < here
    monkeypatch.setattr(study, "measure_rates", lambda *_: replace(RATES, train_crops_per_s=1e6))
    for _ in range(2):
        assert study.plan_study(out, TINY, replace(MACHINE, device="cuda")).seconds < here


def test_a_disk_that_is_too_small_is_said_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "measure_rates", lambda *_: replace(RATES, cells_per_field=1e12))
    with pytest.raises(
        RunError, match=r"GB free, expected \d+\.\d GB for images and crops; choose an --out on another"
    ):
        study.reproduce(tmp_path / "study", TINY, MACHINE)
    assert not (tmp_path / "study" / "cohort").exists()
