"""Copies of an image: by content before a prediction, as near-copies while it runs; and scales that disagree."""

from pathlib import Path

import numpy as np
import pytest

import marrowscope.cohort.copies
from marrowscope.cohort import duplicates
from marrowscope.cohort.copies import equal_files, scale_faults, without_copies
from marrowscope.cohort.duplicates import FEATURELESS, SeenPhotographs, image_fingerprint
from marrowscope.cohort.inputs import Inputs, collect_inputs
from marrowscope.errors import CohortError
from marrowscope.imaging import sha256_file
from marrowscope.records import InputImage


def write(root: Path, **contents: bytes) -> None:
    for name, content in contents.items():
        path = root / f"{name.replace('_', '/')}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def cleaned(folder: Path) -> Inputs:
    inputs = collect_inputs([folder])
    return without_copies(inputs, equal_files(inputs.images))


def noise(seed: int, n: int = 50_000) -> bytes:
    return np.random.default_rng(seed).bytes(n)


def test_one_of_a_patients_copies_stays_and_the_others_are_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path, p1_a=noise(1), p1_b=noise(2), p1_c=noise(1), p2_a=noise(3), p1_d=noise(1))
    inputs = cleaned(tmp_path)
    assert [item.field_id for item in inputs.images] == ["p1/a", "p1/b", "p2/a"]
    assert inputs.n_left_out == 2
    assert [(fault.kind, Path(fault.where).name) for fault in inputs.faults] == [
        ("duplicate_image", "c.jpg"),
        ("duplicate_image", "d.jpg"),
    ]
    assert "the same content as" in inputs.faults[0].found
    assert str(tmp_path / "p1/a.jpg") in inputs.faults[0].found


def test_the_annotated_one_of_copies_stays(tmp_path: Path) -> None:
    write(tmp_path, p1_a=noise(1), p1_b=noise(1))
    (tmp_path / "p1/b.json").touch()
    assert [item.field_id for item in cleaned(tmp_path).images] == ["p1/b"]


def test_an_image_of_two_patients_is_nobodys(tmp_path: Path) -> None:
    write(tmp_path, p1_a=noise(1), p1_b=noise(2), p2_x=noise(1), p2_y=noise(4))
    inputs = cleaned(tmp_path)
    assert [item.field_id for item in inputs.images] == ["p1/b", "p2/y"]
    assert [fault.kind for fault in inputs.faults] == ["duplicate_across_patients"] * 2
    assert inputs.n_left_out == 2


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, p1_a=noise(1), p2_a=noise(1))
    with pytest.raises(CohortError, match=r"the same content as .*; found no other image, expected one to predict"):
        cleaned(tmp_path)


def test_files_of_one_size_are_not_read_twice_and_empty_or_absent_ones_are_no_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def hash_file(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    monkeypatch.setattr(marrowscope.cohort.copies, "sha256_file", hash_file)
    almost = bytearray(noise(1))
    almost[20_000] ^= 1  # between the samples
    write(tmp_path, p1_a=noise(1), p1_b=noise(2), p1_c=noise(3), p1_d=bytes(almost), p1_e=b"", p1_f=b"")
    inputs = collect_inputs([tmp_path])
    assert without_copies(inputs, equal_files(inputs.images)) == inputs
    assert [path.name for path in hashed] == ["a.jpg", "d.jpg"]
    (tmp_path / "p1/a.jpg").unlink()
    assert without_copies(inputs, equal_files(inputs.images)) == inputs


def test_a_photograph_is_known_again_however_turned_and_others_are_not() -> None:
    images = [
        np.kron(np.random.default_rng(seed).integers(0, 255, (24, 24, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        for seed in range(100)
    ]
    seen = SeenPhotographs()
    for index, image in enumerate(images):
        fingerprint = image_fingerprint(image)
        assert seen.find(fingerprint) is None
        seen.add(f"p/{index}", fingerprint)
    for index in (0, 63, 64, 99):
        for copy in (images[index], images[index][::-1], np.rot90(images[index]), images[index][::2, ::2]):
            found = seen.find(image_fingerprint(np.ascontiguousarray(copy)))
            assert found is not None
            assert found[0] == f"p/{index}"
            assert found[1] <= 5
    seen.add("p/blank", FEATURELESS)
    assert seen.find(FEATURELESS) is None
    assert seen.find("") is None


@pytest.mark.parametrize("at_once", [1, 7, 8192])
def test_the_nearest_earlier_photograph_is_that_of_a_search_through_all_orientations(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random fingerprints, some of them turned and with bits changed, so that there are ties and every distance."""
    monkeypatch.setattr(duplicates, "_AT_ONCE", at_once)
    generator = np.random.default_rng(5)
    images = [generator.random((16, 16)) > 0.5 for _ in range(40)]
    for turn in range(80):
        image = np.rot90(images[generator.integers(40)], turn) if turn % 3 else images[turn // 2]
        laid = next(bits for k, bits in enumerate(duplicates._orientations(image[None])) if k == turn % 8)[0] ^ (
            generator.random((16, 16)) < generator.uniform(0, 0.4)
        )
        images.append(laid)
    for image in images:
        image[0, 0] = False
    prints = [np.packbits(image).tobytes().hex() for image in images]
    seen = SeenPhotographs()
    n_found = 0
    for index, (image, text) in enumerate(zip(images, prints, strict=True)):
        distances = [
            min(int((laid[0] != earlier).sum()) for laid in duplicates._orientations(image[None]))
            for earlier in images[:index]
        ]
        for limit in (64, 255, 0):
            expected = None
            if distances and min(distances) <= limit:
                expected = (str(distances.index(min(distances))), min(distances))
                n_found += limit == 64
            assert seen.find(text, limit) == expected
        seen.add(str(index), text)
    assert n_found > 20


def test_scales_that_disagree_are_named_once_per_patient_and_those_that_agree_are_not() -> None:
    images = [InputImage(f"p1/{n}", "p1", Path(f"p1/{n}.tif"), 0.1453) for n in range(3)]
    images += [InputImage("p2/a", "p2", Path("p2/a.tif"), None), InputImage("p3/a", "p3", Path("p3/a.tif"), None)]
    used = {"p1/0.tif": 1.0, "p1/1.tif": 1.0, "p1/2.tif": 0.15, "p2/a.tif": 0.3, "p3/a.tif": 0.15}
    faults = scale_faults(images, used, 0.15)
    action = "correct the wrong one; the image's own is taken"
    assert [fault.sentence() for fault in faults] == [
        f"2 images of p1: found 1 um per px in the image's metadata, expected 0.1453 as in patients.csv; {action}",
        f"p2/a.tif: found 0.3 um per px in the image's metadata, expected 0.15 as in --um-per-px; {action}",
    ]
    assert not any(fault.loses_data for fault in faults)
    assert scale_faults(images[3:], used, None) == []
