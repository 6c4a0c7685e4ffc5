"""A prediction on two nodes of Ray: what is killed costs time and nothing else; a node that differs is refused.

These tests start a cluster on loopback and stop it. Each call is a process of its own, as a user makes it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.runs import finished_fields
from marrowscope.runs.parquet import read_table
from marrowscope.simulate import SimulationConfig, simulate_cohort
from tests.cluster.ray_nodes import RayNodes
from tests.required import RAY, skip_without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stores import Bucket

TABLES = ("fields.parquet", "cells.parquet", "patients.parquet")
LIMIT_S = 300.0
CALL = """
import sys
from pathlib import Path
from marrowscope.cli import main
from marrowscope.cluster import across
across.predict_across.__kwdefaults__["images_a_shard"] = 2  # few images, many shards
main.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def nodes(bucket: Bucket) -> Iterator[RayNodes]:
    """Start two nodes that know of the store."""
    del bucket
    if sys.platform != "linux" or find_spec("ray") is None:
        skip_without(RAY, "Ray is not installed here, or this is no Linux; uv sync --extra cluster")
    started = RayNodes()
    try:
        started.start("head")
        started.start("second")
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, nodes: RayNodes) -> Prediction:
    """Four patients with two photographs each, and a file that is none: the run of one machine."""
    del nodes  # nothing is predicted where there is no Ray
    cohort = tmp_path_factory.mktemp("ray") / "cohort"
    simulate_cohort(cohort, SimulationConfig(patients=4, centers=2, fields=2, seed=12))
    first = min(path for path in cohort.iterdir() if path.is_dir())
    (first / "zz_broken.jpg").write_bytes(b"no photograph")
    config = PredictConfig(backend="onnxruntime", morphology=False, threads=1, processes=1)
    return predict([cohort], demonstration_bundle(), cohort.parent / "whole", config=config)


@pytest.fixture
def call(nodes: RayNodes, whole: Prediction, tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Make the one command that is repeated after everything that is killed."""
    words = ["predict", str(whole.folder.parent / "cohort"), "--out", "run", "--bundle", "demo", "--ray", nodes.address]
    words += ["--backend", "onnxruntime", "--no-morphology", "--no-report", "--json"]

    def made() -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", CALL, *words],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip

    return made


def wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is there that ``process`` makes."""
    end = time.monotonic() + LIMIT_S
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def locked_shard(shards: Path) -> dict[str, object] | None:
    """Return who predicts a shard right now: the content of its lock."""
    for lock in shards.glob(".*-lock"):
        try:
            found: dict[str, object] = json.loads(lock.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return found
    return None


def assert_run_of_one_machine(process: subprocess.Popen[str], whole: Prediction, out: Path) -> dict[str, object]:
    """Wait for a call; its tables are those of one machine. Returns the manifest."""
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, said  # the file that is no photograph
    assert "zz_broken.jpg" in said
    for name in TABLES:
        assert (out / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert not out.with_name("run.shards").exists()
    manifest: dict[str, object] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def test_a_worker_that_is_killed_costs_nothing(
    call: Callable[[], subprocess.Popen[str]], whole: Prediction, tmp_path: Path
) -> None:
    process = call()
    wait_for(lambda: locked_shard(tmp_path / "run.shards"), process)
    holder = locked_shard(tmp_path / "run.shards")
    if holder is not None:
        assert holder["process"] != process.pid
        os.kill(int(str(holder["process"])), signal.SIGKILL)
    manifest = assert_run_of_one_machine(process, whole, tmp_path / "run")
    assert manifest["images_resumed"] == 0


def test_a_node_of_another_version_is_refused_in_one_sentence_before_any_work(
    nodes: RayNodes, call: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text("import marrowscope\nmarrowscope.__version__ = '0.0.9'\n", encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")]))
    nodes.start("other", {"PYTHONPATH": path})
    try:
        process = call()
        _, said = process.communicate(timeout=LIMIT_S)
    finally:
        nodes.kill("other")
    assert process.returncode == 2, said
    (sentence,) = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert "found marrowscope 0.0.9, expected" in sentence
    assert not list((tmp_path / "run.shards").glob("0*"))


def test_photographs_run_and_shards_in_a_store_survive_the_driver(
    nodes: RayNodes, whole: Prediction, bucket: Bucket, tmp_path: Path
) -> None:
    """The driver is killed after its first shard; the same call ends with the tables of one machine, to the byte."""
    bucket.put_folder(whole.folder.parent / "cohort", "cohort")
    options = ("--bundle", "demo", "--backend", "onnxruntime", "--no-morphology", "--no-report", "--json")

    def made(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", CALL, "predict", "s3://smears/cohort", *words, *options],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip

    def manifests() -> list[str]:
        return [key for key in bucket.keys("ray/run.shards/0") if key.endswith("/manifest.json")]

    words = ("--out", "s3://smears/ray/run", "--ray", nodes.address)
    process = made(*words)
    wait_for(manifests, process)
    process.kill()
    process.communicate()
    finished = {key: bucket.get(key) for key in manifests()}
    assert bucket.keys("ray/run/") == []
    again, alone = made(*words), made("--out", "s3://smears/one/run", "--threads", "1", "--processes", "1")
    wait_for(lambda: len(manifests()) > 2, again)  # of four
    assert {key: bucket.get(key) for key in finished} == finished
    for call in (again, alone):
        _, said = call.communicate(timeout=LIMIT_S)
        assert call.returncode == 1, said  # the file that is no photograph
        assert "zz_broken.jpg" in said
    for name in TABLES:
        assert bucket.get(f"ray/run/{name}") == bucket.get(f"one/run/{name}"), name
    n_images = sum(json.loads(content)["counts"]["images"] for content in finished.values())
    assert json.loads(bucket.get("ray/run/manifest.json"))["images_resumed"] >= n_images
    assert [key for key in bucket.keys("ray/") if not key.startswith("ray/run/")] == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_call_that_is_stopped_ends_its_workers_and_goes_on_later(
    call: Callable[[], subprocess.Popen[str]], whole: Prediction, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, or a scheduler's signal, to the driver alone: one sentence, and no actor goes on with its shard."""
    shards = tmp_path / "run.shards"
    process = call()
    wait_for(lambda: list(shards.glob("0*/manifest.json")), process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
    end = time.monotonic() + 30
    while (holder := locked_shard(shards)) is not None and is_running(int(str(holder["process"]))):
        assert time.monotonic() < end, holder
        time.sleep(0.1)
    left = {path.name for path in shards.glob("0*")}
    time.sleep(2)
    assert {path.name for path in shards.glob("0*")} == left
    n_before = n_finished(shards)
    manifest = assert_run_of_one_machine(call(), whole, tmp_path / "run")
    assert manifest["images_resumed"] == n_before


def n_finished(shards: Path) -> int:
    """Count the images of finished shards, and those of the others of which there is a row or a record."""
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in shards.glob("0*/manifest.json")]
    left = set[str]()
    for part in shards.glob("0*.part"):
        for path in part.glob("parts/*.fields"):
            left |= set(read_table(path, "fields")["field_id"])
        for path in part.glob("found/*.fields"):
            left |= {name for name, *_ in finished_fields._read_all(path)}
    return sum(int(manifest["counts"]["images"]) for manifest in manifests) + len(left)


def is_running(process: int) -> bool:
    """Say whether a process of this machine is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_after_the_driver_and_a_node_are_killed_the_same_call_ends_with_equal_tables(
    nodes: RayNodes, call: Callable[[], subprocess.Popen[str]], whole: Prediction, tmp_path: Path
) -> None:
    shards = tmp_path / "run.shards"
    process = call()
    wait_for(lambda: list(shards.glob("0*/manifest.json")), process)
    process.kill()
    process.communicate()
    finished = {path: path.stat().st_mtime_ns for path in shards.glob("0*/manifest.json")}
    n_images = sum(json.loads(path.read_text(encoding="utf-8"))["counts"]["images"] for path in finished)
    again = call()
    wait_for(lambda: locked_shard(shards) or not shards.exists(), again)
    nodes.kill("second")
    assert all(path.stat().st_mtime_ns == at for path, at in finished.items() if path.exists())
    manifest = assert_run_of_one_machine(again, whole, tmp_path / "run")
    assert manifest["images_resumed"] >= n_images
