"""The script on quantized graphs counts and compares what it says it does; NNCF itself is no dependency."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx

from benchmarks.int8_graphs import KEPT_IN_FLOAT, in_float_again, print_run, run_graph  # the optional package first
from marrowscope.bundle import SEGMENTER_FILE, load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.records import FieldImage
from tests.bundles import make_bundle

if TYPE_CHECKING:
    from pathlib import Path


def test_weights_in_half_precision_become_float32_and_the_graph_computes_the_same(tmp_path: Path) -> None:
    bundle = load_bundle(demonstration_bundle())
    halved = bundle.folder / SEGMENTER_FILE
    model = in_float_again(onnx.load(str(halved)))
    path = tmp_path / "float.onnx"
    onnx.save(model, str(path))
    kinds = {weight.data_type for weight in model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in kinds
    weights = {weight.name for weight in model.graph.initializer}
    assert not [node.name for node in model.graph.node if node.op_type == "Cast" and node.input[0] in weights]
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    field = FieldImage(pixels, bundle.spec.segmenter.um_per_px, 128, 96, "")
    (before,), (after,) = (
        run_graph(graph, [field], bundle.spec.segmenter, "onnxruntime", "f32")[0] for graph in (halved, path)
    )
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=1e-4, atol=1e-4)


def test_first_and_last_convolutions_and_the_attention_are_found_by_name() -> None:
    model = onnx.load(str(demonstration_bundle() / SEGMENTER_FILE))
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    kept = [name for name in convolutions if KEPT_IN_FLOAT.fullmatch(name)]
    assert kept[0] == convolutions[0]
    assert "/model.1/conv/Conv" not in kept
    assert {name for name in convolutions if "/attn/" in name} <= set(kept)
    last = {f"/model.23/cv{head}.{level}/cv{head}.{level}.2/Conv" for head in (2, 3, 4) for level in range(3)}
    assert {name for name in kept if name.startswith("/model.23/")} == last | {
        "/model.23/proto/cv3/conv/Conv", "/model.23/dfl/conv/Conv",
    }  # fmt: skip


def test_a_line_counts_what_is_found_too_and_the_largest_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = (60.0, 50.0, 20.0, 20.0), (140.0, 90.0, 20.0, 20.0)
    field = FieldImage(np.zeros((128, 192, 3), np.uint8), 0.3, 192, 128, "")
    runs = []
    for name, cells in (("one", [(*here, 0.9)]), ("two", [(*here, 0.65), (*there, 0.9)])):
        bundle = make_bundle(tmp_path / name, cells=cells)
        runs.append(run_graph(bundle.folder / SEGMENTER_FILE, [field] * 3, bundle.spec.segmenter, "onnxruntime", "f32"))
    print_run("a", "onnxruntime", "f32", runs[1], runs[1])
    print_run("b", "openvino", "bf16", runs[1], runs[0])
    same, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (same["n_contours"], same["n_base"], same["n_found_too"], same["mean_iou"]) == (6, 6, 6, 1.0)
    assert (same["largest_score_difference"], same["largest_prototype_difference"]) == (0, 0)
    assert (other["graph"], other["runtime"], other["float_layers"]) == ("b", "openvino", "bf16")
    assert (other["n_contours"], other["n_base"], other["n_found_too"]) == (6, 3, 3)
    assert other["largest_score_difference"] == pytest.approx(0.9, abs=1e-3)  # where only one of both sees a cell
