"""The role of each file of a folder: photographs, what other programs wrote beside them, and what nobody can read."""

import os
from pathlib import Path

import numpy as np
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.cohort.listing import Role, judge_file, list_folder
from marrowscope.errors import InputError
from marrowscope.imaging import write_image
from tests.cohort.test_reader import add_image


def roles(root: Path) -> dict[str, str]:
    return {entry.path.relative_to(root).as_posix(): entry.role.value for entry in list_folder(root)}


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    "name",
    [
        "f1_cp_masks.png", "f1_outlines_cp_masks.png", "f1_flows_cp_masks.tif", "f1_flows.tif", "f1_outlines.PNG",
        "f1_Simple Segmentation.png", "f1_Probabilities.tiff", "f1_Object Predictions.png", "f1-mask.png",
        "f1_mask.png", "f1_masks.tif", "f1.mask.png", "mask_f1.png", "f1_labels.tif", "f1-labels.png", "f1_overlay.jpg",
        "f1_mask_3.png", "f1_thumb.jpg", "thumbnail_f1.jpg", "f1_preview.jpg", "f1_segmentation.png",
        "f1_result.png", "f1_detections.jpg", "f1-output.png", "f1_otsu.tif", "f1_instanceIds.png", "f1_nuclei.png",
        "f1_pred_mask_2.tif", "f1_semantic_labels.png", "f1_grad-cam.jpg", "outputs/f1.png",
        "f1_instance_mask.png", "f1.stardist.tif", "masks/f1.png", "thumbnails/f1.jpg", "f1_json/label.png",
        "Mask of f1.png", "Count Masks of f1.tif", "Drawing of f1.tif", "Mask of f1.jpg.tif", "Result of f1.png",
        "OutlinedCells_f1.png", "f1_OutlinedNuclei.png", "OrigOverlay_f1.png", "f1_cells.png", "f1_Objects.tif",
        "f1Mask.png", "f1mask.tif", "f1Cells.png", "f1.jpg_mask.png", "f1 - mask.png", "Voronoi of f1.tif",
        "f1_NucleiOutlines.png",
        "CellOutlines_f1.png", "f1CellMask.png", "f1_ColoredObjects.png", "f1_color_mask.png",
    ],
)  # fmt: skip
def test_a_picture_that_another_program_made_is_no_photograph(tmp_path: Path, name: str) -> None:
    beside = ["p1/f1_json/img.png"] if "json" in name else []
    make(tmp_path, "p1/f1.jpg", *beside, f"p1/{name}")
    assert roles(tmp_path)[f"p1/{name}"] == "by_product"
    inputs = collect_inputs([tmp_path / "p1"])
    assert [item.field_id for item in inputs.images] == ["p1/f1"]
    assert inputs.n_left_out == 1 + len(beside)
    assert {fault.kind for fault in inputs.faults} == {"by_product"}
    assert any(Path(name).name in fault.found for fault in inputs.faults)


@pytest.mark.parametrize(
    "name",
    [
        "f2.png",
        "f1_2.png",
        "masked.png",
        "f3_mask.png",
        "f1b.png",
        "label_9.jpg",
        "f1 x100.jpg",
        "Mask of f2.png",
        "OutlinedCells_f2.png",
        "f2Mask.png",
        "f1cells.png",
        "f1a Cells.png",
    ],
)
def test_a_photograph_is_not_taken_for_a_by_product(tmp_path: Path, name: str) -> None:
    make(tmp_path, "p1/f1.jpg", f"p1/{name}")
    inputs = collect_inputs([tmp_path / "p1"])
    assert ({item.path.name for item in inputs.images}, inputs.n_left_out) == ({"f1.jpg", name}, 0)


def test_a_folder_called_cells_may_be_anybodys(tmp_path: Path) -> None:
    make(tmp_path, "cells/f1.jpg", "objects/f1.jpg")
    assert roles(tmp_path) == {"cells/f1.jpg": "image", "objects/f1.jpg": "image"}


def test_data_of_other_programs_and_annotations_are_no_pictures_and_no_fault(tmp_path: Path) -> None:
    make(tmp_path, "p1/f1.jpg", "p1/f1_seg.npy", "p1/f1.json", "p1/f1.GEOJSON", "p1/f2.geojson.gz", "p1/a.ilp")
    make(tmp_path, "p1/notes.txt", "project.qpproj", "data/1/thumbnail.jpg")
    assert roles(tmp_path) == {
        "data/1/thumbnail.jpg": "by_product", "p1/f1.jpg": "image", "p1/f1_seg.npy": "by_product",
        "p1/f1.json": "annotation", "p1/f1.GEOJSON": "annotation", "p1/f2.geojson.gz": "annotation",
        "p1/a.ilp": "by_product", "p1/notes.txt": "other", "project.qpproj": "by_product",
    }  # fmt: skip
    assert collect_inputs([tmp_path / "p1"]).faults == ()


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", "._f1.jpg", ".ipynb_checkpoints/f1-checkpoint.jpg", "__MACOSX/._f1.jpg", "@eaDir/f1.jpg",
        "@eaDir/f1.jpg/SYNOPHOTO_THUMB_S.jpg", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN/f1.jpg", "#recycle/f1.jpg",
        "System Volume Information/f1.jpg", "f1.jpg@SynoEAStream", "~$f1.jpg", ".thumbnails/a.png",
    ],
)  # fmt: skip
def test_what_systems_write_is_hidden_from_every_command(tmp_path: Path, name: str) -> None:
    add_image(tmp_path / "p1/f1.png", 1)
    make(tmp_path, f"p1/{name}", name)
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis,um_per_px\np1,A,AML,0.2\n", encoding="utf-8")
    inputs = collect_inputs([tmp_path])
    assert ([item.field_id for item in inputs.images], inputs.faults, inputs.n_left_out) == (["p1/f1"], (), 0)
    cohort = read_cohort(tmp_path)
    assert ([item.field_id for item in cohort.fields], cohort.faults) == (["p1/f1"], ())


def test_links_to_nothing_and_pipes_are_named_and_counted(tmp_path: Path) -> None:
    make(tmp_path, "p1/f1.jpg")
    (tmp_path / "p1/f2.jpg").symlink_to("gone.jpg")
    (tmp_path / "p1/f3.txt").symlink_to("gone.txt")
    (tmp_path / "p2").symlink_to("unplugged-disk")
    if hasattr(os, "mkfifo"):  # not on Windows
        os.mkfifo(tmp_path / "p1/f4.jpg")
    else:
        (tmp_path / "p1/f4.jpg").symlink_to("gone.jpg")
    (tmp_path / "p1/loop").symlink_to(tmp_path / "p1", target_is_directory=True)
    inputs = collect_inputs([tmp_path])
    assert [item.field_id for item in inputs.images] == ["p1/f1"]
    kinds = {(Path(fault.where).name, fault.kind) for fault in inputs.faults}
    assert kinds == {("f2.jpg", "dangling_link"), ("p2", "dangling_link"), ("f4.jpg", "not_a_file")}
    assert inputs.n_left_out == 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser reads everything")
def test_files_and_folders_without_permission_are_named_and_counted(tmp_path: Path) -> None:
    make(tmp_path, "p1/f1.jpg", "p1/f2.jpg", "p2/f1.jpg")
    (tmp_path / "p1/f2.jpg").chmod(0)
    (tmp_path / "p2").chmod(0)
    inputs = collect_inputs([tmp_path])
    (tmp_path / "p2").chmod(0o700)
    assert {fault.kind for fault in inputs.faults} == {"unreadable_file", "unreadable_folder"}
    assert inputs.n_left_out == 2


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "disk/x/f1.jpg", "given/p1/f1.jpg")
    (tmp_path / "given/p2").symlink_to(tmp_path / "disk/x", target_is_directory=True)
    assert [item.path.name for item in collect_inputs([tmp_path / "given" / "p1"]).images] == ["f1.jpg"]
    assert roles(tmp_path / "given") == {"p1/f1.jpg": "image", "p2/f1.jpg": "image"}


def test_a_by_product_given_by_name_is_left_out_as_in_its_folder(tmp_path: Path) -> None:
    make(tmp_path, "p1/f1.jpg", "p1/f1_cp_masks.png")
    assert judge_file(tmp_path / "p1/f1_cp_masks.png").role is Role.BY_PRODUCT
    inputs = collect_inputs([tmp_path / "p1/f1.jpg", tmp_path / "p1/f1_cp_masks.png"])
    assert ([item.field_id for item in inputs.images], inputs.n_left_out) == (["p1/f1"], 1)
    with pytest.raises(InputError, match=r"by-product of Cellpose \(f1_cp_masks\.png\)"):
        collect_inputs([tmp_path / "p1/f1_cp_masks.png"])


def test_a_patient_of_patients_csv_may_be_called_masks(tmp_path: Path) -> None:
    make(tmp_path, "masks/f1.jpg", "p1/f1.jpg")
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\nmasks,A,AML\np1,A,AML\n", encoding="utf-8")
    assert [item.field_id for item in collect_inputs([tmp_path]).images] == ["masks/f1", "p1/f1"]


def test_in_a_cohort_found_is_used_and_rejected_and_a_slide_is_no_empty_folder(tmp_path: Path) -> None:
    add_image(tmp_path / "p1/f1.png", 1)
    write_image(tmp_path / "p1/f1_cp_masks.png", np.zeros((8, 8, 3), dtype=np.uint8))
    make(tmp_path, "p2/slide.svs", "p1/f9.heic")
    (tmp_path / "p1/f8.jpg").symlink_to("gone.jpg")
    (tmp_path / "patients.csv").write_text(
        "patient_id,center,diagnosis,um_per_px\np1,A,AML,0.2\np2,A,AML,0.2\np3,A,AML,0.2\n", encoding="utf-8"
    )
    cohort = read_cohort(tmp_path)
    images, patients = cohort.counts.images, cohort.counts.patients
    assert (images.n_in, images.n_out) == (5, 1)
    assert images.rejected == {"by_product": 1, "slide": 1, "unread_format": 1, "dangling_link": 1}
    assert patients.rejected == {"only_slides": 1, "patient_without_images": 1}
    assert {(fault.kind, fault.where, fault.loses_data) for fault in cohort.faults} == {
        ("by_product", "p1", False), ("slide", "p2", False), ("unread_format", "p1/f9.heic", True),
        ("dangling_link", "p1/f8.jpg", True), ("patient_without_images", "p3", True),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["f2.mpo", "f2.jpg.bak", "f2.jpg~", "f2.jpg.part", "f2.dat", "f2.JPG_large"])
def test_an_image_under_another_suffix_is_named_and_counted(tmp_path: Path, name: str) -> None:
    (tmp_path / "p1").mkdir()
    write_image(tmp_path / "p1" / "f1.jpg", np.zeros((8, 9, 3), dtype=np.uint8))
    (tmp_path / "p1" / name).write_bytes((tmp_path / "p1" / "f1.jpg").read_bytes())
    inputs = collect_inputs([tmp_path / "p1"])
    (fault,) = inputs.faults
    assert (fault.kind, inputs.n_left_out, len(inputs.images)) == ("unread_format", 1, 1)
    assert "found an image under a name that ends in" in fault.sentence()
