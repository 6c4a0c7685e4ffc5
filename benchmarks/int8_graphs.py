"""The fault for which int8 is not offered: one quantized graph, computed by both runtimes, JSON lines.

    uv venv ENV
    uv pip install --python ENV/bin/python -r pyproject.toml nncf onnx
    marrowscope simulate COHORT --patients 4 --fields 16 --seed 7
    PYTHONPATH=src ENV/bin/python benchmarks/int8_graphs.py COHORT
    PYTHONPATH=src ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 ENV/bin/python benchmarks/int8_graphs.py COHORT

The second call keeps OpenVINO from the matrix instructions (AMX) of a newer processor, as if it had none.

Steps: the segmenter of a bundle, its weights in float32 again, is quantized after training by the ONNX backend of NNCF
(which is no dependency of marrowscope), with ranges from the first fields of COHORT; the float graph and the quantized
one then run on the last fields, in OpenVINO and in ONNX Runtime, both opened as a prediction opens them. NNCF's
OpenVINO backend is not tried: what it makes is no ONNX graph, and ONNX Runtime cannot read it.

A line for each graph, runtime and arithmetic of the layers that stay float: contours found; how many of those that the
float graph gives in ONNX Runtime are found too (one to one, IoU 0.5 or more), and with which mean IoU; the largest
difference from that graph in a score and, in standard deviations, in a mask prototype. A last line has the same between
both runtimes for the quantized graph. Two exports are tried: all layers quantized, and the first and last convolutions
and the attention left in float.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import re
import sys
import tempfile
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from marrowscope.bundle import SEGMENTER_FILE, load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cells.match import match_contours
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.imaging.photograph import decode_photograph, read_file
from marrowscope.networks import OnnxRuntimeNetwork, OpenVinoNetwork, capabilities, load_runtime, read_graph
from marrowscope.segment.letterbox import letterbox
from marrowscope.segment.segmenter import Segmenter
from marrowscope.studies.precision_gate import processor_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray, FieldImage
    from marrowscope.segment.config import SegmenterConfig

KEPT_IN_FLOAT = re.compile(
    r"/model\.0/conv/Conv|.*/attn/.*|/model\.23/(cv[234]\.\d/cv[234]\.\d\.2|proto/cv3/conv|dfl/.*)/?.*"
)
"""First and last convolutions and the attention, by the names that Ultralytics' export gives their nodes."""
SCORE_ROW = 4
LIMIT = "ONEDNN_MAX_CPU_ISA"
"""Variable of the library that OpenVINO computes with on a processor: the newest instructions it may use."""

Outputs = list[dict[str, "NDArray[np.float32]"]]


def main() -> None:
    """Quantize, run, and print."""
    parser = argparse.ArgumentParser(description="One quantized segmenter in both runtimes, as JSON lines.")
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--bundle", type=Path, default=demonstration_bundle())
    parser.add_argument("--calibrate", type=int, default=40, help="fields for the ranges")
    parser.add_argument("--fields", type=int, default=24, help="fields that are compared")
    wanted = parser.parse_args()
    bundle = load_bundle(wanted.bundle)
    config = bundle.spec.segmenter
    fields = list(read_fields(wanted.cohort, config))
    if len(fields) < wanted.calibrate + wanted.fields:
        sys.exit(f"{wanted.cohort}: found {len(fields)} fields, expected {wanted.calibrate} and {wanted.fields}")
    load_runtime("openvino")  # before NNCF imports it, so that nothing reports its use
    packages = {name: metadata.version(name) for name in ("nncf", "onnx", "openvino", "onnxruntime")}
    counts = {"calibrate": wanted.calibrate, "fields": wanted.fields, "instructions": os.environ.get(LIMIT, "all")}
    print(json.dumps({"processor": processor_name()} | packages | counts), flush=True)
    compared = fields[-wanted.fields :]
    with tempfile.TemporaryDirectory() as scratch:
        in_float = Path(scratch) / "float.onnx"
        model = in_float_again(onnx.load(str(bundle.folder / SEGMENTER_FILE)))
        onnx.save(model, str(in_float))
        base = run_graph(in_float, compared, config, "onnxruntime", "f32")
        print_run("float", "onnxruntime", "f32", base, base)
        for floats in float_precisions():
            print_run("float", "openvino", floats, run_graph(in_float, compared, config, "openvino", floats), base)
        for name, ignored in (("all layers", None), ("most layers", KEPT_IN_FLOAT)):
            quantized = Path(scratch) / "int8.onnx"
            onnx.save(quantize(in_float, fields[: wanted.calibrate], config, ignored), str(quantized))
            in_ort = run_graph(quantized, compared, config, "onnxruntime", "f32")
            print_run(name, "onnxruntime", "f32", in_ort, base)
            for floats in float_precisions():
                in_openvino = run_graph(quantized, compared, config, "openvino", floats)
                print_run(name, "openvino", floats, in_openvino, base)
                print_run(name, "openvino against onnxruntime", floats, in_openvino, in_ort)


def float_precisions() -> list[str]:
    """Name what OpenVINO may compute float layers in here: f32, and bf16 where the processor has it."""
    return [name for name in ("f32", "bf16") if name in capabilities("openvino")]


def read_fields(cohort: Path, config: SegmenterConfig) -> Iterator[FieldImage]:
    """Read the photographs of ``cohort`` as a prediction does."""
    for item in collect_inputs([cohort]).images:
        yield decode_photograph(
            read_file(item.path),
            item.path,
            stated_um_per_px=item.um_per_px,
            default_um_per_px=None,
            coarsest_um_per_px=config.um_per_px / 2,
        )


def in_float_again(model: Any) -> Any:  # noqa: ANN401 - onnx has no types here
    """Store as float32 the weights that a bundle has in half precision: NNCF quantizes a weight, no cast of one."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Cast" and node.input[0] in weights:
            half = weights[node.input[0]]
            if half.data_type == TensorProto.FLOAT16:
                values = numpy_helper.to_array(half).astype(np.float32)
                half.CopyFrom(numpy_helper.from_array(values, node.output[0]))
                model.graph.node.remove(node)
    return model


def quantize(
    graph: Path, fields: Sequence[FieldImage], config: SegmenterConfig, in_float: re.Pattern[str] | None
) -> Any:  # noqa: ANN401 - onnx has no types here
    """Quantize after training, ranges from ``fields``; nodes whose name matches ``in_float`` stay as they are."""
    nncf = importlib.import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    model = onnx.load(str(graph))
    name = model.graph.input[0].name
    canvases = [letterbox(field.pixels, field.um_per_px, config)[0] for field in fields]
    inputs = [{name: canvas.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)} for canvas in canvases]
    names = [node.name for node in model.graph.node if in_float is not None and in_float.fullmatch(node.name)]
    scope = nncf.IgnoredScope(names=names) if names else None
    with contextlib.redirect_stdout(sys.stderr):  # its progress
        return nncf.quantize(model, nncf.Dataset(inputs), subset_size=len(inputs), ignored_scope=scope)


def run_graph(
    path: Path, fields: Sequence[FieldImage], config: SegmenterConfig, backend: str, precision: str
) -> tuple[Outputs, list[list[ContourArray]]]:
    """Run a graph as a prediction does; gives the network's outputs and the contours of each field."""
    kind = OpenVinoNetwork if backend == "openvino" else OnnxRuntimeNetwork
    segmenter = Segmenter(kind(read_graph(path), "CPU" if backend == "openvino" else "cpu", precision, 1, 1), config)
    outputs, contours = [], []
    for field in fields:
        canvas, transform = letterbox(field.pixels, field.um_per_px, config)
        outputs.append(segmenter.run(canvas))
        height, width = field.pixels.shape[:2]
        found = segmenter.cells_of(outputs[-1], transform, width, height)
        contours.append([detection.contour_xy for detection in found])
    return outputs, contours


def print_run(
    graph: str,
    runtime: str,
    floats: str,
    found: tuple[Outputs, list[list[ContourArray]]],
    base: tuple[Outputs, list[list[ContourArray]]],
) -> None:
    """Print one line: contours found, and what differs from ``base``."""
    pairs = [
        pair.iou for ours, theirs in zip(found[1], base[1], strict=True) for pair in match_contours(ours, theirs).pairs
    ]
    both = list(zip(found[0], base[0], strict=True))
    score = max(np.abs(ours["output0"] - theirs["output0"])[:, SCORE_ROW].max() for ours, theirs in both)
    prototype = max(
        np.abs(ours["output1"] - theirs["output1"]).max() / theirs["output1"].std() for ours, theirs in both
    )
    line = {
        "graph": graph, "runtime": runtime, "float_layers": floats, "n_contours": len(list(chain(*found[1]))),
        "n_base": len(list(chain(*base[1]))), "n_found_too": len(pairs),
        "mean_iou": round(float(np.mean(pairs)), 4) if pairs else None,
        "largest_score_difference": round(float(score), 4), "largest_prototype_difference": round(float(prototype), 4),
    }  # fmt: skip
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
