"""YOLO-seg: labels and outlines come back, and an independent reader of the format finds the same cells."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile
from marrowscope.cohort.convert import import_annotations
from marrowscope.cohort.formats.labelme import read_labelme
from marrowscope.cohort.formats.yolo import read_yolo, write_yolo
from marrowscope.imaging import write_image
from marrowscope.records import Annotation, Patient
from marrowscope.runs.to_annotations import export_run
from marrowscope.train.segmenter_fit import load_ultralytics
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import make_run

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 60, 40
TRIANGLE = np.array([[5.1, 5.2], [25.3, 5.0], [15.0, 1 / 3 + 25]])
CELLS = (Annotation("N1", TRIANGLE, 0), Annotation("L2", TRIANGLE + 9.7, 1), Annotation("N1", TRIANGLE + 3, 2))
NAMES = 'names:\n  0: "L2"\n  1: "N1"\n'


def add_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))


def independent(label_file: Path, names: list[str], width: int, height: int) -> list[tuple[str, list[list[float]]]]:
    """Read a label file by the format's description alone: class, then x and y as shares of the sides."""
    cells = []
    for line in label_file.read_text(encoding="utf-8").splitlines():
        number, *shares = line.split()
        values = [float(share) for share in shares]
        assert len(values) >= 6
        assert len(values) % 2 == 0
        assert 0 <= min(values) <= max(values) <= 1
        points = [[x * width, y * height] for x, y in zip(values[::2], values[1::2], strict=True)]
        cells.append((names[int(number)], points))
    return cells


def test_round_trip(tmp_path: Path) -> None:
    for name in ("p1/f1.png", "p1/f2.png", "p2/f1.png"):
        add_image(tmp_path / name)
    written = [
        AnnotatedImage("p1/f1.png", WIDTH, HEIGHT, CELLS),
        AnnotatedImage("p1/f2.png", WIDTH, HEIGHT, ()),
        AnnotatedImage("p2/f1.png", WIDTH, HEIGHT, CELLS[:1], exhaustive=False),
    ]
    write_yolo(tmp_path / "a.yolo.yaml", written)
    read = read_yolo(AnnotationFile(tmp_path / "a.yolo.yaml"))
    assert [(image.image_path, image.exhaustive, image.faults) for image in read] == [
        (image.image_path, image.exhaustive, ()) for image in written
    ]
    for one, other in zip(read, written, strict=True):
        assert [(shape.code, shape.shape_index) for shape in one.shapes] == [
            (shape.code, shape.shape_index) for shape in other.shapes
        ]
        for a, b in zip(one.shapes, other.shapes, strict=True):
            np.testing.assert_allclose(a.contour_xy, b.contour_xy, atol=1e-9)
    found = independent(tmp_path / "p1/f1.txt", ["L2", "N1"], WIDTH, HEIGHT)
    assert [name for name, _ in found] == ["N1", "L2", "N1"]
    np.testing.assert_allclose(found[1][1], CELLS[1].contour_xy, atol=1e-9)


def test_the_reader_of_ultralytics_finds_the_same_cells(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    load_ultralytics(tmp_path / "settings")
    from ultralytics.data.utils import verify_image_label

    add_image(tmp_path / "f1.png")
    write_yolo(tmp_path / "a.yolo.yaml", [AnnotatedImage("f1.png", WIDTH, HEIGHT, CELLS)])
    paths = str(tmp_path / "f1.png"), str(tmp_path / "f1.txt")
    _, boxes, shape, segments, _, _, n_found, _, n_corrupt, message = verify_image_label(
        (*paths, "", False, 2, 0, 0, False)
    )
    assert (shape, n_found, n_corrupt, message) == ((HEIGHT, WIDTH), 1, 0, "")
    assert boxes[:, 0].tolist() == [1, 0, 1]
    for segment, cell in zip(segments, CELLS, strict=True):
        np.testing.assert_allclose(segment * (WIDTH, HEIGHT), cell.contour_xy, atol=0.01)


def test_outlines_are_written_inside_the_image(tmp_path: Path) -> None:
    shape = Annotation("N1", np.array([[-0.5, 3.0], [30.0, 3.0], [30.0, 40.5]]), 0)
    write_yolo(tmp_path / "a.yolo.yaml", [AnnotatedImage("f1.png", WIDTH, HEIGHT, (shape,))])
    ((_, points),) = independent(tmp_path / "f1.txt", ["N1"], WIDTH, HEIGHT)
    np.testing.assert_allclose(points, [[0, 3], [30, 3], [30, 40]])


@pytest.mark.parametrize(
    "names",
    [
        "names: [L2, 'N1']\n",
        'names: {0: L2, 1: "N1"}\n',
        "names:\n- L2\n- N1 # promyelocyte\n",
        "# mine\npath: ../x\ntrain: images\nnc: 2\nnames:\n  1: N1\n  0: L2\n",
    ],
)
def test_every_form_of_names_and_both_places_of_labels(tmp_path: Path, names: str) -> None:
    (tmp_path / "data.yaml").write_text(names, encoding="utf-8")
    (tmp_path / "classes.txt").write_text("L2\nN1\n", encoding="utf-8")
    for image, label in (("images/train/f.png", "labels/train/f.txt"), ("other/g.png", "other/g.txt")):
        add_image(tmp_path / image)
        (tmp_path / label).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / label).write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    read = read_yolo(AnnotationFile(tmp_path / "data.yaml"))
    assert [(image.image_path, [shape.code for shape in image.shapes]) for image in read] == [
        ("images/train/f.png", ["N1"]),
        ("other/g.png", ["N1"]),
    ]
    np.testing.assert_allclose(read[0].shapes[0].contour_xy, [[6, 4], [30, 4], [30, 20]])


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("7 0.1 0.1 0.5 0.1 0.5 0.5", "unknown_category"),
        ("1 0.1 0.1 0.5 0.5", "shape_type"),
        ("1 0.1 0.1 0.5 0.1 0.5", "broken_shape"),
        ("1 6 4 30 4 30 20", "broken_shape"),
        ("1 nan 0.1 0.5 0.1 0.5 0.5", "broken_shape"),
        ("1.5 0.1 0.1 0.5 0.1 0.5 0.5", "broken_shape"),
        ("cell 0.1 0.1", "broken_shape"),
    ],
)
def test_a_line_that_cannot_be_taken_is_named_and_the_rest_kept(tmp_path: Path, line: str, kind: str) -> None:
    add_image(tmp_path / "f.png")
    (tmp_path / "data.yaml").write_text(NAMES, encoding="utf-8")
    (tmp_path / "f.txt").write_text(f"{line}\n\n0 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    (image,) = read_yolo(AnnotationFile(tmp_path / "data.yaml"))
    assert [(fault.kind, fault.shape_index, fault.where) for fault in image.faults] == [(kind, 0, "f.txt")]
    assert [(shape.code, shape.shape_index) for shape in image.shapes] == [("L2", 2)]
    assert image.n_shapes == 2


def test_labels_without_their_image_and_of_two_are_counted(tmp_path: Path) -> None:
    for name in ("two.jpg", "two.png"):
        add_image(tmp_path / name)
    (tmp_path / "data.yaml").write_text(NAMES, encoding="utf-8")
    for name in ("none.txt", "two.txt"):
        (tmp_path / name).write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n" * 2, encoding="utf-8")
    (tmp_path / "notes.txt").write_text("two cells\n", encoding="utf-8")
    read = read_yolo(AnnotationFile(tmp_path / "data.yaml"))
    assert [(image.where, len(image.shapes), image.n_shapes, image.placed) for image in read] == [
        ("none.txt", 0, 2, False),
        ("two.txt", 0, 2, False),
    ]


def test_a_class_number_of_two_names_names_no_cell(tmp_path: Path) -> None:
    add_image(tmp_path / "f.png")
    (tmp_path / "data.yaml").write_text("names:\n  0: L2\n  0: N1\n  1: V\n", encoding="utf-8")
    (tmp_path / "f.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    read = read_yolo(AnnotationFile(tmp_path / "data.yaml"))
    assert [shape.code for shape in read[0].shapes] == ["V"]
    assert [fault.kind for image in read for fault in image.faults] == ["unknown_category", "duplicate_id"]


def labels_and_faults(tmp_path: Path, names: str, *numbers: int) -> tuple[list[str], list[tuple[str, bool]]]:
    """Return the labels of cells of the classes ``numbers``, and kind and severity of every fault."""
    add_image(tmp_path / "f.png")
    (tmp_path / "data.yaml").write_text(names, encoding="utf-8")
    lines = [f"{number} 0.1 0.1 0.5 0.1 0.5 0.5\n" for number in numbers]
    (tmp_path / "f.txt").write_text("".join(lines), encoding="utf-8")
    read = read_yolo(AnnotationFile(tmp_path / "data.yaml"))
    faults = [(fault.kind, fault.loses_data) for image in read for fault in image.faults]
    return [shape.code for image in read for shape in image.shapes], faults


@pytest.mark.parametrize(
    "names",
    [
        "names:\n  -\n  - N1\n  - L2\n",
        "names:\n- ~\n- N1\n- L2\n",
        "names:\n- # artefact\n- N1\n- L2\n",
        'names: ["", N1, L2]\n',
        "names: [, N1, L2]\n",
        "names:\n  0:\n  1: N1\n  2: L2\n",
        "names: {0: , 1: N1, 2: L2}\n",
        "names: {0: null, 1: N1, 2: L2,}\n",
    ],
)
def test_a_class_without_a_name_is_a_fault_and_shifts_no_other(tmp_path: Path, names: str) -> None:
    assert labels_and_faults(tmp_path, names, 1, 2) == (["N1", "L2"], [("broken_id", True)])


def test_an_apostrophe_in_an_inline_list_splits_no_name(tmp_path: Path) -> None:
    names = """names: [Auer's rod, "a, b", 'it''s', N1]\n"""
    assert labels_and_faults(tmp_path, names, 0, 1, 2, 3) == (["Auer's rod", "a, b", "it's", "N1"], [])


@pytest.mark.parametrize(
    "text",
    [
        "names:\n- L2\n- N1\npath: .\nnames:\n- N1\n- L2\n",
        "names: [L2, N1]\n---\nnames: [N1, L2]\n",
        "names: [L2, N1]\n'names': [L2, N1]\n",
        "names:\n- L2\n  # two lines of one name\n  and more\n- N1\n",
        "names: [L2]\nnot_exhaustive: [a.png]\nnot_exhaustive: [f.png]\n",
    ],
)
def test_a_list_that_is_there_twice_names_no_class(tmp_path: Path, text: str) -> None:
    assert labels_and_faults(tmp_path, text, 0) == ([], [("broken_annotation", True)])


def test_the_fault_of_a_key_twice_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [L2]\nnames: [N1]\n", encoding="utf-8")
    (read,) = read_yolo(AnnotationFile(tmp_path / "data.yaml"))
    assert "found the key 'names' a second time in line 2, expected each list once" in read.faults[0].sentence()


def test_the_lists_of_other_keys_are_no_names(tmp_path: Path) -> None:
    text = "class-weights:\n- 1\n'key points':\n- 2\nnames:\n- L2\n- N1\n---\n- 3\nmore.keys:\n- 4\n"
    assert labels_and_faults(tmp_path, text, 0, 1) == (["L2", "N1"], [])
    assert labels_and_faults(tmp_path, text, 2) == ([], [("unknown_category", True)])


def test_two_numbers_of_one_name_are_noted(tmp_path: Path) -> None:
    assert labels_and_faults(tmp_path, "names: [N1, N1]\n", 0, 1) == (["N1", "N1"], [("same_category", False)])


def test_a_run_goes_out_and_comes_back_as_a_cohort(tmp_path: Path) -> None:
    run = make_run(tmp_path, [Patient("p1", "A", "AML"), Patient("p2", "B", "control")]).folder
    done = export_run(run, tmp_path / "yolo", "yolo", load_vocabulary())
    export_run(run, tmp_path / "labelme", "labelme", load_vocabulary())
    ours, other = read_cohort(tmp_path / "yolo"), read_cohort(tmp_path / "labelme")
    assert ours.counts.shapes.n_in == other.counts.shapes.n_in == done.n_cells > 0
    assert [fault.kind for fault in ours.faults] == [fault.kind for fault in other.faults]
    for one, two in zip(ours.fields, other.fields, strict=True):
        assert [item.code for item in one.annotations] == [item.code for item in two.annotations]
        for a, b in zip(one.annotations, two.annotations, strict=True):
            np.testing.assert_allclose(a.contour_xy, b.contour_xy, atol=0.01)


def test_import(tmp_path: Path) -> None:
    add_image(tmp_path / "cohort/p1/f1.png")
    add_image(tmp_path / "set/images/p1/f1.png")
    (tmp_path / "set/data.yaml").write_text(NAMES, encoding="utf-8")
    (tmp_path / "set/labels/p1").mkdir(parents=True)
    (tmp_path / "set/labels/p1/f1.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    done = import_annotations(tmp_path / "set/data.yaml", tmp_path / "cohort", None, load_vocabulary())
    assert done.n_cells == 1
    (read,) = read_labelme(AnnotationFile(tmp_path / "cohort/p1/f1.json"))
    assert [shape.code for shape in read.shapes] == ["N1"]
    np.testing.assert_allclose(read.shapes[0].contour_xy, [[6, 4], [30, 4], [30, 20]])


@pytest.mark.parametrize("content", [b"1 0.1 0.1 \xff 0.5 0.5\n", "1 0.1".encode("utf-16")])
def test_labels_that_are_no_text_are_a_fault_and_not_an_image_without_cells(tmp_path: Path, content: bytes) -> None:
    add_image(tmp_path / "f1.png")
    (tmp_path / "notes.txt").write_bytes(b"\xff")
    (tmp_path / "a.yolo.yaml").write_text(NAMES, encoding="utf-8")
    (tmp_path / "f1.txt").write_bytes(content)
    (image,) = read_yolo(AnnotationFile(tmp_path / "a.yolo.yaml"))
    assert (image.image_path, image.readable, image.exhaustive) == ("f1.png", False, False)
    (fault,) = image.faults
    assert (fault.kind, fault.where, fault.loses_data) == ("broken_annotation", "f1.txt", True)
    assert "found a file that is no UTF-8 text" in fault.sentence()


@pytest.mark.parametrize("content", [b"", b"path: .\n", NAMES.encode("utf-16")])
def test_a_names_file_without_names_is_a_fault_of_the_cohort(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\n", encoding="utf-8")
    add_image(tmp_path / "p1" / "f1.png")
    write_yolo(tmp_path / "a.yolo.yaml", [AnnotatedImage("p1/f1.png", WIDTH, HEIGHT, CELLS)])
    assert sum(len(field.annotations) for field in read_cohort(tmp_path, um_per_px=0.2).fields) == len(CELLS)
    (tmp_path / "a.yolo.yaml").write_bytes(content)
    faults = read_cohort(tmp_path, um_per_px=0.2).faults
    assert [(fault.kind, fault.where, fault.loses_data) for fault in faults] == [
        ("broken_annotation", "a.yolo.yaml", True)
    ]


@pytest.mark.parametrize("content", [None, b"", b"path: .\ntrain: images\n", NAMES.encode("utf-16"), b"nc: 2\n"])
def test_labels_that_no_file_names_are_a_fault_of_the_cohort(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\n", encoding="utf-8")
    add_image(tmp_path / "p1" / "f1.png")
    write_yolo(tmp_path / "data.yaml", [AnnotatedImage("p1/f1.png", WIDTH, HEIGHT, CELLS)])
    assert read_cohort(tmp_path, um_per_px=0.2).faults == ()
    if content is None:
        (tmp_path / "data.yaml").unlink()
    else:
        (tmp_path / "data.yaml").write_bytes(content)
    (fault,) = read_cohort(tmp_path, um_per_px=0.2).faults
    assert (fault.kind, fault.where, fault.loses_data) == ("labels_without_names", "p1/f1.txt", True)
    assert ("beside data.yaml without names" in fault.found) is (content is not None)
    (tmp_path / "p1" / "f1.txt").write_text("a remark on the smear\n", encoding="utf-8")
    faults = read_cohort(tmp_path, um_per_px=0.2).faults
    expected = [] if content is None else [("not_read", "data.yaml", False)]
    assert [(fault.kind, fault.where, fault.loses_data) for fault in faults] == expected


PLACES = ["p1/f1.txt", "p1/f1.TXT", "p1/labels/f1.txt", "p1/labels/f1.Txt", "labels/p1/f1.txt"]


@pytest.mark.parametrize("place", PLACES)
def test_labels_lie_beside_the_image_or_in_a_folder_of_labels(tmp_path: Path, place: str) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\n", encoding="utf-8")
    add_image(tmp_path / "p1/f1.png")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    found = [fault for fault in read_cohort(tmp_path).faults if fault.kind != "no_scale"]
    assert [(fault.kind, fault.where, fault.loses_data) for fault in found] == [("labels_without_names", place, True)]
    (tmp_path / "data.yaml").write_text(NAMES, encoding="utf-8")
    cohort = read_cohort(tmp_path)
    assert not cohort.loses_data
    assert [item.code for item in cohort.fields[0].annotations] == ["N1"]


def test_labels_in_utf_16_are_a_fault_with_and_without_names(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\n", encoding="utf-8")
    add_image(tmp_path / "p1/f1.png")
    (tmp_path / "p1/f1.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-16")
    assert "labels_without_names" in {fault.kind for fault in read_cohort(tmp_path).faults}
    (tmp_path / "data.yaml").write_text(NAMES, encoding="utf-8")
    assert "broken_annotation" in {fault.kind for fault in read_cohort(tmp_path).faults}


@pytest.mark.parametrize("place", ["p1/f1.png.txt", "labels/f1.txt", "sets/labels/any.txt", "texts/F1.txt"])
def test_labels_elsewhere_are_not_passed_over(tmp_path: Path, place: str) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\n", encoding="utf-8")
    add_image(tmp_path / "p1/f1.png")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    assert "labels_without_names" in {fault.kind for fault in read_cohort(tmp_path).faults}
    (tmp_path / "data.yaml").write_text(NAMES, encoding="utf-8")
    cohort = read_cohort(tmp_path)
    assert "annotation_without_image" in {fault.kind for fault in cohort.faults}
    assert cohort.counts.shapes.rejected == {"image_rejected": 1}


def test_a_link_to_the_folder_of_labels_gives_each_cell_once(tmp_path: Path) -> None:
    add_image(tmp_path / "p1/f1.png")
    (tmp_path / "data.yaml").write_text(NAMES, encoding="utf-8")
    (tmp_path / "labels/p1").mkdir(parents=True)
    (tmp_path / "labels/p1/f1.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    (tmp_path / "p1/labels").symlink_to(tmp_path / "labels/p1", target_is_directory=True)
    (read,) = read_yolo(AnnotationFile(tmp_path / "data.yaml"))
    assert (read.image_path, [shape.code for shape in read.shapes]) == ("p1/f1.png", ["N1"])


def test_two_label_files_of_one_image_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\n", encoding="utf-8")
    add_image(tmp_path / "p1/f1.png")
    (tmp_path / "data.yaml").write_text(NAMES, encoding="utf-8")
    (tmp_path / "p1/labels").mkdir()
    for name in ("p1/f1.txt", "p1/labels/f1.txt"):
        (tmp_path / name).write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    assert "second_annotation" in {fault.kind for fault in read_cohort(tmp_path).faults}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on Windows")
def test_a_pipe_in_place_of_labels_or_of_an_image_is_not_waited_for(tmp_path: Path) -> None:
    add_image(tmp_path / "f1.png")
    (tmp_path / "data.yaml").write_text(NAMES, encoding="utf-8")
    os.mkfifo(tmp_path / "f1.txt")
    os.mkfifo(tmp_path / "f2.png")
    (tmp_path / "f2.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n", encoding="utf-8")
    read = read_yolo(AnnotationFile(tmp_path / "data.yaml"))
    assert [(image.where, image.faults[0].found) for image in read] == [
        ("f1.txt", "a pipe or a device"),
        ("f2.txt", "no size of an image to multiply with"),
    ]
