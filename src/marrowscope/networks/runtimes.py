"""ONNX graphs, run by OpenVINO or ONNX Runtime behind one small face.

A network is opened for a number of streams: that many threads may run it at once, each run on its share of the
threads. One-thread streams, as many as there are cores, keep a machine busy without oversubscribing it, and what they
compute does not depend on how many there are. OpenVINO compiles a graph for each shape of its input: a graph for all
shapes is 8% slower in bf16, and where it rounds otherwise a field's cells would depend on the fields before it.

Invariants: float32 means float32 on both runtimes. OpenVINO's CPU plugin picks bf16 where the processor has it unless
it is told otherwise, so the precision is always set, and what was set stands in ``Network.precision``. An input gives
the same bits whatever else is in its batch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections import OrderedDict
from functools import cache
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from marrowscope.errors import ConfigError, DependencyError
from marrowscope.networks.failures import not_loaded, not_run
from marrowscope.networks.graph import Graph, read_graph

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from marrowscope.records import ImageArray

BACKENDS = ("openvino", "onnxruntime")
"""Runtimes in the order of preference: OpenVINO is 2.4 times faster on a CPU, ONNX Runtime is on every platform."""

PRECISIONS = ("f32", "bf16", "f16")

_ORT_QUIET = 3
_ORT_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ORT_ONLY = frozenset({"cuda"})
"""Devices that ONNX Runtime alone has: who asks for one of them gets this runtime without naming it."""
_ORT_PRECISIONS = ("f32",)
_OPENVINO_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
_MAX_SHAPES = 8
"""Shapes a graph is kept compiled for, the last used; compiling one takes 0.25 s."""
_ANY_SHAPE = ()


class Network(Protocol):
    """A loaded graph and the way it is run; as many threads as it has streams may run it at once, others wait."""

    @property
    def backend(self) -> str:
        """``openvino`` or ``onnxruntime``."""

    @property
    def device(self) -> str:
        """The device in the runtime's own words, ``CPU`` or ``GPU.0`` for example."""

    @property
    def precision(self) -> str:
        """One of PRECISIONS: what the arithmetic is done in."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The graph's own notes (ONNX metadata_props)."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run once: input name to array, output name to array of its own memory."""

    def run_images(self, images: ImageArray) -> dict[str, NDArray[np.float32]]:
        """Run once on RGB images (n, h, w, 3) uint8; the graph's one input is (n, 3, h, w), 0 to 1."""


class OnnxRuntimeNetwork:
    """A graph in ONNX Runtime; float32, but for the layers that the graph itself quantizes."""

    backend = "onnxruntime"

    def __init__(self, graph: Graph, device: str, precision: str, threads: int | None, streams: int) -> None:
        onnxruntime = load_runtime(self.backend)
        available = onnxruntime.get_available_providers()
        name = resolve_device(self.backend, device).lower()
        provider = _ORT_PROVIDERS.get(name)
        if provider not in available:
            known = [word for word, entry in _ORT_PROVIDERS.items() if entry in available]
            message = f"device {device!r}: ONNX Runtime here has {', '.join(known)}; choose one of them or auto"
            raise ConfigError(message)
        self._path = graph.path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ORT_QUIET
        if threads is not None:
            options.intra_op_num_threads = max(1, threads // streams)
        # Sums in an order that depends on the thread count would move a cell between two runs.
        options.use_deterministic_compute = True
        # What was looked through is ONNX; the runtime would take its own format too.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(graph.data, options, providers=[provider])
        except Exception as error:
            raise not_loaded(graph.path, self.backend, error) from error
        # Without a usable card the runtime falls back to the processor and says so in its log alone.
        used = self._session.get_providers()[0]
        self.device = next(word for word, entry in _ORT_PROVIDERS.items() if entry == used).upper()
        if device != "auto" and used != provider:
            message = (
                f"device {device!r}: found that ONNX Runtime took {self.device} in its place, expected {name.upper()}; "
                "check the card, its driver and its libraries, or choose auto"
            )
            raise ConfigError(message)
        self.precision = precision
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run once; see ``Network.run``."""
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))
        except Exception as error:
            raise not_run(self._path, self.backend, error) from error

    def run_images(self, images: ImageArray) -> dict[str, NDArray[np.float32]]:
        """Run once; see ``Network.run_images``."""
        batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
        return self.run({self._input: batch})


class OpenVinoNetwork:
    """A graph in OpenVINO, its arithmetic pinned to ``precision``; compiled when it is first run."""

    backend = "openvino"

    def __init__(self, graph: Graph, device: str, precision: str, threads: int | None, streams: int) -> None:
        openvino = load_runtime(self.backend)
        # The first look at an element type fills a table under a lock of its own. Two threads whose first run begins
        # together would wait for each other, one with that lock and one with the interpreter's: filled here, before.
        openvino.Type.f32.to_dtype()
        self._core = _openvino_core()
        name = _openvino_device(self._core, device)
        self._graph, self._streams = graph, streams
        self.device = name
        self.precision = precision
        self._settings = self._openvino_settings(threads)
        try:
            model = self._core.read_model(graph.data)
        except Exception as error:
            raise not_loaded(graph.path, self.backend, error) from error
        self.metadata: Mapping[str, str] = _openvino_metadata(model)
        self._lock = Lock()
        self._compiled: OrderedDict[tuple[int, ...], _Compiled] = OrderedDict()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run once; see ``Network.run``."""
        return self._infer(_ANY_SHAPE, dict(inputs))

    def run_images(self, images: ImageArray) -> dict[str, NDArray[np.float32]]:
        """Run once; see ``Network.run_images``. The conversion to 0-1 is part of the compiled graph."""
        return self._infer(images.shape, {0: np.ascontiguousarray(images)})

    def _infer(self, shape: tuple[int, ...], inputs: Mapping[Any, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        compiled = self._for_shape(shape)
        try:
            return compiled.infer(inputs)
        except Exception as error:
            raise not_run(self._graph.path, self.backend, error) from error

    def _openvino_settings(self, threads: int | None) -> dict[str, Any]:
        """Return the settings a graph is compiled with."""
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.precision}
        if self._streams > 1:
            settings["NUM_STREAMS"] = self._streams
        else:
            settings["PERFORMANCE_HINT"] = "LATENCY"
        if self.device == "CPU":
            # A network bound to a core waits for whatever else runs there: another process' network, for one.
            settings["ENABLE_CPU_PINNING"] = False
        if threads is not None and self.device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = threads
        return settings

    def _for_shape(self, shape: tuple[int, ...]) -> _Compiled:
        """Return the graph compiled for images of ``shape`` (n, h, w, 3) uint8; for _ANY_SHAPE it takes floats."""
        with self._lock:
            if shape not in self._compiled:
                self._compiled[shape] = self._compile(shape)
                while len(self._compiled) > _MAX_SHAPES:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(shape)
            return self._compiled[shape]

    def _compile(self, shape: tuple[int, ...]) -> _Compiled:
        openvino = load_runtime(self.backend)
        try:
            model = self._core.read_model(self._graph.data)
            if shape:
                model = _with_image_input(openvino, model)
                model.reshape({0: list(shape)})
            return _Compiled(self._core.compile_model(model, self.device, self._settings), self._streams)
        except Exception as error:
            raise not_loaded(self._graph.path, self.backend, error) from error


class _Compiled:
    """A compiled OpenVINO graph and its requests, one a stream."""

    def __init__(self, compiled: Any, streams: int) -> None:  # noqa: ANN401 - openvino is untyped here
        self._names = [output.get_any_name() for output in compiled.outputs]
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._requests.put(compiled.create_infer_request())

    def infer(self, inputs: Mapping[Any, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        request = self._requests.get()
        try:
            request.infer(inputs, share_inputs=True)
            return {
                name: np.array(request.get_output_tensor(index).data, dtype=np.float32)
                for index, name in enumerate(self._names)
            }
        finally:
            self._requests.put(request)


def open_network(
    graph: Path | Graph,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "f32",
    *,
    threads: int | None = None,
    streams: int = 1,
) -> Network:
    """Load an ONNX graph. ``auto`` is OpenVINO where it is installed, and its CPU; ONNX Runtime for the device cuda.

    ``graph`` is a file, or what ``read_graph`` gave for it: the runtime gets the bytes that were looked through.
    ``threads`` are shared by the ``streams``; None leaves their number to the runtime.

    Raises BundleError for a file that is no graph or holds what ``read_graph`` refuses, ConfigError for a device or
    precision that is not there, and DependencyError for a backend that is not installed. A device asked for by name is
    never replaced by another.
    """
    graph = graph if isinstance(graph, Graph) else read_graph(graph)
    chosen = choose_backend(backend, device)
    if precision not in PRECISIONS:
        message = f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}"
        raise ConfigError(message)
    if chosen == "openvino":
        return OpenVinoNetwork(graph, device, precision, threads, streams)
    if precision not in _ORT_PRECISIONS:
        message = f"precision {precision!r}: ONNX Runtime computes in f32 here; choose f32 or the openvino backend"
        raise ConfigError(message)
    return OnnxRuntimeNetwork(graph, device, precision, threads, streams)


def load_runtime(backend: str) -> Any:  # noqa: ANN401 - both runtimes are untyped here
    """Import a runtime when it is used, and only then, with what it would tell its maker shut before.

    OpenVINO's tools ask an analytics host and write below the home folder as soon as they are imported, unless its
    package for that cannot be had; it then uses a stub of its own. ONNX Runtime from 1.29 on does both on every
    platform; the variable that ``marrowscope`` sets when it is imported stops it there, the call on Windows.
    """
    if backend == "openvino":
        # What is None there cannot be imported.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    runtime = importlib.import_module(backend)
    if backend == "onnxruntime":
        runtime.disable_telemetry_events()
    return runtime


@cache
def _openvino_core() -> Any:  # noqa: ANN401 - openvino is untyped here
    """Return the one ``openvino.Core`` of this process; it lives as long as the process.

    Each core's CPU plugin gives the thread that loads it a stack for signals, and takes it away when the core goes. Of
    two cores that go in the order they came, the second gives the thread the first one's stack back, which is gone: the
    next signal with a handler, an interrupt from the keyboard or the end of a child process, ends this one without a
    word (found with OpenVINO 2026.4; an interpreter of Python 3.10 or later runs its handlers on that stack).
    """
    return load_runtime("openvino").Core()


def available_backends() -> tuple[str, ...]:
    """Name the runtimes that are installed, the preferred one first; nothing is imported."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(name) is not None)


def choose_backend(backend: str, device: str = "auto") -> str:
    """Resolve ``auto`` to the preferred runtime that has ``device``, and check one that was named."""
    available = available_backends()
    if backend == "auto" and device.lower() in _ORT_ONLY:
        backend = "onnxruntime"
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
    runtime = load_runtime(choose_backend(backend))
    if backend == "openvino":
        return tuple(_openvino_core().available_devices)
    providers = runtime.get_available_providers()
    return tuple(name.upper() for name, provider in _ORT_PROVIDERS.items() if provider in providers)


def resolve_device(backend: str, device: str = "auto") -> str:
    """Name the device that an installed runtime is asked to use, as ``Network.device`` does.

    ``auto`` is the processor with OpenVINO, and with ONNX Runtime a card where it is built for one.
    """
    if device != "auto":
        return device.upper()
    return "CUDA" if backend == "onnxruntime" and "CUDA" in available_devices(backend) else "CPU"


def capabilities(backend: str, device: str = "auto") -> tuple[str, ...]:
    """Name the precisions a device computes in, out of PRECISIONS.

    Raises ConfigError if OpenVINO does not have the device here.
    """
    if choose_backend(backend, device) != "openvino":
        return _ORT_PRECISIONS
    core = _openvino_core()
    return _openvino_capabilities(core, _openvino_device(core, device))


def _openvino_device(core: Any, device: str) -> str:  # noqa: ANN401 - openvino is untyped here
    """Name the device that OpenVINO is asked to use. Raises ConfigError if this machine does not have it."""
    name = resolve_device("openvino", device)
    if not core.available_devices:
        message = (
            "OpenVINO found no device here, not even the processor, expected one; it may have too little memory to "
            "load its plugins: free some, or install it again"
        )
        raise ConfigError(message)
    if name.split(".")[0] not in {entry.split(".")[0] for entry in core.available_devices}:
        message = (
            f"device {device!r}: OpenVINO here has {', '.join(core.available_devices)}; choose one of them or auto"
        )
        raise ConfigError(message)
    return name


def _openvino_capabilities(core: Any, device: str) -> tuple[str, ...]:  # noqa: ANN401 - openvino is untyped here
    found = set(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
    return tuple(name for name in PRECISIONS if _OPENVINO_CAPABILITIES[name] in found)


def _with_image_input(openvino: Any, model: Any) -> Any:  # noqa: ANN401 - openvino is untyped here
    """Let the graph take (n, h, w, 3) uint8 in place of (n, 3, h, w) from 0 to 1."""
    prepared = openvino.preprocess.PrePostProcessor(model)
    entry = prepared.input(0)
    entry.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    entry.preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    entry.model().set_layout(openvino.Layout("NCHW"))
    return prepared.build()


def _openvino_metadata(model: Any) -> dict[str, str]:  # noqa: ANN401 - openvino is untyped here
    """Read ONNX metadata_props, which OpenVINO keeps below ``framework`` in the model's runtime information."""
    if "framework" not in model.get_rt_info():
        return {}
    entries = model.get_rt_info("framework").value
    return {str(key): str(getattr(value, "value", value)) for key, value in dict(entries).items()}
