"""How patients are divided into shards."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.cohort.inputs import Inputs
from marrowscope.cohort.shards import Shard, input_digest, take_shard
from marrowscope.errors import ConfigError, InputError
from marrowscope.records import InputImage, Patient


def inputs_of(counts: list[int]) -> Inputs:
    """Patients with these numbers of images."""
    patients = tuple(Patient(f"P{index}", "A", "AML") for index in range(len(counts)))
    images = tuple(
        InputImage(f"{patient.patient_id}/{k}", patient.patient_id, Path(f"{k}.jpg"), None)
        for patient, n in zip(patients, counts, strict=True)
        for k in range(n)
    )
    return Inputs(patients, images)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20).filter(any), st.data())
def test_shards_are_consecutive_and_hold_everybody_once(counts: list[int], data: st.DataObject) -> None:
    whole = inputs_of(counts)
    n = data.draw(st.integers(1, sum(map(bool, counts))))
    parts = [take_shard(whole, Shard(index, n)).inputs for index in range(1, n + 1)]
    assert all(part.images for part in parts)
    assert tuple(patient for part in parts for patient in part.patients) == whole.patients
    assert tuple(image for part in parts for image in part.images) == whole.images


def test_one_large_patient_leaves_the_others_to_the_other_shards() -> None:
    whole = inputs_of([100, 1, 1])
    assert [len(take_shard(whole, Shard(index, 3)).inputs.images) for index in (1, 2, 3)] == [100, 1, 1]


def test_shards_have_about_as_many_images() -> None:
    sizes = [len(take_shard(inputs_of([5] * 100), Shard(index, 8)).inputs.images) for index in range(1, 9)]
    assert sum(sizes) == 500
    assert max(sizes) - min(sizes) <= 5


def test_more_shards_than_patients_are_refused_with_the_number_that_fits() -> None:
    with pytest.raises(InputError, match="at most 2"):
        take_shard(inputs_of([3, 0, 3]), Shard(2, 4))


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected i/n"):
        Shard.parse(text)


def test_the_digest_tells_inputs_apart() -> None:
    assert Shard.parse("3/16") == Shard(3, 16)
    assert input_digest(inputs_of([1, 2])) != input_digest(inputs_of([2, 1]))


def test_the_digest_tells_what_is_known_of_a_patient() -> None:
    whole = inputs_of([1, 2])
    blood = replace(whole, patients=(replace(whole.patients[0], specimen="blood"), whole.patients[1]))
    finer = replace(whole, images=(replace(whole.images[0], um_per_px=0.1), *whole.images[1:]))
    assert len({input_digest(inputs) for inputs in (whole, blood, finer)}) == 3
