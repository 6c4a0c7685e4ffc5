"""What the embedding output of a classifier's graph, the distance and the call cost, per cell and without other work.

    python benchmarks/embedding_cost.py

An EfficientNet-B0 of random weights is exported for 96 px crops, with and without the output, and both run in turn on
one thread in each runtime. Processor time, so that other work on the machine counts little.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from marrowscope.cells.calls import decode_calls
from marrowscope.cells.embedding import EMBEDDING, ClassStatistics, embedding_distances
from marrowscope.networks import available_backends, open_network
from marrowscope.train.classifier_graph import ExportedClassifier, Readout
from marrowscope.train.model import IMAGENET_MEAN, IMAGENET_STD, ClassifierInfo, new_classifier
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

N_CELLS, SIZE_PX, REPEATS = 32, 96, 12


def main() -> None:
    """Print one line per runtime, and one each for the distance and the call."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    crops = random.integers(0, 255, size=(N_CELLS, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_graphs(Path(scratch))
        for backend in available_backends():
            networks = {name: open_network(path, backend, threads=1) for name, path in paths.items()}
            times = in_turn({name: partial(network.run_images, crops) for name, network in networks.items()})
            print(backend, ", ".join(f"{name} {value:.3f} ms" for name, value in times.items()), "per cell")
    statistics = ClassStatistics(
        mean=random.normal(size=1280).astype(np.float32),
        projection=random.normal(size=(1280, 64)).astype(np.float32),
        class_means=random.normal(size=(16, 64)).astype(np.float32),
        category_index=np.arange(16),
        n_cells=np.full(16, 20),
    )
    embeddings = random.normal(size=(N_CELLS, 1280)).astype(np.float32)
    called = np.zeros(N_CELLS, dtype=np.int64)
    vocabulary = load_vocabulary()
    p_category = random.dirichlet(np.ones(16), size=N_CELLS)
    p_cblc, p_countable = random.uniform(size=(2, N_CELLS))
    times = in_turn(
        {
            "distance": lambda: embedding_distances(embeddings, called, statistics),
            "call": lambda: decode_calls(p_category, p_cblc, p_countable, vocabulary),
        }
    )
    print(", ".join(f"{name} {value:.3f} ms" for name, value in times.items()), "per cell")


def write_graphs(folder: Path) -> dict[str, Path]:
    """Export the network, and the same graph without its last output."""
    categories = load_vocabulary().categories
    info = ClassifierInfo(
        architecture="efficientnet_b0",
        categories=categories,
        crop_px=SIZE_PX,
        um_per_px=0.3,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        priors={"cblc": (0.5, 0.5), "countable": (0.5, 0.5), "category": (1 / len(categories),) * len(categories)},
        imbalance="none",
        tau=0.0,
        initial_weights="random",
    )
    model = new_classifier(info.architecture, len(categories), 0.0, 0).eval()
    program = torch.onnx.export(
        ExportedClassifier(model, info, Readout()).eval(),
        (torch.zeros(2, 3, SIZE_PX, SIZE_PX),),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["p_cblc", "p_countable", "p_category", EMBEDDING],
        dynamic_shapes={"image": {0: torch.export.Dim("n")}},
    )
    if program is None:
        message = "torch returned no ONNX program"
        raise RuntimeError(message)
    proto = program.model_proto
    for holder in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info):
        del holder.metadata_props[:]
    paths = {"with": folder / "with.onnx", "without": folder / "without.onnx"}
    onnx.save(proto, str(paths["with"]))
    del proto.graph.output[-1]
    onnx.save(proto, str(paths["without"]))
    return paths


def in_turn(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median processor time of each step in ms per cell; the steps take turns."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(REPEATS + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if repeat:  # the first one compiles
                taken[name].append(time.process_time() - start)
    return {name: 1000 * float(np.median(values)) / N_CELLS for name, values in taken.items()}


if __name__ == "__main__":
    main()
