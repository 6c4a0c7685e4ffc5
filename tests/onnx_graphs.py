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
        _node("ReduceMean", ["images"], ["mean"], {"keepdims": 0}),
        _node("Mul", ["mean", "zero"], ["nothing"]),
        _node("Add", ["constant0", "nothing"], ["output0"]),
        _node("Add", ["constant1", "nothing"], ["output1"]),
    ]
    tensors = {"zero": np.zeros((), np.float32), "constant0": output0, "constant1": output1}
    outputs = {"output0": output0.shape, "output1": output1.shape}
    return _model(nodes, tensors, {"images": (1, 3, "height", "width")}, outputs, metadata or {})


def classifier_graph(seed: int, size_px: int = 96) -> bytes:
    """Graph that takes ``image`` (n, 3, s, s) and gives three heads of probabilities from the mean color."""
    rng = np.random.default_rng(seed)
    heads = {"p_cblc": 2, "p_countable": 2, "p_category": 16}
    nodes = [
        _node("GlobalAveragePool", ["image"], ["pooled"]),
        _node("Flatten", ["pooled"], ["color"], {"axis": 1}),
    ]
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, n_classes in heads.items():
        tensors[f"weight_{name}"] = rng.normal(size=(3, n_classes)).astype(np.float32)
        nodes.append(_node("MatMul", ["color", f"weight_{name}"], [f"logits_{name}"]))
        nodes.append(_node("Softmax", [f"logits_{name}"], [name], {"axis": 1}))
    outputs = {name: ("n", n_classes) for name, n_classes in heads.items()}
    return _model(nodes, tensors, {"image": ("n", 3, size_px, size_px)}, outputs, {})


def _model(
    nodes: Sequence[bytes],
    tensors: Mapping[str, NDArray[np.float32]],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    metadata: Mapping[str, str],
) -> bytes:
    graph = b"".join(_chunk(1, node) for node in nodes) + _chunk(2, b"graph")
    graph += b"".join(_chunk(5, _tensor(name, values)) for name, values in tensors.items())
    graph += b"".join(_chunk(11, _value_info(name, shape)) for name, shape in inputs.items())
    graph += b"".join(_chunk(12, _value_info(name, shape)) for name, shape in outputs.items())
    opset = _chunk(8, _number(2, 17))
    notes = b"".join(_chunk(14, _chunk(1, key.encode()) + _chunk(2, value.encode())) for key, value in metadata.items())
    return _number(1, 8) + _chunk(7, graph) + opset + notes


def _node(
    kind: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, int] | None = None
) -> bytes:
    body = b"".join(_chunk(1, name.encode()) for name in inputs)
    body += b"".join(_chunk(2, name.encode()) for name in outputs)
    body += _chunk(3, "_".join(outputs).encode()) + _chunk(4, kind.encode())
    for name, value in (attributes or {}).items():
        body += _chunk(5, _chunk(1, name.encode()) + _number(3, value) + _number(20, 2))
    return body


def _tensor(name: str, values: NDArray[np.float32]) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    return dims + _number(2, 1) + _chunk(8, name.encode()) + _chunk(9, values.astype("<f4").tobytes())


def _value_info(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(
        _chunk(1, _chunk(2, size.encode()) if isinstance(size, str) else _number(1, size)) for size in shape
    )
    return _chunk(1, name.encode()) + _chunk(2, _chunk(1, _number(1, 1) + _chunk(2, dims)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _chunk(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
