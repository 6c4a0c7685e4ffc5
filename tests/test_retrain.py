"""The page docs/retrain.md, command by command, on a few small simulated fields, with a tiny network and one epoch."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from typer.testing import CliRunner

from marrowscope.bundle.bundle import load_bundle
from marrowscope.cli.main import app
from marrowscope.cohort import read_cohort
from marrowscope.simulate import SimulationConfig, simulate_cohort

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("sqlalchemy", reason="needs the extra review")

from marrowscope.review.decisions import Decision
from marrowscope.review.review_folder import open_station

_PAGE = Path(__file__).parents[1] / "docs" / "retrain.md"
_FULL_SIZE = "--patients 16 --centers 8 --fields 3"
_TINY = {
    "epochs = 5": "epochs = 1",
    'init = "lite0"': 'init = "scratch"\narchitecture = "test_efficientnet"\ncrop_px = 32\nbatch_size = 8\nthreads = 1',
}


def blocks(kind: str) -> list[str]:
    """Return the fenced blocks of the page."""
    return re.findall(rf"```{kind}\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)


def divide(cohort: Path, root: Path) -> dict[str, list[tuple[shapely.Polygon, str]]]:
    """Make the two groups of patients, without annotations, and return the true cells of each field."""
    truth = {
        field.field_id: [(shapely.Polygon(cell.contour_xy), cell.code) for cell in field.annotations]
        for field in read_cohort(cohort).fields
    }
    head, *rows = (cohort / "patients.csv").read_text(encoding="utf-8").splitlines()
    for name, own in (("new-center", rows[:1]), ("other-patients", rows[1:])):
        (root / name).mkdir()
        for row in own:
            patient = row.split(",")[0]
            shutil.copytree(cohort / patient, root / name / patient, ignore=shutil.ignore_patterns("*.json"))
        (root / name / "patients.csv").write_text("\n".join([head, *own, ""]), encoding="utf-8")
    return truth


def name_cells(run: Path, truth: dict[str, list[tuple[shapely.Polygon, str]]]) -> int:
    """Name every cell whose middle lies in a true one, as a reader would; return how many."""
    n_named = 0
    with open_station(Path(f"{run}-review"), [run], lone_reader="Ada") as station:
        for patient_id in station.cells.rows:
            decisions = []
            for cell in station.patient(patient_id).frozen:
                middle = shapely.Polygon(np.reshape(cell.contour_xy, (-1, 2))).centroid
                codes = [code for outline, code in truth[cell.field_id] if outline.contains(middle)]
                decisions += [Decision("relabel", cell.cell_id, code) for code in codes[:1]]
            n_named += len(decisions)
            if decisions:
                station.decide(patient_id, "Ada", decisions, station.state(patient_id).sequence)
    return n_named


def run_lines(text: str) -> None:
    for line in text.splitlines():
        result = CliRunner().invoke(app, line.split()[1:])
        assert result.exit_code == 0, f"{line}: {result.output}"


def test_the_page_leads_from_corrected_cells_to_figures_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small: dict[str, int] = {"width_px": 640, "height_px": 480}
    config = SimulationConfig(patients=2, centers=1, fields=1, seed=5, composition="balanced", prefix="C", **small)
    simulate_cohort(tmp_path / "truth", config)
    truth = divide(tmp_path / "truth", tmp_path)
    (settings,) = blocks("toml")
    for stated, tiny in _TINY.items():
        assert stated in settings
        settings = settings.replace(stated, tiny)
    (tmp_path / "retrain.toml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    predict, after = blocks("console")
    assert _FULL_SIZE in after
    after = after.replace(_FULL_SIZE, "--patients 1 --centers 1 --fields 1")
    stations = [line for line in predict.splitlines() if " review " in line]
    assert stations == ["marrowscope review run", "marrowscope review other-run"], "these wait for a person"
    run_lines("\n".join(line for line in predict.splitlines() if line not in stations))
    n_named, n_others = name_cells(Path("run"), truth), name_cells(Path("other-run"), truth)
    run_lines(after)
    assert n_named > 0
    assert n_others > 0
    counts = json.loads(Path("crops/prepare.json").read_text(encoding="utf-8"))["counts"]
    n_simulated = sum(len(field.annotations) for field in read_cohort(Path("simulated")).fields)
    assert counts["expert"] == n_named + n_simulated
    assert load_bundle(Path("retrained")).spec.categories_trained
    figures = [Path(f"{name}/metrics.md").read_text(encoding="utf-8") for name in ("before", "after")]
    assert all(f"n {n_others}" in text or f"| {n_others} |" in text for text in figures), figures[0][:3000]
