"""A graph is looked through before a runtime sees it; each thing it may not hold has its sentence."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_bytes
from marrowscope.networks import read_graph
from marrowscope.networks.graph import FLOAT, Port
from tests.onnx_graphs import chunk, classifier_graph, model, node, number, segmenter_graph, tensor

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = {"image": ("n", 3, 8, 8)}
ANSWER = {"answer": ("n", 3, 8, 8)}
WEIGHT = tensor("weight", np.ones((2, 2), np.float32))


def text(field: int, value: str) -> bytes:
    return chunk(field, value.encode())


def graph_of(*nodes: bytes, tensors: bytes = b"", extra: bytes = b"", in_graph: bytes = b"") -> bytes:
    """Give a model of these nodes; ``tensors`` are whole initializers, ``extra`` stands behind its own fields."""
    initializers = chunk(5, tensors) if tensors else b""
    return model(list(nodes), {}, IMAGE, ANSWER, {}, in_graph=initializers + in_graph) + extra


def attribute(field: int, content: bytes) -> bytes:
    """Give a node's attribute that holds a message in ``field``."""
    return chunk(5, text(1, "body") + chunk(field, content))


def in_domain(operator: str, domain: str) -> bytes:
    return node(operator, ["image"], ["answer"]) + text(7, domain)


def sized(operator: str, values: list[int]) -> bytes:
    """Give a graph whose operator is asked for as many values as the product of ``values``."""
    return graph_of(
        node(operator, ["image", "size"], ["answer"]) if operator != "ConstantOfShape"
        else node(operator, ["size"], ["answer"]),
        tensors=tensor("size", np.array(values, np.int64)),
    )  # fmt: skip


PLAIN = node("Relu", ["image"], ["answer"])
EXTERNAL = number(1, 4) + number(2, 1) + text(8, "weight") + chunk(13, text(1, "location") + text(2, "/etc/passwd"))

REFUSED = {
    "external data": (graph_of(PLAIN, tensors=EXTERNAL + number(14, 1)), "found external data, a tensor in another"),
    "external place alone": (graph_of(PLAIN, tensors=WEIGHT + number(14, 1)), "found external data, a tensor in ano"),
    "external in a constant": (
        graph_of(node("Constant", [], ["c"]) + attribute(5, EXTERNAL), PLAIN),
        "found external data, a tensor in another file",
    ),
    "custom operator": (graph_of(in_domain("Relu", "com.example")), "custom operator 'Relu' of 'com.example'"),
    "reads a file": (graph_of(in_domain("EPContext", "com.microsoft")), "custom operator 'EPContext' of 'com.mic"),
    "loop": (graph_of(node("Loop", ["image"], ["answer"])), "found Loop, which may run without end"),
    "scan": (graph_of(node("Scan", ["image"], ["answer"])), "found Scan, which may run without end"),
    "branch": (graph_of(node("If", ["image"], ["answer"])), "found If, which may run without end"),
    "body": (graph_of(PLAIN + attribute(6, b"")), "found a graph inside a node, expected a graph that stands alone"),
    "bodies": (graph_of(PLAIN + attribute(11, b"")), "found graphs inside a node"),
    "functions": (graph_of(PLAIN, extra=chunk(25, text(1, "f"))), "found functions of its own"),
    "training": (graph_of(PLAIN, extra=chunk(20, b"")), "found a training, not a network alone"),
    "sparse": (graph_of(PLAIN, in_graph=chunk(15, b"")), "found sparse tensors"),
    "random": (graph_of(node("RandomNormalLike", ["image"], ["answer"])), "which gives another answer each time"),
    "unknown field": (graph_of(PLAIN, extra=number(99, 1)), "found field 99 of a model, which is not known here"),
    "too few values": (
        graph_of(PLAIN, tensors=number(1, 1 << 40) + number(2, 1) + text(8, "w") + chunk(9, bytes(16))),
        r"found the tensor 'w' of 1099511627776 values in 16 bytes, expected as many as it states",
    ),
    "negative size": (
        graph_of(PLAIN, tensors=number(1, (1 << 64) - 1) + number(2, 1) + text(8, "w")),
        "found the tensor 'w' of -1 values in 0 bytes",
    ),
    "texts": (graph_of(PLAIN, tensors=number(1, 1) + number(2, 8) + chunk(6, b"a")), "found a tensor of texts"),
    "complex numbers": (
        graph_of(PLAIN, tensors=number(1, 2) + number(2, 14) + text(8, "w") + chunk(9, bytes(16))),
        "found the tensor 'w' of type 14, expected numbers",
    ),
    "huge shape": (sized("ConstantOfShape", [1 << 20, 1 << 20]), r"found ConstantOfShape asked for 1\.1e\+12 values"),
    "huge expansion": (sized("Expand", [1 << 31, 1, 1, 1]), r"found Expand asked for 2\.15e\+09 values, expected at"),
    "huge padding": (
        graph_of(node("MaxPool", ["image"], ["answer"], {"pads": [0, 0, 1 << 30, 1 << 30]})),
        "found MaxPool with a size of 1,073,741,824, expected at most 65,536",
    ),
    "no graph": (number(1, 8), "found 0 graphs in it, expected an ONNX graph; export it again"),
    "another format": (b"\x18\x00\x00\x00ORTM" + bytes(40), "found another kind of file"),
    "another format behind a version": (b"\x08\x08\x12\x04ORTM" + graph_of(PLAIN)[2:], "found another kind of file"),
    "a page": (b"<?xml version='1.0'?><net name='x'></net>", "found another kind of file, expected an ONNX graph"),
    "nothing": (b"", "found another kind of file, expected an ONNX graph"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_may_not_hold_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    content, sentence = REFUSED[name]
    path = tmp_path / "classifier-0.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=sentence) as refused:
        read_graph(path)
    assert str(refused.value).startswith(f"{path}: found ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        graph_of(PLAIN),
        graph_of(PLAIN, tensors=WEIGHT),
        graph_of(PLAIN, tensors=WEIGHT + number(14, 0)),
        graph_of(in_domain("QLinearAdd", "com.microsoft")),
        graph_of(in_domain("Relu", "ai.onnx")),
        sized("Expand", [4, 3, 8, 8]),
        sized("ConstantOfShape", [0]),
    ],
)
def test_what_stands_alone_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(content)
    graph = read_graph(path, sha256_bytes(content))
    assert graph.data == content
    assert graph.inputs == (Port("image", FLOAT, (None, 3, 8, 8)),)
    assert graph.outputs == (Port("answer", FLOAT, (None, 3, 8, 8)),)
    assert str(graph.outputs[0]) == "answer (n, 3, 8, 8)"


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(model([PLAIN], {"weight": np.ones(2, np.float32)}, IMAGE | {"weight": (2,)}, ANSWER, {}))
    assert [port.name for port in read_graph(path).inputs] == ["image"]


def test_another_hash_and_an_absurd_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(graph_of(PLAIN))
    with pytest.raises(BundleError, match=r"found SHA-256 [0-9a-f]{64}, expected 0{64}; the file was changed"):
        read_graph(path, "0" * 64)
    monkeypatch.setattr("marrowscope.networks.graph.MAX_BYTES", 100)
    with pytest.raises(BundleError, match=r"found 1\d\d bytes, expected at most 100"):
        read_graph(path)


def test_a_file_of_endless_fields_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.networks.wire.MAX_FIELDS", 1000)
    path = tmp_path / "graph.onnx"
    path.write_bytes(number(1, 8) * 1001)
    with pytest.raises(BundleError, match="found more than 1000 fields"):
        read_graph(path)


@pytest.mark.parametrize(
    "content",
    [classifier_graph(1), segmenter_graph(np.zeros((1, 37, 4), np.float32), np.zeros((1, 32, 2, 2), np.float32))],
    ids=["one", "other"],
)
def test_a_truncation_or_a_flipped_bit_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "graph.onnx"
    rng = np.random.default_rng(5)
    for at in rng.integers(0, len(content), 300).tolist():
        changed = bytearray(content)
        changed[at] ^= 1 << int(rng.integers(8))
        for damaged in (content[:at], bytes(changed)):
            path.write_bytes(damaged)
            with contextlib.suppress(BundleError):
                assert read_graph(path).data == damaged


def test_the_shipped_graphs_are_looked_through_fast() -> None:
    folder = demonstration_bundle()
    seconds = []
    for _ in range(3):
        started = time.process_time()
        for name in ("classifier-0.onnx", "segmenter/segmenter.onnx"):
            read_graph(folder / name)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.6


def test_ports_and_refusals_agree_with_the_onnx_package(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    info = helper.make_tensor_value_info
    values = onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    packed = helper.make_tensor("p", onnx.TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "p"], ["z"])],
            "g", [info("x", 1, ["n", 2])], [info("z", 1, [None, 3])], [values, packed],
        )
    )  # fmt: skip
    path = tmp_path / "graph.onnx"
    onnx.save(made, path)
    graph = read_graph(path)
    assert graph.inputs == (Port("x", 1, (None, 2)),)
    assert graph.outputs == (Port("z", 1, (None, 3)),)
    onnx.save(made, path, save_as_external_data=True, size_threshold=0, location="w.bin")
    with pytest.raises(BundleError, match="external data"):
        read_graph(path)
