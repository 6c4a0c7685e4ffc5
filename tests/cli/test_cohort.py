"""`marrowscope cohort` and `marrowscope vocabulary` as a user calls them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cli.main import main
from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile
from marrowscope.cohort.formats.coco import write_coco
from marrowscope.cohort.formats.geojson import write_geojson
from marrowscope.cohort.formats.labelme import read_labelme, write_labelme
from marrowscope.disk import locked
from marrowscope.imaging import write_image
from marrowscope.records import Annotation
from marrowscope.vocabulary import mapping_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SQUARE = np.array([[5.0, 5.0], [15.0, 5.0], [15.0, 15.0], [5.0, 15.0]])


def run(*arguments: object) -> int:
    """Run the command line and give its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def annotate(root: Path, labels: Sequence[str]) -> None:
    shapes = [Annotation(label, SQUARE + 20 * index, index) for index, label in enumerate(labels)]
    write_labelme(root / "p1/f1.json", "f1.png", 80, 60, shapes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "p1").mkdir()
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np1,[A],AML\n", encoding="utf-8")
    write_image(tmp_path / "p1/f1.png", np.zeros((60, 80, 3), dtype=np.uint8))
    annotate(tmp_path, ["N", "L2"])
    return tmp_path


def test_check_of_a_clean_cohort(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cohort", "check", root, "--um-per-px", 0.2) == 0
    printed = capsys.readouterr().out
    assert "No data would be lost." in printed
    assert "myeloblast (type I or II)" in printed
    assert "[A] 1" in printed  # a center's name is printed as it is, not read as markup


def test_check_exits_with_2_where_something_would_be_lost(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate(root, ["N", "N1x"])
    assert run("cohort", "check", root) == 2
    printed = capsys.readouterr().out
    assert "1 fault: would lose data" in printed
    assert "unknown_code: p1/f1.json, shape 1: found label 'N1x'" in printed
    assert "no_scale: p1: found 1 image without a scale" in printed


def test_check_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate(root, ["SNE", "Q"])
    assert run("cohort", "check", root, "--json", "--mapping", "barcelona-13") == 2
    document = json.loads(capsys.readouterr().out)
    assert document["loses_data"] is True
    assert document["counts"]["shapes"]["rejected"] == {"unknown_code": 1}
    assert [code["code"] for code in document["codes"]] == ["N5"]
    assert [fault["kind"] for fault in document["faults"]] == ["no_scale", "unknown_code"]


def test_check_of_no_cohort_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cohort", "check", tmp_path) == 2
    assert "found no patients.csv" in capsys.readouterr().err


def test_import(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.json"
    write_coco(source, [AnnotatedImage("f1.png", 80, 60, (Annotation("PMO", SQUARE, 0),))])
    arguments = ("cohort", "import", source, "--images", root, "--mapping", "munich-aml-15")
    assert run(*arguments) == 2
    assert "found an existing annotation" in capsys.readouterr().err
    assert run(*arguments, "--overwrite") == 0
    assert "1 cell in 1 LabelMe file." in capsys.readouterr().out
    assert [shape.code for shape in read_labelme(AnnotationFile(root / "p1/f1.json"))[0].shapes] == ["N1"]
    assert run(*arguments) == 0  # as after an interruption: what this call would write is no other annotation


def test_a_second_import_into_the_same_images_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.json").write_text("{}", encoding="utf-8")
    with locked(root):
        assert run("cohort", "import", tmp_path / "in.json", "--images", root) == 2
        assert "found it in use by process" in capsys.readouterr().err
        assert run("cohort", "import", tmp_path / "in.json", "--image", root / "patients.csv") == 2
        assert "found it in use by process" in capsys.readouterr().err


def test_import_for_the_image_given(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "export.geojson"
    write_geojson(source, "", 80, 60, [Annotation("N1", SQUARE, 0)])
    assert run("cohort", "import", source) == 2
    assert "give --images or --image" in capsys.readouterr().err
    assert run("cohort", "import", source, "--image", root / "p1/f1.png", "--overwrite") == 0
    assert "1 cell in 1 LabelMe file." in capsys.readouterr().out
    assert [shape.code for shape in read_labelme(AnnotationFile(root / "p1/f1.json"))[0].shapes] == ["N1"]


def test_export_of_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run("cohort", "export", tmp_path / "empty", "--out", tmp_path / "out") == 2
    assert "run `marrowscope predict` first" in capsys.readouterr().err


def test_vocabulary_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vocabulary", "show", "--ranges") == 0
    printed = capsys.readouterr().out
    assert "Vocabulary marrow-37, version 2" in printed
    assert "orthochromatic (late) erythroblast" in printed
    assert "if pure_erythroid_leukaemia" in printed
    assert "column wintrobe" in printed


def test_vocabulary_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vocabulary", "show", "--json", "--ranges") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["codes"]) == 37
    assert document["reference_ranges"]["ranges"][0]["mark"] == "S"


def test_vocabulary_mapping(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vocabulary", "mapping") == 0
    assert capsys.readouterr().out.split() == list(mapping_names())
    assert run("vocabulary", "mapping", "barcelona-13") == 0
    assert "not a nucleated cell" in capsys.readouterr().out
    assert run("vocabulary", "mapping", "nowhere") == 2
    assert "not found, neither a built-in mapping nor a file" in capsys.readouterr().err
