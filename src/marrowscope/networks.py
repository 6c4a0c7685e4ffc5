"""ONNX graphs, run by OpenVINO or ONNX Runtime behind one small face.

Invariant: float32 means float32 on both. OpenVINO's CPU plugin picks bf16 where the processor has it unless it is
told otherwise, so the precision is always set, and what was set stands in ``Network.precision``.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from marrowscope.errors import BundleError, ConfigError, DependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

BACKENDS = ("openvino", "onnxruntime")
"""Runtimes in the order of preference: OpenVINO is 2.4 times faster on a CPU, ONNX Runtime is on every platform."""

PRECISIONS = ("f32", "bf16", "f16")
_ORT_QUIET = 3
_ORT_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Network(Protocol):
    """A loaded graph and the way it is run."""

    @property
    def backend(self) -> str:
        """``openvino`` or ``onnxruntime``."""

    @property
    def device(self) -> str:
        """The device in the runtime's own words, ``CPU`` or ``GPU.0`` for example."""

    @property
    def precision(self) -> str:
        """``f32``, ``bf16`` or ``f16``: what the arithmetic is done in."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The graph's own notes (ONNX metadata_props)."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run once: input name to array, output name to array of its own memory."""


class OnnxRuntimeNetwork:
    """A graph in ONNX Runtime; float32 only."""

    backend = "onnxruntime"
    precision = "f32"

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        import onnxruntime  # noqa: PLC0415 - a runtime is imported when it is used, and only then

        name = "cpu" if device == "auto" else device.lower()
        provider = _ORT_PROVIDERS.get(name)
        available = onnxruntime.get_available_providers()
        if provider not in available:
            known = [word for word, entry in _ORT_PROVIDERS.items() if entry in available]
            message = f"device {device!r}: ONNX Runtime here has {', '.join(known)}; choose one of them or auto"
            raise ConfigError(message)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ORT_QUIET
        if threads is not None:
            options.intra_op_num_threads = threads
        # Sums in an order that depends on the thread count would move a cell between two runs.
        options.use_deterministic_compute = True
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:
            raise _not_loaded(path, self.backend, error) from error
        self.device = name.upper()
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run once; see ``Network.run``."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


class OpenVinoNetwork:
    """A graph in OpenVINO, its arithmetic pinned to ``precision``."""

    backend = "openvino"

    def __init__(self, path: Path, device: str, precision: str, threads: int | None) -> None:
        import openvino  # noqa: PLC0415 - a runtime is imported when it is used, and only then

        core = openvino.Core()
        name = "CPU" if device == "auto" else device.upper()
        if name.split(".")[0] not in {entry.split(".")[0] for entry in core.available_devices}:
            message = f"device {device!r}: OpenVINO here has {', '.join(core.available_devices)}; choose one or auto"
            raise ConfigError(message)
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None and name == "CPU":
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(str(path))
            self._compiled = core.compile_model(model, name, settings)
        except Exception as error:
            raise _not_loaded(path, self.backend, error) from error
        self._request = self._compiled.create_infer_request()
        self.device = name
        self.precision = precision
        self.metadata: Mapping[str, str] = _openvino_metadata(model)
        self._outputs = [output.get_any_name() for output in self._compiled.outputs]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run once; see ``Network.run``."""
        self._request.infer(dict(inputs))
        return {
            name: np.array(self._request.get_output_tensor(index).data, dtype=np.float32)
            for index, name in enumerate(self._outputs)
        }


def open_network(
    path: Path,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "f32",
    threads: int | None = None,
) -> Network:
    """Load an ONNX graph. ``auto`` is OpenVINO where it is installed, and its CPU.

    Raises BundleError for a file that is no graph, ConfigError for a device or precision that is not there, and
    DependencyError for a backend that is not installed.
    """
    if not path.is_file():
        message = f"{path}: no such file, expected an ONNX graph; check the bundle"
        raise BundleError(message)
    chosen = choose_backend(backend)
    if precision not in PRECISIONS:
        message = f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}"
        raise ConfigError(message)
    if chosen == "openvino":
        return OpenVinoNetwork(path, device, precision, threads)
    if precision != "f32":
        message = f"precision {precision!r}: ONNX Runtime computes in f32 here; choose f32 or the openvino backend"
        raise ConfigError(message)
    return OnnxRuntimeNetwork(path, device, threads)


def available_backends() -> tuple[str, ...]:
    """Name the runtimes that are installed, the preferred one first; nothing is imported."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(name) is not None)


def choose_backend(backend: str) -> str:
    """Resolve ``auto`` to the preferred runtime, and check one that was named."""
    available = available_backends()
    if backend == "auto" and available:
        return available[0]
    if backend not in (*BACKENDS, "auto"):
        message = f"backend {backend!r}: expected auto or one of {', '.join(BACKENDS)}"
        raise ConfigError(message)
    if backend not in available:
        wanted = "onnxruntime" if backend == "auto" else backend
        message = f"the inference runtime {wanted} is not installed; run `pip install {wanted}`"
        raise DependencyError(message)
    return backend


def available_devices(backend: str) -> tuple[str, ...]:
    """Name the devices of an installed runtime."""
    runtime = importlib.import_module(choose_backend(backend))
    if backend == "openvino":
        return tuple(runtime.Core().available_devices)
    providers = runtime.get_available_providers()
    return tuple(name.upper() for name, provider in _ORT_PROVIDERS.items() if provider in providers)


def _openvino_metadata(model: Any) -> dict[str, str]:  # noqa: ANN401 - openvino is untyped here
    """Read ONNX metadata_props, which OpenVINO keeps below ``framework`` in the model's runtime information."""
    if "framework" not in model.get_rt_info():
        return {}
    entries = model.get_rt_info("framework").value
    return {str(key): str(getattr(value, "value", value)) for key, value in dict(entries).items()}


def _not_loaded(path: Path, backend: str, error: Exception) -> BundleError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return BundleError(f"{path}: {backend} cannot load it ({reason}); expected an ONNX graph, export it again")
