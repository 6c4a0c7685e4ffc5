"""Predictions of photographs in a store, into a store: the tables of a folder, whatever is interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cli.main import app
from marrowscope.cluster import across
from marrowscope.cluster.meeting_place import shard_path
from marrowscope.cluster.merge import merge
from marrowscope.cluster.mirror import Mirror
from marrowscope.cluster.object_store import ObjectStore
from marrowscope.cluster.ray_crew import refuse_unlike
from marrowscope.cluster.shard_worker import Job, ShardWorker, describe_node
from marrowscope.cohort.shards import divide
from marrowscope.cohort.stated import NOTHING_STATED
from marrowscope.errors import RunError
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.runs.table_hashes import read_checked_manifest
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.worker import Worker
from tests.cluster.crew_here import MADE, STOPS_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stores import Bucket

CONFIG = PredictConfig(backend="onnxruntime", threads=1, morphology=False)
pytestmark = pytest.mark.usefixtures("scratch")

OPTIONS = ("--bundle", "demo", "--backend", "onnxruntime", "--threads", "1", "--no-morphology")
SMALL: dict[str, Any] = {"width_px": 480, "height_px": 360, "cells_per_field": (4, 6)}
STATES_A_PATH = ("path", "error")


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker(load_bundle(demonstration_bundle()), CONFIG)


@pytest.fixture(autouse=True)
def one_worker(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open the networks once for all calls."""

    class Opened:
        def __enter__(self) -> Worker:
            return worker

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr("marrowscope.predict.open_worker", lambda *_: Opened())


@pytest.fixture(autouse=True)
def one_connection(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open the door once for all calls."""
    monkeypatch.setattr("marrowscope.cluster.mirror.ObjectStore", lambda: store)
    monkeypatch.setattr(ObjectStore, "close", lambda _: None)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, bucket: Bucket) -> Path:
    """Three patients with copies of both kinds, and a file that is no photograph; the same in the store."""
    out = tmp_path_factory.mktemp("stored") / "cohort"
    simulate_cohort(out, SimulationConfig(patients=3, centers=2, fields=1, seed=12, **SMALL))
    first, second, third = sorted(path for path in out.iterdir() if path.is_dir())
    photograph = next(first.glob("*.jpg"))
    shutil.copyfile(photograph, first / "zz_mine_again.jpg")
    simulate_cohort(out.parent / "more", SimulationConfig(patients=1, centers=1, fields=1, seed=13, **SMALL))
    shared = next((out.parent / "more").glob("*/*.jpg"))
    for patient in (second, third):
        shutil.copyfile(shared, patient / "zz_shared.jpg")
    (first / "zz_broken.jpg").write_bytes(b"no photograph")
    bucket.put_folder(out, "cohort")
    return out


@pytest.fixture(scope="module")
def whole(cohort: Path, worker: Worker) -> Prediction:
    return predict([cohort], demonstration_bundle(), cohort.parent / "whole", config=CONFIG, worker=worker)


def call(*words: str, code: int) -> str:
    """Make a call; returns what it printed, or the sentence of its error."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        if code != 2:
            raise result.exception
        return str(result.exception)
    assert result.exit_code == code, result.output
    return result.output


def assert_the_run_of_the_folder(found: Path, whole: Prediction, cohort: Path) -> None:
    """Compare every byte but those that state where an image lies."""
    assert read_checked_manifest(found).counts == whole.manifest.counts
    for name in ("cells.parquet", "patients.parquet"):
        assert (found / name).read_bytes() == (whole.folder / name).read_bytes()
    fields = pl.read_parquet(found / "fields.parquet")
    back = [pl.col(name).str.replace_all("s3://smears/cohort", str(cohort), literal=True) for name in STATES_A_PATH]
    assert fields.with_columns(back).equals(whole.fields, null_equal=True)
    assert fields["path"].str.starts_with("s3://smears/cohort/P0").all()
    manifest = json.loads((found / "manifest.json").read_text(encoding="utf-8"))
    expected = json.loads((whole.folder / "manifest.json").read_text(encoding="utf-8"))
    for key in ("faults", "failures"):
        assert json.dumps(manifest[key]).replace("s3://smears/cohort", str(cohort)) == json.dumps(expected[key])
    for path in found.rglob("*"):
        assert path.is_dir() or b"marrowscope-store-" not in path.read_bytes(), path


def test_a_cohort_in_a_store_gives_the_tables_of_the_folder(cohort: Path, whole: Prediction, tmp_path: Path) -> None:
    said = call("predict", "s3://smears/cohort", "--out", str(tmp_path / "run"), *OPTIONS, code=1)
    assert_the_run_of_the_folder(tmp_path / "run", whole, cohort)
    assert "Not predicted: s3://smears/cohort/" in said
    assert "marrowscope-store-" not in said
    for page in (tmp_path / "run" / "report" / "patients").glob("*.html"):
        assert "data:image/webp" in page.read_text(encoding="utf-8")  # the pictures were at hand


def test_a_run_is_written_to_a_store_and_the_same_call_finds_it_complete(
    cohort: Path, whole: Prediction, bucket: Bucket, tmp_path: Path
) -> None:
    words = ("predict", "s3://smears/cohort", "--out", "s3://smears/runs/a", "--no-report", *OPTIONS)
    assert "Tables: s3://smears/runs/a" in call(*words, code=1)
    assert_the_run_of_the_folder(bucket.get_folder("runs/a", tmp_path / "a"), whole, cohort)
    assert bucket.keys("runs/a.part") == bucket.keys("runs/.a") == []
    assert "s3://smears/runs/a: already complete" in call(*words, code=1)
    refused = call(*words, "--keep-copies", code=2)
    assert refused.startswith("s3://smears/runs/a: found an earlier run, expected a new or empty folder; add --overwr")
    again = call(*words, "--keep-copies", "--overwrite", "--json", code=1)
    assert json.loads(again[again.index("{") : again.rindex("}") + 1])["run"] == "s3://smears/runs/a"


def test_shards_at_addresses_are_merged_reported_and_evaluated(
    cohort: Path, whole: Prediction, bucket: Bucket, tmp_path: Path
) -> None:
    for index in (1, 2):
        out = f"s3://smears/shards/{index}"
        call("predict", "s3://smears/cohort", "--out", out, "--shard", f"{index}/2", *OPTIONS, code=2 - index)
    words = ("merge", "s3://smears/shards/1", "s3://smears/shards/2", "--bundle", "demo")
    assert "Tables: s3://smears/runs/merged" in call(*words, "--out", "s3://smears/runs/merged", code=1)
    assert_the_run_of_the_folder(bucket.get_folder("runs/merged", tmp_path / "merged"), whole, cohort)
    call("report", "s3://smears/runs/merged", "--format", "json", "--format", "html", code=0)
    assert "runs/merged/run.json" in bucket.keys("runs/merged/")
    call("report", "s3://smears/runs/merged", "--format", "csv", "--out", "s3://smears/tables", code=0)
    assert "tables/patients.csv" in bucket.keys("tables/")
    pages = [bucket.get(key) for key in bucket.keys("runs/merged/report/patients/")]
    assert len(pages) == 3
    assert all(b"data:image/webp" in page for page in pages)
    said = call("evaluate", "s3://smears/runs/merged", "s3://smears/cohort", "--out", "s3://smears/figures", code=0)
    assert "Page: s3://smears/figures/index.html" in said
    assert "marrowscope-store-" not in said
    figures = bucket.get_folder("figures", tmp_path / "figures")
    for path in figures.rglob("*"):
        assert path.is_dir() or b"marrowscope-store-" not in path.read_bytes(), path


def test_an_object_that_is_gone_when_it_is_its_turn_fails_its_own_row(
    cohort: Path, whole: Prediction, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder(cohort, "going")
    fetched = Mirror.fetched
    gone = whole.fields.filter(pl.col("status") == "ok")["path"][1].replace(str(cohort), "going")

    def remove_first(self: Mirror, inputs: Any) -> Any:  # noqa: ANN401
        bucket.remove(gone)
        return fetched(self, inputs)

    monkeypatch.setattr(Mirror, "fetched", remove_first)
    call("predict", "s3://smears/going", "--out", str(tmp_path / "run"), "--no-report", *OPTIONS, code=1)
    fields = pl.read_parquet(tmp_path / "run" / "fields.parquet")
    failed = dict(fields.filter(pl.col("status") == "failed").select("path", "error").iter_rows())
    assert failed[f"s3://smears/{gone}"] == (
        f"s3://smears/{gone}: found no object any more, expected the one that was listed; put it back and call again"
    )
    assert len(failed) == 2
    assert fields.height == whole.fields.height


def test_an_interrupted_call_leaves_its_parts_in_the_store_and_goes_on_with_them(
    cohort: Path, whole: Prediction, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("predict", "runs.parts"):
        monkeypatch.setattr(f"marrowscope.{module}.IMAGES_A_PART", 2)
    words = ("predict", "s3://smears/cohort", "--out", "s3://smears/runs/stopped", "--no-report", *OPTIONS)
    write, n_written = ObjectStore.write, [0]

    def interrupted(self: ObjectStore, files: Any) -> None:  # noqa: ANN401
        write(self, files)
        n_written[0] += 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "write", interrupted)
        assert isinstance(CliRunner().invoke(app, list(words)).exception, SystemExit | KeyboardInterrupt)
    assert n_written == [1]
    assert "runs/stopped.part/parts/00000.fields" in bucket.keys("runs/stopped.part/")
    assert bucket.keys("runs/stopped/") == bucket.keys("runs/.stopped") == []
    assert "Continued an interrupted prediction: 2 images already predicted." in call(*words, code=1)
    assert_the_run_of_the_folder(bucket.get_folder("runs/stopped", tmp_path / "run"), whole, cohort)
    assert bucket.keys("runs/stopped.part/") == []


def test_a_node_of_a_cluster_fetches_its_own_shard(
    cohort: Path, whole: Prediction, tmp_path: Path, worker: Worker, store: ObjectStore
) -> None:
    """Only addresses travel: what one mirror listed is predicted from another one."""
    (tmp_path / "driver").mkdir()
    mirror = Mirror(store, tmp_path / "driver")
    listed = mirror.listed([mirror.list("s3://smears/cohort")], stated=NOTHING_STATED)
    job = Job(Path("demo"), CONFIG, tmp_path / "shards", Path.cwd())
    job.folder.mkdir()
    witness = listed.images[0]
    sizes = {Path(witness.address): witness.path.stat().st_size, Path("s3://smears/absent.jpg"): 3}
    facts = describe_node(job, sizes)
    assert facts.unseen == ("s3://smears/absent.jpg",)
    with pytest.raises(RunError, match=r"found no object s3://smears/absent.jpg as it is here, expected a store that"):
        refuse_unlike([facts], facts, mixed=False)
    shutil.rmtree(mirror.root)  # of another machine
    node = ShardWorker(job, 1)
    node._opened = load_bundle(demonstration_bundle()), worker
    for block in divide(listed, 2):
        assert node.predict(block) == len(block.inputs.images)
        assert list((tmp_path / "scratch").iterdir()) == []
    shards = [shard_path(job.folder, index) for index in (1, 2)]
    merge(shards, demonstration_bundle(), tmp_path / "run")
    assert_the_run_of_the_folder(tmp_path / "run", whole, cohort)


RAY = (
    "predict", "s3://smears/cohort", "--out", "s3://smears/ray/run", "--no-report", "--bundle", "demo",
    "--ray", "head:1", "--backend", "onnxruntime", "--no-morphology",
)  # fmt: skip


@pytest.fixture
def on_a_cluster(crew: pytest.MonkeyPatch, bucket: Bucket) -> Iterator[None]:
    """Divide few photographs among many shards, and leave nothing in the store."""
    defaults = across.predict_across.__kwdefaults__
    assert defaults is not None
    crew.setitem(defaults, "images_a_shard", 2)
    yield
    assert [key for key in bucket.keys("ray/") if not key.startswith("ray/run/")] == []
    for key in bucket.keys("ray/"):
        bucket.remove(key)


@pytest.mark.usefixtures("on_a_cluster")
def test_a_cluster_writes_its_shards_and_the_run_to_a_store(
    cohort: Path, whole: Prediction, bucket: Bucket, tmp_path: Path
) -> None:
    assert "Tables: s3://smears/ray/run" in call(*RAY, code=1)
    assert_the_run_of_the_folder(bucket.get_folder("ray/run", tmp_path / "run"), whole, cohort)
    assert MADE[0].predicted == [1, 2, 3]
    assert "s3://smears/ray/run: already complete" in call(*RAY, code=1)
    assert len(MADE) == 1


@pytest.mark.usefixtures("on_a_cluster")
def test_a_stopped_call_on_a_cluster_goes_on_from_the_shards_in_the_store(
    cohort: Path, whole: Prediction, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its first shard, then before its run is written, then before the shards are removed."""
    STOPS_AFTER[0] = 1
    assert isinstance(CliRunner().invoke(app, list(RAY)).exception, SystemExit | KeyboardInterrupt)
    kept = {key: bucket.get(key) for key in bucket.keys("ray/run.shards/00001/")}
    assert "ray/run.shards/00001/manifest.json" in kept
    STOPS_AFTER[0] = None
    for step in ("merge", "SharedStore.remove"):
        with monkeypatch.context() as patch:
            patch.setattr(
                f"marrowscope.cluster.across.{step}", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            assert isinstance(CliRunner().invoke(app, list(RAY)).exception, SystemExit | KeyboardInterrupt)
        assert {key: bucket.get(key) for key in kept} == kept
        assert bucket.keys("ray/run/") == []
    call(*RAY, code=1)
    assert [crew.predicted for crew in MADE] == [[1], [2, 3], [], []]
    assert_the_run_of_the_folder(bucket.get_folder("ray/run", tmp_path / "run"), whole, cohort)


@pytest.mark.usefixtures("on_a_cluster")
def test_another_job_on_a_cluster_keeps_no_shard_of_the_first_in_the_store(cohort: Path, bucket: Bucket) -> None:
    del cohort
    STOPS_AFTER[0] = 1
    assert isinstance(CliRunner().invoke(app, list(RAY)).exception, SystemExit | KeyboardInterrupt)
    STOPS_AFTER[0] = 0
    assert isinstance(CliRunner().invoke(app, [*RAY, "--keep-copies"]).exception, SystemExit | KeyboardInterrupt)
    names = {key.removeprefix("ray/run.shards/") for key in bucket.keys("ray/run.shards/")}
    assert names == {".marrowscope.json", "journal.json", "engine.json"}
    bucket.put("ray/run.shards/.marrowscope.json", b"{}")
    foreign = call(*RAY, code=2)
    assert foreign.startswith("s3://smears/ray/run.shards: found files other than an unfinished marrowscope shards")
    for key in bucket.keys("ray/run.shards/"):
        bucket.remove(key)


def test_a_second_call_and_an_output_within_the_input_are_refused(
    bucket: Bucket, cohort: Path, store: ObjectStore
) -> None:
    from marrowscope.cluster.store_lock import locked_address

    del cohort
    words = ("predict", "s3://smears/cohort", *OPTIONS)
    with locked_address(store, "s3://smears/runs/taken", print):
        refused = call(*words, "--out", "s3://smears/runs/taken", code=2)
    assert refused.startswith("s3://smears/runs/taken: found it in use by process")
    inside = call(*words, "--out", "s3://smears/cohort/run", code=2)
    assert inside.startswith(
        "s3://smears/cohort/run: found an output inside s3://smears/cohort, a folder that this com"
    )
    assert bucket.keys("cohort/.run") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("doctor", "--bundle", "s3://smears/bundle"), "s3://smears/bundle: found an address of an object store, expe"),
        (("predict", "gs://smears/cohort"), "found an address that begins with gs://, expected s3://BUCKET/FOLDER"),
        (("predict", "s3://smears/absent", "--out", "run"), "s3://smears/absent: found nothing in the store, expected"),
        (("predict", "s3://absent/x", "--out", "run"), "s3://absent/x: found no bucket absent in the store, expected "),
        (("predict", "cohort", "--bundle", "s3://smears/b"), "s3://smears/b: found an address of an object store, ex"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence(bucket: Bucket, words: tuple[str, ...], sentence: str) -> None:
    del bucket
    assert call(*words, code=2).startswith(sentence)
