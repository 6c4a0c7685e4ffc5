"""The page of a demonstration: real cells first, wrong ones before right ones, and no request to anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from marrowscope.evaluate.labeled_cells import LabeledCell, LabeledPatient, Outcome
from marrowscope.imaging import sha256_file
from marrowscope.report.demo_page import PatientComparison, RealSource, chosen_cells, write_demo_page

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = RealSource("bone marrow, Town", "Author 2021", "10.1000/1")
SQUARE = np.array([(40.0, 40.0), (80.0, 40.0), (80.0, 80.0), (40.0, 80.0)])


def labeled(path: Path, outcome: Outcome, expert: str = "N5", called: str | None = "N5") -> LabeledCell:
    sha256 = sha256_file(path) if path.is_file() else ""
    return LabeledCell(path, sha256, 0.15, SQUARE, expert, None, called, 0.91 if called else None, outcome)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "field_001.png"
    cv2.imwrite(str(path), np.full((120, 120, 3), 200, np.uint8))
    return path


def patient(photograph: Path, state: str = "not_validated") -> LabeledPatient:
    cells = (
        labeled(photograph, "right"),
        labeled(photograph, "missed", "E", None),
        labeled(photograph, "category_wrong", "N4", "N5"),
        labeled(photograph, "cblc_wrong", "N1", "N2"),
        labeled(photograph, "right", "BLA{N,M,J,L}", "N"),
    )
    return LabeledPatient("R1", "M", "marrow", 5, 4, 2, 4, 3, 2, 7, state, cells)  # type: ignore[arg-type]


DRAWN = PatientComparison("S<1>", "S1", "AML", 100, 200, 0.5, 0.512, 0.4, 0.6, "above", 101, 202)


def page(
    tmp_path: Path, shown: LabeledPatient, simulated: PatientComparison = DRAWN, simulated_only: tuple[str, ...] = ()
) -> str:
    path = tmp_path / "index.html"
    write_demo_page(
        path,
        [(shown, SOURCE)],
        [simulated],
        bundles=("real", "drawn"),
        real_report="real-run/report/index.html",
        simulated_report="run/report/index.html",
        simulated_only=simulated_only,
    )
    return path.read_text(encoding="utf-8")


def words(text: str) -> str:
    """Give what a reader sees, on one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", text.split("<body>")[1]).split())


def test_the_figures_are_x_of_n_and_the_words_say_what_they_are_not(tmp_path: Path, photograph: Path) -> None:
    seen = words(page(tmp_path, patient(photograph)))
    assert "labeled cells found 4 of 5" in seen
    assert "with the expert's category 2 of 4" in seen
    assert "with the expert's CBLC answer 3 of 4" in seen
    assert "2 of 7 the machine's count of countable cells; not validated here" in seen
    assert "photographs of single cells, put together to pseudo-patients" in seen
    assert "BLA (a blast of unstated lineage), counts as right where the call lies in its set" in seen
    assert "Nothing here says how marrowscope does in another hospital" in seen
    assert "Author 2021, doi 10.1000/1, CC BY 4.0; changed:" in seen
    assert seen.index("R1: bone marrow, Town") < seen.index("Simulated patients, with the exact ratio")
    assert "above 100 of 200 51.2% 40.0\N{EN DASH}60.0% 50.0% (101 of 202)" in seen


def test_wrong_cells_come_first_and_are_marked_by_sign_and_words(tmp_path: Path, photograph: Path) -> None:
    text = page(tmp_path, patient(photograph))
    alternatives = re.findall(r'<img [^>]*alt="([^"]*)"', text)
    assert alternatives == [
        "Other CBLC answer than the expert&#39;s: called N2 neutrophilic myelocyte, expert N1 promyelocyte",
        "Other category, same CBLC answer: called N5 segmented neutrophil, expert N4 band neutrophil",
        "Not found: expert E eosinophil",
        "Right: called N myeloblast, expert BLA{N,M,J,L}",
        "Right: called N5 segmented neutrophil, expert N5 segmented neutrophil",
    ]
    signs = re.findall(r'<li class="cell">.*?<span class="sign" aria-hidden="true">(.)</span>', text, re.DOTALL)
    assert signs == ["✗", "≠", "○", "✓", "✓"]


def test_the_number_of_cells_and_how_many_are_shown_are_two_numbers(tmp_path: Path, photograph: Path) -> None:
    cells = tuple(labeled(photograph, "missed", "E", None) for _ in range(40))
    text = page(tmp_path, replace(patient(photograph), cells=cells))
    (heading,) = re.findall(r"<h4>(.*?)</h4>", text)
    assert re.fullmatch(r". Not found: 40 \(\d+ shown\)", re.sub(r"<[^>]+>", "", heading)), heading


def test_calls_of_what_simulated_cells_alone_taught_are_marked(tmp_path: Path, photograph: Path) -> None:
    seen = words(page(tmp_path, patient(photograph), simulated_only=("N2", "J")))
    assert "† The bundle learned these from simulated cells only: N2, J." in seen
    assert ("call N2 † 0.91" in seen, "call N5 0.91" in seen) == (True, True)
    assert "†" not in words(page(tmp_path, patient(photograph)))


def test_the_page_needs_no_network_and_escapes_what_it_is_given(tmp_path: Path, photograph: Path) -> None:
    text = page(tmp_path, patient(photograph))
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#|real-run/|run/)|url\(|@import|https?://", text)
    assert set(re.findall(r'href="([^#"]+)"', text)) == {"real-run/report/index.html", "run/report/index.html"}
    assert "S&lt;1&gt;" in text


def test_no_ratio_is_made_out_of_depth(tmp_path: Path, photograph: Path) -> None:
    seen = words(page(tmp_path, patient(photograph, "out_of_depth")))
    assert "called CBLC, labeled or not no ratio out of depth" in seen
    assert "2 of 7" not in seen


def test_a_simulated_patient_out_of_depth_has_no_numerator(tmp_path: Path, photograph: Path) -> None:
    assert "100 of 200" in words(page(tmp_path, patient(photograph)))
    beyond = PatientComparison("S1", "S1", "AML", None, 200, None, None, None, None, None, 101, 202)
    seen = words(page(tmp_path, patient(photograph), beyond))
    assert "of 200" not in seen
    assert "None" not in seen


def test_a_photograph_that_is_gone_leaves_the_words(tmp_path: Path, photograph: Path) -> None:
    shown = patient(photograph)
    photograph.unlink()
    text = page(tmp_path, shown)
    assert "<img" not in text
    assert words(text).count("no picture") == 5


def test_right_cells_give_way_to_wrong_ones_and_labels_take_turns(tmp_path: Path) -> None:
    place = tmp_path / "x"
    cells = [labeled(place, "right", code) for code in ("E", "E", "E", "M2", "N5")]
    cells += [labeled(place, "category_wrong", "N4")] * 80
    cells += [labeled(place, "cblc_wrong", "N1"), *[labeled(place, "missed", "N1", None)] * 30]
    chosen = chosen_cells(cells, most=28)
    assert [(outcome, len(shown)) for outcome, shown in chosen.items()] == [
        ("cblc_wrong", 1), ("category_wrong", 13), ("missed", 9), ("right", 5),
    ]  # fmt: skip
    few = [cell for cell in cells if cell.outcome != "category_wrong"]
    assert len(chosen_cells(few, most=28)["missed"]) == 9
    assert [cell.expert for cell in chosen["right"]] == ["E", "M2", "N5", "E", "E"]
