"""A prediction counts each photograph once, whatever the folders contain, and says what it left out."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import marrowscope.predict
import marrowscope.runs.parts
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.imaging import read_image, write_image
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.simulate import SimulationConfig, simulate_cohort

CONFIG = PredictConfig(backend="onnxruntime", threads=1)
TABLES = ("fields.parquet", "cells.parquet", "patients.parquet")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("copies") / "cohort"
    size: dict[str, int] = {"width_px": 640, "height_px": 480}
    config = SimulationConfig(
        patients=2, centers=2, fields=2, seed=11, diagnoses=("AML_M2", "control"), cells_per_field=(10, 12), **size
    )
    simulate_cohort(out, config)
    return out


@pytest.fixture(scope="module")
def clean(cohort: Path) -> Prediction:
    return predict([cohort], demonstration_bundle(), cohort.parent / "clean", config=CONFIG)


@pytest.fixture
def crowded(cohort: Path, tmp_path: Path) -> Path:
    """Give the cohort with copies of every kind, by-products and hidden files, all sorted behind the originals."""
    root = tmp_path / "cohort"
    shutil.copytree(cohort, root)
    first = min(root.glob("*/*.jpg"))
    folder = first.parent
    image = read_image(first)
    shutil.copyfile(first, folder / "zz_copy.jpg")
    write_image(folder / "zz_again.png", image)
    write_image(folder / "zz_mirrored.png", np.ascontiguousarray(image[:, ::-1]))
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    write_image(folder / "zz_half.webp", half.astype(np.uint8))
    outlined = image.copy()
    cv2.circle(outlined, (image.shape[1] // 2, image.shape[0] // 2), 60, (255, 0, 0), 3)
    write_image(folder / "zz_drawn.png", outlined)
    Image.fromarray(image).save(folder / f"{first.stem}_outlines_cp_masks.png")
    (folder / "._zz.jpg").touch()
    return root


def test_copies_by_products_and_hidden_files_leave_the_tables_as_they_were(
    clean: Prediction, crowded: Path, tmp_path: Path
) -> None:
    run = predict([crowded], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    same = [name for name in clean.fields.columns if name != "path"]
    assert run.fields.select(same).equals(clean.fields.select(same))
    assert run.cells.equals(clean.cells)
    assert run.patients.equals(clean.patients)
    assert (run.manifest.counts.images, run.manifest.counts.left_out) == (4, 6)
    said = "\n".join(run.manifest.faults)
    for name in (
        "zz_copy.jpg",
        "zz_again.png",
        "zz_mirrored.png",
        "zz_half.webp",
        "zz_drawn.png",
        "_outlines_cp_masks",
    ):
        assert name in said, name
    assert "is counted; remove the one that is the copy, or that was drawn on" in said
    assert clean.manifest.faults == ()


def test_a_near_copy_of_another_patients_photograph_is_counted_for_one(
    clean: Prediction, cohort: Path, tmp_path: Path
) -> None:
    root = tmp_path / "cohort"
    shutil.copytree(cohort, root)
    one, other = sorted(path for path in root.iterdir() if path.is_dir())
    write_image(other / "zz.png", read_image(min(one.glob("*.jpg"))))
    run = predict([root], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    assert run.cells.equals(clean.cells)
    assert run.manifest.counts.left_out == 1
    assert f"it is counted for {one.name} only; find out whose it is" in run.manifest.faults[0]


def test_a_stopped_run_knows_the_photographs_of_its_parts(
    clean: Prediction, crowded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marrowscope.predict, "IMAGES_A_PART", 1)
    monkeypatch.setattr(marrowscope.runs.parts, "IMAGES_A_PART", 1)

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict([crowded], demonstration_bundle(), tmp_path / "run", config=CONFIG, progress=stop)
    run = predict([crowded], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    assert run.manifest.images_resumed == 2
    assert run.cells.equals(clean.cells)
    assert run.manifest.counts.left_out == 6


def test_copies_are_kept_where_they_are_asked_for(cohort: Path, tmp_path: Path) -> None:
    folder = tmp_path / "P1"
    folder.mkdir()
    first = min(cohort.glob("*/*.jpg"))
    shutil.copyfile(first, folder / "a.jpg")
    shutil.copyfile(first, folder / "b.jpg")
    config = CONFIG.model_copy(update={"um_per_px": 0.15})
    run = predict([folder], demonstration_bundle(), tmp_path / "run", config=config, keep_copies=True)
    assert run.fields["n_cells"].n_unique() == 1
    assert (run.fields.height, run.manifest.counts.left_out) == (2, 0)
