"""Reviewed cells become a cohort that every later command takes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.folds import check_split, read_split
from marrowscope.errors import InputError, ReviewError
from marrowscope.review.events import Draft
from marrowscope.review.export_cohort import export_review, split_of_inputs
from marrowscope.review.review_folder import open_station
from tests.conftest import TWO_PATIENTS
from tests.fake_runs import circle, make_run
from tests.review.stations import Browser, enter

if TYPE_CHECKING:
    from marrowscope.review.station import Station


def relabel(cell_id: str, code: str | None) -> dict[str, object]:
    return {"kind": "relabel", "cell_id": cell_id, "new": code}


@pytest.mark.parametrize("file_format", ["labelme", "coco"])
def test_named_cells_come_back_as_a_clean_cohort(
    browser: Browser, station: Station, tmp_path: Path, file_format: str
) -> None:
    frozen = [cell for cell in station.patient("P1").frozen if cell.field_id == "P1/field_0"]
    outline = circle(440, 340, 12).ravel().tolist()
    browser.decide(
        "P1",
        *(relabel(cell.cell_id, "N2") for cell in frozen[:-2]),
        {"kind": "not_a_cell", "cell_id": frozen[-1].cell_id},
        {"kind": "add", "new": {"field_id": "P1/field_0", "contour_xy": outline, "code": "J"}},
    )
    done = export_review(station, tmp_path / "out", file_format)
    n = len(frozen) - 2
    assert done.by_status == {"confirmed": n + 1, "removed": 1, "unseen": len(station.patient("P1").frozen) - n - 1}
    assert (done.n_patients, done.n_images, done.n_exhaustive) == (1, 1, 0)
    cohort = read_cohort(tmp_path / "out", um_per_px=0.15)
    assert cohort.faults == ()
    (patient,) = cohort.patients
    assert (patient.patient_id, patient.center) == ("P1", "A")
    (image,) = cohort.fields
    assert sorted(annotation.code for annotation in image.annotations) == ["J", *["N2"] * n]
    assert not image.exhaustive, "a cell of this image has no name yet"
    drawn = [annotation.network_contour for annotation in image.annotations if annotation.code == "J"]
    assert drawn == [False]
    assert all(annotation.network_contour for annotation in image.annotations if annotation.code == "N2")
    listed = (tmp_path / "out" / "reviewed-cells.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(listed.splitlines()))
    assert len(rows) == len(station.patient("P1").frozen) + 1
    assert {row["decided_by"] for row in rows if row["status"] == "confirmed"} == {"Ada"}


def test_an_export_only_reads_the_review(browser: Browser, station: Station, tmp_path: Path) -> None:
    frozen = station.patient("P1").frozen
    browser.decide("P1", *(relabel(cell.cell_id, "N2") for cell in frozen[:3]))
    place, run = Path(station.store.engine.url.database or ""), station.cells.runs[0].folder
    station.close()
    before = place.read_bytes()
    with open_station(place, [run], lone_reader=None, reads_only=True) as opened:
        assert export_review(opened, tmp_path / "out").by_status["confirmed"] == 3
        with pytest.raises(ReviewError, match="readonly"):
            opened.store.append([Draft("Ada", "P1", "comment")])
    again = make_run(tmp_path / "again", list(TWO_PATIENTS), seed=1)
    with pytest.raises(ReviewError, match=r"2 patients \('P1' \.\.\.\) whose review is about another prediction"):
        open_station(place, [again.folder], lone_reader=None, reads_only=True).__enter__()
    with pytest.raises(ReviewError, match="found no review there"):
        open_station(tmp_path / "none", [run], lone_reader=None, reads_only=True).__enter__()
    assert place.read_bytes() == before
    assert not (tmp_path / "none").exists()


def test_a_split_that_is_named_goes_along_and_none_is_invented(
    browser: Browser, station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("P1", "P2"):
        cells = station.patient(name).frozen[:3]
        browser.decide(name, *(relabel(cell.cell_id, "N2") for cell in cells))
    monkeypatch.chdir(tmp_path)  # the run's command names the cohort by a path of this folder
    assert export_review(station, tmp_path / "without").split_from is None
    assert not (tmp_path / "without" / "split.csv").exists()

    cohort = tmp_path / "cohort"
    assert "cohort" in station.cells.runs[0].manifest.command
    cohort.mkdir(exist_ok=True)
    (cohort / "split.csv").write_text("patient_id,role\nP1,train\nP2,test\nP3,validation\n")
    assert export_review(station, tmp_path / "other").split_from is None, "no patients.csv beside it: no cohort"
    (cohort / "patients.csv").write_text("patient_id,center\nP1,A\nP2,B\n")
    done = export_review(station, tmp_path / "beside")
    assert done.split_from == Path("cohort/split.csv")
    assert read_split(tmp_path / "beside" / "split.csv") == {"P1": "train", "P2": "test"}
    exported = read_cohort(tmp_path / "beside", um_per_px=0.15)
    assert exported.faults == ()
    images = pl.DataFrame([{"patient_id": image.patient_id, "image_sha256": image.sha256} for image in exported.fields])
    check_split(images, read_split(tmp_path / "beside" / "split.csv"))

    run = station.cells.runs[0].folder
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    command = ("marrowscope", "predict", "cohort", "--out", f"{run.parent.name}/{run.name}")
    (cohort_there := run.parent.parent / "cohort").mkdir(exist_ok=True)
    for name in ("patients.csv", "split.csv"):
        (cohort_there / name).write_bytes((cohort / name).read_bytes())
    paths = ["cohort/P1/a.jpg", "cohort/P2/b.jpg"]
    assert split_of_inputs(tmp_path / "moved", command, paths) == (None, (Path("cohort/split.csv"),))
    assert split_of_inputs(run, command, paths) == (cohort_there / "split.csv", ()), "found from where the run lies"
    monkeypatch.chdir(tmp_path)

    own = tmp_path / "own.csv"
    own.write_text("patient_id,role\nP1,validation\nP2,train\n")
    assert export_review(station, tmp_path / "given", split=own).split_from == own
    assert read_split(tmp_path / "given" / "split.csv") == {"P1": "validation", "P2": "train"}
    own.write_text("patient_id,role\nP1,validation\n")
    with pytest.raises(InputError, match=r"own.csv: found no role of 1 exported patient \(P2\), expected one of each"):
        export_review(station, tmp_path / "absent", split=own)
    assert not (tmp_path / "absent").exists()


def test_an_image_is_exhaustive_once_every_cell_is_settled_and_it_was_searched(
    browser: Browser, station: Station, tmp_path: Path
) -> None:
    frozen = [cell for cell in station.patient("P1").frozen if cell.field_id == "P1/field_0"]
    browser.decide("P1", *(relabel(cell.cell_id, "N2") for cell in frozen))
    assert export_review(station, tmp_path / "first").n_exhaustive == 0
    browser.decide("P1", {"kind": "field_checked", "new": {"field_id": "P1/field_0"}})
    assert export_review(station, tmp_path / "second").n_exhaustive == 1


def test_what_assigned_readers_dispute_has_no_shape_until_it_is_adjudicated(
    browser: Browser, station: Station, tmp_path: Path
) -> None:
    from marrowscope.review.events import Draft

    station.store.append([Draft("Ada", "P1", "assign", None, None, {"readers": ["Ada", "Bo"]})])
    first, second = station.patient("P1").frozen[:2]
    browser.decide("P1", relabel(first.cell_id, "N"), relabel(second.cell_id, "R"))
    station.lone_reader = "Bo"
    other = enter(station)
    seen = station.store.head().sequence
    other.decide("P1", relabel(first.cell_id, "N1"), relabel(second.cell_id, "R"), base=seen)
    done = export_review(station, tmp_path / "first")
    assert (done.by_status["disputed"], done.by_status["confirmed"]) == (1, 1)
    assert "Ada: N; Bo: N1" in (tmp_path / "first" / "reviewed-cells.csv").read_text(encoding="utf-8")
    station.lone_reader = "Dee"
    enter(station).decide("P1", {"kind": "adjudicate", "cell_id": first.cell_id, "new": "N1"})
    assert export_review(station, tmp_path / "second").by_status["confirmed"] == 2


def test_only_signed_patients_where_that_is_asked(browser: Browser, station: Station, tmp_path: Path) -> None:
    browser.decide("P1", relabel(station.patient("P1").frozen[0].cell_id, "N"))
    with pytest.raises(ReviewError, match="found no signed patient with a cell that a reader named"):
        export_review(station, tmp_path / "out", signed_only=True)
    assert not (tmp_path / "out").exists()


def test_a_review_without_a_named_cell_gives_no_cohort(station: Station, tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="found no cell that a reader named"):
        export_review(station, tmp_path / "out")
