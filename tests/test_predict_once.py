"""SIGKILL at any finished image: the same call ends with equal tables, and finds no image again that was finished."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import marrowscope.predict
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.cohort.shards import Shard, take_shard
from marrowscope.imaging import read_image, write_image
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.runs import finished_fields
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import InputImage

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX systems")

CONFIG = PredictConfig(backend="onnxruntime", morphology=False, threads=1, processes=1)
TABLES = ("fields.parquet", "cells.parquet", "patients.parquet")
CALL = """
import json, os, signal, sys
from pathlib import Path
import marrowscope.predict
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort.shards import Shard
from marrowscope.predict import PredictConfig, predict

cohort, out, config, shard, n_finished, images_a_part = json.loads(sys.argv[1])
marrowscope.predict.IMAGES_A_PART = images_a_part

def kill(done, total):
    if done == n_finished:
        os.kill(os.getpid(), signal.SIGKILL)

predict(
    [Path(cohort)], demonstration_bundle(), Path(out), config=PredictConfig(**config), progress=kill,
    shard=Shard(*shard) if shard else None,
)
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photographs of two patients, a mirrored copy of the second one, and a file that is none."""
    out = tmp_path_factory.mktemp("once") / "cohort"
    config = SimulationConfig(
        patients=2, centers=1, fields=5, seed=21, width_px=480, height_px=360, cells_per_field=(4, 8)
    )
    simulate_cohort(out, config)
    first = min(path for path in out.iterdir() if path.is_dir())
    pictures = sorted(first.glob("*.jpg"))
    write_image(first / f"{pictures[1].stem}_b.png", read_image(pictures[1])[:, ::-1].copy())
    (first / f"{pictures[1].stem}_c.jpg").write_bytes(b"no photograph")
    return out


@pytest.fixture(scope="module")
def whole(cohort: Path) -> Prediction:
    run = predict([cohort], demonstration_bundle(), cohort.parent / "whole", config=CONFIG)
    assert (run.manifest.counts.images_failed, run.manifest.counts.left_out) == (1, 1)
    return run


@pytest.fixture
def found_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the images that go to the networks."""
    found: list[str] = []
    find = Worker._find_field

    def counted(self: Worker, item: InputImage) -> object:
        found.append(item.field_id)
        return find(self, item)

    monkeypatch.setattr(Worker, "_find_field", counted)
    return found


def killed(
    cohort: Path, out: Path, n_finished: int, *, processes: int = 1, shard: Shard | None = None, images_a_part: int = 64
) -> None:
    """Predict in a process of its own that is killed as soon as it has said that ``n_finished`` images are done."""
    config = CONFIG.model_copy(update={"processes": processes, "threads": processes}).model_dump(mode="json")
    given = [str(cohort), str(out), config, shard and [shard.index, shard.of], n_finished, images_a_part]
    process = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", CALL, json.dumps(given)], check=False, capture_output=True, text=True
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not out.exists()


def assert_equal_tables(one: Path, other: Path) -> None:
    for name in TABLES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(params=[64, 4])
def images_a_part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Give how many images make a part: with 4 of them, a kill leaves parts and single fields."""
    monkeypatch.setattr(marrowscope.predict, "IMAGES_A_PART", request.param)
    n: int = request.param
    return n


def test_no_image_is_found_twice_after_a_kill(
    cohort: Path, whole: Prediction, tmp_path: Path, found_again: list[str], images_a_part: int
) -> None:
    """Each finished row counts, wherever it is by then; the near copy and the failed image too."""
    images = [image.field_id for image in collect_inputs([cohort]).images]
    copy = next(index for index, name in enumerate(images) if name.endswith("_b"))
    n_finished = random.randint(4, 10)  # noqa: S311 - any moment will do
    killed(cohort, tmp_path / "run", n_finished, images_a_part=images_a_part)
    run = predict([cohort], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    n_before = n_finished + 1 if n_finished > copy else n_finished
    assert sorted(found_again) == sorted(images[n_before:]), (n_finished, copy)
    if images_a_part == 64:  # where parts end decides about the groups of rows in a file, not about the rows
        assert_equal_tables(run.folder, whole.folder)
    assert run.fields.equals(whole.fields)
    assert run.cells.equals(whole.cells)
    assert run.patients.equals(whole.patients)
    assert run.manifest.faults == whole.manifest.faults
    assert run.manifest.counts == whole.manifest.counts
    assert not (tmp_path / "run.part").exists()


def test_no_image_is_found_twice_after_a_kill_of_several_processes(
    cohort: Path, whole: Prediction, tmp_path: Path, found_again: list[str]
) -> None:
    """What a process has found is kept though it had not handed it on."""
    n_finished = random.randint(1, 7)  # noqa: S311 - any moment will do
    killed(cohort, tmp_path / "run", n_finished, processes=2)
    kept = {
        name for path in (tmp_path / "run.part" / "found").iterdir() for name, *_ in finished_fields._read_all(path)
    }
    images = [image.field_id for image in collect_inputs([cohort]).images]
    assert kept >= set(images[:n_finished])
    run = predict([cohort], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    assert kept.isdisjoint(found_again)
    assert len(set(found_again)) == len(found_again)
    assert_equal_tables(run.folder, whole.folder)


def test_no_image_of_a_shard_is_found_twice_after_a_kill(cohort: Path, tmp_path: Path, found_again: list[str]) -> None:
    shard = Shard(1, 2)
    images = [image.field_id for image in take_shard(collect_inputs([cohort]), shard).inputs.images]
    n_finished = random.randint(1, len(images) - 1)  # noqa: S311 - any moment will do
    killed(cohort, tmp_path / "run", n_finished, shard=shard)
    run = predict([cohort], demonstration_bundle(), tmp_path / "run", config=CONFIG, shard=shard)
    assert sorted(found_again) == sorted(images[n_finished:]), n_finished
    other = predict([cohort], demonstration_bundle(), tmp_path / "other", config=CONFIG, shard=shard)
    assert_equal_tables(run.folder, other.folder)
    assert (run.folder / "shard.json").read_bytes() == (other.folder / "shard.json").read_bytes()


def test_a_second_kill_costs_no_finished_image_either(
    cohort: Path, whole: Prediction, tmp_path: Path, found_again: list[str]
) -> None:
    images = [image.field_id for image in collect_inputs([cohort]).images]
    killed(cohort, tmp_path / "run", 2)
    killed(cohort, tmp_path / "run", 9)
    run = predict([cohort], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    assert sorted(found_again) == sorted(images[10:])  # nine rows and the near copy
    assert_equal_tables(run.folder, whole.folder)


def test_damage_to_what_is_kept_costs_the_damaged_images_alone(
    cohort: Path, whole: Prediction, tmp_path: Path, found_again: list[str]
) -> None:
    images = [image.field_id for image in collect_inputs([cohort]).images]
    killed(cohort, tmp_path / "run", 6)
    (path,) = (tmp_path / "run.part" / "found").iterdir()
    places = {name: (start, n_bytes) for name, start, n_bytes in finished_fields._read_all(path)}
    data = bytearray(path.read_bytes())
    start, n_bytes = places[images[1]]
    data[start + n_bytes // 2] ^= 0x10
    path.write_bytes(bytes(data) + b"\x89MSF torn")
    run = predict([cohort], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    assert sorted(found_again) == sorted([images[1], *images[7:]])
    assert_equal_tables(run.folder, whole.folder)
