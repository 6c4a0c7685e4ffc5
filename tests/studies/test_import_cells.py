"""From photographs of single cells to a cohort: simulated cells whose outlines are known, and real marrow cells."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from marrowscope import geometry
from marrowscope.bundle import SEGMENTER_FILE
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cli.main import main
from marrowscope.cohort import read_cohort
from marrowscope.cohort.annotations import AnnotationFile
from marrowscope.cohort.formats.labelme import read_labelme
from marrowscope.cohort.single_cells import PatientRule, list_pictures
from marrowscope.errors import InputError, RunError, ScaleError
from marrowscope.imaging import read_image, write_image
from marrowscope.segment.segmenter import Segmenter
from marrowscope.simulate.parameters import SimulationConfig, load_parameters
from marrowscope.simulate.writer import plan_patient, simulate_field
from marrowscope.studies.import_cells import ImportedCells, SetFacts, import_cells
from marrowscope.vocabulary import load_mapping, load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ContourArray, ImageArray

WORDS = load_vocabulary()
PICTURE_UM = 24.0
MUNICH = {"N": "BLA", "N1": "PMO", "E": "EOS", "L2": "LYT", "M2": "MON", "N5": "NGS"}


@dataclass(frozen=True)
class Cut:
    """A simulated cell in a picture of its own."""

    code: str
    pixels: ImageArray
    outline_xy: ContourArray


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_onnx(demonstration_bundle() / SEGMENTER_FILE)


@pytest.fixture(scope="module")
def simulated() -> tuple[list[Cut], float]:
    """Cut pictures of 24 um around twelve whole cells of one simulated field."""
    config, parameters = SimulationConfig(seed=3, cells_per_field=(24, 24)), load_parameters()
    field = simulate_field(config, plan_patient(config, 0, parameters), 1, parameters)
    side = round(PICTURE_UM / field.um_per_px)
    height, width = field.image.shape[:2]
    cuts = []
    for cell in field.cells:
        if cell.polygon_xy is None:
            continue
        x, y = (round(value - side / 2) for value in geometry.centroid(cell.polygon_xy))
        outline = cell.polygon_xy - [x, y]
        if min(x, y) < 0 or x + side > width or y + side > height or geometry.is_cut(outline, side, side, 6.0):
            continue
        cuts.append(Cut(cell.code, np.ascontiguousarray(field.image[y : y + side, x : x + side]), outline))
    return cuts[:12], field.um_per_px


def write_set(root: Path, cuts: list[Cut]) -> Path:
    for number, cut in enumerate(cuts):
        path = root / cut.code / f"cell_{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, cut.pixels)
    return root


def run_import(
    root: Path,
    out: Path,
    segmenter: Segmenter,
    um_per_px: float | None,
    *,
    keep_cut: bool = False,
    overwrite: bool = False,
) -> ImportedCells:
    pictures, is_pseudo = list_pictures(root, WORDS, patients=PatientRule(cells_per_patient=6))
    facts = SetFacts("S", "unknown", "marrow", um_per_px, is_pseudo)
    return import_cells(pictures, facts, segmenter, out, keep_cut=keep_cut, overwrite=overwrite)


def test_simulated_cells_become_a_cohort_that_reads_without_a_fault(
    tmp_path: Path, simulated: tuple[list[Cut], float], segmenter: Segmenter
) -> None:
    cuts, um_per_px = simulated
    out = tmp_path / "out"
    done = run_import(write_set(tmp_path / "set", cuts), out, segmenter, um_per_px)
    assert done.total.n_in == len(cuts)
    assert done.total.n_out >= len(cuts) - 1
    cohort = read_cohort(out)
    assert [fault for fault in cohort.faults if fault.loses_data] == []
    assert len(cohort.fields) == done.total.n_out
    assert {patient.extra["subtype"] for patient in cohort.patients} == {"pseudo"}
    for field in cohort.fields:
        cut = cuts[int(field.path.stem.rsplit("_", maxsplit=1)[1])]
        (cell,) = field.annotations
        assert (cell.code, cell.network_contour, field.exhaustive) == (cut.code, True, False)
        assert field.um_per_px == um_per_px
        assert geometry.iou(cell.contour_xy, cut.outline_xy) > 0.7
        assert np.array_equal(read_image(field.path), cut.pixels)


def test_every_picture_is_imported_or_left_out_with_a_reason(
    tmp_path: Path, simulated: tuple[list[Cut], float], segmenter: Segmenter
) -> None:
    """A broken file, an empty one, a picture without a cell, one twice in a class, and one in two classes."""
    cuts, um_per_px = simulated
    root, out = write_set(tmp_path / "set", cuts[:4]), tmp_path / "out"
    names = [f"{cut.code}/cell_{number:02d}.png" for number, cut in enumerate(cuts[:4])]
    (root / "E").mkdir(exist_ok=True)
    (root / "E/broken.png").write_bytes((root / names[0]).read_bytes()[:200])
    (root / "E/empty.jpg").write_bytes(b"")
    write_image(root / "E/nothing.png", np.full_like(cuts[0].pixels, 230))
    (root / names[1]).with_name("cell_01_again.png").write_bytes((root / names[1]).read_bytes())
    (root / "P1").mkdir(exist_ok=True)
    (root / "P1/other.png").write_bytes((root / names[2]).read_bytes())
    done = run_import(root, out, segmenter, um_per_px)
    total = done.total
    assert total.n_in == 9 == total.n_out + total.n_rejected
    expected = {"unreadable_image": 1, "empty_file": 1, "not_found": 1, "duplicate_image": 1, "two_labels": 2}
    assert dict(total.rejected) == expected
    with (out / "cells.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9
    assert Counter(row["left_out"] for row in rows if row["left_out"]) == Counter(total.rejected)
    for row in rows:
        assert bool(row["imported_as"]) != bool(row["left_out"])
        assert not row["imported_as"] or (out / row["imported_as"]).is_file()
    document = json.loads((out / "import.json").read_text(encoding="utf-8"))
    assert document["labels"]["E"]["left_out"]["empty_file"] == 1
    assert sum(label["pictures"] for label in document["labels"].values()) == 9
    assert [any(name in problem for problem in done.problems) for name in ("empty.jpg", "broken.png")] == [True, True]


def test_pictures_that_a_table_names_and_that_are_not_there_are_said(
    tmp_path: Path, simulated: tuple[list[Cut], float], segmenter: Segmenter
) -> None:
    cuts, um_per_px = simulated
    (tmp_path / "set").mkdir()
    write_image(tmp_path / "set/0.png", cuts[0].pixels)
    rows = [f"{name},{cuts[0].code},p" for name in ("0.png", "gone.png", "../out.png")]
    (tmp_path / "set/cells.csv").write_text("\n".join(["image,label,patient", *rows]), encoding="utf-8")
    done = run_import(tmp_path / "set/cells.csv", tmp_path / "out", segmenter, um_per_px)
    assert dict(done.total.rejected) == {"no_such_file": 1, "bad_path": 1}
    said = "\n".join(done.problems)
    assert "gone.png: found no such file, expected a picture" in said
    assert "../out.png: found a path that leads out of the folder" in said


def test_a_cell_at_the_border_is_left_out_unless_it_is_kept(
    tmp_path: Path, simulated: tuple[list[Cut], float], segmenter: Segmenter
) -> None:
    cuts, um_per_px = simulated
    size = [np.ptp(cut.outline_xy, axis=0).max() for cut in cuts]
    large = cuts[int(np.argmax(size))]
    middle, half = large.pixels.shape[0] // 2, round(max(size) * 0.4)
    inside = slice(middle - half, middle + half)
    cut = Cut(large.code, np.ascontiguousarray(large.pixels[inside, inside]), large.outline_xy)
    root = write_set(tmp_path / "set", [cut])
    with pytest.raises(InputError, match=r"found no cell to import in 1 picture \(edge 1\)"):
        run_import(root, tmp_path / "out", segmenter, um_per_px)
    assert not (tmp_path / "out").exists()
    kept = run_import(root, tmp_path / "out", segmenter, um_per_px, keep_cut=True)
    assert (kept.total.n_out, dict(kept.total.changed)) == (1, {"edge": 1})


def test_names_from_data_are_never_paths_and_never_collide(
    tmp_path: Path, simulated: tuple[list[Cut], float], segmenter: Segmenter
) -> None:
    cuts, um_per_px = simulated
    lines = ["image,label,patient"]
    for number, cut in enumerate(cuts[:4]):
        (tmp_path / f"set/{number}").mkdir(parents=True)
        write_image(tmp_path / f"set/{number}/cell.png", cut.pixels)
        lines.append(f"{number}/cell.png,{cut.code},../up")
    (tmp_path / "set/cells.csv").write_text("\n".join(lines), encoding="utf-8")
    done = run_import(tmp_path / "set/cells.csv", tmp_path / "out", segmenter, um_per_px)
    assert done.total.n_out >= 3
    assert done.n_patients == 1
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folder.name.startswith("up-")
    assert len(list(folder.glob("*.png"))) == done.total.n_out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


@pytest.mark.parametrize("other", ["p1", "P1\u200b", "\u04201"])
def test_one_patient_under_two_spellings_is_refused_before_any_work(
    tmp_path: Path, simulated: tuple[list[Cut], float], segmenter: Segmenter, other: str
) -> None:
    cuts, um_per_px = simulated
    (tmp_path / "set").mkdir()
    lines = ["image,label,patient"]
    for number, patient in enumerate(("P1", other)):
        write_image(tmp_path / f"set/{number}.png", cuts[number].pixels)
        lines.append(f"{number}.png,{cuts[number].code},{patient}")
    (tmp_path / "set/cells.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=r"found patients that look alike \('P1' and '.*'\), expected one spelling"):
        run_import(tmp_path / "set/cells.csv", tmp_path / "out", segmenter, um_per_px)
    assert not (tmp_path / "out").exists()


def test_folders_of_others_are_refused_before_any_work(
    tmp_path: Path, simulated: tuple[list[Cut], float], segmenter: Segmenter
) -> None:
    cuts, um_per_px = simulated
    root, out = write_set(tmp_path / "set", cuts[:1]), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="not a marrowscope cohort of single cells"):
        run_import(root, out, segmenter, um_per_px, overwrite=True)
    (out / "mine.txt").unlink()
    run_import(root, out, segmenter, um_per_px)
    with pytest.raises(RunError, match="add --overwrite"):
        run_import(root, out, segmenter, um_per_px)
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.json")}
    run_import(root, out, segmenter, um_per_px, overwrite=True)
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*.json")} == first


def test_a_set_without_a_scale_is_refused(
    tmp_path: Path, simulated: tuple[list[Cut], float], segmenter: Segmenter
) -> None:
    with pytest.raises(ScaleError, match="set --um-per-px"):
        run_import(write_set(tmp_path / "set", simulated[0][:1]), tmp_path / "out", segmenter, None)


def test_a_scale_of_the_pictures_that_is_not_the_given_one_is_said(
    tmp_path: Path,
    simulated: tuple[list[Cut], float],
    segmenter: Segmenter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cuts, um_per_px = simulated
    root = write_set(tmp_path / "set", cuts[:3])
    for path in sorted(root.rglob("*.png"))[1:]:
        Image.open(path).save(path, dpi=(25_400 / um_per_px,) * 2)
    assert run_import(root, tmp_path / "same", segmenter, um_per_px * 1.03).notes == ()
    (note,) = run_import(root, tmp_path / "other", segmenter, 0.5).notes
    assert note.endswith(
        f".png and 1 more: found {um_per_px:.4g} um per px in the image's metadata, expected 0.5 as in --um-per-px; "
        "correct the wrong one; the image's own is taken"
    )
    run("cohort", "import", "--cells", root, "--out", tmp_path / "told", "--um-per-px", 0.5)
    assert note in capsys.readouterr().err


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_the_command_prints_counts_by_label(
    tmp_path: Path, simulated: tuple[list[Cut], float], capsys: pytest.CaptureFixture[str]
) -> None:
    cuts, um_per_px = simulated
    root, out = write_set(tmp_path / "set", cuts[:3]), tmp_path / "out"
    options = ("--um-per-px", um_per_px, "--center", "K")
    assert run("cohort", "import", "--cells", root, "--out", out, *options, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["pictures"] == 3 == document["imported"] + sum(document["left_out"].values())
    assert document["center"] == "K"
    (root / cuts[0].code / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("cohort", "import", "--cells", root, "--out", out, *options, "--overwrite") == 1
    printed = capsys.readouterr()
    assert "pseudo-patients, dealt by chance: no person" in printed.out
    assert "unreadable_image 1" in printed.out
    assert "broken.png" in printed.err
    for _ in range(2):  # the same call over its own result ends like the first
        assert run("cohort", "import", "--cells", root, "--out", tmp_path / "again", *options) == 1
    assert "already complete, made by this same call" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "found neither, expected either an annotation file, or --cells with --out"),
        (("a.json", "--cells", "set", "--out", "o"), "found an annotation file and --cells and --out, expected either"),
        (("--cells", "set"), "found --cells, expected either"),
        (
            ("set", "--out", "o"),
            "set: found a folder, expected an annotation file; photographs of single cells, a folder",
        ),
        (("--cells", "set", "--out", "o", "--labels-from", "x"), "--labels-from: found 'x', expected folder or file"),
        (
            ("--cells", "set", "--out", "o", "--specimen", "x"),
            "--specimen: found 'x', expected marrow, blood or unknown",
        ),
        (("--cells", "s", "--out", "o", "--patient-folder", 1, "--cells-per-patient", 9), "expected one; choose one"),
    ],
)
def test_calls_that_contradict_themselves(
    arguments: tuple[object, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    for name in ("set", "s"):
        (tmp_path / name).mkdir()
    assert run("cohort", "import", *arguments) == 2
    assert message in capsys.readouterr().err


def test_center_cells_of_real_marrow_are_found_and_keep_their_label(
    tmp_path: Path, packs_dir: Path, segmenter: Segmenter
) -> None:
    """Eight fields of the pack cut into their tiles of 24 um: at least 95% have a contour over their center."""
    code_of: dict[str, str] = {}
    for path in sorted((packs_dir / "marrow-cells").glob("*/field_001.json"))[::5]:
        (annotated,) = read_labelme(AnnotationFile(path))
        mosaic = read_image(path.with_suffix(".jpg"))
        for shape in annotated.shapes:
            x, y = (shape.contour_xy.mean(axis=0) // 250).astype(int) * 250
            name = f"{path.parent.name}_{shape.shape_index:02d}"
            code_of[name] = shape.code
            target = tmp_path / "set" / MUNICH[shape.code] / "0001-1000" / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, np.ascontiguousarray(mosaic[y : y + 250, x : x + 250]))
    mapping = load_mapping("munich-marrow-21")
    pictures, _ = list_pictures(tmp_path / "set", WORDS, mapping)
    facts = SetFacts("M", um_per_px=0.096, pseudo_patients=True)
    done = import_cells(pictures, facts, segmenter, tmp_path / "out", mapping=mapping, keep_cut=True)
    assert done.total.n_in == len(code_of) >= 90
    assert done.total.rejected.get("not_found", 0) <= 0.05 * len(code_of)
    codes = {picture.path.stem: picture.code for picture in pictures}
    assert codes == {name: mapping.translate(MUNICH[code], "") for name, code in code_of.items()}
    for field in read_cohort(tmp_path / "out", decode=False).fields:
        assert [item.code for item in field.annotations] == [codes[field.path.stem]]
