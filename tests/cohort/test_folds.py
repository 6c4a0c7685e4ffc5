from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope.cohort.folds import (
    EXTERNAL,
    TRAINS_IN_EVERY,
    Role,
    check_folds,
    check_split,
    fold_numbers,
    fold_roles,
    leave_one_center_out,
    make_folds,
    read_folds,
    read_split,
    split_patients,
    write_folds,
    write_split,
)
from marrowscope.errors import CohortError, InputError

if TYPE_CHECKING:
    from pathlib import Path

SIZES = st.dictionaries(
    st.tuples(st.sampled_from("ABCD"), st.sampled_from(["AML", "APL", "control"])), st.integers(1, 9), min_size=1
)


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
    assert "line 3: patient p1 has roles train and test, which is a leak" in message
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
    with pytest.raises(CohortError, match=r"found 1 patient without a role in the split \(p2\)"):
        check_split(images, {"p1": "train"})


def test_a_near_duplicate_on_two_sides_is_refused_with_patients_and_fields() -> None:
    near, nearer, far = "5" * 64, "5" * 63 + "4", "0f" * 32
    images = pl.DataFrame(
        {
            "patient_id": ["p1", "p2", "p2", "p3"],
            "field_id": ["p1/a", "p2/b", "p2/c", "p3/d"],
            "image_sha256": ["a" * 64, "b" * 64, "c" * 64, "d" * 64],
            "image_dhash": [near, nearer, far, None],
        }
    )
    roles: dict[str, Role] = {"p1": "train", "p2": "test", "p3": "train"}
    names = (
        r"near-duplicates aaaaaaaaaaaa and bbbbbbbbbbbb \(1 of 255 bits differ\) of patients p1 \(train, field p1/a\) "
        r"and p2 \(test, field p2/b\)"
    )
    with pytest.raises(CohortError, match=names):
        check_split(images, roles)
    check_split(images, roles | {"p2": "train"})
    check_split(images.drop("image_dhash"), roles)
    with pytest.raises(CohortError, match=r"p1 \(fold 0, field p1/a\) and p2 \(external, field p2/b\)"):
        check_folds(images, {"p1": 0, "p2": None, "p3": 1})
    check_folds(images, {"p1": None, "p2": None, "p3": 1})
    with pytest.raises(
        CohortError, match=r"p1 \(fold 0, field p1/a\) and p2 \(fold 0, field p2/b\).*one may be in training"
    ):
        check_folds(images, {"p1": 0, "p2": 0, "p3": 1})


def test_a_shared_file_in_two_folds_and_a_patient_without_a_fold_are_refused() -> None:
    images = pl.DataFrame({"patient_id": ["p1", "p2", "p3"], "image_sha256": ["a" * 64, "b" * 64, "a" * 64]})
    with pytest.raises(CohortError, match=r"image aaaaaaaaaaaa of patients p1 \(fold 0\) and p3 \(fold 1\)"):
        check_folds(images, {"p1": 0, "p2": 0, "p3": 1})
    with pytest.raises(CohortError, match=r"found 1 patient without a fold \(p3\)"):
        check_folds(images, {"p1": 0, "p2": 1})


def test_many_leaks_are_counted_and_the_first_named() -> None:
    patients = [f"p{index}" for index in range(14)]
    images = pl.DataFrame({"patient_id": patients, "image_sha256": [f"{index // 2}" * 64 for index in range(14)]})
    with pytest.raises(CohortError, match=r"7 images on two sides .*; and 2 more\)"):
        check_folds(images, {patient: index % 2 for index, patient in enumerate(patients)})


def test_a_fold_file_says_who_trains_in_every_fold(tmp_path: Path) -> None:
    folds = {"a": 0, "b": 1, "c": TRAINS_IN_EVERY, "d": None}
    names = {"patient_id": list("abcd"), "center": ["A", "A", "A", "D"], "diagnosis": ["x"] * 4}
    assert write_folds(tmp_path / "folds.csv", folds, pl.DataFrame(names))
    assert "c,A,x,every" in (tmp_path / "folds.csv").read_text(encoding="utf-8")
    assert read_folds(tmp_path / "folds.csv") == folds
    assert fold_numbers(folds) == [0, 1]
    images = pl.DataFrame({"patient_id": ["b", "c"], "image_sha256": ["same", "same"]})
    with pytest.raises(CohortError, match="fold every"):
        check_folds(images, folds)


@settings(max_examples=60)
@given(sizes=SIZES, n_folds=st.integers(2, 7), seed=st.integers(0, 1000), externals=st.sets(st.sampled_from("ABCD")))
def test_folds_are_even_in_every_group_and_external_centers_stay_out(
    sizes: dict[tuple[str, str], int], n_folds: int, seed: int, externals: set[str]
) -> None:
    patients = _patients(sizes)
    externals &= set(patients["center"])
    inside = patients.filter(~pl.col("center").is_in(sorted(externals)))
    if inside.height < n_folds:
        with pytest.raises(CohortError, match=f"found {inside.height} patients? for {n_folds} folds"):
            make_folds(patients, n_folds, seed, externals)
        return
    folds = make_folds(patients, n_folds, seed, externals)
    assert folds == make_folds(patients.reverse(), n_folds, seed, externals)
    assert set(folds) == set(patients["patient_id"])
    assert {patient for patient, fold in folds.items() if fold is not None} == set(inside["patient_id"])
    placed = inside.with_columns(pl.col("patient_id").replace_strict(folds, return_dtype=pl.Int64()).alias("fold"))
    groups = [[placed], *(placed.partition_by(*by) for by in (["center"], ["diagnosis"], ["center", "diagnosis"]))]
    for group in (frame for frames in groups for frame in frames):
        counts = [group["fold"].to_list().count(fold) for fold in range(n_folds)]
        assert sum(counts) == group.height
        assert max(counts) - min(counts) <= 1


def test_another_seed_draws_other_folds() -> None:
    patients = _patients({("A", "AML"): 10, ("B", "control"): 10})
    assert any(make_folds(patients, 5, 0) != make_folds(patients, 5, seed) for seed in range(1, 4))


def test_folds_do_not_follow_the_names_of_the_patients() -> None:
    patients = _patients({("A", "AML"): 40})
    folds = make_folds(patients, 2, seed=0)
    assert 5 < sum(folds[f"p{index}"] == 0 for index in range(20)) < 15


@settings(max_examples=30)
@given(sizes=SIZES, externals=st.sets(st.sampled_from("ABCD"), max_size=2))
def test_leaving_out_a_center_takes_all_of_it(sizes: dict[tuple[str, str], int], externals: set[str]) -> None:
    patients = _patients(sizes)
    externals &= set(patients["center"])
    centers = sorted(set(patients["center"]) - externals)
    if len(centers) < 2:
        with pytest.raises(CohortError, match=f"found {len(centers)} centers? .*expected at least two"):
            leave_one_center_out(patients, externals)
        return
    folds = leave_one_center_out(patients, externals)
    for patient, center in patients.select("patient_id", "center").iter_rows():
        assert folds[patient] == (None if center in externals else centers.index(center))


def test_an_unknown_external_center_and_a_patient_of_two_centers_are_refused() -> None:
    patients = _patients({("A", "AML"): 4, ("B", "AML"): 4})
    with pytest.raises(CohortError, match="found no patient of external center C, expected one of A, B"):
        make_folds(patients, 2, 0, ["C"])
    twice = pl.concat([patients, patients[:1].with_columns(pl.lit("B").alias("center"))])
    with pytest.raises(CohortError, match=r"found 1 patient in several rows \(p0\)"):
        leave_one_center_out(twice)


def test_a_fold_tests_its_patients_and_the_external_ones() -> None:
    patients = _patients({("A", "AML"): 20, ("B", "control"): 20, ("X", "AML"): 5})
    folds = make_folds(patients, 5, 0, ["X"])
    tested: list[str] = []
    for fold in range(5):
        roles = fold_roles(folds, fold, patients, 0.25, seed=1)
        assert set(roles) == set(patients["patient_id"])
        assert {patient for patient, role in roles.items() if role == "test"} == {
            patient for patient, number in folds.items() if number in {fold, None}
        }
        assert sum(role == "validation" for role in roles.values()) == 8
        assert roles == fold_roles(folds, fold, patients.reverse(), 0.25, seed=1)
        tested += [patient for patient, number in folds.items() if number == fold]
    assert sorted(tested) == sorted(patients.filter(pl.col("center") != "X")["patient_id"])


def test_roles_of_an_unknown_fold_or_patient_are_refused() -> None:
    patients = _patients({("A", "AML"): 4})
    folds = make_folds(patients, 2, 0)
    with pytest.raises(CohortError, match=r"found no fold 2, expected one of \[0, 1\]"):
        fold_roles(folds, 2, patients, 0.5, seed=0)
    with pytest.raises(CohortError, match=r"found 1 patient without a fold \(p4\)"):
        fold_roles(folds, 0, _patients({("A", "AML"): 5}), 0.5, seed=0)


def test_a_fold_file_reads_back_equal_and_is_written_once(tmp_path: Path) -> None:
    patients = _patients({('Town, "North"', "AML"): 6, ("X", "AML"): 2})
    folds = make_folds(patients, 3, 0, ["X"])
    path = tmp_path / "folds.csv"
    assert write_folds(path, folds, patients)
    first = path.read_bytes()
    assert read_folds(path) == folds
    assert f"p7,X,AML,{EXTERNAL}" in first.decode().splitlines()
    assert not write_folds(path, folds, patients.reverse())
    with pytest.raises(InputError, match=r"folds\.csv: found different folds"):
        write_folds(path, make_folds(patients, 2, 0, ["X"]), patients)
    assert path.read_bytes() == first


def test_a_faulty_fold_file_names_every_line(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    rows = ["p1,A,AML,0", "p1,A,AML,1", "p2,B,AML,-1", ",B,AML,1", "p3,A,AML,external", "p4,B,AML,1"]
    path.write_text("\n".join(["patient_id,center,diagnosis,fold", *rows]), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_folds(path)
    message = str(caught.value)
    assert "line 3: found patient p1 a second time, which is a leak" in message
    assert "line 4: found patient_id 'p2' in fold '-1'" in message
    assert "line 5: found patient_id ''" in message
    assert "center A has both patients in folds and external ones" in message


@pytest.mark.parametrize("folds", [[], ["0", "0"], ["0", "2"], ["external"]])
def test_fewer_than_two_folds_or_a_gap_is_refused(tmp_path: Path, folds: list[str]) -> None:
    path = tmp_path / "folds.csv"
    rows = [f"p{index},C{index},AML,{fold}" for index, fold in enumerate(folds)]
    path.write_text("\n".join(["patient_id,center,diagnosis,fold", *rows]), encoding="utf-8")
    with pytest.raises(InputError, match=r"found folds \[.*at least two folds counted from 0"):
        read_folds(path)


def test_an_absent_fold_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folds\.csv: cannot read the file .* patient_id, center, diagnosis, fold"):
        read_folds(tmp_path / "folds.csv")
