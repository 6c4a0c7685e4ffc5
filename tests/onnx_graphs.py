"""Tiny ONNX graphs written byte by byte, so that bundles and runtimes are tested without a training package.

Only what the tests need of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: field numbers stand beside each use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def segmenter_graph(
    output0: NDArray[np.float32], output1: NDArray[np.float32], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Graph that takes ``images`` (1, 3, h, w) and always gives ``output0`` and ``output1``."""
    nodes = [
        node("ReduceMean", ["images"], ["mean"], {"keepdims": 0}),
        node("Mul", ["mean", "zero"], ["nothing"]),
        node("Add", ["constant0", "nothing"], ["output0"]),
        node("Add", ["constant1", "nothing"], ["output1"]),
    ]
    tensors = {"zero": np.zeros((), np.float32), "constant0": output0, "constant1": output1}
    outputs = {"output0": output0.shape, "output1": output1.shape}
    return model(nodes, tensors, {"images": (1, 3, "height", "width")}, outputs, metadata or {})


def classifier_graph(
    seed: int, size_px: int = 96, *, factor: float = 1.0, n_categories: int = 16, declared: int | str | None = None
) -> bytes:
    """Graph that takes ``image`` (n, 3, s, s) and gives three heads of probabilities from the mean color.

    Weights are multiplied by ``factor``; p_category has ``n_categories``, or so many as are ``declared``.
    """
    rng = np.random.default_rng(seed)
    heads = {"p_cblc": 2, "p_countable": 2, "p_category": n_categories}
    nodes = [
        node("GlobalAveragePool", ["image"], ["pooled"]),
        node("Flatten", ["pooled"], ["color"], {"axis": 1}),
    ]
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, n_classes in heads.items():
        tensors[f"weight_{name}"] = (factor * rng.normal(size=(3, n_classes))).astype(np.float32)
        nodes.append(node("MatMul", ["color", f"weight_{name}"], [f"logits_{name}"]))
        nodes.append(node("Softmax", [f"logits_{name}"], [name], {"axis": 1}))
    outputs: dict[str, tuple[int | str, ...]] = {name: ("n", n_classes) for name, n_classes in heads.items()}
    if declared is not None:
        outputs["p_category"] = ("n", declared)
    return model(nodes, tensors, {"image": ("n", 3, size_px, size_px)}, outputs, {})


def model(
    nodes: Sequence[bytes],
    tensors: Mapping[str, NDArray[np.float32]],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    metadata: Mapping[str, str],
    *,
    in_graph: bytes = b"",
) -> bytes:
    """Give a model; ``in_graph`` are further fields of its graph."""
    graph = b"".join(chunk(1, node) for node in nodes) + chunk(2, b"graph")
    graph += b"".join(chunk(5, tensor(name, values)) for name, values in tensors.items())
    graph += b"".join(chunk(11, _value_info(name, shape)) for name, shape in inputs.items())
    graph += b"".join(chunk(12, _value_info(name, shape)) for name, shape in outputs.items())
    graph += in_graph
    opset = chunk(8, number(2, 17))
    notes = b"".join(chunk(14, chunk(1, key.encode()) + chunk(2, value.encode())) for key, value in metadata.items())
    return number(1, 8) + chunk(7, graph) + opset + notes


def node(
    kind: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, int | list[int]] | None = None
) -> bytes:
    """Give a node; its attributes are an integer, or several."""
    body = b"".join(chunk(1, name.encode()) for name in inputs)
    body += b"".join(chunk(2, name.encode()) for name in outputs)
    body += chunk(3, "_".join(outputs).encode()) + chunk(4, kind.encode())
    for name, value in (attributes or {}).items():
        several = b"".join(number(8, item) for item in value) if isinstance(value, list) else b""
        stated = several + number(20, 7) if isinstance(value, list) else number(3, value) + number(20, 2)
        body += chunk(5, chunk(1, name.encode()) + stated)
    return body


def tensor(name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    """Give a tensor of float32, or of int64 where the values are."""
    dims = b"".join(number(1, size) for size in values.shape)
    kind, dtype = (7, "<i8") if values.dtype == np.int64 else (1, "<f4")
    return dims + number(2, kind) + chunk(8, name.encode()) + chunk(9, values.astype(dtype).tobytes())


def _value_info(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(chunk(1, chunk(2, size.encode()) if isinstance(size, str) else number(1, size)) for size in shape)
    return chunk(1, name.encode()) + chunk(2, chunk(1, number(1, 1) + chunk(2, dims)))


def number(field: int, value: int) -> bytes:
    """Give a field that is an integer."""
    return _varint(field << 3) + _varint(value)


def chunk(field: int, content: bytes) -> bytes:
    """Give a field of bytes: a text, data or a message."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
