"""The real pseudo-patients in the package: attributed, small, read without a fault, and compared with their labels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from marrowscope.cohort import read_cohort
from marrowscope.studies import real_patients
from marrowscope.studies.real_patients import SOURCES, real_cohort
from marrowscope.vocabulary import load_mappings, load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MOST_BYTES = 4_000_000


def test_each_source_is_attributed_with_license_and_changes() -> None:
    text = " ".join((real_cohort() / "ATTRIBUTION.md").read_text(encoding="utf-8").split())
    for source in SOURCES.values():
        assert source.doi in text
    assert text.count("License: CC BY 4.0") == len(SOURCES) == 2
    for said in ("Matek C.", "Acevedo A.", "mosaics of 4 x 3 tiles", "contours are a program's", "mix donors"):
        assert said in text
    assert "Only the center cell of a marrow tile is labeled" in text


def test_the_photographs_are_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in real_cohort().rglob("*") if path.is_file()) < MOST_BYTES


def test_the_cohort_reads_without_a_fault_and_its_labels_map() -> None:
    mappings = load_mappings(real_patients._MAPPINGS)
    assert mappings is not None
    cohort = read_cohort(real_cohort(), mapping=mappings)
    assert cohort.faults == ()
    mappings.check_centers({patient.center for patient in cohort.patients})
    assert {patient.center: patient.specimen for patient in cohort.patients} == {"M": "marrow", "B": "blood"}
    assert Counter(field.patient_id for field in cohort.fields) == {"M037": 10, "B0b2d22": 12}
    assert sum(len(field.annotations) for field in cohort.fields) == 256
    assert {field.um_per_px for field in cohort.fields} == {0.096, 0.15}


def test_the_comparison_uses_the_labels_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def compare(run: Path, patients: object, fields: object, vocabulary: object) -> tuple[()]:
        given.update(run=run, patients=patients, fields=fields, vocabulary=vocabulary)
        return ()

    monkeypatch.setattr(real_patients, "label_by_label", compare)
    vocabulary = load_vocabulary()
    assert real_patients.compare_with_labels(tmp_path, vocabulary) == ()
    assert (given["run"], given["vocabulary"]) == (tmp_path, vocabulary)
    assert [patient.patient_id for patient in given["patients"]] == ["M037", "B0b2d22"]  # type: ignore[attr-defined]
    assert len(given["fields"]) == 22  # type: ignore[arg-type]
