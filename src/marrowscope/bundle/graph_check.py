"""A bundle's graphs against what the bundle says of them: inputs, outputs, number of classes.

Declared is what counts here: a runtime that finds other sizes when it runs is refused where its answer is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.cells.embedding import EMBEDDING
from marrowscope.errors import BundleError
from marrowscope.networks.graph import FLOAT
from marrowscope.segment.segmenter import OUTPUT_NAME, PROTOTYPES_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.networks import Graph, Port
    from marrowscope.vocabulary import Vocabulary

CLASSIFIER_OUTPUTS = ("p_cblc", "p_countable", "p_category")
PLASMA_OUTPUT = "p_plasma"
"""Of every member of a bundle that was trained to recognize plasma cells."""

_BOX_AND_SCORE = 5
_COLORS = 3

_Shape = tuple[int | None, ...]


def check_segmenter(graph: Graph) -> None:
    """Refuse, with BundleError, a graph that is no one-class segmentation head of a color image."""
    masks = next(
        (port.shape[1] for port in graph.outputs if port.name == PROTOTYPES_NAME and len(port.shape) > 1), None
    )
    anchors = None if masks is None else _BOX_AND_SCORE + masks
    _check_image(graph, (None, _COLORS, None, None))
    _check_outputs(
        graph, {OUTPUT_NAME: (None, anchors, None), PROTOTYPES_NAME: (None, masks, None, None)}, may_be_open=True
    )


def check_classifier(
    graph: Graph,
    vocabulary: Vocabulary,
    crop_px: int,
    *,
    predicts_plasma: bool = False,
    n_dimensions: int | None = None,
) -> None:
    """Refuse, with BundleError, a graph that takes other crops, or has other classes than the vocabulary.

    ``n_dimensions`` is the length of the embedding that the bundle has statistics of; None where it needs none.
    """
    _check_image(graph, (None, _COLORS, crop_px, crop_px))
    classes = {"p_cblc": 2, "p_countable": 2, "p_category": len(vocabulary.categories)}
    further: dict[str, _Shape] = {PLASMA_OUTPUT: (None, 2)} if predicts_plasma else {}
    if n_dimensions is not None:
        further[EMBEDDING] = (None, n_dimensions)
    _check_outputs(graph, {name: (None, classes[name]) for name in CLASSIFIER_OUTPUTS} | further, may_be_open=False)


def _check_image(graph: Graph, shape: _Shape) -> None:
    """Refuse all inputs but one color image of ``shape``; what is open in either may be anything."""
    if len(graph.inputs) != 1 or not _fits(graph.inputs[0], shape, may_be_open=True):
        _refuse(graph, "input", graph.inputs, f"one image ({_words(shape)})")


def _check_outputs(graph: Graph, wanted: dict[str, _Shape], *, may_be_open: bool) -> None:
    found = {port.name: port for port in graph.outputs}
    if any(
        name not in found or not _fits(found[name], shape, may_be_open=may_be_open) for name, shape in wanted.items()
    ):
        _refuse(
            graph, "outputs", graph.outputs, ", ".join(f"{name} ({_words(shape)})" for name, shape in wanted.items())
        )


def _fits(port: Port, shape: _Shape, *, may_be_open: bool) -> bool:
    sizes = zip(port.shape, shape, strict=False)
    return (
        port.element_type == FLOAT
        and len(port.shape) == len(shape)
        and all(wanted in (None, size) or (size is None and may_be_open) for size, wanted in sizes)
    )


def _words(shape: _Shape) -> str:
    return ", ".join("n" if size is None else str(size) for size in shape)


def _refuse(graph: Graph, what: str, ports: Sequence[Port], expected: str) -> None:
    found = ", ".join(map(str, ports)) or "none"
    message = f"{graph.path}: found the {what} {found}, expected {expected} in float32; export the bundle again"
    raise BundleError(message)
