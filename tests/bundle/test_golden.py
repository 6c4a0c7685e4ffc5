"""The golden sample passes where the numbers are right, and fails where they are not."""

from pathlib import Path

import numpy as np
import pytest

from marrowscope.bundle import Bundle, load_bundle, write_bundle
from marrowscope.bundle.golden import check_golden
from marrowscope.errors import BundleError
from marrowscope.networks import BACKENDS, OnnxRuntimeNetwork, available_backends
from tests.bundles import make_bundle
from tests.onnx_graphs import classifier_graph


def _with_file(bundle: Bundle, name: str, content: bytes | None) -> Bundle:
    files: dict[str, Path | bytes] = {other: bundle.folder / other for other in bundle.spec.files}
    if content is None:
        del files[name]
    else:
        files[name] = content
    return write_bundle(bundle.folder.with_name("changed"), bundle.spec, files, overwrite=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_passes_on_every_backend(tmp_path: Path, backend: str) -> None:
    if backend not in available_backends():
        pytest.skip(f"{backend} is not installed")
    result = check_golden(make_bundle(tmp_path / "bundle", n_members=2), backend)
    assert result.passed
    assert result.precision == "f32"
    assert result.sentence().startswith(f"golden sample passes on {backend} CPU f32: score 0")


def test_golden_fails_when_a_member_is_exchanged(tmp_path: Path) -> None:
    changed = _with_file(make_bundle(tmp_path / "bundle"), "classifier-0.onnx", classifier_graph(seed=9))
    result = check_golden(changed, "onnxruntime")
    assert not result.passed
    assert result.differences["probability"] > 0.01
    assert "FAILS" in result.sentence()


def test_golden_fails_when_the_segmenter_is_exchanged(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    for name, cells in (("moved", [(63.0, 50.0, 20.0, 20.0, 0.9)]), ("surer", [(60.0, 50.0, 20.0, 20.0, 0.95)])):
        other = make_bundle(tmp_path / name, cells=cells).folder / "segmenter" / "segmenter.onnx"
        assert not check_golden(
            _with_file(bundle, "segmenter/segmenter.onnx", other.read_bytes()), "onnxruntime"
        ).passed


def test_golden_fails_where_the_way_of_a_prediction_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prediction runs bytes in a graph of one shape: floats in the open graph would prove nothing about it."""
    bundle = make_bundle(tmp_path / "bundle")
    as_it_is = OnnxRuntimeNetwork.run_images
    monkeypatch.setattr(OnnxRuntimeNetwork, "run_images", lambda self, images: as_it_is(self, images // 2))
    result = check_golden(bundle, "onnxruntime")
    assert not result.passed
    assert result.differences["probability"] > 0.01


def test_another_number_of_members_is_no_pass(tmp_path: Path) -> None:
    changed = _with_file(make_bundle(tmp_path / "bundle"), "classifier-1.onnx", classifier_graph(seed=1))
    assert check_golden(changed, "onnxruntime").differences["probability"] == float("inf")


def test_a_bundle_without_or_with_a_broken_sample(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"golden\.npz: no readable golden sample"):
        check_golden(_with_file(bundle, "golden.npz", None), "onnxruntime")
    with pytest.raises(BundleError, match=r"golden\.npz: no readable golden sample"):
        check_golden(_with_file(bundle, "golden.npz", b"nonsense"), "onnxruntime")
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, crops=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BundleError, match=r"golden\.npz: no readable golden sample"):
        check_golden(_with_file(bundle, "golden.npz", pickled.read_bytes()), "onnxruntime")
    partial = tmp_path / "partial.npz"
    np.savez(partial, crops=np.zeros((1, 96, 96, 3), np.uint8))
    with pytest.raises(BundleError, match="found no output0, output1, p_category"):
        check_golden(_with_file(bundle, "golden.npz", partial.read_bytes()), "onnxruntime")
    assert load_bundle(bundle.folder)
