"""`marrowscope train segmenter`: what is wrong with its small inputs is said in a sentence."""

from pathlib import Path

import pytest

from marrowscope.bundle.shipped import segmenter_path
from marrowscope.cli.train import _check_names, _cohort_fields, _read_names
from marrowscope.errors import CohortError, InputError


def test_a_list_of_patients_has_one_name_a_line_and_names_may_hold_blanks(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("P 1\n\n  P2  \n", encoding="utf-8")
    assert _read_names(path) == {"P 1", "P2"}
    with pytest.raises(InputError, match=r"nowhere\.txt: cannot read the list of patients .*one patient_id per line"):
        _read_names(tmp_path / "nowhere.txt")


def test_names_that_no_cohort_has_are_refused(tmp_path: Path) -> None:
    _check_names(None, None, {"P1"})
    _check_names(tmp_path / "train.txt", frozenset({"P1"}), {"P1", "P2"})
    with pytest.raises(InputError, match=r"train\.txt: found P3, expected patient_ids from the cohorts"):
        _check_names(tmp_path / "train.txt", frozenset({"P1", "P3"}), {"P1", "P2"})


def test_a_cohort_that_would_lose_cells_is_refused_before_training(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\n", encoding="utf-8")
    with pytest.raises(CohortError, match="found 1 fault that would lose data"):
        _cohort_fields(f"{tmp_path}:4x3", None)


def test_the_word_demo_stands_for_the_shipped_segmenter_unless_a_file_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = segmenter_path(Path("demo"))
    assert shipped.name == "segmenter.onnx"
    assert shipped.is_file()
    assert segmenter_path(Path("own.onnx")) == Path("own.onnx")
    Path("demo").touch()
    assert segmenter_path(Path("demo")) == Path("demo")
