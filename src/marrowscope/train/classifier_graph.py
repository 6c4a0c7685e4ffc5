"""Export a weights file as a self-describing ONNX graph, and check that both agree.

The graph takes ``image`` float32 (n, 3, s, s), RGB from 0 to 1, and returns probabilities ``p_cblc`` (n, 2),
``p_countable`` (n, 2) and ``p_category`` (n, categories), and ``p_plasma`` (n, 2) where the classifier has that head.
Index 1 means yes, and a class that was never trained has probability exactly 0. A further output is the ``embedding``
(n, width) that the heads read. Normalization, the mean over the views of a crop, temperatures and the prior correction
are inside the graph.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import nn

from marrowscope.cells.embedding import EMBEDDING
from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_file
from marrowscope.networks import available_backends, open_network
from marrowscope.train.checkpoint import fill, load_tensors, read_part
from marrowscope.train.config import PLASMA
from marrowscope.train.model import CellClassifier, ClassifierInfo, averaged
from marrowscope.train.training_record import EpochRow
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from marrowscope.records import ImageArray

_MAX_DIFFERENCE, _MAX_DIFFERENCE_HALVED = 1e-3, 0.02
_MAX_EMBEDDING_DIFFERENCE, _MAX_EMBEDDING_DIFFERENCE_HALVED = 0.05, 0.2
"""Of an embedding's values, in standard deviations of them all; float32 differs by 1e-5, half weights by more."""
_NEVER = -1e4  # its exp is exactly 0 at every precision, and it is finite in half precision


@dataclass(frozen=True, slots=True)
class Readout:
    """How logits become probabilities.

    ``decision_tau`` sets which class shares they assume (``ClassifierInfo.implied_prior``), ``temperatures`` how much
    the likelihoods of each head are trusted; 1 for a head without one.
    """

    decision_tau: float | None = None
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def temperature(self, head: str) -> float:
        """Return the head's temperature."""
        return self.temperatures.get(head, 1.0)

    def offset(self, info: ClassifierInfo, head: str) -> tuple[float, ...]:
        """Return what is added to logits / T: log t - log q / T, with q the prior they assume and t the target prior.

        ``statistics.temperature`` explains why: T scales the likelihood alone. 0 for a class never trained.
        """
        kept = 1 - 1 / self.temperature(head)
        turned = info.decision_offset(head, self.decision_tau)
        return tuple(
            change + (kept * math.log(share) if share > 0 else 0.0)
            for change, share in zip(turned, info.implied_prior(head), strict=True)
        )


_AS_TRAINED = Readout()


class ExportedClassifier(nn.Module):
    """A classifier with its normalization in front and its softmax behind."""

    def __init__(self, model: CellClassifier, info: ClassifierInfo, readout: Readout) -> None:
        super().__init__()
        self.model, self.views = model, info.views
        self.temperatures = {head: readout.temperature(head) for head in info.heads}
        self.register_buffer("mean", torch.tensor(info.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(info.std).view(1, 3, 1, 1))
        for head in info.heads:
            turned = torch.tensor(readout.offset(info, head))
            offset = torch.where(torch.tensor(info.trained(head)), turned, _NEVER)
            self.register_buffer(f"offset_{head}", offset)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the probabilities of the heads, in the order of ``ClassifierInfo.heads``, and the embedding."""
        crops = (image - self.get_buffer("mean")) / self.get_buffer("std")
        logits, embedding = averaged(self.model, crops, self.views)
        probabilities = (
            torch.softmax(values / self.temperatures[head] + self.get_buffer(f"offset_{head}"), dim=1)
            for head, values in logits.items()
        )
        return (*probabilities, embedding)


def load_classifier(weights: Path) -> tuple[CellClassifier, ClassifierInfo, EpochRow]:
    """Read classifier.safetensors: the network in evaluation mode, its description, and the epoch it comes from."""
    tensors, meta = load_tensors(weights)
    if "info" not in meta:
        message = f"{weights}: found no description in the header, expected weights of `marrowscope train classifier`"
        raise BundleError(message)
    info, epoch = read_part(ClassifierInfo, meta, "info", weights), read_part(EpochRow, meta, "epoch", weights)
    model = CellClassifier(
        info.architecture,
        len(info.categories),
        n_morphology=len(info.morphology),
        norm=info.norm,
        plasma=PLASMA in info.heads,
    )
    fill(model, tensors, weights)
    return model.eval(), info, epoch


def export_classifier(weights: Path, out: Path, readout: Readout = _AS_TRAINED) -> ClassifierInfo:
    """Write the graph of ``weights`` to ``out`` as one file with a free batch size; return its description."""
    model, info, _ = load_classifier(weights)
    graph = ExportedClassifier(model, info, readout).eval()
    example = torch.zeros(2, 3, info.crop_px, info.crop_px)
    program = torch.onnx.export(
        graph,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=[*(f"p_{head}" for head in info.heads), EMBEDDING],
        dynamic_shapes={"image": {0: torch.export.Dim("n")}},
    )
    if program is None:
        message = f"{weights}: torch returned no ONNX program, expected one; check the versions of torch and onnxscript"
        raise BundleError(message)
    proto = program.model_proto
    _strip_traces(proto)
    for key, value in _describe(weights, info, readout).items():
        proto.metadata_props.add(key=key, value=value)
    proto.producer_name, proto.producer_version = "marrowscope", metadata.version("marrowscope")
    onnx.checker.check_model(proto)
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, str(out))
    return info


def check_parity(
    weights: Path, onnx_path: Path, crops: ImageArray, readout: Readout = _AS_TRAINED, *, half_weights: bool = False
) -> dict[str, float]:
    """Compare torch with every runtime installed here on real ``crops`` (n, s, s, 3) uint8, in float32.

    Returns the largest difference in probability per runtime; BundleError when one exceeds 0.001, or when a value of
    the embedding differs by more than 0.05 standard deviations of all its values; 0.02 and 0.2 with ``half_weights``,
    which rounds every weight to 11 bits.
    """
    limit_p = _MAX_DIFFERENCE_HALVED if half_weights else _MAX_DIFFERENCE
    limit_embedding = _MAX_EMBEDDING_DIFFERENCE_HALVED if half_weights else _MAX_EMBEDDING_DIFFERENCE
    model, info, _ = load_classifier(weights)
    batch = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
    with torch.inference_mode():
        *expected, embedding = (
            values.numpy() for values in ExportedClassifier(model, info, readout)(torch.from_numpy(batch))
        )
    spread = float(embedding.std()) or 1.0
    differences = {}
    for backend in available_backends():
        found = open_network(onnx_path, backend).run({"image": batch})
        differences[backend] = max(
            float(np.abs(found[f"p_{head}"] - values).max()) for head, values in zip(info.heads, expected, strict=True)
        )
        of_embedding = float(np.abs(found[EMBEDDING] - embedding).max()) / spread
        for what, difference, limit in (
            ("probabilities", differences[backend], limit_p),
            ("embeddings", of_embedding, limit_embedding),
        ):
            # Written so that NaN fails too.
            if not difference <= limit:
                message = (
                    f"{onnx_path}: {what} of {backend} differ from torch by {difference:.2g} on "
                    f"{count_of(len(crops), 'crop')}, expected at most {limit}; do not use this graph"
                )
                raise BundleError(message)
    return differences


def _describe(weights: Path, info: ClassifierInfo, readout: Readout) -> dict[str, str]:
    """Return the graph's metadata as text; views are named where there are several."""
    views = {"views": str(info.views)} if info.views > 1 else {}
    return views | {
        "task": "classify",
        "architecture": info.architecture,
        "crop_px": str(info.crop_px),
        "um_per_px": repr(info.um_per_px),
        "channel_order": "RGB",
        "normalization": "divide by 255; mean and standard deviation are inside the graph",
        "mean": json.dumps(info.mean),
        "std": json.dumps(info.std),
        "categories": json.dumps(info.categories),
        "categories_not_trained": json.dumps(info.categories_not_trained),
        "implied_prior": json.dumps({head: info.implied_prior(head, readout.decision_tau) for head in info.heads}),
        "temperature": json.dumps({head: readout.temperature(head) for head in info.heads}),
        "initial_weights": info.initial_weights,
        "segmenter_sha256": info.segmenter_sha256 or "none",
        "weights_sha256": sha256_file(weights),
    }


def _strip_traces(proto: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they contain stack traces with paths of the machine that made the graph."""
    graph = proto.graph
    for holder in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
