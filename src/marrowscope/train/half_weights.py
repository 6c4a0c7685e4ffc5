"""Weights of a graph in half precision: the file is half as large, and everything is still computed in float32.

Each large weight becomes float16 and a Cast to float32, which runtimes fold when they load the graph. So the graph's
inputs, outputs and arithmetic stay as they were, and the only change is the rounding of the weights to 11 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from marrowscope.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

_MIN_VALUES = 256
"""Smaller constants stay: they hardly count, and offsets and shapes are among them."""
_MAX_HALF = float(np.finfo(np.float16).max)


def halve_weights(path: Path) -> None:
    """Rewrite the graph at ``path`` with its large float32 weights in float16.

    Raises BundleError for a weight beyond the range of float16 (65,504).
    """
    proto = onnx.load(str(path))
    graph = proto.graph
    casts = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < _MIN_VALUES:
            continue
        values = numpy_helper.to_array(weight)
        largest = float(np.abs(values).max())
        if not largest <= _MAX_HALF:
            message = (
                f"{path.name}: found a weight of {largest:.3g} in {weight.name}, expected at most {_MAX_HALF:,.0f} in "
                "half precision; export without half weights"
            )
            raise BundleError(message)
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(path))
