"""Put the weights of an exported segmenter back into a network that can be trained.

An exported graph has each batch norm folded into the convolution before it. Steps: copy the convolutions; make every
batch norm add the folded bias; pass training windows through; give every batch norm the mean and deviation of its input
there, and the scale and shift that undo them. The network then computes what the graph does, and training, which
normalizes by each batch, starts close to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from marrowscope.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from ultralytics.nn.tasks import SegmentationModel


def load_graph_weights(network: SegmentationModel, graph_path: Path, images: Tensor) -> None:
    """Copy the graph's weights to ``network``; ``images`` (n, 3, h, w), 0 to 1, are representative windows.

    Raises ConfigError when the graph lacks a weight of the network, or has it in another shape.
    """
    stored = _stored_weights(graph_path)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".bn." not in name:
                parameter.copy_(_weight(stored, name, parameter.shape, graph_path))
        norms = {name: part for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)}
        for name, norm in norms.items():
            bias = f"{name.removesuffix('.bn')}.conv.bias"
            norm.bias.copy_(_weight(stored, bias, norm.bias.shape, graph_path))
            nothing = torch.zeros_like(norm.bias)
            _set_statistics(norm, nothing, nothing)
        means, variances = _input_statistics(network, norms, images)
        for name, norm in norms.items():
            _set_statistics(norm, means[name], variances[name])
            norm.bias.add_(means[name])


def _set_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Set the running statistics, and the scale that undoes their deviation."""
    norm.load_state_dict({"running_mean": mean, "running_var": variance}, strict=False)
    norm.weight.copy_((variance + norm.eps).sqrt())


def _stored_weights(graph_path: Path) -> dict[str, Tensor]:
    """Read the convolutions' weights and biases by name; export stores biases that are equal only once."""
    import onnx  # noqa: PLC0415 - training extra
    from onnx import numpy_helper  # noqa: PLC0415

    graph = onnx.load(str(graph_path)).graph
    arrays = {item.name: torch.from_numpy(np.array(numpy_helper.to_array(item))) for item in graph.initializer}
    stored: dict[str, Tensor] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            names = [node.input[1], node.input[1].removesuffix(".weight") + ".bias"]
            stored |= {name: arrays[source] for name, source in zip(names, node.input[1:], strict=False)}
    return stored


def _weight(stored: dict[str, Tensor], name: str, shape: torch.Size, graph_path: Path) -> Tensor:
    found = stored.get(name)
    if found is None or found.shape != shape:
        what = "no weight" if found is None else f"a weight of shape {tuple(found.shape)}"
        message = (
            f"{graph_path}: found {what} {name}, expected one of shape {tuple(shape)}; start from a segmenter of the "
            "same width that this program exported"
        )
        raise ConfigError(message)
    return found


def _input_statistics(
    network: SegmentationModel, norms: dict[str, nn.BatchNorm2d], images: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean and variance of each batch norm's input over ``images``, per channel."""
    means: dict[str, Tensor] = {}
    variances: dict[str, Tensor] = {}

    def watch(name: str, norm: nn.BatchNorm2d) -> torch.utils.hooks.RemovableHandle:
        def record(_norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            means[name] = inputs[0].mean((0, 2, 3))
            variances[name] = inputs[0].var((0, 2, 3), unbiased=False)

        return norm.register_forward_pre_hook(record)

    handles = [watch(name, norm) for name, norm in norms.items()]
    was_training = network.training
    network.eval()
    network(images)
    network.train(was_training)
    for handle in handles:
        handle.remove()
    return means, variances
