"""Runtimes behind one face: equal answers, stated precision, errors that say what to do."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from marrowscope.errors import BundleError, ConfigError, DependencyError, RunError
from marrowscope.networks import (
    BACKENDS,
    PRECISIONS,
    available_backends,
    available_devices,
    capabilities,
    choose_backend,
    open_network,
    runtimes,
)
from tests.onnx_graphs import classifier_graph, segmenter_graph


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "classifier-0.onnx"
    path.write_bytes(classifier_graph(seed=1))
    return path


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name not in available_backends():
        pytest.skip(f"{name} is not installed")
    return name


def test_answers_are_those_of_numpy(classifier: Path, backend: str) -> None:
    network = open_network(classifier, backend)
    batch = np.random.default_rng(0).random((5, 3, 96, 96), dtype=np.float32)
    weights = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    logits = batch.mean(axis=(2, 3)) @ weights
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = network.run({"image": batch})
    assert {name: values.shape for name, values in found.items()} == {
        "p_cblc": (5, 2),
        "p_countable": (5, 2),
        "p_category": (5, 16),
    }
    np.testing.assert_allclose(found["p_cblc"], expected, atol=1e-5)


def test_a_result_is_not_overwritten_by_the_next_run(classifier: Path, backend: str) -> None:
    network = open_network(classifier, backend)
    first = network.run({"image": np.zeros((1, 3, 96, 96), np.float32)})
    kept = first["p_cblc"].copy()
    network.run({"image": np.ones((1, 3, 96, 96), np.float32)})
    np.testing.assert_array_equal(first["p_cblc"], kept)


def test_what_was_used_is_recorded(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "segmenter.onnx"
    notes = {"um_per_px": "0.3", "license": "AGPL-3.0-only"}
    path.write_bytes(segmenter_graph(np.zeros((1, 7, 4), np.float32), np.zeros((1, 2, 8, 8), np.float32), notes))
    network = open_network(path, backend, threads=1)
    assert (network.backend, network.device, network.precision) == (backend, "CPU", "f32")
    assert dict(network.metadata) == notes


def test_lower_precision_is_opt_in_and_recorded(classifier: Path) -> None:
    if "openvino" not in available_backends():
        pytest.skip("openvino is not installed")
    assert open_network(classifier, "openvino", precision="bf16").precision == "bf16"
    with pytest.raises(ConfigError, match="ONNX Runtime computes in f32 here; choose f32 or the openvino backend"):
        open_network(classifier, "onnxruntime", precision="bf16")
    with pytest.raises(ConfigError, match="precision 'int8': expected one of f32, bf16, f16"):
        open_network(classifier, precision="int8")


def test_auto_prefers_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.networks.runtimes.available_backends", lambda: ("openvino", "onnxruntime"))
    assert choose_backend("auto") == "openvino"
    monkeypatch.setattr("marrowscope.networks.runtimes.available_backends", lambda: ("onnxruntime",))
    assert choose_backend("auto") == "onnxruntime"
    with pytest.raises(DependencyError, match="openvino is not installed; run `pip install openvino`"):
        choose_backend("openvino")
    monkeypatch.setattr("marrowscope.networks.runtimes.available_backends", lambda: ())
    with pytest.raises(DependencyError, match="pip install onnxruntime"):
        choose_backend("auto")


def test_unknown_backend_device_and_file(classifier: Path, backend: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="backend 'tensorrt': expected auto or one of openvino, onnxruntime"):
        open_network(classifier, "tensorrt")
    with pytest.raises(ConfigError, match=r"device 'TPU': .* has .*(cpu|CPU).*; choose one"):
        open_network(classifier, backend, device="TPU")
    with pytest.raises(BundleError, match="not found, expected an ONNX graph"):
        open_network(tmp_path / "none.onnx", backend)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(classifier.read_bytes().replace(b"MatMul", b"NoSuch"))
    with pytest.raises(BundleError, match=rf"broken\.onnx: {backend} cannot load it"):
        open_network(broken, backend)


def test_precisions_of_an_unknown_device_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"device 'TPU': OpenVINO here has .*CPU.*; choose one"):
        capabilities("openvino", "TPU")


def test_devices_are_listed(backend: str) -> None:
    assert "CPU" in available_devices(backend)


def test_images_are_taken_as_they_are_and_scaled_in_the_graph(classifier: Path, backend: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    network = open_network(classifier, backend)
    floats = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    for name, expected in network.run({"image": floats}).items():
        np.testing.assert_allclose(network.run_images(images)[name], expected, atol=1e-5)


def test_streams_run_at_once_and_give_what_one_gives(classifier: Path, backend: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 96, 96, 3), dtype=np.uint8)
    alone = open_network(classifier, backend, threads=1)
    expected = [alone.run_images(batch)["p_category"] for batch in images]
    network = open_network(classifier, backend, threads=3, streams=3)
    with ThreadPoolExecutor(6) as pool:
        found = [outputs["p_category"] for outputs in pool.map(network.run_images, images)]
    np.testing.assert_array_equal(found, expected)


def test_any_number_of_shapes_is_taken(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "segmenter.onnx"
    path.write_bytes(segmenter_graph(np.ones((1, 7, 4), np.float32), np.ones((1, 2, 8, 8), np.float32)))
    network = open_network(path, backend)
    for width in [32 * n for n in range(1, 14)] * 2:
        assert network.run_images(np.zeros((1, 32, width, 3), np.uint8))["output0"].shape == (1, 7, 4)


def test_precisions_of_a_device_are_named(backend: str) -> None:
    assert set(capabilities(backend)) <= set(PRECISIONS)
    assert "f32" in capabilities(backend)


def test_auto_takes_the_runtime_that_has_the_device(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.networks.runtimes.available_backends", lambda: ("openvino", "onnxruntime"))
    assert choose_backend("auto", "cuda") == choose_backend("auto", "CUDA") == "onnxruntime"
    assert choose_backend("auto", "cpu") == choose_backend("auto", "GPU.0") == "openvino"
    assert choose_backend("openvino", "cuda") == "openvino"  # named: it says itself what it has
    assert capabilities("auto", "cuda") == ("f32",)
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match=r"device 'cuda': ONNX Runtime here has cpu; choose one"):
        open_network(classifier, device="cuda")
    monkeypatch.setattr("marrowscope.networks.runtimes.available_backends", lambda: ("openvino",))
    with pytest.raises(DependencyError, match="pip install onnxruntime"):
        choose_backend("auto", "cuda")


def test_a_device_asked_for_by_name_is_not_replaced(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime built for a card, on a machine without a usable one: the session runs on the processor."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(classifier), providers=["CPUExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    with pytest.raises(ConfigError, match=r"device 'cuda': found that ONNX Runtime took CPU .* expected CUDA; check"):
        open_network(classifier, "auto", "cuda")
    assert open_network(classifier, "onnxruntime", "auto").device == "CPU"
    assert open_network(classifier, "onnxruntime", "cpu").device == "CPU"


def test_what_a_runtime_cannot_run_is_a_sentence(classifier: Path, backend: str) -> None:
    network = open_network(classifier, backend)
    with pytest.raises(
        BundleError, match=rf"classifier-0\.onnx: {backend} cannot run it \(.*expected a graph for this inp"
    ):
        network.run({"image": np.zeros((1, 3, 64, 64), np.float32)})


@pytest.mark.parametrize("said", ["plugin.cpp:54: can't alloc", "Failed to allocate 3099600000 bytes of memory"])
def test_want_of_memory_is_no_fault_of_the_graph(
    said: str, classifier: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = open_network(classifier, backend)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    sentence = rf"classifier-0\.onnx: {backend} found too little memory to %s it; free some, or use fewer processes"
    if backend == "openvino":
        monkeypatch.setattr(network, "_core", type("Core", (), {"read_model": fail}))
    else:
        monkeypatch.setattr(network, "_session", type("Session", (), {"run": fail}))
    step = "load" if backend == "openvino" else "run"
    with pytest.raises(RunError, match=sentence % step):
        network.run({"image": np.zeros((1, 3, 96, 96), np.float32)})
    if backend == "onnxruntime":
        monkeypatch.setattr("onnxruntime.InferenceSession", fail)
        with pytest.raises(RunError, match=sentence % "load"):
            open_network(classifier, backend)


def test_openvino_without_any_device_says_what_it_may_lack(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plugins are loaded when the devices are asked for; one that has no memory is left out without a word."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(runtimes, "_openvino_core", lambda: type("Core", (), {"available_devices": []}))
    with pytest.raises(ConfigError, match=r"found no device here, not even the processor, expected one; it may have t"):
        open_network(classifier, "openvino")


SIGNAL_AFTER_NETWORKS = """
import gc, os, signal, sys
from pathlib import Path
from marrowscope.networks import available_devices, capabilities, open_network
signal.signal(signal.SIGCHLD, lambda *_: print("handled"))
networks = [open_network(Path(sys.argv[1]), "openvino", threads=1) for _ in range(3)]
available_devices("openvino"), capabilities("openvino")
while networks:  # in the order they came
    del networks[0]
    gc.collect()
os.kill(os.getpid(), signal.SIGCHLD)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="signals run on a stack of OpenVINO's on Linux")
def test_a_signal_after_networks_were_closed_does_not_end_the_process(classifier: Path) -> None:
    """As the end of a data loader's process or an interrupt did; tried in a process of its own."""
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", SIGNAL_AFTER_NETWORKS, str(classifier)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
