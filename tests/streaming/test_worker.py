"""Many fields at once: in order, each as if it were alone, whatever the batch and the threads, and few under way."""

from __future__ import annotations

import struct
import traceback
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

import marrowscope.streaming.worker as worker_module
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.errors import ImageError
from marrowscope.imaging import sha256_file
from marrowscope.networks import OnnxRuntimeNetwork, available_backends, capabilities
from marrowscope.runs.rows import cell_rows, field_row
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.config import PredictConfig
from marrowscope.streaming.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from marrowscope.bundle import Bundle
    from marrowscope.records import FoundField, InputImage

CONFIG = PredictConfig(backend="onnxruntime", threads=1)
PACKAGE = Path(worker_module.__file__).parents[1]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(demonstration_bundle())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[InputImage, ...]:
    out = tmp_path_factory.mktemp("streaming") / "cohort"
    config = SimulationConfig(
        patients=2, centers=2, fields=2, seed=11, cells_per_field=(12, 14), width_px=640, height_px=480
    )
    simulate_cohort(out, config)
    return collect_inputs([out]).images


@pytest.fixture(scope="module")
def alone(bundle: Bundle, images: tuple[InputImage, ...]) -> list[FoundField]:
    """Each field by itself, in batches of its own."""
    worker = Worker(bundle, CONFIG)
    return [found for image in images for found in worker.find([image])]


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (7, 3), (64, 2)])
def test_fields_together_are_the_fields_alone(
    bundle: Bundle, images: tuple[InputImage, ...], alone: list[FoundField], batch_size: int, threads: int
) -> None:
    config = CONFIG.model_copy(update={"batch_size": batch_size, "threads": threads})
    together = list(Worker(bundle, config).find(images))
    assert [found.source for found in together] == list(images)
    assert [cell_rows(found) for found in together] == [cell_rows(found) for found in alone]
    assert sum(len(found.cells) for found in together) > 30


def test_kept_cells_are_called_and_refused_ones_are_not(alone: list[FoundField]) -> None:
    cells = [cell for found in alone for cell in found.cells]
    assert {cell.reject_reason is None for cell in cells} == {True, False}
    for cell in cells:
        assert (cell.call is not None) == (cell.reject_reason is None)
        if cell.call is not None:
            assert sum(cell.call.p_category) == pytest.approx(1, abs=1e-4)
            assert cell.call.is_countable or not cell.call.is_cblc


@pytest.mark.skipif(
    "openvino" not in available_backends() or "bf16" not in capabilities("openvino"), reason="no bf16 here"
)
def test_bf16_for_the_segmenter_finds_as_bf16_does_and_calls_as_float32_does(
    bundle: Bundle, images: tuple[InputImage, ...]
) -> None:
    workers = {
        precision: Worker(bundle, PredictConfig(backend="openvino", threads=1, precision=precision, morphology=False))
        for precision in ("f32", "bf16", "bf16-segmenter")
    }
    assert {name: worker.precision for name, worker in workers.items()} == {name: name for name in workers}
    outlines = {
        name: [[cell.contour_xy.tolist() for cell in found.cells] for found in worker.find(images[:2])]
        for name, worker in workers.items()
    }
    assert outlines["bf16-segmenter"] == outlines["bf16"] != outlines["f32"]
    crops = np.random.default_rng(0).integers(0, 256, (16, 96, 96, 3), dtype=np.uint8)
    calls = {name: worker.run_classifiers(crops)[0]["p_cblc"].tolist() for name, worker in workers.items()}
    assert calls["bf16-segmenter"] == calls["f32"] != calls["bf16"]


def test_fields_that_cannot_be_read_keep_their_place_and_say_why(
    bundle: Bundle, images: tuple[InputImage, ...], tmp_path: Path
) -> None:
    broken, empty = tmp_path / "broken.jpg", tmp_path / "empty.png"
    broken.write_bytes(images[0].path.read_bytes()[:20_000])
    empty.touch()
    given = [
        replace(images[0], path=broken),
        images[0],
        replace(images[0], path=empty),
        replace(images[0], path=tmp_path / "absent.png"),
        replace(images[0], problem="a slide without a region"),
        replace(images[0], um_per_px=1.5),
    ]
    found = list(Worker(bundle, CONFIG).find(given))
    errors = [item.error for item in found]
    assert errors[1] is None
    for error, words in zip(
        [errors[0], *errors[2:]],
        ("ends too early", "empty.png: found an empty file", "absent.png: cannot be read", "a slide", "found 1.5 um"),
        strict=True,
    ):
        assert error is not None
        assert words in error
    assert found[0].sha256 == sha256_file(broken)
    assert (found[3].sha256, found[3].width_px) == ("", None)
    assert found[5].width_px == 640
    row = field_row(found[0], "S1", float("nan"), [])
    assert (row["status"], row["n_cells"], row["flags"]) == ("failed", 0, None)
    with pytest.raises(ImageError, match="a slide without a region"):
        Worker(bundle, CONFIG).read(given[4])


def test_no_field_gives_nothing(bundle: Bundle) -> None:
    assert list(Worker(bundle, CONFIG).find([])) == []


def test_fields_without_cells_do_not_pile_up_behind_a_few_crops(bundle: Bundle, images: tuple[InputImage, ...]) -> None:
    taken = 0

    def source() -> Iterator[InputImage]:
        nonlocal taken
        for index in range(300):
            taken += 1
            yield images[0] if index == 0 else replace(images[0], field_id=f"P/{index}", problem="none")

    stream = Worker(bundle, CONFIG).find(source())
    next(stream)
    stream.close()
    assert taken < 30


class _Inline:
    """An executor that does what it is given at once, in the thread that gives it: a call can be followed."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *given: object) -> Future[Any]:
        """Do it now."""
        done: Future[Any] = Future()
        done.set_result(function(*given))
        return done

    def shutdown(self, **_: object) -> None:
        """Nothing is left to do."""


def test_seven_frames_lead_from_the_command_to_the_network(
    images: tuple[InputImage, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted as with a breakpoint in the network: frames of the package between it and the command's function."""
    from marrowscope.cli.main import main

    depths: set[int] = set()
    run = OnnxRuntimeNetwork.run_images

    def watched(network: OnnxRuntimeNetwork, *given: Any) -> Any:  # noqa: ANN401 - as run_images
        files = [Path(frame.filename) for frame in traceback.extract_stack()]
        ours = [path.relative_to(PACKAGE).as_posix() for path in files if path.is_relative_to(PACKAGE)]
        depths.add(len(ours) - 1 - ours.index("cli/predict.py"))
        return run(network, *given)

    monkeypatch.setattr(OnnxRuntimeNetwork, "run_images", watched)
    monkeypatch.setattr(worker_module, "ThreadPoolExecutor", _Inline)
    arguments = ["predict", str(images[0].path.parents[1]), "--out", str(tmp_path / "run"), "--no-report"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--backend", "onnxruntime", "--threads", "1"])
    assert stopped.value.code == 0
    assert depths
    assert max(depths) <= 7


@pytest.mark.parametrize(
    "error",
    [ValueError("v"), struct.error("s"), OverflowError("o"), RecursionError("r"), MemoryError(), cv2.error("c")],
)
@pytest.mark.parametrize("step", ["decode_photograph", "find_cells", "sha256_bytes"])
def test_whatever_one_field_raises_is_its_own_error_and_the_others_go_on(
    bundle: Bundle, images: tuple[InputImage, ...], monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    right = getattr(worker_module, step)
    n_calls = 0

    def fails_once(*given: Any, **options: Any) -> Any:  # noqa: ANN401 - as the step
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise error
        return right(*given, **options)

    monkeypatch.setattr(worker_module, step, fails_once)
    found = list(Worker(bundle, CONFIG).find(images[:2]))
    assert found[0].error is not None
    words = "too little memory" if isinstance(error, MemoryError) else f"stops its decoder ({type(error).__name__}"
    assert found[0].error.startswith(f"{images[0].path}: found ")
    assert words in found[0].error
    assert found[1].error is None
