"""A cohort that several readers annotated: each is read alone, counts reconcile, and nobody is chosen in silence."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from marrowscope.cli.main import app
from marrowscope.cohort import read_cohort, require_clean
from marrowscope.errors import CohortError
from tests.cohort.test_reader import HEIGHT, WIDTH, add_image, square

if TYPE_CHECKING:
    from pathlib import Path

CSV = "patient_id,center,diagnosis,specimen,um_per_px\np1,A,AML,marrow,0.2\n"


def draw(path: Path, image: str, reader: str, *codes: str) -> None:
    """Write a LabelMe file by ``reader`` with squares side by side."""
    shapes = [
        {"label": code, "points": square(3 + 14 * k, 5).tolist(), "shape_type": "polygon", "flags": {}}
        for k, code in enumerate(codes)
    ]
    document: dict[str, object] = {
        "version": "5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
    }
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "reader": reader}
    path.write_text(json.dumps(document | size), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One patient: f1 read by ada and bo, f2 by ada alone, f3 by nobody named."""
    root = tmp_path / "cohort"
    root.mkdir()
    (root / "patients.csv").write_text(CSV, encoding="utf-8")
    for k, name in enumerate(("f1", "f2", "f3")):
        add_image(root / "p1" / f"{name}.png", k)
    draw(root / "p1/f1.json", "f1.png", "ada", "N", "N5")
    draw(root / "p1/f1.bo.json", "f1.png", "bo", "N1", "N5", "R")
    draw(root / "p1/f2.json", "f2.png", "ada", "N")
    draw(root / "p1/f3.json", "f3.png", "", "L")
    return root


def codes(root: Path, reader: str) -> dict[str, list[str]]:
    return {
        field.field_id: [item.code for item in field.annotations]
        for field in read_cohort(root, reader=reader).fields
        if field.annotated
    }


def test_each_reader_is_read_alone(root: Path) -> None:
    assert codes(root, "ada") == {"p1/f1": ["N", "N5"], "p1/f2": ["N"], "p1/f3": ["L"]}
    assert codes(root, "bo") == {"p1/f1": ["N1", "N5", "R"], "p1/f3": ["L"]}
    cohort = require_clean(read_cohort(root, reader="bo"))
    assert (cohort.readers, cohort.reader) == (("ada", "bo"), "bo")
    assert cohort.counts.shapes.rejected == {"other_reader": 3}
    assert (cohort.counts.shapes.n_in, cohort.counts.shapes.n_out) == (7, 4)


def test_nobody_is_chosen_in_silence(root: Path) -> None:
    cohort = read_cohort(root)
    assert cohort.readers == ("ada", "bo")
    assert codes(root, "") == {"p1/f3": ["L"]}, "a reading that nobody chose was read"
    fault = next(fault for fault in cohort.faults if fault.loses_data)
    assert (fault.kind, "1 image with readings by several of ada, bo" in fault.sentence()) == ("several_readers", True)
    assert "--reader" in fault.sentence()
    with pytest.raises(CohortError, match="choose one with --reader"):
        require_clean(cohort)
    with pytest.raises(CohortError, match="found no annotation by 'cy', expected one of ada, bo"):
        read_cohort(root, reader="cy")


def test_where_no_annotation_names_its_reader_none_is_to_be_named(root: Path) -> None:
    for path in root.rglob("f[12]*.json"):
        path.unlink()
    with pytest.raises(CohortError, match="by 'cy', expected no --reader, since no annotation here names its reader"):
        read_cohort(root, reader="cy")


def test_two_annotations_by_one_reader_or_by_nobody_named_are_a_fault_as_before(root: Path) -> None:
    shutil.copy(root / "p1/f2.json", root / "p1/f2.again.json")
    kinds = {fault.kind for fault in read_cohort(root, reader="ada").faults}
    assert kinds == {"second_annotation"}
    draw(root / "p1/f2.again.json", "f2.png", "", "N")
    assert {fault.kind for fault in read_cohort(root, reader="ada").faults} == {"second_annotation"}


def test_a_cohort_whose_images_have_one_reader_each_needs_no_choice(root: Path) -> None:
    (root / "p1/f1.json").unlink()
    cohort = require_clean(read_cohort(root))
    assert cohort.readers == ()
    assert cohort.counts.shapes.n_out == 5


def test_check_takes_one_reader_after_another(root: Path) -> None:
    told = CliRunner().invoke(app, ["cohort", "check", str(root)])
    assert told.exit_code == 0, told.output
    assert "Annotations by ada" in told.output
    assert "Annotations by bo" in told.output
    told = CliRunner().invoke(app, ["cohort", "check", str(root), "--json"])
    assert set(json.loads(told.stdout)["readers"]) == {"ada", "bo"}
    draw(root / "p1/f1.bo.json", "f1.png", "bo", "no such code")
    told = CliRunner().invoke(app, ["cohort", "check", str(root)])
    assert told.exit_code == 2
    assert CliRunner().invoke(app, ["cohort", "check", str(root), "--reader", "ada"]).exit_code == 0
