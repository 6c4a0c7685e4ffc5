"""A folder that stands for a store: the same patients and images as in the folder, and nothing outside of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import pytest

from marrowscope.cluster.mirror import Mirror, open_mirror
from marrowscope.cluster.object_store import StoredObject
from marrowscope.cohort.inputs import Inputs, collect_inputs
from marrowscope.cohort.shards import Block, Shard
from marrowscope.cohort.stated import NOTHING_STATED
from marrowscope.disk.locks import this_process
from marrowscope.errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.cluster.object_store import ObjectStore
    from tests.stores import Bucket

PATIENTS = "patient_id,center,diagnosis\nP1,A,AML\nP2,B,control\n"
FILES = {
    "patients.csv": PATIENTS.encode(),
    "P1/f1.jpg": b"\xff\xd8\xff one",
    "P1/f1.json": b"{}",
    "P1/f2": b"\xff\xd8\xff\xe0 without a suffix",
    "P1/notes.txt": b"no picture",
    "P1/f1_mask.png": b"by-product",
    "P2/f1.jpg": b"\xff\xd8\xff three",
    "P2/hidden/.f.jpg": b"hidden",
    "P3/f1.jpg": b"\xff\xd8\xff of nobody",
}


@pytest.fixture
def cohort(bucket: Bucket, tmp_path: Path) -> Path:
    folder = tmp_path / "cohort"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    bucket.put_folder(folder, "cohort")
    return folder


@pytest.fixture
def mirror(store: ObjectStore, tmp_path: Path) -> Mirror:
    (tmp_path / "scratch").mkdir()
    return Mirror(store, tmp_path / "scratch")


class Seen(NamedTuple):
    """What a listing says."""

    patients: object
    images: list[tuple[str, str, str]]
    faults: list[str]
    n_left_out: int


def seen(inputs: Inputs, folder: str) -> Seen:
    """Return what was listed, with places relative to the folder or the address of the cohort."""
    images = [(image.field_id, image.patient_id, image.place.removeprefix(folder)) for image in inputs.images]
    faults = [fault.sentence().replace(folder, "") for fault in inputs.faults]
    return Seen(inputs.patients, images, faults, inputs.n_left_out)


def listed(mirror: Mirror, *addresses: str) -> Inputs:
    return mirror.listed([mirror.list(address) for address in addresses], stated=NOTHING_STATED)


def test_an_address_has_the_patients_images_and_faults_of_the_folder(cohort: Path, mirror: Mirror) -> None:
    found = listed(mirror, "s3://smears/cohort")
    assert seen(found, "s3://smears/cohort/") == seen(collect_inputs([cohort]), f"{cohort}/")
    assert [image.field_id for image in found.images] == ["P1/f1", "P1/f2", "P2/f1"]
    assert found.faults  # images of nobody, a by-product


@pytest.mark.parametrize("name", ["P1", "P1/f1.jpg"])
def test_a_patient_and_a_single_image_are_described_by_the_files_beside_them(
    cohort: Path, mirror: Mirror, name: str
) -> None:
    found = listed(mirror, f"s3://smears/cohort/{name}")
    assert seen(found, "s3://smears/cohort/") == seen(collect_inputs([cohort / name]), f"{cohort}/")
    assert found.patients[0].diagnosis == "AML"


def test_what_is_not_fetched_has_the_size_and_the_time_of_its_object_and_takes_no_room(
    bucket: Bucket, mirror: Mirror
) -> None:
    bucket.put("large/P1/f1.jpg", b"\xff\xd8\xff" + bytes(3_000_000))
    image = listed(mirror, "s3://smears/large").images[0]
    before = image.path.stat()
    assert before.st_size == 3_000_003
    assert before.st_blocks * 512 < 100_000
    mirror.fetch([image.path])
    after = image.path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert image.path.read_bytes()[:3] == b"\xff\xd8\xff"


def test_objects_of_one_second_are_told_apart_by_their_tags(store: ObjectStore, tmp_path: Path) -> None:
    listed = [StoredObject("smears/tags/f.jpg", 3, tag, 1_790_000_000.0) for tag in ("a", "b", "a")]
    times = []
    for number, stored in enumerate(listed):
        mirror = Mirror(store, tmp_path / str(number))
        mirror._stand_in([stored])
        times.append(mirror.path(stored.address).stat().st_mtime_ns)
    assert times[0] == times[2] != times[1]
    assert {time // 1_000_000_000 for time in times} == {1_790_000_000}


def test_only_the_images_of_a_shard_are_fetched(cohort: Path, mirror: Mirror) -> None:
    del cohort
    folder = mirror.list("s3://smears/cohort")
    block = mirror.inputs([folder], stated=NOTHING_STATED, shard=Shard(2, 2))
    assert isinstance(block, Block)
    assert [image.address for image in block.inputs.images] == ["s3://smears/cohort/P2/f1.jpg"]
    assert (folder / "P2/f1.jpg").read_bytes() == FILES["P2/f1.jpg"]
    assert set((folder / "P1/f1.jpg").read_bytes()) == {0}


def test_all_that_lies_beside_a_slide_is_fetched(bucket: Bucket, mirror: Mirror) -> None:
    for name in ("P1/s.mrxs", "P1/s/Slidedat.ini", "P1/s/Data0.dat", "P2/f1.jpg"):
        bucket.put(f"slides/{name}", f"{name} {'x' * 600}".encode())
    folder = mirror.list("s3://smears/slides")
    block = mirror.inputs([folder], stated=NOTHING_STATED, shard=Shard(1, 2))
    assert isinstance(block, Block)
    assert [image.path.name for image in block.inputs.images] == ["s.mrxs"]
    assert (folder / "P1/s/Data0.dat").read_bytes().endswith(b"x")
    assert set((folder / "P2/f1.jpg").read_bytes()) == {0}


def test_an_image_that_is_gone_or_changed_since_it_was_listed_has_its_own_problem(
    bucket: Bucket, cohort: Path, mirror: Mirror
) -> None:
    del cohort
    folder = mirror.list("s3://smears/cohort")
    bucket.remove("cohort/P1/f1.jpg")
    bucket.put("cohort/P2/f1.jpg", b"another")
    found = mirror.inputs([folder], stated=NOTHING_STATED)
    assert isinstance(found, Inputs)
    gone, kept, changed = (image.problem for image in found.images)
    assert gone is not None
    assert "found no object any more" in gone
    assert kept is None
    assert changed is not None
    assert "found another content than when it was listed" in changed


@pytest.mark.parametrize("key", ["bad/../../out.jpg", "bad//f.jpg", "bad/./f.jpg", "bad/a\\b.jpg", "bad/f\n.jpg"])
def test_a_key_that_is_no_name_of_a_file_is_refused_and_nothing_is_written(
    bucket: Bucket, mirror: Mirror, tmp_path: Path, key: str
) -> None:
    del bucket
    with pytest.raises(InputError, match=r"^(object store|s3://smears/bad)"):
        mirror._stand_in([StoredObject(f"smears/{key}", 3)])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_object_under_the_name_of_another_is_refused(bucket: Bucket, mirror: Mirror) -> None:
    bucket.put("twice/P1", b"a file")
    bucket.put("twice/P1/f1.jpg", b"in a folder of its name")
    with pytest.raises(InputError, match=r"^s3://smears/twice/P1/f1.jpg: found another object whose name is the same"):
        mirror.list("s3://smears/twice")


def test_an_address_with_nothing_is_refused(mirror: Mirror) -> None:
    with pytest.raises(InputError, match=r"^s3://smears/absent: found nothing in the store, expected a folder or a"):
        mirror.list("s3://smears/absent")


def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    cohort: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cohort
    folder = mirror.list("s3://smears/cohort")
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=20))
    monkeypatch.setattr(mirror.store, "fetch", None)
    with pytest.raises(RunError, match=r"GB free, expected the .* GB of the images to be fetched; set TMPDIR to a"):
        mirror.inputs([folder], stated=NOTHING_STATED)


def test_the_folder_is_for_its_user_alone_and_goes_with_an_interrupt(bucket: Bucket) -> None:
    bucket.put("one/P1/f1.jpg", b"\xff\xd8\xff")

    def interrupted() -> Iterator[Path]:
        with open_mirror() as opened:
            yield opened.copy("s3://smears/one")
            raise KeyboardInterrupt

    call = interrupted()
    folder = next(call)
    root = next(path for path in folder.parents if path.name.startswith("marrowscope-store-"))
    assert (folder / "P1/f1.jpg").read_bytes() == b"\xff\xd8\xff"
    if os.name == "posix":
        assert root.stat().st_mode & 0o777 == 0o700
    with pytest.raises(KeyboardInterrupt):
        next(call)
    assert not root.exists()


def test_what_a_killed_call_left_goes_with_the_next_one_and_others_stay(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del bucket
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True)
    gone = this_process().model_copy(update={"process": int(ended.stdout), "started": "1"})
    owners = {
        "gone": gone,
        "alive": this_process(),
        "elsewhere": gone.model_copy(update={"machine": "another"}),
        "unknown": None,
    }
    for name, owner in owners.items():
        (tmp_path / f"marrowscope-store-{name}").mkdir()
        if owner is not None:
            (tmp_path / f"marrowscope-store-{name}" / ".owner").write_text(owner.model_dump_json())
    with open_mirror():
        pass
    left = {path.name.removeprefix("marrowscope-store-") for path in tmp_path.iterdir()}
    assert left == {"alive", "elsewhere", "unknown"}


def test_sentences_state_addresses(mirror: Mirror, tmp_path: Path) -> None:
    path = mirror.path("s3://smears/cohort/P1/f1.jpg")
    assert mirror.stated(path) == "s3://smears/cohort/P1/f1.jpg"
    assert mirror.words(f"{path}: not read, as {path.parent}") == (
        "s3://smears/cohort/P1/f1.jpg: not read, as s3://smears/cohort/P1"
    )
    assert mirror.stated(tmp_path) == str(tmp_path)
