"""Lists of single-cell sets in the forms of public ones: labels, patients, and what is left out before it is opened."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort.single_cells import FILE_NAME, CellPicture, PatientRule, list_pictures
from marrowscope.errors import InputError, VocabularyError
from marrowscope.imaging import write_image
from marrowscope.vocabulary import load_mapping, load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

WORDS = load_vocabulary()
PIXELS = np.zeros((4, 4, 3), dtype=np.uint8)


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / f"{name}.png", PIXELS)
    return root


def labels(pictures: Sequence[CellPicture]) -> list[tuple[str, str]]:
    return [(picture.label, picture.code) for picture in pictures]


def test_folder_a_class_nested_as_in_the_marrow_set(tmp_path: Path) -> None:
    root = make(tmp_path, "PEB/0001-1000/PEB_00001", "PEB/1001-2000/PEB_01001", "LYT/0001-1000/LYT_00001")
    pictures, is_pseudo = list_pictures(root, WORDS, load_mapping("munich-marrow-21"))
    assert labels(pictures) == [("LYT", "L2"), ("PEB", "R"), ("PEB", "R")]
    assert pictures[1].where == "PEB/0001-1000/PEB_00001.png"
    assert is_pseudo


def test_class_folder_below_the_folders_of_a_split(tmp_path: Path) -> None:
    """As Raabin's double-labeled cells: Train/<class>/..., TestA/<class>/..."""
    root = make(tmp_path, "Train/NGS/1", "TestA/NGS/1", "TestA/MON/2")
    pictures, _ = list_pictures(root, WORDS, load_mapping("munich-aml-15"))
    assert Counter(labels(pictures)) == {("NGS", "N5"): 2, ("MON", "M2"): 1}


def test_label_at_the_beginning_of_the_name_as_in_the_barcelona_set(tmp_path: Path) -> None:
    root = make(tmp_path, "neutrophil/SNE_1234", "neutrophil/BNE_1", "platelet/PLATELET_7")
    mapping = load_mapping("barcelona-13")
    pictures, _ = list_pictures(root, WORDS, mapping, labels_from=FILE_NAME)
    assert labels(pictures) == [("BNE", "N4"), ("SNE", "N5"), ("PLATELET", "")]
    assert pictures[2].reason == "dropped_by_mapping"
    with pytest.raises(VocabularyError, match=r"found label 'neutrophil' .* try --labels-from file-name"):
        list_pictures(root, WORDS, mapping)


def test_an_unknown_class_is_one_sentence_with_the_nearest_known(tmp_path: Path) -> None:
    root = make(tmp_path, "LYT/a", "PEBB/0001-1000/b", "PEBB/0001-1000/c", "Zz/d")
    with pytest.raises(VocabularyError) as refused:
        list_pictures(root, WORDS, load_mapping("munich-marrow-21"))
    message = str(refused.value)
    assert "found label 'PEBB' (2 pictures, such as PEBB/0001-1000/b.png) and 1 other unknown label" in message
    assert "expected a label of mapping munich-marrow-21 (the nearest is 'PEB')" in message
    assert "\n" not in message


def test_an_unknown_class_below_a_split_is_named_and_not_the_split(tmp_path: Path) -> None:
    root = make(tmp_path, "Train/NGS/1", "TestA/NGS/2", "TestB/Large Lymph/3")
    with pytest.raises(VocabularyError, match=r"found label 'Large Lymph' \(1 picture, such as TestB/Large Lymph/3"):
        list_pictures(root, WORDS, load_mapping("munich-aml-15"))


def test_a_picture_without_a_label_is_said_so(tmp_path: Path) -> None:
    root, mapping = make(tmp_path / "set", "LYT/a", "loose"), load_mapping("munich-marrow-21")
    with pytest.raises(
        VocabularyError, match=r"found no label \(1 picture, such as loose.png\), .*; put each picture in"
    ):
        list_pictures(root, WORDS, mapping)
    table = write_table(make(tmp_path, "x/1"), "image,label\nx/1.png,\n")
    with pytest.raises(VocabularyError, match=r"found no label \(1 picture, such as x/1.png\), .*; fill in the column"):
        list_pictures(table, WORDS)


def test_the_folder_of_one_class_is_not_the_set(tmp_path: Path) -> None:
    make(tmp_path, "BLA/0001-1000/a")
    with pytest.raises(VocabularyError, match="'BLA' is the name of the folder itself: give the folder above it"):
        list_pictures(tmp_path / "BLA", WORDS, load_mapping("munich-marrow-21"))


def test_the_mapping_file_of_the_docs_reads_raabins_classes(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "cohort.md"
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (text,) = [block for block in blocks if 'name = "raabin-5"' in block]
    (tmp_path / "raabin.toml").write_text(text, encoding="utf-8")
    mapping = load_mapping(tmp_path / "raabin.toml")
    mapping.check_against(WORDS)
    root = make(tmp_path / "set", "Train/Basophil/1", "TestA/Neutrophil/2", "TestA/Monocyte/3", "Train/Eosinophil/4")
    pictures, _ = list_pictures(make(root, "TestB/Lymphocyte/5"), WORDS, mapping)
    assert sorted(picture.code for picture in pictures) == ["B", "E", "L2", "M2", "Neutrophil{N4,N5; mainly N5}"]


def test_two_classes_in_one_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found the labels 'LYT' and 'MON' in one path"):
        list_pictures(make(tmp_path, "LYT/MON/a"), WORDS, load_mapping("munich-marrow-21"))


def test_without_a_mapping_the_classes_are_raw_codes(tmp_path: Path) -> None:
    assert labels(list_pictures(make(tmp_path, "N1/a"), WORDS)[0]) == [("N1", "N1")]


def test_pictures_that_are_none_are_left_out_with_their_class(tmp_path: Path) -> None:
    root = make(tmp_path, "N/a", "N/a_mask")
    (root / "N/b.gif").write_bytes(b"GIF89a")
    (root / "N/notes.txt").write_text("nothing", encoding="utf-8")
    pictures, _ = list_pictures(root, WORDS)
    assert {picture.where: picture.reason for picture in pictures} == {
        "N/a.png": "",
        "N/a_mask.png": "by_product",
        "N/b.gif": "unread_format",
    }


def write_table(root: Path, text: str) -> Path:
    path = root / "cells.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_table_with_patients_and_readers(tmp_path: Path) -> None:
    make(tmp_path, "x/1", "x/2", "x/3")
    table = write_table(
        tmp_path,
        "image;label;patient;reader\nx\\1.png;N;P1;A\nx/1.png;N;P1;B\nx/2.png;N;P2;A\nx/2.png;M;P2;B\n"
        "x/3.png;E;P3;A\nx/4.png;E;P3;A\n../secret.png;E;P3;A\n",
    )
    pictures, is_pseudo = list_pictures(table, WORDS)
    found = [(picture.where, picture.label, picture.reader, picture.reason) for picture in pictures]
    assert found == [
        ("../secret.png", "E", "A", "bad_path"),
        ("x/1.png", "N", "A", ""),
        ("x/1.png", "N", "B", "same_picture_again"),
        ("x/2.png", "N", "A", "readers_disagree"),
        ("x/2.png", "M", "B", "readers_disagree"),
        ("x/3.png", "E", "A", ""),
        ("x/4.png", "E", "A", "no_such_file"),
    ]
    assert not is_pseudo
    assert pictures[5].patient == "P3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,N\n", "found columns file, label, expected image and label"),
        ("", r"found columns \(none\)"),
        ("image,label\na.png\n", "row 2: found 1 cell, expected 2 as in the header"),
        ("image,label\n", "found no picture"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list_pictures(write_table(tmp_path, text), WORDS)


def test_an_empty_folder_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no picture, expected photographs of single cells"):
        list_pictures(tmp_path, WORDS)
    with pytest.raises(InputError, match="found no readable table"):
        list_pictures(tmp_path / "absent", WORDS)


def test_patients_by_folder_and_by_pattern(tmp_path: Path) -> None:
    root = make(tmp_path, "N/P07/a", "N/P08/b", "E/P07/c")
    for rule in (PatientRule(folder=2), PatientRule(pattern=r"/P(\d+)/")):
        pictures, is_pseudo = list_pictures(root, WORDS, patients=rule)
        assert [picture.patient.lstrip("P") for picture in pictures] == ["07", "07", "08"]
        assert not is_pseudo


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (PatientRule(folder=3), "found no patient for 1 of 1 picture, such as N/P07/a.png"),
        (PatientRule(pattern=r"(Q\d+)"), "found no patient for 1 of 1 picture"),
        (PatientRule(pattern="P07"), r"expected a group \( \) around the patient"),
        (PatientRule(pattern="("), "expected a regular expression"),
    ],
)
def test_rules_that_give_no_patient_are_refused(tmp_path: Path, rule: PatientRule, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list_pictures(make(tmp_path, "N/P07/a"), WORDS, patients=rule)


def test_pseudo_patients_are_equal_in_size_mix_the_classes_and_stay_the_same(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{code}/{number}" for code in ("N", "E") for number in range(30)))
    pictures, is_pseudo = list_pictures(root, WORDS, patients=PatientRule(cells_per_patient=20))
    assert is_pseudo
    assert Counter(picture.patient for picture in pictures) == dict.fromkeys(
        ("pseudo-001", "pseudo-002", "pseudo-003"), 20
    )
    assert len({(picture.patient, picture.code) for picture in pictures}) == 6
    moved = make(tmp_path / "moved", *(f"{code}/{number}" for code in ("E", "N") for number in range(30)))
    again, _ = list_pictures(moved, WORDS, patients=PatientRule(cells_per_patient=20))
    assert [picture.patient for picture in again] == [picture.patient for picture in pictures]
