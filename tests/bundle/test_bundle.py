"""Bundles: what is written is what is read, and nothing that was changed is opened."""

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.bundle import BundleSpec, load_bundle, write_bundle
from marrowscope.bundle import bundle as bundles
from marrowscope.errors import BundleError
from marrowscope.vocabulary import DEFAULT_VOCABULARY, load_vocabulary
from tests.bundles import make_bundle, make_spec


def test_round_trip(tmp_path: Path) -> None:
    written = make_bundle(tmp_path / "bundle", n_members=2)
    read = load_bundle(tmp_path / "bundle")
    assert read.spec == written.spec
    assert read.classifier_files == ("classifier-0.onnx", "classifier-1.onnx")
    assert read.vocabulary.category_index("N1") == 2
    assert read.provenance()["files"]["segmenter/segmenter.onnx"] == read.segmenter_sha256
    assert not (tmp_path / "bundle.part").exists()


def test_networks_of_a_bundle_open(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", n_members=2)
    assert bundle.open_segmenter("onnxruntime").run({"images": np.zeros((1, 3, 128, 192), np.float32)})
    assert len(bundle.open_classifiers("onnxruntime")) == 2


def test_a_figure_that_is_not_defined_is_nan_in_the_file_too(tmp_path: Path) -> None:
    spec = make_spec(metrics={"classifier-0": {"cblc_auc": float("nan"), "n_crops": 3}})
    bundle = make_bundle(tmp_path / "bundle", spec=spec)
    assert math.isnan(bundle.spec.metrics["classifier-0"]["cblc_auc"])
    assert bundle.spec.metrics["classifier-0"]["n_crops"] == 3


@pytest.mark.parametrize("name", ["segmenter/segmenter.onnx", "classifier-0.onnx", "golden.npz", "CARD.md"])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    target = bundle.folder / name
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}: found SHA-256 [0-9a-f]{{64}}, expected {bundle.spec.files[name]}"):
        load_bundle(bundle.folder)
    load_bundle(bundle.folder, verify=False)


def test_a_missing_file_is_refused_even_unverified(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / "classifier-0.onnx").unlink()
    with pytest.raises(BundleError, match=r"classifier-0\.onnx: no such file, expected one of SHA-256"):
        load_bundle(bundle.folder, verify=False)


def test_a_folder_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"found no bundle\.toml, expected a model bundle"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema_version = 1", "schema_version = 99", "found schema_version 99, expected 1"),
        ("schema_version = 1", "schema_version = ", "not readable TOML"),
        ("um_per_px = 0.3", "um_per_px = -1", "um_per_px: found -1"),
        ('name = "test"', 'name = "test"\nsurprise = 1', "surprise: found 1, Extra inputs are not permitted"),
        ('"CARD.md" = ', '"../outside.md" = ', r"names '\.\./outside\.md', expected a path inside the bundle"),
        ('"classifier-0.onnx" = ', '"member.onnx" = ', r"expected segmenter/segmenter\.onnx and classifier-0\.onnx"),
    ],
)
def test_a_broken_specification(tmp_path: Path, old: str, new: str, message: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    path = bundle.folder / "bundle.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle.folder)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    reference = make_spec().vocabulary.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(BundleError, match=r"trained with vocabulary .* \(000000000000\), found .*; use the version"):
        make_bundle(tmp_path / "bundle", spec=make_spec(vocabulary=reference))
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_brings_its_own_vocabulary(tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "first")
    own = tmp_path / "own.toml"
    shipped = DEFAULT_VOCABULARY
    own.write_text(shipped.read_text(encoding="utf-8") + "\n# a laboratory's own\n", encoding="utf-8")
    vocabulary = load_vocabulary(own)
    reference = source.spec.vocabulary.model_copy(update={"sha256": vocabulary.sha256})
    files: dict[str, Path | bytes] = {name: source.folder / name for name in source.spec.files}
    bundle = write_bundle(tmp_path / "second", make_spec(vocabulary=reference), files | {"vocabulary.toml": own})
    assert bundle.vocabulary.sha256 == vocabulary.sha256


def test_only_a_bundle_is_replaced(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert make_bundle(tmp_path / "bundle", spec=make_spec(version="2")).spec.version == "2"
    other = tmp_path / "precious"
    other.mkdir()
    (other / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(BundleError, match="found a folder that is no bundle"):
        write_bundle(other, bundle.spec, {})
    assert (other / "notes.txt").read_text(encoding="utf-8") == "keep"


_keys = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1, max_size=8)
_leaves = (
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=10)
)


@given(
    values=st.recursive(
        st.dictionaries(_keys, _leaves | st.lists(st.integers(), max_size=3), max_size=4),
        lambda children: st.dictionaries(_keys, children | _leaves, max_size=4),
        max_leaves=8,
    )
)
def test_any_table_survives_toml(values: dict[str, object]) -> None:
    assert tomllib.loads(bundles._to_toml(values)) == values


def test_specification_survives_toml() -> None:
    spec = make_spec(
        threshold=0.21, metrics={"cblc": {"wf1": 0.9, "n": 120}}, calibration={"cblc": {"temperature": 1.3}}
    )
    text = bundles._to_toml(spec.model_dump(mode="json", exclude_none=True))
    assert BundleSpec.model_validate(tomllib.loads(text)) == spec
