"""A prediction on a cluster, with workers of this process in place of Ray's: the run of one machine, to the byte."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cli.main import main
from marrowscope.cluster import across, meeting_place, ray_crew
from marrowscope.cluster.across import count_shards, predict_across
from marrowscope.cluster.ray_crew import refuse_unlike
from marrowscope.cluster.shard_worker import NodeFacts
from marrowscope.cohort.inputs import Inputs, collect_inputs
from marrowscope.disk import locked
from marrowscope.errors import ConfigError, DependencyError, RunError
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.simulate import SimulationConfig, simulate_cohort
from tests.cluster import crew_here
from tests.cluster.crew_here import MADE, STOPS_AFTER

CONFIG = PredictConfig(backend="onnxruntime", morphology=False)
TABLES = ("fields.parquet", "cells.parquet", "patients.parquet")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients, one image that is none, and a copy of another patient's."""
    out = tmp_path_factory.mktemp("across") / "cohort"
    config = SimulationConfig(
        patients=4, centers=2, fields=2, seed=12, cells_per_field=(10, 12), width_px=640, height_px=480
    )
    simulate_cohort(out, config)
    first, *_, last = sorted(path for path in out.iterdir() if path.is_dir())
    shutil.copyfile(min(first.glob("*.jpg")), last / "zz_same.jpg")
    (first / "zz_broken.jpg").write_bytes(b"no photograph")
    return out


@pytest.fixture(scope="module")
def whole(cohort: Path) -> Prediction:
    return predict(
        [cohort], demonstration_bundle(), cohort.parent / "whole", config=CONFIG.model_copy(update={"threads": 1})
    )


def run(cohort: Path, out: Path, **options: Any) -> Prediction:  # noqa: ANN401  options of many types
    return predict_across([cohort], Path("demo"), out, address="", config=CONFIG, images_a_shard=3, **options)


def equal(one: Path, other: Path) -> None:
    for name in TABLES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.usefixtures("crew")
def test_the_run_is_that_of_one_call_with_its_poisoned_image_and_its_report(
    whole: Prediction, cohort: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    made = run(
        cohort,
        tmp_path / "run",
        progress=lambda *done: told.append(done),
        finish=lambda folder: (folder / "report").mkdir(),
    )
    equal(made.folder, whole.folder)
    assert made.manifest.counts == whole.manifest.counts
    assert made.manifest.counts.images_failed == 1
    assert made.manifest.counts.left_out == 2
    assert made.manifest.images_resumed == 0
    assert (made.folder / "report").is_dir()
    assert len(MADE[0].predicted) == 4
    assert told[-1] == (10, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.usefixtures("crew")
def test_the_same_call_goes_on_and_predicts_no_shard_again(whole: Prediction, cohort: Path, tmp_path: Path) -> None:
    STOPS_AFTER[0] = 2
    with pytest.raises(KeyboardInterrupt):
        run(cohort, tmp_path / "run")
    shards = tmp_path / "run.shards"
    times = {path: path.stat().st_mtime_ns for path in shards.glob("*/fields.parquet")}
    assert len(times) == 2
    STOPS_AFTER[0] = None
    with pytest.MonkeyPatch.context() as broken:  # the last step but one: all shards are there, and no run
        broken.setattr(across, "merge", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(cohort, tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    made = run(cohort, tmp_path / "run")
    equal(made.folder, whole.folder)
    assert [crew.predicted for crew in MADE] == [[1, 2], [3, 4], []]
    assert made.manifest.images_resumed == made.manifest.counts.images + 2  # the copies were predicted, then left out
    assert not shards.exists()


@pytest.mark.usefixtures("crew")
def test_another_job_begins_anew(cohort: Path, tmp_path: Path) -> None:
    STOPS_AFTER[0] = 2
    with pytest.raises(KeyboardInterrupt):
        run(cohort, tmp_path / "run")
    STOPS_AFTER[0] = 0
    with pytest.raises(KeyboardInterrupt):
        run(cohort, tmp_path / "run", keep_copies=True)
    assert not list((tmp_path / "run.shards").glob("*/manifest.json"))


@pytest.mark.usefixtures("crew")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "0.0.9"}, "found marrowscope 0.0.9, expected"),
        ({"versions": {"python": "3.99"}}, "found numpy None, expected"),
        ({"bundle_sha256": "0" * 64}, "found bundle 0000"),
        ({"bundle_sha256": "none (it is not there)"}, "found bundle none \\(it is not there\\)"),
        ({"unseen": ("/archive/1.jpg",)}, "found no file /archive/1.jpg as it is here"),
    ],
)
def test_a_node_that_differs_is_refused_before_any_work(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(crew_here, "FACTS", lambda facts: replace(facts, host="N2", **change))
    with pytest.raises(RunError, match=f"^node N2: {said}") as refused:
        run(cohort, tmp_path / "run", mixed=True)
    assert "\n" not in str(refused.value)
    assert MADE[0].predicted == []
    assert {path.name for path in (tmp_path / "run.shards").iterdir()} == {"journal.json", ".marrowscope.json"}


def test_processors_are_compared_between_nodes_unless_the_user_accepts_any() -> None:
    here = NodeFacts("driver", "1", {}, "b", "x86_64 sse4")
    nodes = [replace(here, host="N1", processor="x86_64 avx"), replace(here, host="N2", processor="x86_64 avx amx")]
    refuse_unlike(nodes[:1] * 2, here, mixed=False)
    refuse_unlike(nodes, here, mixed=True)
    with pytest.raises(RunError, match="node N2: found a processor that differs from that of N1 in amx"):
        refuse_unlike(nodes, here, mixed=False)


@pytest.mark.usefixtures("crew")
def test_shards_so_far_decide_on_the_engine_of_a_call_that_goes_on(cohort: Path, tmp_path: Path) -> None:
    STOPS_AFTER[0] = 1
    with pytest.raises(KeyboardInterrupt):
        run(cohort, tmp_path / "run")
    path = tmp_path / "run.shards" / "engine.json"
    engine = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(engine | {"processor": "x86_64 old"}), encoding="utf-8")
    STOPS_AFTER[0] = 1
    with pytest.raises(RunError, match="found a worker with processor"):
        run(cohort, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):  # it is accepted
        run(cohort, tmp_path / "run", mixed=True)
    path.write_text(json.dumps(engine | {"device": "GPU"}), encoding="utf-8")
    with pytest.raises(RunError, match="found a worker with device CPU, expected GPU"):
        run(cohort, tmp_path / "run", mixed=True)


def test_a_worker_goes_on_behind_a_lock_that_is_free_again_and_names_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting_place, "_LOCK_TRIED_EVERY_S", 0.01)
    held = locked(tmp_path / "00001")
    with held, ExitStack() as stack, pytest.raises(RunError, match="found it in use by process"):
        meeting_place._lock_in_time(stack, lambda: locked(tmp_path / "00001"), 0.05)
    with ExitStack() as stack:
        meeting_place._lock_in_time(stack, lambda: locked(tmp_path / "00001"), 0.0)


def test_the_input_alone_decides_how_it_is_divided(cohort: Path) -> None:
    inputs = collect_inputs([cohort])
    assert (count_shards(inputs), count_shards(inputs, 3), count_shards(inputs, 1)) == (1, 4, 4)
    assert count_shards(Inputs(inputs.patients[:1], inputs.images[:2]), 1) == 1


@pytest.mark.parametrize("address", ["local", "ray://head:10001"])
def test_an_address_that_is_no_running_cluster_is_refused(cohort: Path, tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="expected auto or HOST:PORT"):
        predict_across([cohort], Path("demo"), tmp_path / "run", address=address, config=CONFIG)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"marrowscope\[cluster\]"):
        ray_crew._connect("auto")


def test_slots_are_cores_or_the_gpus_that_are_asked_for() -> None:
    nodes = [
        {"NodeID": "a", "NodeManagerHostname": "A", "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"NodeID": "b", "NodeManagerHostname": "B", "Resources": {"CPU": 3.0}},
        {"NodeID": "c", "NodeManagerHostname": "head", "Resources": {"memory": 1.0}},
    ]
    cores = ray_crew._slots(nodes, "auto")
    assert [(slot.host, slot.threads, slot.n_gpus) for slot in cores] == [("A", 1, 0)] * 8 + [("B", 1, 0)] * 3
    assert [(slot.host, slot.threads, slot.n_gpus) for slot in ray_crew._slots(nodes, "cuda")] == [("A", 4, 1)] * 2
    with pytest.raises(RunError, match="found no GPU in the cluster"):
        ray_crew._slots(nodes[1:], "GPU")


def test_ray_is_imported_only_where_a_call_names_a_cluster(tmp_path: Path) -> None:
    """The commands and all modules of the cluster are imported, and a call without --ray gets to its input."""
    text = (
        "import sys\n"
        "from marrowscope.cli import main\n"
        "from marrowscope.cluster import across, dispatch, merge, ray_crew, shard_worker\n"
        "try:\n"
        "    main.main(['predict', 'absent', '--out', 'run'])\n"
        "except SystemExit as ended:\n"
        "    assert ended.code == 2\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'ray']\n"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=False, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "auto", "--shard", "1/2"], "found --ray with --shard"),
        (["--ray", "auto", "--threads", "2"], "found --ray with --threads"),
        (["--mixed"], "found --mixed without --ray"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(cohort), "--out", str(tmp_path / "run"), *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("crew")
def test_the_command_predicts_on_the_cluster_and_a_second_one_is_kept_out(
    whole: Prediction, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["predict", str(cohort), "--out", str(out), "--bundle", "demo", "--ray", "head:6379"]
    words += ["--backend", "onnxruntime", "--no-morphology"]
    with locked(out), pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "found it in use by process" in capsys.readouterr().err
    assert not MADE
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1  # an image that is none, and copies
    equal(out, whole.folder)
    assert (out / "report" / "index.html").is_file()
