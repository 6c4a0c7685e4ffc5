"""Graphs that do not fit their bundle are refused before a runtime sees them."""

from pathlib import Path

import numpy as np
import pytest

from marrowscope.bundle import Bundle, load_bundle, write_bundle
from marrowscope.bundle.spec_file import description_text
from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_bytes
from tests.bundles import make_bundle
from tests.onnx_graphs import chunk, classifier_graph, model, node, number, segmenter_graph, tensor

HALF = np.zeros((1, 20, 4), np.float32)
MASKS = np.zeros((1, 32, 8, 8), np.float32)


def with_graph(bundle: Bundle, name: str, content: bytes) -> Path:
    """Put a graph into a bundle by hand, hash and all; gives its folder."""
    (bundle.folder / name).write_bytes(content)
    spec = bundle.spec.model_copy(update={"files": bundle.spec.files | {name: sha256_bytes(content)}})
    (bundle.folder / "bundle.toml").write_text(description_text(spec), encoding="utf-8")
    return bundle.folder


def classifier_with(inputs: dict[str, tuple[int | str, ...]], outputs: dict[str, tuple[int | str, ...]]) -> bytes:
    return model([node("Relu", ["image"], ["p_cblc"])], {}, inputs, outputs, {})


IMAGE: dict[str, tuple[int | str, ...]] = {"image": ("n", 3, 96, 96)}
HEADS: dict[str, tuple[int | str, ...]] = {"p_cblc": ("n", 2), "p_countable": ("n", 2), "p_category": ("n", 16)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (classifier_graph(0, n_categories=12), r"outputs p_cblc \(n, 2\), p_countable \(n, 2\), p_category \(n, 12\)"),
        (classifier_graph(0, declared="k"), r"p_category \(n, n\), expected p_cblc \(n, 2\), .*p_category \(n, 16\)"),
        (classifier_graph(0, size_px=64), r"found the input image \(n, 3, 64, 64\), expected one image \(n, 3, 96"),
        (classifier_with(IMAGE | {"more": (1,)}, HEADS), r"found the input image \(n, 3, 96, 96\), more \(1\), "),
        (classifier_with({}, HEADS), r"found the input none, expected one image"),
        (classifier_with(IMAGE, {"p_cblc": ("n", 2)}), r"found the outputs p_cblc \(n, 2\), expected"),
        (b"PK\x03\x04", r"found another kind of file, expected an ONNX graph"),
    ],
)  # fmt: skip
def test_a_classifier_of_other_inputs_or_classes(tmp_path: Path, content: bytes, sentence: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    folder = with_graph(bundle, "classifier-0.onnx", content)
    with pytest.raises(BundleError, match=rf"classifier-0\.onnx: .*{sentence}"):
        load_bundle(folder)
    with pytest.raises(BundleError, match=rf"classifier-0\.onnx: .*{sentence}"):
        load_bundle(folder, verify=False).open_classifiers("onnxruntime")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (segmenter_graph(HALF, MASKS), r"outputs output0 \(1, 20, 4\), output1 .*, expected output0 \(n, 37, n\)"),
        (segmenter_graph(HALF[0], MASKS), r"outputs output0 \(20, 4\)"),
        (classifier_graph(0), r"outputs p_cblc .*, expected output0 \(n, n, n\), output1 \(n, n, n, n\) in float32"),
    ],
)
def test_a_segmenter_of_other_outputs(tmp_path: Path, content: bytes, sentence: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=rf"segmenter\.onnx: found the {sentence}"):
        load_bundle(with_graph(bundle, "segmenter/segmenter.onnx", content))


def test_a_graph_that_names_a_file_of_the_bundle_is_refused(tmp_path: Path) -> None:
    """The file lies inside the folder and stands in no [files]: whoever changes it changes the network."""
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / "weights.bin").write_bytes(np.ones((3, 2), np.float32).tobytes())
    plain = tensor("weight_p_cblc", np.ones((3, 2), np.float32))
    place = chunk(13, chunk(1, b"location") + chunk(2, b"weights.bin"))
    outside = plain[: plain.index(b"weight_p_cblc") + 13] + place + number(14, 1)
    content = model([node("Relu", ["image"], ["p_cblc"])], {}, IMAGE, HEADS, {}, in_graph=chunk(5, outside))
    with pytest.raises(BundleError, match=r"classifier-0\.onnx: found external data, a tensor in another file"):
        load_bundle(with_graph(bundle, "classifier-0.onnx", content))


def test_a_bundle_with_such_a_graph_is_not_written(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    files: dict[str, Path | bytes] = {name: bundle.folder / name for name in bundle.spec.files}
    with pytest.raises(BundleError, match="p_category"):
        write_bundle(
            tmp_path / "other", bundle.spec, files | {"classifier-0.onnx": classifier_graph(0, n_categories=3)}
        )
    assert not (tmp_path / "other").exists()
