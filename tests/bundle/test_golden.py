"""The golden sample passes where the numbers are right, and fails where they are not."""

import io
from pathlib import Path

import numpy as np
import pytest

from marrowscope.bundle import Bundle, load_bundle, write_bundle
from marrowscope.bundle.golden import check_golden
from marrowscope.errors import BundleError
from marrowscope.networks import BACKENDS, OnnxRuntimeNetwork, available_backends, open_network
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


def _arrays(bundle: Bundle) -> dict[str, np.ndarray]:
    with np.load(bundle.folder / "golden.npz") as stored:
        return {name: stored[name] for name in stored.files}


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def test_a_bundle_without_or_with_a_broken_sample(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    arrays = _arrays(bundle)
    categories = arrays["p_category"]
    wrong: dict[str, tuple[bytes | None, str]] = {
        "none": (None, r"no readable golden sample \(the bundle names none\); export the bundle again"),
        "no archive": (b"nonsense", r"no readable golden sample \(File is not a zip file\)"),
        "truncated": (_npz(arrays)[:-40], "no readable golden sample"),
        "lacking": (_npz({"crops": arrays["crops"]}), "found no output0, output1, p_category"),
        "pickled": (
            _npz(arrays | {"crops": np.array([{"a": 1}], dtype=object)}),
            r"crops: found object \(1,\), expected uint8 \(n, 96, 96, 3\)",
        ),
        "other classes": (_npz(arrays | {"p_category": categories[..., :12]}), r"found float32 \(1, 3, 12\), expected"),
        "other crops": (_npz(arrays | {"crops": arrays["crops"][:, :64, :64]}), r"crops: found uint8 \(3, 64, 64, 3\)"),
        "NaN": (_npz(arrays | {"p_cblc": arrays["p_cblc"] * np.nan}), "p_cblc: found values that are not finite"),
        "other counts": (_npz(arrays | {"crops": arrays["crops"][:2]}), "and outputs that belong to them; export"),
        "no crops": (
            _npz(arrays | {name: arrays[name][:, :0] for name in ("p_cblc", "p_countable", "p_category")}
                 | {"crops": arrays["crops"][:0]}),
            "expected 1 to 1024 crops",
        ),
    }  # fmt: skip
    for content, sentence in wrong.values():
        changed = _with_file(bundle, "golden.npz", content)
        with pytest.raises(BundleError, match=rf"golden\.npz.*{sentence}"):
            check_golden(changed, "onnxruntime")
    assert load_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("precision", "segmenter", "classifiers"),
    [("f32", 0.1, 1e-3), ("bf16", 3.0, 0.1), ("bf16-segmenter", 3.0, 1e-3), ("f16", 1.0, 0.02)],
)
def test_tolerances_are_those_of_what_each_network_is_computed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, segmenter: float, classifiers: float
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    monkeypatch.setattr(
        "marrowscope.bundle.bundle.open_network", lambda graph, backend, *_, **__: open_network(graph, backend)
    )
    result = check_golden(bundle, "onnxruntime", precision=precision)
    assert result.precision == precision
    assert (result.tolerances["box_px"], result.tolerances["probability"]) == (segmenter, classifiers)
    assert set(result.tolerances) == set(result.differences)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_a_sentence(tmp_path: Path, value: float) -> None:
    changed = _with_file(make_bundle(tmp_path / "bundle"), "classifier-0.onnx", classifier_graph(seed=0, factor=value))
    with pytest.raises(BundleError, match="classifier 0 gives NaN or infinite values in p_cblc on onnxruntime CPU f32"):
        check_golden(changed, "onnxruntime")


def test_another_number_of_classes_than_declared_is_a_sentence(tmp_path: Path) -> None:
    """ONNX Runtime only logs it, OpenVINO does not read what is declared."""
    content = classifier_graph(seed=0, n_categories=12, declared=16)
    changed = _with_file(make_bundle(tmp_path / "bundle"), "classifier-0.onnx", content)
    for backend in available_backends():
        with pytest.raises(
            BundleError, match=r"each classifier gives p_category of shape \(3, 12\), expected \(3, 16\)"
        ):
            check_golden(changed, backend)


def test_members_of_different_classes_are_a_sentence(tmp_path: Path) -> None:
    content = classifier_graph(seed=1, n_categories=12, declared=16)
    changed = _with_file(make_bundle(tmp_path / "bundle", n_members=2), "classifier-1.onnx", content)
    with pytest.raises(BundleError, match=r"classifier 1 gives p_category of shape \(3, 12\), expected \(3, 16\)"):
        check_golden(changed, "onnxruntime")


def test_a_file_exchanged_after_the_bundle_was_loaded_is_not_opened(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    for name, check in (
        ("classifier-0.onnx", lambda: bundle.open_classifiers("onnxruntime")),
        ("segmenter/segmenter.onnx", lambda: bundle.open_segmenter("onnxruntime")),
        ("golden.npz", lambda: check_golden(bundle, "onnxruntime")),
        ("CARD.md", lambda: bundle.read_file("CARD.md")),
    ):
        kept = (bundle.folder / name).read_bytes()
        (bundle.folder / name).write_bytes(classifier_graph(seed=9))
        with pytest.raises(BundleError, match=rf"{name}: found SHA-256 \w+, expected {bundle.spec.files[name]}"):
            check()
        (bundle.folder / name).write_bytes(kept)
    with pytest.raises(BundleError, match=r"\[files\] names no other\.md, expected it there"):
        bundle.read_file("other.md")
