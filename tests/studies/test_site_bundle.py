"""A site's rates, from the log of its review into a bundle, and from there to its own patients alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import pytest
from typer.testing import CliRunner

from marrowscope.bundle import load_bundle
from marrowscope.cli.main import app
from marrowscope.errors import BundleError, ReviewError
from marrowscope.patient.assess import assess_patients
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.standing import MeasuredCenter
from marrowscope.records import UNKNOWN, Patient
from marrowscope.review.events import Draft
from marrowscope.review.live_estimate import audit_view, drawn_audit
from marrowscope.review.review_folder import open_station as open_review
from marrowscope.review.site_rates import SiteRates
from marrowscope.runs.manifest import UsedBundle, read_manifest, write_manifest
from marrowscope.runs.parquet import read_table
from marrowscope.studies.site_bundle import MeasuredSite, ReviewedSite, measure_sites, reviewed_sites, with_center_rates
from tests.bundles import make_bundle, make_spec
from tests.fake_runs import VOCABULARY, make_run
from tests.patient.quantify.patients import N5, N, make_rates
from tests.review.stations import open_station

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

    from marrowscope.review.station import Station
    from marrowscope.runs.schemas import TableKind

IN_A = [Patient(f"A{i:02}", "A", "control", "marrow") for i in range(21)]
IN_B = [Patient("B0", "B", "control", "marrow"), Patient("B1", "B", "control", "marrow")]


class Review(NamedTuple):
    """A reviewed run, the folder of its review, and the bundle that the run states."""

    run: Path
    place: Path
    bundle: Path


def audit(station: Station, patient_id: str) -> None:
    """Draw and answer an audit; every call is right, but for the first cell called N, which is N5."""
    names = {"Other": "V", "L": "L2"}
    frozen = {cell.cell_id: cell for cell in station.patient(patient_id).frozen}
    wrong = next(name for name, cell in frozen.items() if cell.category == "N")
    value = drawn_audit(station.state(patient_id), station.patient(patient_id).fields, "5f2a")
    station.store.append([Draft("Ada", patient_id, "audit_drawn", None, None, value)])
    view = audit_view(station.state(patient_id))
    assert view is not None
    said = {name: names.get(frozen[name].category, frozen[name].category) for name in view.order} | {wrong: "N5"}
    station.store.append([Draft("Ada", patient_id, "audit_answer", name, None, said[name]) for name in view.order])


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Review:
    """Give a run of 21 patients of A, all audited and one reviewed in full, and two of B, one of them audited."""
    root = tmp_path_factory.mktemp("site")
    bundle = make_bundle(root / "bundle")
    run = make_run(root, [*IN_A, *IN_B], n_fields=1, n_cells=58).folder  # 50 kept cells, the least of an audit
    used = UsedBundle(name="test", version="1", sha256=bundle.spec_sha256)
    write_manifest(run, read_manifest(run).model_copy(update={"bundle": used}))
    station = open_station(run, root / "review" / "review.sqlite")
    for patient in [*IN_A, IN_B[0]]:
        audit(station, patient.patient_id)
    station.store.append([Draft("Ada", "A00", "full_review", None, None, None)])
    station.close()
    return Review(run, root / "review", bundle.folder)


def rates(review: Review, out: Path, *words: object, bundle: Path | None = None) -> Result:
    line = ["rates", review.place, review.run, "--out", out, "--bundle", bundle or review.bundle, *words]
    return CliRunner().invoke(app, ["review", *map(str, line)])


def test_a_center_with_enough_audits_gets_its_rates_and_another_gets_a_sentence(review: Review, tmp_path: Path) -> None:
    before = (review.place / "review.sqlite").read_bytes()
    result = rates(review, tmp_path / "out")
    assert result.exit_code == 0, result.output
    kept = read_table(review.run / "cells.parquet", "cells").filter(
        pl.col("reject_reason").is_null() & pl.col("patient_id").str.starts_with("A")
    )
    assert f"A: rates from 21 audited patients, {len(kept)} named cells worth {len(kept)}" in result.output
    assert "Not validated: 1 fully reviewed patient, " in result.output
    assert "B: found 1 audited patient, expected at least 20 of a center; audit more patients" in result.output
    written, given = load_bundle(tmp_path / "out"), load_bundle(review.bundle)
    assert list(written.centers) == ["A"]
    assert {name: written.spec.files[name] for name in given.spec.files if name != "CARD.md"} == {
        name: digest for name, digest in given.spec.files.items() if name != "CARD.md"
    }
    measured = written.centers["A"].quantification.rates
    n_cblc, n_countable = int(kept["is_cblc"].sum()), int(kept["is_countable"].sum())
    assert measured.call_rate(cblc=True) == 1
    assert measured.call_rate(cblc=False) == pytest.approx(21 / (n_countable - n_cblc + 21))
    assert (written.centers["A"].n_patients, written.spec.rates_by_center["A"].opened) == (1, False)
    assert "21 audited patients of this center, found cells only" in (tmp_path / "out" / "CARD.md").read_text()
    assert (review.place / "review.sqlite").read_bytes() == before, "the review is only read"


def test_patients_are_gathered_by_center_and_simulated_ones_left_out(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_simulated_patient(path: Path, kind: TableKind) -> pl.DataFrame:
        return read_table(path, kind).with_columns(simulated=pl.col("patient_id") == "A20")

    monkeypatch.setattr("marrowscope.studies.site_bundle.read_table", with_a_simulated_patient)
    with open_review(review.place, [review.run], lone_reader=None, reads_only=True) as station:
        first, second = reviewed_sites(station)
        assert reviewed_sites(station, "B") == [second]
    assert [patient.patient_id for patient in first.patients] == [f"A{i:02}" for i in range(20)]
    assert (first.n_simulated, first.lacks, len(second.patients), second.ratios) == (1, None, 1, {})
    kept = read_table(review.run / "cells.parquet", "cells").filter(
        pl.col("reject_reason").is_null() & (pl.col("patient_id") == "A00")
    )
    n_cblc = int(kept["is_cblc"].sum()) - 1  # the reader called one of them N5
    assert first.ratios == {"A00": pytest.approx(n_cblc / int(kept["is_countable"].sum()))}


def test_patients_of_another_specimen_are_left_out(review: Review, tmp_path: Path) -> None:
    with open_review(review.place, [review.run], lone_reader=None, reads_only=True) as station:
        for name, specimen in (("A00", "blood"), ("A01", "unknown")):
            station.cells.rows[name] = station.cells.rows[name].model_copy(update={"specimen": specimen})
        first, _ = reviewed_sites(station)
    assert [patient.patient_id for patient in first.patients] == [f"A{i:02}" for i in range(2, 21)]
    assert (first.specimen, first.n_other_specimen, first.ratios) == ("marrow", 2, {})
    assert first.lacks is not None
    assert (
        "A: found 19 audited patients beside 2 of another specimen or none stated, expected at least 20" in first.lacks
    )
    quantification = Quantification(source="a test", rates=make_rates({N: 0.9, N5: 0.05}))
    stored = {"A": MeasuredCenter(quantification, 30, 1, "blood")}
    with_center_rates(load_bundle(review.bundle), stored, tmp_path / "out")
    assert load_bundle(tmp_path / "out").centers["A"].specimen == "blood"


def test_what_gives_no_rates_writes_nothing(review: Review, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = rates(review, out, "--center", "B")
    assert isinstance(few.exception, ReviewError)
    assert "no bundle is written" in str(few.exception)
    assert "B: found 1 audited patient" in few.output
    unknown = rates(review, out, "--center", "C")
    assert "found no center 'C', expected one of A, B" in str(unknown.exception)
    other = make_bundle(tmp_path / "other", spec=make_spec(version="2"))
    refused = rates(review, out, bundle=other.folder)
    assert isinstance(refused.exception, BundleError)
    given = load_bundle(review.bundle)
    assert f"found bundle test 2 ({other.spec_sha256[:12]}), expected test 1 ({given.spec_sha256[:12]})" in str(
        refused.exception
    )
    assert not out.exists()


def test_a_center_without_a_name_gives_no_rates() -> None:
    """Folders without patients.csv are of no stated center, in every hospital alike."""
    site = ReviewedSite(UNKNOWN, (), {})
    assert "whose center is not stated" in str(site.lacks)
    with pytest.raises(ReviewError, match="found no center with 20 audited patients or more"):
        measure_sites([site], VOCABULARY, None)
    drawn = ReviewedSite("A", (), {}, n_simulated=24)
    assert "found 0 audited patients beside 24 simulated ones" in str(drawn.lacks)


def test_an_open_centers_rates_are_used_for_its_patients_and_for_no_others(review: Review, tmp_path: Path) -> None:
    def measured(tpr: float, n_patients: int) -> MeasuredCenter:
        return MeasuredCenter(Quantification(source="a test", rates=make_rates({N: tpr, N5: 0.05})), n_patients, 1)

    found = SiteRates(make_rates({N: 0.9, N5: 0.05}), 40, 900, 700.4, found_cells_only=False)
    assert MeasuredSite(found, measured(0.9, 30)).sentence("A") == (
        "A: rates from 40 audited patients, 900 named cells worth 700. Validated: 30 fully reviewed patients, "
        "1 of them with a ratio outside the interval."
    )
    given = load_bundle(review.bundle)
    first = with_center_rates(given, {"B": measured(0.8, 12), "A": measured(0.7, 12)}, tmp_path / "first")
    second = with_center_rates(first, {"A": measured(0.9, 30)}, tmp_path / "second")
    assert {name: center.file for name, center in second.spec.rates_by_center.items()} == {
        name: center.file for name, center in first.spec.rates_by_center.items()
    }
    fields, cells = (read_table(review.run / f"{kind}.parquet", kind) for kind in ("fields", "cells"))
    loaded = load_bundle(tmp_path / "second")
    assert loaded.centers["B"] == first.centers["B"], "other centers keep theirs"
    table = assess_patients([IN_A[0], IN_B[0]], fields, cells, VOCABULARY, measured=loaded.measured)
    own, other = table.sort("center").iter_rows(named=True)
    assert (own["state"], own["state_reason"], own["corrected_ratio"] is not None) == (
        "validated",
        "center_measured",
        True,
    )
    assert (other["state"], other["state_reason"], other["corrected_ratio"]) == (
        "not_validated",
        "center_not_open",
        None,
    )
    elsewhere = assess_patients(
        [Patient("B0", "C", "control", "marrow")], fields, cells, VOCABULARY, measured=loaded.measured
    )
    assert elsewhere["corrected_ratio"].to_list() == [None]
