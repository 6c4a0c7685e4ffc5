"""Several processes give what one gives, and what ends or hinders them is said in a sentence."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.errors import ConfigError, RunError
from marrowscope.runs.rows import cell_rows
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.config import PredictConfig
from marrowscope.streaming.pool import PROCESSOR, WorkerPool, open_worker
from marrowscope.streaming.worker import Worker

if TYPE_CHECKING:
    from marrowscope.bundle import Bundle
    from marrowscope.records import InputImage

CONFIG = PredictConfig(backend="onnxruntime", threads=1)
TWO = CONFIG.model_copy(update={"processes": 2, "threads": 2})


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(demonstration_bundle())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[InputImage, ...]:
    out = tmp_path_factory.mktemp("streaming") / "cohort"
    config = SimulationConfig(
        patients=2, centers=2, fields=2, seed=11, cells_per_field=(10, 12), width_px=640, height_px=480
    )
    simulate_cohort(out, config)
    return collect_inputs([out]).images


def test_processes_give_the_fields_that_one_worker_gives_in_order(
    bundle: Bundle, images: tuple[InputImage, ...]
) -> None:
    alone = list(Worker(bundle, CONFIG).find(images))
    with open_worker(bundle, TWO, len(images)) as pool:
        assert isinstance(pool, WorkerPool)
        together = list(pool.find(images * 2))
        assert pool.clock.seconds()[PROCESSOR] > 0
        assert (pool.backend, pool.precision) == ("onnxruntime", "f32")
    assert [found.source for found in together] == [*images] * 2
    for one, other in zip(alone * 2, together, strict=True):
        assert cell_rows(one) == cell_rows(other)
        assert one.measures == pytest.approx(dict(other.measures), rel=0, abs=0, nan_ok=True)


def test_a_few_images_or_slides_are_not_worth_a_process(bundle: Bundle) -> None:
    free = CONFIG.model_copy(update={"processes": None, "threads": 2})
    for config, n_images in ((free, 299), (TWO, 0), (CONFIG, 1000)):
        with open_worker(bundle, config, n_images) as worker:
            assert isinstance(worker, Worker)


def test_a_process_that_is_ended_from_outside_is_said_in_a_sentence(
    bundle: Bundle, images: tuple[InputImage, ...]
) -> None:
    with open_worker(bundle, TWO, 4) as worker:
        assert isinstance(worker, WorkerPool)
        stream = worker.find(images)
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(RunError, match="found a prediction process that ended early"):
            list(stream)


def test_what_processes_cannot_open_is_said_as_threads_say_it(bundle: Bundle) -> None:
    config = TWO.model_copy(update={"device": "TPU"})
    with pytest.raises(ConfigError, match="device 'TPU'"), open_worker(bundle, config, 4):
        pass
