"""Training windows: labels where the cells are, no patient on two sides, equal seeds give equal files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

from marrowscope.errors import ScaleError, TrainingError
from marrowscope.imaging import read_image, write_image
from marrowscope.records import Annotation, ContourArray, Field
from marrowscope.train.segmenter_config import SegmenterTrainingConfig
from marrowscope.train.segmenter_data import (
    LabeledField,
    labeled_fields,
    paint_unlabeled,
    prepare_windows,
)
from marrowscope.train.window_looks import fade_cytoplasm, vary_stain

GLASS, NUCLEUS = (235, 225, 230), (90, 60, 140)


def _circle(cx: float, cy: float, radius: float) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack([cx + radius * np.cos(angle), cy + radius * np.sin(angle)], axis=1)


def _write_field(path: Path, cells: list[tuple[int, int, int]], size: tuple[int, int] = (400, 500)) -> Path:
    image = np.full((*size, 3), GLASS, dtype=np.uint8)
    for cx, cy, radius in cells:
        cv2.circle(image, (cx, cy), radius, NUCLEUS, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)
    return path


def _fields(folder: Path, n_patients: int = 5, um_per_px: float = 0.3) -> list[LabeledField]:
    fields = []
    for index in range(n_patients):
        cells = [(100 + 20 * index, 120, 22), (260, 200, 18), (420, 330, 25), (30, 360, 20)]
        path = _write_field(folder / f"P{index}" / "f.png", cells)
        contours = tuple(_circle(*cell) for cell in cells)
        fields.append(LabeledField(path, um_per_px, contours, f"P{index}", "cohort"))
    return fields


def _labels(image_path: Path, side: int) -> list[np.ndarray]:
    text = Path(str(image_path).replace("images", "labels")).with_suffix(".txt").read_text(encoding="utf-8")
    return [np.array(line.split()[1:], dtype=np.float64).reshape(-1, 2) * side for line in text.splitlines()]


@pytest.mark.parametrize("um_per_px", [0.3, 0.6])
def test_labels_lie_on_the_dark_cells(tmp_path: Path, um_per_px: float) -> None:
    """Label coverage and dark pixels agree in every window: nothing is shifted, lost or invented."""
    config = SegmenterTrainingConfig(window_px=128, crops_per_field=6, label_inset_px=0, min_visible=0.01)
    prepare_windows(_fields(tmp_path / "in", um_per_px=um_per_px), tmp_path / "out", config)
    paths = sorted((tmp_path / "out" / "images" / "train").glob("*.png"))
    assert len(paths) >= 20
    overlap = union = 0
    for path in paths:
        image = read_image(path)
        glass = np.median(image.reshape(-1, 3), axis=0)
        dark = image[..., 0] < glass[0] * 0.7
        labels = _labels(path, 128)
        y, x = np.mgrid[:128, :128] + 0.5
        drawn = np.zeros((128, 128), dtype=bool)
        for ring in labels:
            drawn |= shapely.contains_xy(shapely.Polygon(ring), x, y)
        if dark.mean() > 0.5:
            continue
        overlap += int((drawn & dark).sum())
        union += int((drawn | dark).sum())
    assert overlap / union > 0.93


def test_split_is_by_patient_and_every_source_is_validated_on(tmp_path: Path) -> None:
    fields = _fields(tmp_path / "in")
    other = [
        LabeledField(item.image_path, item.um_per_px, item.contours_xy, item.group, "other")
        for item in _fields(tmp_path / "in2")
    ]
    config = SegmenterTrainingConfig(window_px=128, crops_per_field=1, val_fraction=0.2)
    prepared = prepare_windows([*fields, *other], tmp_path / "out", config)
    assert (prepared.n_train, prepared.n_val) == (8, 2)
    alone = prepare_windows(fields[:1], tmp_path / "alone", config.model_copy(update={"crops_per_field": 4}))
    assert alone.n_val == 0
    assert "val: images/train" in alone.data_yaml.read_text(encoding="utf-8")


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    fields = _fields(tmp_path / "in")
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = SegmenterTrainingConfig(window_px=128, crops_per_field=2, seed=seed)
        prepared = prepare_windows(reversed(fields), tmp_path / name, config)
        files = sorted((tmp_path / name).rglob("*.png")) + sorted((tmp_path / name).rglob("*.txt"))
        contents.append([path.read_bytes() for path in files])
        assert len(prepared.fingerprint) == 64
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_small_fields_are_laid_side_by_side(tmp_path: Path) -> None:
    """Fields of 60 px fill a window of 128 px with nine of them: every window holds whole cells of several."""
    fields = []
    for index in range(40):
        path = _write_field(tmp_path / "in" / f"P{index:02d}.png", [(30, 30, 12)], size=(60, 60))
        fields.append(LabeledField(path, 0.3, (_circle(30, 30, 12),), f"P{index:02d}", "small"))
    config = SegmenterTrainingConfig(window_px=128, crops_per_field=9)
    prepared = prepare_windows(fields, tmp_path / "out", config)
    assert prepared.n_train == 36
    assert prepared.n_cells / (prepared.n_train + prepared.n_val) > 3


def test_cells_hardly_visible_are_dropped(tmp_path: Path) -> None:
    path = _write_field(tmp_path / "in" / "f.png", [(64, 64, 20), (128, 64, 20), (60, 144, 20)], size=(128, 128))
    contours = (_circle(64, 64, 20), _circle(128, 64, 20), _circle(60, 144, 20))
    config = SegmenterTrainingConfig(window_px=128, crops_per_field=1, min_visible=0.25)
    prepared = prepare_windows([LabeledField(path, 0.3, contours, "P", "c")], tmp_path / "out", config)
    assert prepared.n_cells == 2


def test_cells_cut_by_a_seam_are_painted_over() -> None:
    """Of four nuclei, the unlabeled one at the seam goes; whole, labeled and inner ones stay."""
    image = np.full((120, 240, 3), GLASS, dtype=np.uint8)
    for x, y in ((60, 60), (118, 30), (180, 60), (124, 100)):
        cv2.circle(image, (x, y), 12, NUCLEUS, -1)
    labeled = [shapely.Polygon(_circle(60, 60, 12) + 0.5), shapely.Polygon(_circle(124, 100, 12) + 0.5)]
    painted = paint_unlabeled(image, labeled, (2, 1), um_per_px=0.3)
    assert painted[30, 115].tolist() == list(GLASS)
    assert painted[30, 125].tolist() == list(GLASS)
    for x, y in ((60, 60), (180, 60), (124, 100)):
        assert painted[y, x].tolist() == list(NUCLEUS)
    assert image[30, 115].tolist() == list(NUCLEUS)


def _cohort_field(**changes: object) -> Field:
    values: dict[str, object] = {
        "field_id": "P/f", "patient_id": "P", "center": "A", "path": Path("f.png"), "sha256": "", "width_px": 9,
        "height_px": 9, "um_per_px": 0.2, "annotated": True, "annotations": (Annotation("N", _circle(4, 4, 2), 0),),
    }  # fmt: skip
    return Field(**(values | changes))  # type: ignore[arg-type]


def test_annotated_fields_teach_and_those_that_leave_cells_out_say_so() -> None:
    fields = [_cohort_field(), _cohort_field(exhaustive=False), _cohort_field(annotated=False, annotations=())]
    whole, partly = labeled_fields(fields, "cohort", (4, 3))
    assert (whole.um_per_px, whole.group, whole.source, whole.tile_grid) == (0.2, "P", "cohort", (4, 3))
    assert whole.exhaustive
    assert not partly.exhaustive
    with pytest.raises(ScaleError, match=r"f\.png: found no um/px, expected a scale"):
        labeled_fields([_cohort_field(um_per_px=None)], "cohort")


def test_boxy_contours_and_those_of_a_network_are_ignored() -> None:
    rectangle = np.array([[10.0, 10], [60, 10], [60, 50], [10, 50]])
    annotations = (
        Annotation("N", _circle(40, 40, 30), 0),
        Annotation("N", rectangle, 1),
        Annotation("N", _circle(90, 90, 30), 2, network_contour=True),
    )
    (item,) = labeled_fields(
        [_cohort_field(annotations=annotations, width_px=200, height_px=150)], "cohort", max_box_share=0.3
    )
    assert item.contours_xy == (annotations[0].contour_xy,)
    assert item.ignored_xy == (rectangle, annotations[2].contour_xy)
    (item,) = labeled_fields([_cohort_field(annotations=annotations, width_px=200, height_px=150)], "cohort")
    assert item.contours_xy == (annotations[0].contour_xy, rectangle)


def test_ignored_regions_are_labels_of_a_second_class(tmp_path: Path) -> None:
    """A field of one window: its cell is class 0, the other cell or the whole window class 1."""
    path = _write_field(tmp_path / "f.png", [(60, 60, 20), (2, 128, 20)], (128, 128))
    config = SegmenterTrainingConfig(window_px=128, crops_per_field=1, label_inset_px=0)
    cell, other = _circle(60, 60, 20), _circle(100, 30, 10)
    for exhaustive, expected_area in ((True, np.pi * 12**2), (False, 128**2)):
        item = LabeledField(path, 0.3, (cell,), "P", "c", (1, 1), (other,), exhaustive)
        prepared = prepare_windows([item], tmp_path / "out", config)
        assert (prepared.n_cells, prepared.n_ignored) == (1, 1)
        (label,) = (tmp_path / "out" / "labels" / "train").glob("*.txt")
        rows = [line.split() for line in label.read_text(encoding="utf-8").splitlines()]
        assert [row[0] for row in rows] == ["0", "1"]
        rings = [shapely.Polygon(np.array(row[1:], dtype=float).reshape(-1, 2) * 128) for row in rows]
        assert [ring.area for ring in rings] == pytest.approx([np.pi * 20**2, expected_area], rel=0.02)
        (window,) = (tmp_path / "out" / "images" / "train").glob("*.png")
        image = read_image(window)
        painted = float(image[120, 4, 0]) > 0.8 * float(image[10, 60, 0])
        assert painted == exhaustive  # where cells are left out, one that a seam cuts is ignored, not painted over


def test_nothing_to_train_on(tmp_path: Path) -> None:
    config = SegmenterTrainingConfig(window_px=128)
    with pytest.raises(TrainingError, match="found no labeled field"):
        prepare_windows([], tmp_path / "out", config)
    path = _write_field(tmp_path / "in" / "f.png", [])
    with pytest.raises(TrainingError, match="found no cell in 1 field"):
        prepare_windows([LabeledField(path, 0.3, (), "P")], tmp_path / "out", config)


def test_stain_variation_keeps_the_form() -> None:
    image = np.full((64, 64, 3), GLASS, dtype=np.uint8)
    cv2.circle(image, (32, 32), 12, NUCLEUS, -1)
    varied = [vary_stain(image, np.random.default_rng(seed)) for seed in range(8)]
    assert len({item.tobytes() for item in varied}) == 8
    for item in varied:
        assert item.shape == image.shape
        assert float(item[30:34, 30:34].mean()) < float(item[:8, :8].mean()) - 30


def test_faded_cells_keep_their_nucleus_and_their_place() -> None:
    """Half of the cytoplasm's optical density goes; nucleus, other cells and glass stay, and so does the outline."""
    image = np.full((200, 300, 3), GLASS, dtype=np.uint8)
    for cx in (80, 220):
        cv2.circle(image, (cx, 100), 40, (180, 170, 200), -1)
        cv2.circle(image, (cx + 15, 100), 18, NUCLEUS, -1)
    faded = fade_cytoplasm(image, [_circle(80.5, 100.5, 40)], [0.5])
    glass, cytoplasm = np.array(GLASS, dtype=float), np.array((180, 170, 200), dtype=float)
    expected = glass * 10 ** (-0.5 * np.log10(glass / cytoplasm))
    np.testing.assert_allclose(faded[100, 52], expected, atol=1.5)
    np.testing.assert_allclose(faded[100, 95], NUCLEUS, atol=1)
    np.testing.assert_allclose(faded[:, 150:], image[:, 150:], atol=1)
    np.testing.assert_allclose(faded[20, 20], GLASS, atol=1)


def test_pale_cells_are_part_of_the_windows_only_where_asked(tmp_path: Path) -> None:
    """The share is a setting: 0 leaves every window as it was, 1 fades each cell of the training side."""
    fields = []
    for index in range(2):
        path = tmp_path / f"P{index}.png"
        image = np.full((200, 200, 3), GLASS, dtype=np.uint8)
        cv2.circle(image, (100, 100), 40, (180, 170, 200), -1)
        cv2.circle(image, (100, 100), 15, NUCLEUS, -1)
        write_image(path, image)
        fields.append(LabeledField(path, 0.3, (_circle(100.5, 100.5, 40),), f"P{index}", "cohort"))
    pixels = {}
    for share in (0.0, 1.0):
        config = SegmenterTrainingConfig(window_px=192, crops_per_field=1, pale_cells=share, val_fraction=0)
        prepare_windows(fields, tmp_path / str(share), config)
        images = sorted((tmp_path / str(share) / "images" / "train").glob("*.png"))
        pixels[share] = [len(np.unique(read_image(path).reshape(-1, 3), axis=0)) for path in images]
    assert len(pixels[0.0]) == len(pixels[1.0]) > 0
    assert pixels[0.0] != pixels[1.0]
