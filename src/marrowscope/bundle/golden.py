"""The golden sample: what both networks of a bundle gave for a stored input when the bundle was made.

A machine whose runtime gives something else must not be trusted with patients. Arrays only; nothing is unpickled.
``golden_process`` runs it apart, so that a graph that does not come to an end ends in a sentence.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.bundle import GOLDEN_FILE
from marrowscope.bundle.arrays import Expected, read_arrays
from marrowscope.bundle.graph_check import CLASSIFIER_OUTPUTS, PLASMA_OUTPUT
from marrowscope.bundle.precisions import by_network
from marrowscope.cells.embedding import EMBEDDING
from marrowscope.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.bundle import Bundle
    from marrowscope.networks import Network

_TOLERANCES: dict[str, dict[str, float]] = {
    "f32": {"score": 1e-3, "box_px": 0.1, "mask": 1e-2, "probability": 1e-3, "embedding": 1e-2},
    "f16": {"score": 0.02, "box_px": 1.0, "mask": 0.1, "probability": 0.02, "embedding": 0.1},
    "bf16": {"score": 0.1, "box_px": 3.0, "mask": 0.5, "probability": 0.1, "embedding": 0.5},
}
"""Largest difference allowed of a network in each precision: of scores and probabilities (0-1), of boxes in input
pixels, of the mask prototypes and the embeddings relative to their standard deviation. A lower precision is a smoke
test, not a proof: its proof is the accuracy gate (``precisions``)."""

_OF_THE_SEGMENTER = frozenset({"score", "box_px", "mask"})

# Boxes of anchors that nobody would keep are noise; they are compared from this score on.
_BOX_SCORE = 0.1
_BOX_AND_SCORE = 5
_MAX_CROPS, _MAX_SIDE = 1024, 4096
"""Limits of what a sample is run on: ours has five crops and an image of 128 px."""


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """Largest difference of each kind, its tolerance, and the verdict; ``passed`` when none is exceeded."""

    backend: str
    device: str
    precision: str
    differences: dict[str, float]
    tolerances: dict[str, float]

    @property
    def passed(self) -> bool:
        """Say whether every difference is finite and within its tolerance."""
        return all(value <= self.tolerances[name] for name, value in self.differences.items())

    def sentence(self) -> str:
        """Return the result as one line."""
        parts = ", ".join(
            f"{name} {value:.2g} (at most {self.tolerances[name]:g})" for name, value in self.differences.items()
        )
        verdict = "passes" if self.passed else "FAILS"
        return f"golden sample {verdict} on {self.backend} {self.device} {self.precision}: {parts}"


def make_golden(
    segmenter: Network,
    classifiers: Sequence[Network],
    segmenter_input: NDArray[np.float32],
    crops: NDArray[np.uint8],
    *,
    predicts_plasma: bool = False,
    embeddings: bool = False,
) -> bytes:
    """Return the content of golden.npz; ``predicts_plasma`` as in the bundle's specification.

    It has the first member's ``embeddings`` where the bundle has statistics of them.

    ``segmenter_input`` (1, 3, h, w) RGB from 0 to 1, sides a multiple of 32 (128 px are enough and small), with at
    least one cell; ``crops`` uint8 (n, s, s, 3). The networks should be ONNX Runtime's in float32.
    """
    pixels = np.round(segmenter_input * 255).astype(np.uint8)
    arrays: dict[str, NDArray[np.generic]] = {"segmenter_input": pixels, "crops": crops}
    outputs = _outputs(predicts_plasma=predicts_plasma)
    arrays |= _run(segmenter, classifiers, pixels, crops, outputs, embeddings=embeddings)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def check_golden(
    bundle: Bundle, backend: str = "auto", device: str = "auto", precision: str = "f32", threads: int | None = None
) -> GoldenResult:
    """Run the golden sample of ``bundle`` here. Raises BundleError when the bundle has none or it is broken."""
    expected = _read(bundle)
    segmenter = bundle.open_segmenter(backend, device, precision, threads=threads)
    classifiers = bundle.open_classifiers(backend, device, precision, threads=threads)
    pixels, crops = (expected[name].astype(np.uint8) for name in ("segmenter_input", "crops"))
    outputs = _outputs(predicts_plasma=bundle.spec.predicts_plasma)
    with_embeddings = bundle.spec.embeddings is not None
    found = _run(segmenter, classifiers, pixels, crops, outputs, embeddings=with_embeddings)
    each = {name: (len(crops), *expected[name].shape[2:]) for name in outputs}
    _check_shapes({name: found[name][0] for name in outputs}, each, "each classifier")
    same_grid = found["output0"].shape == expected["output0"].shape
    likely = expected["output0"][0, 4] >= _BOX_SCORE
    spread = float(expected["output1"].std()) or 1.0
    differences = {
        "score": _largest(found["output0"][:, 4], expected["output0"][:, 4]),
        "box_px": _largest(found["output0"][0, :4, likely], expected["output0"][0, :4, likely])
        if same_grid
        else float("inf"),
        "mask": _largest(found["output1"], expected["output1"]) / spread,
        "probability": max(_largest(found[name], expected[name]) for name in outputs),
    }
    if with_embeddings:
        spread = float(expected[EMBEDDING].std()) or 1.0
        differences[EMBEDDING] = _largest(found[EMBEDDING], expected[EMBEDDING]) / spread
    of = by_network(precision)
    tolerances = {
        name: _TOLERANCES[of.segmenter if name in _OF_THE_SEGMENTER else of.classifiers][name] for name in differences
    }
    return GoldenResult(segmenter.backend, segmenter.device, precision, differences, tolerances)


def _run(
    segmenter: Network,
    classifiers: Sequence[Network],
    segmenter_input: NDArray[np.uint8],
    crops: NDArray[np.uint8],
    names: Sequence[str],
    *,
    embeddings: bool,
) -> dict[str, NDArray[np.float32]]:
    """Run both networks as a prediction does, on bytes; the probabilities ``names`` are stacked by member.

    ``segmenter_input`` (1, 3, h, w), ``crops`` (n, s, s, 3); ``embeddings`` (n, width) are those of the first member.
    """
    raw = segmenter.run_images(segmenter_input.transpose(0, 2, 3, 1))
    _check_finite(raw, ("output0", "output1"), segmenter, "the segmenter")
    members = [member.run_images(crops) for member in classifiers]
    for index, (network, outputs) in enumerate(zip(classifiers, members, strict=True)):
        _check_finite(outputs, names, network, f"classifier {index}")
        _check_shapes(outputs, {name: members[0][name].shape for name in names}, f"classifier {index}")
    if embeddings:
        _check_finite(members[0], (EMBEDDING,), classifiers[0], "classifier 0")
        raw = raw | {EMBEDDING: members[0][EMBEDDING]}
    return raw | {name: np.stack([member[name] for member in members]) for name in names}


def _outputs(*, predicts_plasma: bool) -> tuple[str, ...]:
    """Return the outputs of the classifiers that a sample holds."""
    return (*CLASSIFIER_OUTPUTS, PLASMA_OUTPUT) if predicts_plasma else CLASSIFIER_OUTPUTS


def _check_finite(
    outputs: Mapping[str, NDArray[np.float32]], names: Sequence[str], network: Network, which: str
) -> None:
    """Refuse an answer that is no number, or lacks an output."""
    for name in names:
        if name not in outputs or not np.isfinite(outputs[name]).all():
            found = "no" if name not in outputs else "NaN or infinite values in"
            message = (
                f"{which} gives {found} {name} on {network.backend} {network.device} {network.precision}, expected "
                "finite numbers; do not use the bundle, export it again"
            )
            raise BundleError(message)


def _check_shapes(
    outputs: Mapping[str, NDArray[np.float32]], expected: Mapping[str, tuple[int, ...]], which: str
) -> None:
    """Refuse an answer of other cells or classes than expected."""
    for name, shape in expected.items():
        if outputs[name].shape != shape:
            message = (
                f"{which} gives {name} of shape {outputs[name].shape}, expected {shape}; do not use the bundle, export "
                "it again"
            )
            raise BundleError(message)


def _read(bundle: Bundle) -> dict[str, NDArray[np.generic]]:
    path = bundle.folder / GOLDEN_FILE
    if GOLDEN_FILE not in bundle.spec.files:
        message = f"{path}: no readable golden sample (the bundle names none); export the bundle again"
        raise BundleError(message)
    size, n_categories = bundle.spec.crop.size_px, len(bundle.vocabulary.categories)
    expected = {
        "segmenter_input": Expected("uint8", (1, 3, None, None)),
        "crops": Expected("uint8", (None, size, size, 3)),
        "output0": Expected("float32", (1, None, None)),
        "output1": Expected("float32", (1, None, None, None)),
        "p_cblc": Expected("float32", (None, None, 2)),
        "p_countable": Expected("float32", (None, None, 2)),
        "p_category": Expected("float32", (None, None, n_categories)),
    }
    outputs = _outputs(predicts_plasma=bundle.spec.predicts_plasma)
    if PLASMA_OUTPUT in outputs:
        expected[PLASMA_OUTPUT] = Expected("float32", (None, None, 2))
    if bundle.spec.embeddings is not None:
        expected[EMBEDDING] = Expected("float32", (None, bundle.spec.embeddings.n_dimensions))
    arrays = read_arrays(bundle.read_file(GOLDEN_FILE), path, expected)
    height, width = arrays["segmenter_input"].shape[2:]
    n_crops, n_masks = len(arrays["crops"]), arrays["output1"].shape[1]
    contradicting = [name for name in outputs if arrays[name].shape[1] != n_crops]
    contradicting += [] if arrays["output0"].shape[1] == _BOX_AND_SCORE + n_masks else ["output0"]
    if contradicting or n_crops > _MAX_CROPS or max(height, width) > _MAX_SIDE or not n_crops or not height * width:
        stated = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        message = (
            f"{path}: found {stated}, expected 1 to {_MAX_CROPS} crops, an image of at most {_MAX_SIDE} px a side, and "
            "outputs that belong to them; export the bundle again"
        )
        raise BundleError(message)
    return arrays


def _largest(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Largest absolute difference; infinite where shapes differ or something is not a number, 0 of nothing."""
    if found.shape != expected.shape:
        return float("inf")
    if found.size == 0:
        return 0.0
    largest = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
    return largest if np.isfinite(largest) else float("inf")
