"""Every kind of file in one folder: each gives the cells of its picture or one sentence, and the run goes on."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.imaging import read_image, write_image
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.simulate import SimulationConfig, simulate_cohort

SCALE = 0.12
EXIF_ORIENTATION, TURNED_LEFT = 0x0112, 6
RIGHT_PICTURES = ("cmyk.jpg", "deep.png", "alpha.png", "turned.jpg", "really_a_png.jpg", "palette.tif", "whole.png")
SENTENCES = {
    "bomb.png": "megapixels",
    "cut.jpg": "ends too early",
    "empty.png": "found an empty file",
    "text.jpg": "expected one of",
}


@pytest.fixture(scope="module")
def prediction(tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    root = tmp_path_factory.mktemp("files")
    size: dict[str, int] = {"width_px": 640, "height_px": 480}
    config = SimulationConfig(
        patients=1, centers=1, fields=1, seed=3, diagnoses=("AML_M2",), cells_per_field=(10, 12), **size
    )
    simulate_cohort(root / "cohort", config)
    whole = read_image(next((root / "cohort").glob("*/*.jpg")))
    folder = root / "patient"
    folder.mkdir()
    write_image(folder / "whole.png", whole)
    picture = Image.fromarray(whole)
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=98)
    write_image(folder / "gray.png", np.repeat(np.asarray(picture.convert("L"))[..., None], 3, axis=2))
    Image.fromarray(np.asarray(picture.convert("L"))).save(folder / "one_channel.png")
    _write_deep_png(folder / "deep.png", whole)
    picture.convert("RGBA").save(folder / "alpha.png")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_LEFT
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=98, exif=exif)
    picture.save(folder / "palette.tif", compression="tiff_lzw")
    (folder / "really_a_png.jpg").write_bytes((folder / "whole.png").read_bytes())
    (folder / "text.jpg").write_text("no picture", encoding="utf-8")
    (folder / "empty.png").touch()
    (folder / "cut.jpg").write_bytes((folder / "cmyk.jpg").read_bytes()[:30_000])
    _write_bomb(folder / "bomb.png")
    return predict(
        [folder],
        demonstration_bundle(),
        root / "run",
        config=PredictConfig(backend="onnxruntime", threads=2, um_per_px=SCALE, morphology=False),
        keep_copies=True,
    )


def _write_deep_png(path: Path, image: np.ndarray) -> None:
    """Write a PNG of 16 bits a sample by hand: Pillow cannot, and OpenCV would write what OpenCV reads."""
    height, width = image.shape[:2]
    deep = (image.astype(">u2") * 257).reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    stream = io.BytesIO(b"")
    stream.write(b"\x89PNG\r\n\x1a\n")
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")):
        stream.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    path.write_bytes(stream.getvalue())


def _write_bomb(path: Path) -> None:
    """Write a PNG of a few bytes whose header promises 10,000 megapixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    stream = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        stream += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(stream)


def test_every_file_has_a_row(prediction: Prediction) -> None:
    n_good = len(RIGHT_PICTURES) + 2
    assert prediction.manifest.counts.images == n_good + len(SENTENCES)
    assert prediction.manifest.counts.images_failed == len(SENTENCES)


@pytest.mark.parametrize("name", RIGHT_PICTURES)
def test_one_picture_has_the_same_cells_however_it_is_stored(prediction: Prediction, name: str) -> None:
    counts = {Path(row["path"]).name: row["n_cells"] for row in prediction.fields.iter_rows(named=True)}
    assert counts["whole.png"] > 5
    assert abs(counts[name] - counts["whole.png"]) <= 1


def test_one_channel_is_the_same_gray_picture(prediction: Prediction) -> None:
    counts = {Path(row["path"]).name: row["n_contours"] for row in prediction.fields.iter_rows(named=True)}
    assert counts["one_channel.png"] == counts["gray.png"]


@pytest.mark.parametrize("name", SENTENCES)
def test_what_gives_no_picture_is_said_in_a_sentence(prediction: Prediction, name: str) -> None:
    errors = {failure.field_id: failure.error for failure in prediction.manifest.failures}
    error = errors[f"patient/{Path(name).stem}"]
    assert name in error
    assert SENTENCES[name] in error
