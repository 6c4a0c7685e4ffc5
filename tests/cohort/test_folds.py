from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.cohort.folds import check_split, read_split, split_patients, write_split
from marrowscope.errors import CohortError, InputError

if TYPE_CHECKING:
    from pathlib import Path


def _patients(sizes: dict[tuple[str, str], int]) -> pl.DataFrame:
    rows = [(center, diagnosis) for (center, diagnosis), n in sizes.items() for _ in range(n)]
    return pl.DataFrame(
        {
            "patient_id": [f"p{index}" for index in range(len(rows))],
            "center": [row[0] for row in rows],
            "diagnosis": [row[1] for row in rows],
        }
    )


@given(
    sizes=st.dictionaries(
        st.tuples(st.sampled_from("AB"), st.sampled_from(["AML", "APL", "control"])),
        st.integers(1, 12),
        min_size=1,
    ),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_every_stratum_gives_its_share_within_one_patient(
    sizes: dict[tuple[str, str], int], fraction: float, seed: int
) -> None:
    patients = _patients(sizes)
    if patients.height < 2:
        return
    roles = split_patients(patients, fraction, seed)
    assert set(roles) == set(patients["patient_id"])
    n_validation = sum(role == "validation" for role in roles.values())
    assert n_validation == min(max(round(fraction * patients.height), 1), patients.height - 1)
    for (center, diagnosis), n in sizes.items():
        members = patients.filter((pl.col("center") == center) & (pl.col("diagnosis") == diagnosis))["patient_id"]
        taken = sum(roles[patient] == "validation" for patient in members)
        assert abs(taken - n * n_validation / patients.height) < 1 + 1e-9


def test_a_split_is_a_function_of_the_seed_and_not_of_the_row_order() -> None:
    patients = _patients({("A", "AML"): 10, ("B", "control"): 10})
    first = split_patients(patients, 0.2, seed=3)
    assert first == split_patients(patients.reverse(), 0.2, seed=3)
    assert any(first != split_patients(patients, 0.2, seed=seed) for seed in range(4, 8))


def test_one_patient_cannot_be_split() -> None:
    with pytest.raises(CohortError, match="found 1 patient, expected at least two"):
        split_patients(_patients({("A", "AML"): 1}), 0.5, seed=0)


def test_a_split_file_reads_back_equal(tmp_path: Path) -> None:
    roles = split_patients(_patients({("A", "AML"): 5}), 0.4, seed=0) | {"x, y": "test"}
    write_split(tmp_path / "split.csv", roles)
    assert read_split(tmp_path / "split.csv") == roles


def test_a_faulty_split_file_names_every_line(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("patient_id,role\np1,train\np1,test\np2,trian\n,train\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_split(path)
    message = str(caught.value)
    assert "line 3: patient p1 stands under train and test: a leak" in message
    assert "line 4: found patient_id 'p2' with role 'trian'" in message
    assert "line 5: found patient_id ''" in message


@pytest.mark.parametrize("content", [None, "", "patient_id,role\n"])
def test_an_absent_or_empty_split_file_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "split.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"split\.csv: .*expected"):
        read_split(path)


def test_an_image_on_two_sides_is_refused_by_name() -> None:
    images = pl.DataFrame({"patient_id": ["p1", "p2", "p3", "p3"], "image_sha256": ["a" * 64, "b" * 64, "a" * 64, "c"]})
    with pytest.raises(CohortError, match=r"image aaaaaaaaaaaa of patients p1 \(train\) and p3 \(validation\)"):
        check_split(images, {"p1": "train", "p2": "train", "p3": "validation"})
    check_split(images, {"p1": "train", "p2": "validation", "p3": "train"})


def test_a_patient_without_a_role_is_refused_by_name() -> None:
    images = pl.DataFrame({"patient_id": ["p1", "p2"], "image_sha256": ["a", "b"]})
    with pytest.raises(CohortError, match=r"found 1 patients without a role in the split \(p2\)"):
        check_split(images, {"p1": "train"})
