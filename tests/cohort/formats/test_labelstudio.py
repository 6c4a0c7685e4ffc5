"""Label Studio: tasks go out with predictions and come back with a reader's corrections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from marrowscope.cohort import read_cohort, require_clean
from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile
from marrowscope.cohort.convert import import_annotations
from marrowscope.cohort.formats import annotation_formats
from marrowscope.cohort.formats.labelme import read_labelme
from marrowscope.cohort.formats.labelstudio import read_labelstudio, write_labelstudio
from marrowscope.errors import CohortError
from marrowscope.imaging import write_image
from marrowscope.records import Annotation
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 60, 40
TRIANGLE = np.array([[6.0, 4.0], [30.0, 4.0], [30.0, 20.0]])
POINTS = [[10.0, 10.0], [50.0, 10.0], [50.0, 50.0]]


def region(label: str | None = "N1", region_id: str = "a", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return one region as Label Studio exports it, a triangle unless ``changes`` say otherwise."""
    value = {"points": POINTS, "closed": True, **({"polygonlabels": [label]} if label else {})}
    return {
        "id": region_id,
        "type": "polygonlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": value,
        "origin": "manual",
    } | changes


def drawn(*regions: dict[str, Any], by: object = None, **members: object) -> dict[str, Any]:
    return {"id": 7, "completed_by": by, "was_cancelled": False, "result": list(regions), **members}


def task(*annotations: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-f1.png", **members: object) -> Any:  # noqa: ANN401
    return {"id": 3, "data": {"image": image}, "annotations": list(annotations), "predictions": [], **members}


def read(tmp_path: Path, *tasks: Any, reader: str = "") -> tuple[AnnotatedImage, ...]:  # noqa: ANN401 - JSON
    path = tmp_path / "export.json"
    path.write_text(json.dumps(list(tasks)), encoding="utf-8")
    file = AnnotationFile(path, "export.json", reader)
    assert [item.name for item in annotation_formats() if item.recognize(file)] == ["labelstudio"]
    return read_labelstudio(file)


def test_a_corrected_polygon_is_in_pixels_with_label_reader_and_id(tmp_path: Path) -> None:
    by = {"id": 4, "email": "anna@lab.example", "first_name": "Anna", "last_name": "B"}
    (image,) = read(tmp_path, task(drawn(region(), by=by)))
    assert (image.image_path, image.width_px, image.height_px) == ("f1.png", WIDTH, HEIGHT)
    assert (image.reader, image.faults) == ("anna@lab.example", ())
    (shape,) = image.shapes
    assert (shape.code, shape.cell_id) == ("N1", "a")
    np.testing.assert_allclose(shape.contour_xy, TRIANGLE)


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("/data/local-files/?d=cohort/p1/f%201.png", "cohort/p1/f 1.png"),
        ("s3://bucket/p1/f1.png", "/p1/f1.png"),
        ("https://host.example/p1/f1.png?token=a%2Fb", "/p1/f1.png"),
        ("/data/upload/12/deadbeef-f1.png", "f1.png"),
        ("p1\\f1.png", "p1/f1.png"),
        ("https://host.example/p1/deadbeef-f1.png", "/p1/deadbeef-f1.png"),
    ],
)
def test_the_image_of_a_link(tmp_path: Path, link: str, name: str) -> None:
    assert read(tmp_path, task(drawn(region()), image=link))[0].image_path == name


def test_a_choice_made_for_a_region_goes_before_its_label_and_is_noted(tmp_path: Path) -> None:
    choice = region(None, type="choices", from_name="code", value={"points": POINTS, "choices": ["J2"]})
    (image,) = read(tmp_path, task(drawn(region(), choice)))
    assert [shape.code for shape in image.shapes] == ["J2"]
    assert [(fault.kind, fault.loses_data) for fault in image.faults] == [("two_labels", False)]


def test_an_outline_and_its_label_in_two_entries_are_one_region(tmp_path: Path) -> None:
    outline = region(None, type="polygon")
    label = region(None, type="labels", value={"points": POINTS, "labels": ["L2"]})
    (image,) = read(tmp_path, task(drawn(outline, label, region("N", "b"))))
    assert [(shape.code, shape.cell_id) for shape in image.shapes] == [("L2", "a"), ("N", "b")]
    assert image.faults == ()


def test_cancelled_annotations_and_drafts_are_left_out_and_said(tmp_path: Path) -> None:
    skipped = drawn(region("N"), region("N", "b"), by=5, was_cancelled=True)
    (image,) = read(tmp_path, task(skipped, drawn(region("L2"), by=6), drafts=[{"result": []}]))
    assert ([shape.code for shape in image.shapes], image.reader) == (["L2"], "6")
    (note,) = image.faults
    assert "found 1 cancelled (by 5, 2 regions), 1 not submitted, expected" in note.sentence()
    assert not note.loses_data


def test_a_task_that_everybody_skipped_is_no_image_without_cells(tmp_path: Path) -> None:
    predicted = [{"model_version": "m", "result": [region()]}]
    (image,) = read(tmp_path, task(drawn(region(), was_cancelled=True), predictions=predicted))
    assert (image.placed, image.shapes) == (False, ())
    assert "the image counts as not annotated" in image.faults[0].sentence()


def test_a_prediction_that_nobody_corrected_is_no_persons_annotation(tmp_path: Path) -> None:
    predicted = task(image="f2.png", predictions=[{"model_version": "m", "result": [region()]}])
    first, second = read(tmp_path, task(drawn(region("L2"))), predicted)
    assert [shape.code for shape in first.shapes] == ["L2"]
    assert (second.placed, second.shapes) == (False, ())
    assert "1 predicted, which nobody has corrected" in second.faults[0].sentence()
    (alone,) = read(tmp_path, predicted)
    assert [shape.code for shape in alone.shapes] == ["N1"]


def test_two_readers_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    both = task(drawn(region("N"), by={"id": 1, "email": "a@x"}), drawn(region("L2"), by={"id": 2, "email": "b@x"}))
    apart = read(tmp_path, both)
    assert [(image.reader, [shape.code for shape in image.shapes]) for image in apart] == [
        ("a@x", ["N"]),
        ("b@x", ["L2"]),
    ]
    assert [image.faults for image in apart] == [(), ()]
    for reader in ("b@x", "2"):
        (chosen,) = read(tmp_path, both, reader=reader)
        assert ([shape.code for shape in chosen.shapes], chosen.reader) == (["L2"], "b@x")
    (nobody,) = read(tmp_path, both, reader="c@x")
    assert not nobody.readable
    assert "found annotations by a@x, b@x, expected annotations by 'c@x'" in nobody.faults[0].sentence()


@pytest.mark.parametrize("second", [{"id": 1, "email": "a@x"}, None])
def test_two_annotations_by_one_reader_or_by_nobody_named_are_a_fault(tmp_path: Path, second: object) -> None:
    unclear = task(drawn(region("N"), by={"id": 1, "email": "a@x"}), drawn(region("L2"), by=second))
    (image,) = read(tmp_path, unclear)
    assert (image.placed, image.n_shapes) == (False, 2)
    (fault,) = image.faults
    assert fault.loses_data
    assert "expected one an image; leave one of each reader, each with a name, or mark one" in fault.sentence()


def test_a_cohort_takes_the_readers_of_one_task_apart(tmp_path: Path) -> None:
    root = tmp_path / "c"
    (root / "p1").mkdir(parents=True)
    header = "patient_id,center,diagnosis,specimen,um_per_px\n"
    (root / "patients.csv").write_text(f"{header}p1,A,AML,marrow,0.2\n", encoding="utf-8")
    for number in (1, 2):
        write_image(root / f"p1/f{number}.png", np.full((HEIGHT, WIDTH, 3), number, dtype=np.uint8))
    by_two = [drawn(region(code), by={"email": by}) for code, by in (("N", "a@x"), ("L2", "b@x"))]
    tasks = [task(*by_two, image="f1.png"), task(drawn(region("R"), by={"email": "a@x"}), image="f2.png")]
    (root / "export.labelstudio.json").write_text(json.dumps(tasks), encoding="utf-8")

    def codes(reader: str) -> dict[str, list[str]]:
        cohort = require_clean(read_cohort(root, reader=reader))
        return {field.field_id: [item.code for item in field.annotations] for field in cohort.fields if field.annotated}

    assert codes("a@x") == {"p1/f1": ["N"], "p1/f2": ["R"]}
    assert codes("b@x") == {"p1/f1": ["L2"]}
    cohort = read_cohort(root)
    assert cohort.readers == ("a@x", "b@x")
    assert [fault.kind for fault in cohort.faults if fault.loses_data] == ["several_readers"]
    with pytest.raises(CohortError, match="found no annotation by 'c@x', expected one of a@x, b@x"):
        read_cohort(root, reader="c@x")


def test_a_file_of_one_image_belongs_to_the_image_of_its_name_also_with_two_readers(tmp_path: Path) -> None:
    root = tmp_path / "c"
    (root / "p1").mkdir(parents=True)
    header = "patient_id,center,diagnosis,specimen,um_per_px\n"
    (root / "patients.csv").write_text(f"{header}p1,A,AML,marrow,0.2\n", encoding="utf-8")
    write_image(root / "p1/f1.png", np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
    both = task(drawn(region("N"), by=1), drawn(region("L2"), by=2), image="scan-0017.png")
    (root / "p1/f1.json").write_text(json.dumps([both]), encoding="utf-8")
    (field,) = read_cohort(root, reader="2").fields
    assert [item.code for item in field.annotations] == ["L2"]


def test_the_ground_truth_of_several_annotations_is_read_and_said(tmp_path: Path) -> None:
    (image,) = read(tmp_path, task(drawn(region("N"), by=1), drawn(region("L2"), by=2, ground_truth=True)))
    assert [shape.code for shape in image.shapes] == ["L2"]
    assert "the ground truth is read, by 2" in image.faults[0].sentence()


def test_turned_rectangles_and_ellipses_are_polygons(tmp_path: Path) -> None:
    box = {"x": 50.0, "y": 25.0, "width": 20.0, "height": 10.0, "rotation": 90.0, "rectanglelabels": ["N"]}
    round_one = {"x": 50.0, "y": 50.0, "radiusX": 20.0, "radiusY": 10.0, "rotation": 90, "ellipselabels": ["L2"]}
    regions = (region(type="rectanglelabels", value=box), region(None, "b", type="ellipselabels", value=round_one))
    (image,) = read(tmp_path, task(drawn(*regions)))
    rectangle, oval = image.shapes
    np.testing.assert_allclose(rectangle.contour_xy, [[30, 10], [30, 22], [26, 22], [26, 10]], atol=1e-9)
    low, high = oval.contour_xy.min(axis=0), oval.contour_xy.max(axis=0)
    np.testing.assert_allclose([low, high], [[26, 8], [34, 32]], atol=0.02)
    assert [fault.kind for fault in image.faults] == ["converted_shape"] * 2


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["N"]}}, "shape_type"),
        ({"type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["N"]}}, "shape_type"),
        ({"value": {"points": POINTS, "polygonlabels": ["N", "L2"]}}, "broken_shape"),
        ({"value": {"points": POINTS}}, "broken_shape"),
        ({"value": {"points": POINTS, "closed": False, "polygonlabels": ["N"]}}, "shape_type"),
        ({"value": {"points": [["x", 1]], "polygonlabels": ["N"]}}, "broken_shape"),
        ({"original_width": None}, "broken_shape"),
        ({"image_rotation": 90}, "broken_shape"),
        ({"item_index": 1}, "broken_shape"),
    ],
)
def test_a_region_that_cannot_be_taken_is_named_and_the_rest_kept(
    tmp_path: Path, changes: dict[str, Any], kind: str
) -> None:
    (image,) = read(tmp_path, task(drawn(region("N1") | changes, region("L2", "b"))))
    assert [(fault.kind, fault.shape_index, fault.loses_data) for fault in image.faults] == [(kind, 0, True)]
    assert [shape.code for shape in image.shapes] == ["L2"]
    assert image.n_shapes == 2


def test_a_second_outline_of_one_id_is_a_fault(tmp_path: Path) -> None:
    (image,) = read(tmp_path, task(drawn(region("N1"), region("L2"), region("N", "b"))))
    assert [(fault.kind, fault.shape_index, fault.loses_data) for fault in image.faults] == [("duplicate_id", 1, True)]
    assert [(shape.code, shape.cell_id) for shape in image.shapes] == [("N1", "a"), ("N", "b")]
    assert image.n_shapes == 3


def test_what_has_no_outline_is_counted(tmp_path: Path) -> None:
    about_image = {"id": "q", "type": "choices", "value": {"choices": ["sharp"]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    (image,) = read(tmp_path, task(drawn(region(), about_image, relation)))
    assert len(image.shapes) == 1
    assert "found 1 choices, 1 relation, expected outlines with labels" in image.faults[0].sentence()


def test_round_trip_with_predictions_ids_and_labels(tmp_path: Path) -> None:
    contour = np.random.default_rng(0).uniform(-0.5, 59.5, (9, 2))
    shapes = (Annotation('a "<&> ?', contour, 0, "00ff"), Annotation("N", TRIANGLE, 1, "12"))
    path = tmp_path / "a.labelstudio.json"
    images = [
        AnnotatedImage("p1/f 名.png", WIDTH, HEIGHT, shapes, model="bundle 1", descriptions=("p 0.9", "")),
        AnnotatedImage("p2/f1.png", 50, 70, (), exhaustive=False, model="bundle 1"),
    ]
    write_labelstudio(path, images)
    first, second = read_labelstudio(AnnotationFile(path))
    assert (first.image_path, first.width_px, first.height_px, first.faults) == ("p1/f 名.png", WIDTH, HEIGHT, ())
    assert [(s.code, s.cell_id, s.shape_index) for s in first.shapes] == [('a "<&> ?', "00ff", 0), ("N", "12", 1)]
    for one, other in zip(first.shapes, shapes, strict=True):
        np.testing.assert_allclose(one.contour_xy, other.contour_xy, atol=1e-9)
    assert (second.image_path, second.exhaustive, second.shapes) == ("p2/f1.png", False, ())
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written[0]["predictions"][0]["model_version"] == "bundle 1"
    assert "annotations" not in written[0]


def test_import_writes_reader_and_ids_and_keeps_cells_to_name(tmp_path: Path) -> None:
    (tmp_path / "c/p1").mkdir(parents=True)
    write_image(tmp_path / "c/p1/f1.png", np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
    source = tmp_path / "export.json"
    document = [task(drawn(region("N1", "x1"), region("Other?", "x2"), by={"email": "anna@x"}))]
    source.write_text(json.dumps(document), encoding="utf-8")
    done = import_annotations(source, tmp_path / "c", None, load_vocabulary())
    assert (done.n_cells, done.n_to_name) == (2, 1)
    (read_back,) = read_labelme(AnnotationFile(tmp_path / "c/p1/f1.json"))
    assert read_back.reader == "anna@x"
    assert [(shape.code, shape.cell_id) for shape in read_back.shapes] == [("N1", "x1"), ("Other?", "x2")]


def test_import_of_two_readers_writes_nothing_until_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "c/p1").mkdir(parents=True)
    write_image(tmp_path / "c/p1/f1.png", np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
    source = tmp_path / "export.json"
    source.write_text(json.dumps([task(drawn(region("N"), by=1), drawn(region("L2"), by=2))]), encoding="utf-8")
    with pytest.raises(
        CohortError,
        match="found 1 image with readings by several of 1, 2, expected one reader; choose one with --reader",
    ):
        import_annotations(source, tmp_path / "c", None, load_vocabulary())
    assert not (tmp_path / "c/p1/f1.json").exists()
    assert import_annotations(source, tmp_path / "c", None, load_vocabulary(), reader="2").n_cells == 1


def two_images(*regions: dict[str, Any], **data: object) -> Any:  # noqa: ANN401 - JSON
    """Return a task of the images f1.png and f2.png with these regions, its data changed by ``data``."""
    stated = {"image": "/data/local-files/?d=p1/f1.png", "second": "/data/local-files/?d=p1/f2.png"} | data
    return {"id": 3, "data": stated, "annotations": [drawn(*regions, by=5)]}


def labels_of(images: tuple[AnnotatedImage, ...]) -> dict[str, list[str]]:
    return {image.image_path: [shape.code for shape in image.shapes] for image in images if image.placed}


def test_a_region_belongs_to_the_image_that_it_is_drawn_on(tmp_path: Path) -> None:
    on_second = region("L2", "b", to_name="second", original_width=2 * WIDTH)
    choice = region(None, "b", type="choices", to_name="second", value={"choices": ["J2"]})
    images = read(tmp_path, two_images(region("N1"), on_second, choice))
    assert labels_of(images) == {"p1/f1.png": ["N1"], "p1/f2.png": ["J2"]}
    assert [(image.width_px, image.reader, image.exhaustive) for image in images] == [
        (WIDTH, "5", True),
        (2 * WIDTH, "5", True),
    ]
    assert [shape.shape_index for image in images for shape in image.shapes] == [0, 1]


def test_the_links_of_images_need_no_suffix_where_regions_are_drawn_on_them(tmp_path: Path) -> None:
    links = {"image": "https://host.example/one?id=1", "second": "https://host.example/two?id=2"}
    on_both = (region("N1"), region("L2", "b", to_name="second"))
    assert labels_of(read(tmp_path, two_images(*on_both, **links))) == {"/one": ["N1"], "/two": ["L2"]}
    images = read(tmp_path, two_images(region("N1"), region("L2", "b", to_name="gone"), **links))
    assert labels_of(images) == {"/one": ["N1"]}


def test_an_image_without_a_region_is_annotated_only_if_the_file_has_regions_on_its_tag(tmp_path: Path) -> None:
    empty = two_images(image="p2/f1.png", second="p2/f2.png")
    assert labels_of(read(tmp_path, two_images(region()), empty)) == {"p1/f1.png": ["N1"], "p2/f1.png": []}
    both = two_images(region(), region("L2", "b", to_name="second"))
    assert labels_of(read(tmp_path, both, empty)) == {
        "p1/f1.png": ["N1"],
        "p1/f2.png": ["L2"],
        "p2/f1.png": [],
        "p2/f2.png": [],
    }


def test_a_region_of_which_the_image_cannot_be_told_is_put_on_none(tmp_path: Path) -> None:
    images = read(tmp_path, two_images(region("N1"), region("L2", "b", to_name="right")))
    assert labels_of(images) == {"p1/f1.png": ["N1"]}
    first, lost = images
    assert (first.exhaustive, lost.placed, lost.n_shapes) == (False, False, 1)
    (fault,) = lost.faults
    assert (fault.kind, fault.where, fault.loses_data) == ("unclear_image", "export.json, task 3", True)
    assert "found 1 region drawn on one of several images of the task (to_name: 'image', 'right')" in fault.sentence()
    assert "a key of its data as to_name ('image', 'second')" in fault.sentence()


@pytest.mark.parametrize("regions", [(), (region(to_name="img"),), (region(to_name=None), region("N", "b"))])
def test_a_tag_of_no_key_is_known_only_where_the_task_has_one_image(
    tmp_path: Path, regions: tuple[dict[str, Any], ...]
) -> None:
    other = task(drawn(region(to_name="img")), image="p2/f1.png")
    images = read(tmp_path, two_images(*regions), other)
    assert [fault.kind for image in images for fault in image.faults if fault.loses_data] == ["unclear_image"]
    assert labels_of(images)["p2/f1.png"] == ["N1"]


def test_text_beside_the_image_is_no_second_image(tmp_path: Path) -> None:
    images = read(tmp_path, two_images(region(to_name="img"), second="a note", number=7))
    assert labels_of(images) == {"p1/f1.png": ["N1"]}


@pytest.mark.parametrize(("item_index", "name"), [(0, "p1/f1.png"), (1, "p1/f2.png")])
@pytest.mark.parametrize("to_name", ["pages", "img"])
def test_a_list_of_images_has_its_regions_by_position(tmp_path: Path, item_index: int, name: str, to_name: str) -> None:
    pages = {"id": 3, "data": {"pages": ["p1/f1.png", "p1/f2.png"]}}
    on_page = region(to_name=to_name, item_index=item_index)
    labels = labels_of(read(tmp_path, pages | {"annotations": [drawn(on_page)]}))
    assert labels == {"p1/f1.png": [], "p1/f2.png": []} | {name: ["N1"]}
    for wrong in (2, -1, "x", None):
        images = read(tmp_path, pages | {"annotations": [drawn(on_page | {"item_index": wrong})]})
        assert [fault.kind for image in images for fault in image.faults] == ["unclear_image"]


def test_two_annotations_of_two_images_are_one_fault(tmp_path: Path) -> None:
    both = two_images(region(), region("L2", "b", to_name="second"))
    both["annotations"].append(drawn(region("N")))
    (image,) = read(tmp_path, both)
    assert (image.placed, image.n_shapes, [fault.kind for fault in image.faults]) == (False, 3, ["second_annotation"])
    both["annotations"][1] = drawn(region("N"), by=6)
    read_apart = [(image.reader, image.placed, image.n_shapes) for image in read(tmp_path, both)]
    assert read_apart == [("5", True, 1), ("5", True, 1), ("6", True, 1), ("6", True, 0)]


def test_a_child_of_its_parents_class_inside_it_is_no_second_cell(tmp_path: Path) -> None:
    inside = {"points": [[20.0, 12.0], [48.0, 12.0], [48.0, 40.0]], "polygonlabels": ["N1"]}
    (image,) = read(tmp_path, task(drawn(region(), region(None, "b", parentID="a", value=inside))))
    assert [shape.cell_id for shape in image.shapes] == ["a"]
    assert [(fault.kind, fault.shape_index, fault.loses_data) for fault in image.faults] == [("nested_shape", 0, False)]
    for parent in (None, "", "gone"):
        (image,) = read(tmp_path, task(drawn(region(), region(None, "b", parentID=parent, value=inside))))
        assert (len(image.shapes), image.faults) == (2, ())


def test_import_writes_the_cells_of_two_images_beside_their_own(tmp_path: Path) -> None:
    (tmp_path / "c/p1").mkdir(parents=True)
    for number, name in enumerate(("f1.png", "f2.png")):
        write_image(tmp_path / "c/p1" / name, np.full((HEIGHT, WIDTH, 3), 50 * number, dtype=np.uint8))
    source = tmp_path / "export.json"
    regions = (region("N1"), region("L2", "b", to_name="second"))
    source.write_text(json.dumps([two_images(*regions)]), encoding="utf-8")
    import_annotations(source, tmp_path / "c", None, load_vocabulary())
    written = [read_labelme(AnnotationFile(tmp_path / "c/p1" / name))[0] for name in ("f1.json", "f2.json")]
    assert [[shape.code for shape in image.shapes] for image in written] == [["N1"], ["L2"]]
