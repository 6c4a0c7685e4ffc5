"""Bundles: what is written is what is read, and nothing that was changed is opened."""

import os
from pathlib import Path

import numpy as np
import pytest

from marrowscope.bundle import Bundle, load_bundle, write_bundle
from marrowscope.bundle.spec_file import description_text
from marrowscope.disk import MARKER_NAME
from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_file
from marrowscope.vocabulary import DEFAULT_VOCABULARY, load_vocabulary
from tests.bundles import make_bundle, make_spec


def test_round_trip(tmp_path: Path) -> None:
    written = make_bundle(tmp_path / "bundle", n_members=2)
    read = load_bundle(tmp_path / "bundle")
    assert read.spec == written.spec
    assert read.classifier_files == ("classifier-0.onnx", "classifier-1.onnx")
    assert read.vocabulary.category_index("N1") == 2
    assert read.provenance().files["segmenter/segmenter.onnx"] == read.segmenter_sha256
    provenance = read.provenance().model_dump(mode="json")
    assert list(provenance) == [
        "name", "version", "purpose", "demonstration", "sha256", "vocabulary", "threshold", "files",
        "error_rates",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle-graphs"]


def test_networks_of_a_bundle_open(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", n_members=2)
    assert bundle.open_segmenter("onnxruntime").run({"images": np.zeros((1, 3, 128, 192), np.float32)})
    assert len(bundle.open_classifiers("onnxruntime")) == 2


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
    with pytest.raises(BundleError, match=r"classifier-0\.onnx: not found, expected a file with SHA-256"):
        load_bundle(bundle.folder, verify=False)


def test_a_folder_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"found no bundle\.toml, expected a model bundle"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"CARD.md" = ', '"../outside.md" = ', r"\[files\]: found '\.\./outside\.md', a path through the"),
        ('"CARD.md" = ', '"/etc/passwd" = ', "an absolute path, expected a path inside"),
        ('"CARD.md" = ', "'C:\\CARD.md' = ", "a path with a backslash"),
        ('"CARD.md" = ', '"C:CARD.md" = ', "a path with a drive letter"),
        ('"CARD.md" = ', '"CARD\\u0000.md" = ', "a path with control characters"),
        ('"CARD.md" = ', '"segmenter/nul" = ', "the name of a device"),
        ('"classifier-0.onnx" = ', '"member.onnx" = ', r"expected segmenter/segmenter\.onnx and classifier-0\.onnx"),
        (
            "[files]",
            '[embeddings]\nfile = "classes.npz"\nn_classes = 3\nn_dimensions = 8\n\n[files]',
            r"bundle\.toml: \[embeddings\] names 'classes\.npz', expected a file that \[files\] names too",
        ),
    ],
)
def test_a_specification_that_its_files_contradict(tmp_path: Path, old: str, new: str, message: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    path = bundle.folder / "bundle.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle.folder)


@pytest.mark.parametrize("made", ["link", "pipe"])
def test_a_file_that_leads_out_of_the_bundle_is_not_opened(tmp_path: Path, made: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    card = bundle.folder / "CARD.md"
    if made == "link":
        card.rename(tmp_path / "CARD.md")
        card.symlink_to(tmp_path / "CARD.md")
    else:
        card.unlink()
        os.mkfifo(card)
    with pytest.raises(BundleError, match=r"\[files\]: found 'CARD.md', a (link that leads out of|device or a pipe)"):
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


def test_an_earlier_bundle_is_replaced_only_when_asked_for(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"found an earlier bundle, expected a new or empty folder; add --overwrite"):
        make_bundle(tmp_path / "bundle", spec=make_spec(version="2"))
    assert load_bundle(tmp_path / "bundle").spec.version == "1"
    assert make_bundle(tmp_path / "bundle", spec=make_spec(version="2"), overwrite=True).spec.version == "2"
    assert load_bundle(tmp_path / "bundle").spec.version == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle-graphs"]


def files_of(bundle: Bundle) -> dict[str, Path | bytes]:
    return {name: bundle.folder / name for name in bundle.spec.files}


def test_what_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    other = tmp_path / "precious"
    other.mkdir()
    (other / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(BundleError, match=r"not a marrowscope bundle, .*nothing is removed\. It contains notes\.txt"):
        write_bundle(other, bundle.spec, files_of(bundle), overwrite=True)
    assert (other / "notes.txt").read_text(encoding="utf-8") == "keep"
    (bundle.folder / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(BundleError, match=r"an earlier bundle with foreign files, .* It contains notes\.txt"):
        write_bundle(bundle.folder, bundle.spec, files_of(bundle), overwrite=True)


def test_a_bundle_without_our_marker_is_not_replaced_and_what_it_holds_is_named(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / MARKER_NAME).unlink()
    assert load_bundle(bundle.folder)
    with pytest.raises(
        BundleError, match=r"nothing is removed\. It contains CARD\.md, bundle\.toml, classifier-0\.onnx, g"
    ):
        write_bundle(bundle.folder, bundle.spec, files_of(bundle), overwrite=True)
    assert load_bundle(bundle.folder)


def test_a_bundle_that_does_not_load_leaves_nothing_behind(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="no readable error rates"):
        write_bundle(
            tmp_path / "bundle", bundle.spec, files_of(bundle) | {"quantification.json": b"{}"}, overwrite=True
        )
    assert load_bundle(tmp_path / "bundle").spec == bundle.spec
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle-graphs"]


def test_rates_of_another_version_are_refused_unless_they_are_left_unread(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    path, text = bundle.folder / "quantification.json", "{}"
    path.write_text(text, encoding="utf-8")
    hashed = bundle.spec.model_copy(update={"files": bundle.spec.files | {path.name: sha256_file(path)}})
    (bundle.folder / "bundle.toml").write_text(description_text(hashed), encoding="utf-8")
    with pytest.raises(BundleError, match=r"no readable error rates \(quantification\.json: .*rates: found nothing"):
        load_bundle(bundle.folder)
    assert load_bundle(bundle.folder, with_rates=False).quantification is None
