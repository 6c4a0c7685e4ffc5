"""The networks' own time at several resolutions: milliseconds per field or crop, float32 and bf16, sizes in turn.

    python -m benchmarks.resolution_time segmenter SEG.onnx [--field 960x726 --um-per-px 0.15]
    python -m benchmarks.resolution_time classifier CLASSIFIER.onnx

Every size and precision is compiled for two streams of one thread each and fed random pixels; each round runs all of
them once, so that other load on the machine affects all alike. Two figures are given: wall-clock time, which is valid
on an idle machine, and CPU time, which is valid on a busy one too; with two cores to itself, a network's wall-clock
time is half its CPU time. The weights do not affect the time: one classifier is measured at every crop size, in batches
of 16.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SCALES_UM_PER_PX = (0.45, 0.30, 0.225, 0.15)
CROP_SIZES_PX = (96, 128, 160, 224)
CROP_BATCH = 16
STRIDE = 32


def measure_times(graph: Path, shapes: Mapping[str, tuple[int, ...]], rounds: int, seconds: float) -> dict[str, Any]:
    """Measure milliseconds per image by shape, precision and kind of time, over rounds: [median, lowest, highest]."""
    core = openvino.Core()
    queues = {}
    for name, shape in shapes.items():
        for precision in ("f32", "bf16"):
            model = core.read_model(str(graph))
            model.reshape({model.inputs[0].get_any_name(): list(shape)})
            settings = {
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": 2,
                "INFERENCE_NUM_THREADS": 2,
            }
            queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", settings), 2)
            queues[name, precision] = (queue, np.random.default_rng(0).random(shape, dtype=np.float32))
    spent: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for _ in track(range(rounds + 1), "rounds", console=Console(stderr=True)):
        for key, (queue, array) in queues.items():
            spent[key].append(_ms_an_image(queue, array, seconds))
    result: dict[str, Any] = {}
    for (name, precision), values in spent.items():
        kept = np.array(values[1:])  # the first round warms up
        result.setdefault(name, {})[precision] = {
            kind: [float(np.median(column)), float(column.min()), float(column.max())]
            for kind, column in zip(("clock_ms", "processor_ms"), kept.T, strict=True)
        }
    return result


def _ms_an_image(queue: Any, array: NDArray[np.float32], seconds: float) -> tuple[float, float]:  # noqa: ANN401  untyped
    """Run until ``seconds`` of CPU time are spent; return wall-clock and CPU milliseconds."""
    clock, processor, n = time.perf_counter(), time.process_time(), 0
    while time.process_time() - processor < seconds:
        queue.start_async({0: array}, share_inputs=True)
        n += len(array)
    queue.wait_all()
    return 1e3 * (time.perf_counter() - clock) / n, 1e3 * (time.process_time() - processor) / n


def shapes_of(arguments: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Return input shapes by long side or crop size; a field's sides are rounded up to the stride, as in prediction."""
    if arguments.kind == "classifier":
        return {f"{size} px": (CROP_BATCH, 3, size, size) for size in CROP_SIZES_PX}
    width, height = (int(part) for part in arguments.field.split("x"))
    shapes = {}
    for scale in SCALES_UM_PER_PX:
        sides = [round(side * arguments.um_per_px / scale) for side in (height, width)]
        shapes[f"{max(sides)} px"] = (1, 3, *(-(-side // STRIDE) * STRIDE for side in sides))
    return shapes


def main() -> None:
    """Parse the command line and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("segmenter", "classifier"))
    parser.add_argument("graph", type=Path)
    parser.add_argument("--field", default="960x726")
    parser.add_argument("--um-per-px", type=float, default=0.15)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    print(
        json.dumps(measure_times(arguments.graph, shapes_of(arguments), arguments.rounds, arguments.seconds), indent=2)
    )


if __name__ == "__main__":
    main()
