"""ONNX graphs: what may be loaded, and the runtimes that run it."""

from marrowscope.networks.graph import Graph, Port, read_graph
from marrowscope.networks.runtimes import (
    BACKENDS,
    PRECISIONS,
    Network,
    OnnxRuntimeNetwork,
    OpenVinoNetwork,
    available_backends,
    available_devices,
    capabilities,
    choose_backend,
    load_runtime,
    open_network,
    resolve_device,
)

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Graph",
    "Network",
    "OnnxRuntimeNetwork",
    "OpenVinoNetwork",
    "Port",
    "available_backends",
    "available_devices",
    "capabilities",
    "choose_backend",
    "load_runtime",
    "open_network",
    "read_graph",
    "resolve_device",
]
