"""COCO and GeoJSON become LabelMe beside the images, all or nothing."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile
from marrowscope.cohort.convert import import_annotations
from marrowscope.cohort.formats.coco import write_coco
from marrowscope.cohort.formats.geojson import write_geojson
from marrowscope.cohort.formats.labelme import read_labelme
from marrowscope.errors import CohortError, InputError
from marrowscope.imaging import write_image
from marrowscope.records import Annotation
from marrowscope.vocabulary import load_mapping, load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = load_vocabulary()
SQUARE = np.array([[5.0, 5.0], [15.0, 5.0], [15.0, 15.0], [5.0, 15.0]])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name in ("p1/f1.png", "p2/f2.png"):
        (root / name).parent.mkdir(parents=True)
        write_image(root / name, np.zeros((40, 60, 3), dtype=np.uint8))
    return root


def coco(tmp_path: Path, *entries: tuple[str, int, tuple[str, ...]]) -> Path:
    path = tmp_path / "a.coco.json"
    write_coco(
        path,
        [
            AnnotatedImage(name, width, 40, tuple(Annotation(label, SQUARE, 0) for label in labels), exhaustive=False)
            for name, width, labels in entries
        ],
    )
    return path


def test_import_translates_and_writes_beside_the_images(images: Path, tmp_path: Path) -> None:
    source = coco(tmp_path, ("p1/f1.png", 60, ("SNE", "PLATELET")), ("f2.png", 60, ()))
    done = import_annotations(source, images, "coco", VOCABULARY, mapping=load_mapping("barcelona-13"))
    assert (done.n_files, done.n_cells, done.rejected) == (2, 1, {"dropped_by_mapping": 1})
    written = read_labelme(AnnotationFile(images / "p1/f1.json"))[0]
    assert ([shape.code for shape in written.shapes], written.exhaustive) == (["N5"], False)
    np.testing.assert_array_equal(written.shapes[0].contour_xy, SQUARE)
    assert read_labelme(AnnotationFile(images / "p2/f2.json"))[0].n_shapes == 0


def test_import_of_geojson(images: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.geojson"
    write_geojson(source, "p1/f1.png", 60, 40, [Annotation("N1", SQUARE, 0)])
    assert import_annotations(source, images, "geojson", VOCABULARY).n_cells == 1


def test_nothing_is_written_where_a_cell_would_be_lost(images: Path, tmp_path: Path) -> None:
    source = coco(tmp_path, ("p1/f1.png", 60, ("N", "Q9")), ("p2/f2.png", 61, ("N",)), ("p3/f3.png", 60, ("N",)))
    with pytest.raises(CohortError, match="found 3 faults that would lose data, expected none; nothing") as caught:
        import_annotations(source, images, "coco", VOCABULARY)
    assert {fault.kind for fault in caught.value.faults} == {
        "unknown_code",
        "wrong_image_size",
        "annotation_without_image",
    }
    assert list(images.rglob("*.json")) == []


@pytest.mark.parametrize("other", ["f1.jpg", "F1.PNG"])
def test_two_images_that_would_share_a_file_are_refused(images: Path, tmp_path: Path, other: str) -> None:
    write_image(images / "p1" / other, np.zeros((40, 60, 3), dtype=np.uint8))
    source = coco(tmp_path, ("p1/f1.png", 60, ("N",)), (f"p1/{other}", 60, ("N5",)))
    with pytest.raises(CohortError, match="but for its suffix, both with cells") as caught:
        import_annotations(source, images, "coco", VOCABULARY)
    assert [fault.kind for fault in caught.value.faults] == ["one_file_for_two"]
    assert list(images.rglob("*.json")) == []


def test_unreadable_image_is_refused(images: Path, tmp_path: Path) -> None:
    (images / "p1/f1.png").write_bytes(b"")
    with pytest.raises(CohortError, match=r"p1/f1\.png: found a file of 0 bytes"):
        import_annotations(coco(tmp_path, ("p1/f1.png", 60, ())), images, "coco", VOCABULARY)


def test_existing_annotations_are_kept_unless_asked(images: Path, tmp_path: Path) -> None:
    source = coco(tmp_path, ("p1/f1.png", 60, ("N",)))
    (images / "p1/f1.json").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"f1.json: found an existing annotation \(1 in total\), expected none"):
        import_annotations(source, images, "coco", VOCABULARY)
    assert import_annotations(source, images, "coco", VOCABULARY, overwrite=True).n_files == 1


def qupath(tmp_path: Path, name: str) -> Path:
    """Write a GeoJSON as QuPath does: it names no image."""
    source = tmp_path / name
    write_geojson(source, "", 60, 40, [Annotation("N1", SQUARE, 0), Annotation("L2", SQUARE + 20, 1)])
    return source


@pytest.mark.parametrize("name", ["f1.geojson", "f1.png.geojson"])
def test_a_file_that_names_no_image_is_imported_by_its_own_name(images: Path, tmp_path: Path, name: str) -> None:
    assert import_annotations(qupath(tmp_path, name), images, None, VOCABULARY).n_cells == 2
    (read,) = read_labelme(AnnotationFile(images / "p1/f1.json"))
    assert [shape.code for shape in read.shapes] == ["N1", "L2"]
    np.testing.assert_array_equal(read.shapes[0].contour_xy, SQUARE)


def test_a_file_is_imported_for_the_image_given(images: Path, tmp_path: Path) -> None:
    source, image = qupath(tmp_path, "export.geojson"), images / "p2/f2.png"
    with pytest.raises(CohortError, match="found an annotation of an image it does not name, which does not exist"):
        import_annotations(source, images, None, VOCABULARY)
    assert import_annotations(source, None, None, VOCABULARY, image=image).n_cells == 2
    assert read_labelme(AnnotationFile(images / "p2/f2.json"))[0].n_shapes == 2
    assert not (images / "p1/f1.json").exists()


def test_an_image_that_cannot_be_the_one_is_refused(images: Path, tmp_path: Path) -> None:
    several = coco(tmp_path, ("p1/f1.png", 60, ("N",)), ("p2/f2.png", 60, ("N",)))
    with pytest.raises(InputError, match="found annotations of 2 images, expected one for --image; give --images"):
        import_annotations(several, None, None, VOCABULARY, image=images / "p1/f1.png")
    source = qupath(tmp_path, "f1.geojson")
    with pytest.raises(InputError, match="not found, expected the image of the annotation"):
        import_annotations(source, None, None, VOCABULARY, image=images / "p1/none.png")
    with pytest.raises(InputError, match="give --images or --image"):
        import_annotations(source, None, None, VOCABULARY)


def test_an_id_of_two_categories_stops_the_import(images: Path, tmp_path: Path) -> None:
    source = coco(tmp_path, ("p1/f1.png", 60, ("N", "L2")))
    document = json.loads(source.read_text(encoding="utf-8"))
    document["categories"] = [category | {"id": 1} for category in document["categories"]]
    source.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(CohortError, match="found category id 1 twice, as 'L2' and 'N'"):
        import_annotations(source, images, None, VOCABULARY)
    assert list(images.rglob("*.json")) == []


def test_import_of_a_coarse_label_writes_what_is_read_again(images: Path, tmp_path: Path) -> None:
    source = coco(tmp_path, ("p1/f1.png", 60, ("BLA", "EOS")))
    import_annotations(source, images, "coco", VOCABULARY, mapping=load_mapping("munich-marrow-21"))
    written = read_labelme(AnnotationFile(images / "p1/f1.json"))[0]
    blast = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"
    assert [shape.code for shape in written.shapes] == [blast, "E"]
    again = coco(tmp_path, ("p1/f1.png", 60, (blast, "E")))
    done = import_annotations(again, images, "coco", VOCABULARY, overwrite=True)
    assert done.n_cells == 2
    assert [shape.code for shape in read_labelme(AnnotationFile(images / "p1/f1.json"))[0].shapes] == [blast, "E"]


@pytest.mark.parametrize("copy", ["#recycle/p1", "p1/.thumbnails", "p1/@eaDir", "p1/masks", "__MACOSX"])
def test_copies_that_no_command_takes_for_images_are_none_of_the_import(
    images: Path, tmp_path: Path, copy: str
) -> None:
    (images / copy).mkdir(parents=True)
    shutil.copy(images / "p1/f1.png", images / copy / "f1.png")
    assert import_annotations(coco(tmp_path, ("f1.png", 60, ("N",))), images, None, VOCABULARY).n_cells == 1
    assert [path.relative_to(images).as_posix() for path in images.rglob("*.json")] == ["p1/f1.json"]


def test_a_patient_called_masks_is_imported(images: Path, tmp_path: Path) -> None:
    (images / "p1").rename(images / "masks")
    (images / "patients.csv").write_text("patient_id,center,diagnosis\nmasks,A,AML\n", encoding="utf-8")
    assert import_annotations(coco(tmp_path, ("masks/f1.png", 60, ("N",))), images, None, VOCABULARY).n_cells == 1


def test_the_folder_of_a_patient_may_be_a_link(images: Path, tmp_path: Path) -> None:
    (images / "p1").rename(tmp_path / "disk")
    (images / "p1").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert import_annotations(coco(tmp_path, ("p1/f1.png", 60, ("N",))), images, None, VOCABULARY).n_cells == 1
    assert (tmp_path / "disk/f1.json").is_file()
