"""A bundle gets its domain from runs, and a prediction with it withholds what lies beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from marrowscope.bundle import CARD_FILE, load_bundle
from marrowscope.cli.main import main
from marrowscope.errors import InputError, RunError
from marrowscope.patient.depth.domain_limit import FEWEST_PATIENTS
from marrowscope.records import Patient
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.studies.bundle_domain import measure_domain, patient_scores
from tests.bundles import make_bundle
from tests.fake_runs import make_run, state_tables

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run of enough patients of two centers, whose images have measures."""
    people = [Patient(f"P{i:02}", "AB"[i % 2], "AML") for i in range(FEWEST_PATIENTS + 1)]
    folder = make_run(tmp_path_factory.mktemp("domain"), people, n_fields=1, n_cells=5).folder
    fields = read_table(folder / "fields.parquet", "fields")
    measured = fields.with_columns(
        background=pl.Series([0.9 + 0.001 * i for i in range(len(fields))]), sharpness=pl.lit(1.1)
    )
    write_table(folder / "fields.parquet", measured, "fields")
    state_tables(folder)
    return folder


def test_the_domain_is_measured_on_patients_with_a_kept_cell(run: Path) -> None:
    found = list(patient_scores(run))
    assert len(found) == FEWEST_PATIENTS  # the last one's image could not be read
    domain = measure_domain([run])
    assert (domain.n_patients, domain.measured_on) == (19, "19 patients of 2 centers that the networks never saw")
    assert {"background", "sharpness", "middling", "uncertainty", "contradictions"} == domain.scores.keys()
    assert domain.scores["background"].mean == pytest.approx(0.909)
    assert measure_domain([run, run]).measured_on.startswith("38 patients of 4 centers ")


def test_quantify_writes_the_domain_and_leaves_everything_else(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = make_bundle(tmp_path / "bundle"), tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["quantify", str(bundle.folder), "--domain", str(run), "--out", str(out)])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Domain: background, sharpness, contradictions, middling, uncertainty of 19 patients of 2 centers" in said
    written = load_bundle(out)
    assert written.spec.domain == measure_domain([run])
    assert bundle.spec.domain is None
    same = {"domain", "files"}
    assert written.spec.model_dump(exclude=same) == bundle.spec.model_dump(exclude=same)
    others = {name: value for name, value in written.spec.files.items() if name != CARD_FILE}
    assert others == {name: value for name, value in bundle.spec.files.items() if name != CARD_FILE}
    card = written.read_file(CARD_FILE).decode()
    assert "## Domain\n\nMeasured on 19 patients of 2 centers" in card
    main_again = ["quantify", str(out), "--domain", str(run), "--out", str(tmp_path / "again")]
    with pytest.raises(SystemExit):
        main(main_again)
    assert load_bundle(tmp_path / "again").read_file(CARD_FILE).decode() == card


def test_too_few_patients_and_no_run_are_refused(run: Path, tmp_path: Path) -> None:
    few = make_run(tmp_path / "few", [Patient("P", "A", "AML")], n_fields=2).folder
    with pytest.raises(InputError, match=r"found 1 patient with scores, expected at least 19.*; add runs"):
        measure_domain([few])
    with pytest.raises(RunError):
        measure_domain([run, tmp_path])


def test_quantify_asks_for_something_to_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "bundle").folder
    with pytest.raises(SystemExit) as ended:
        main(["quantify", str(bundle), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "found neither COHORT nor --domain, expected at least one of them" in " ".join(
        capsys.readouterr().err.split()
    )
