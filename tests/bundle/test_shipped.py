"""What ships: the default bundle holds what its card and NOTICE say, and nothing that only a hospital can measure."""

from __future__ import annotations

from email import message_from_string
from importlib.metadata import distribution
from pathlib import Path

import pytest

from marrowscope.bundle import Bundle, load_bundle
from marrowscope.bundle.shipped import bundle_path, default_bundle, demonstration_bundle
from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_file
from marrowscope.studies.real_patients import real_cohort

ROOT = Path(__file__).parents[2]
MODELS = (".onnx", ".npz", ".json")
NO_REAL_CELL = ("M", "M1", "R", "R1", "R2", "J", "J1")
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    try:
        return load_bundle(default_bundle())
    except BundleError:
        pytest.skip("a build without the bundle of real cells")


@pytest.fixture(scope="module")
def card(bundle: Bundle) -> str:
    return (bundle.folder / "CARD.md").read_text(encoding="utf-8")


def test_the_default_bundle_counts_and_does_not_call(bundle: Bundle) -> None:
    assert (bundle.spec.threshold, bundle.quantification, bundle.spec.rates_by_center) == (None, None, {})
    assert not bundle.spec.demonstration
    assert bundle_path(Path("default")) == bundle.folder


def test_classes_without_real_cells_are_named(bundle: Bundle) -> None:
    assert bundle.learned is not None
    assert bundle.learned.simulated_only_codes == NO_REAL_CELL
    assert bundle.learned.simulated_only == ("M", "M1", "R", "R1", "R2", "plasma")
    assert set(bundle.learned.blasts_not_learned(None)) == {"M", "M1", "J"}


def test_the_card_has_each_source_with_credit_license_and_counts(bundle: Bundle, card: str) -> None:
    assert len(bundle.spec.sources) == 3
    for source in bundle.spec.sources:
        for said in (source.name, source.license, source.attribution, source.doi):
            assert said in card
        for label, n in source.n_cells.items():
            assert f"{label} {n}" in card
    for said in ("Partha Pratim Banik", "shenggan", "TXL-PBC (Lu Gan, Xi Li"):
        assert said in card
    assert "lymphoblasts may be among them" in card
    assert "No real cell that does not count" in card


def test_the_card_says_what_export_would_write_of_the_sources(bundle: Bundle, card: str) -> None:
    pytest.importorskip("torch")
    from marrowscope.train import bundle_card

    assert bundle_card._sources(bundle.spec, bundle.vocabulary) in card
    assert bundle_card._of_simulated_cells(bundle.spec, bundle.vocabulary) in card
    assert bundle_card._credits(bundle.spec) in card


def test_the_notice_names_every_source_and_its_terms(bundle: Bundle) -> None:
    notice = " ".join((ROOT / "NOTICE").read_text(encoding="utf-8").split())
    for source in bundle.spec.sources:
        if not source.simulated:
            authors = source.attribution.partition(":")[0]
            assert authors in notice, source.name
    for said in (
        "CC BY 4.0", "AGPL-3.0", "10.7937/TCIA.AXH3-T579", "Data in Brief 30 (2020) 105474", "Lu Gan, Xi Li",
        "Copyright (c) 2017 shenggan", "Copyright (c) 2020 Partha Pratim Banik", "Raabin-WBC",
    ):  # fmt: skip
        assert said in notice, said


def test_the_package_names_the_licenses_of_what_is_inside() -> None:
    metadata = message_from_string(distribution("marrowscope").read_text("METADATA") or "")
    assert {part.strip() for part in metadata["License-Expression"].split(" AND ")} == {
        "Apache-2.0", "AGPL-3.0-only", "CC-BY-4.0", "BSD-3-Clause",
    }  # fmt: skip
    files = metadata.get_all("License-File") or []
    assert {"LICENSE", "NOTICE"} <= set(files)


def test_all_models_stay_under_40_mb_and_the_photographs_under_4(bundle: Bundle) -> None:
    folders = (bundle.folder, demonstration_bundle())
    models = [path for folder in folders for path in folder.rglob("*") if path.suffix in MODELS]
    assert sum(path.stat().st_size for path in models) < 40 * MEGABYTE
    photographs = [path for path in real_cohort().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in photographs) < 4 * MEGABYTE
    assert "CC BY 4.0" in (real_cohort() / "ATTRIBUTION.md").read_text(encoding="utf-8")


def test_both_segmenters_carry_their_license(bundle: Bundle) -> None:
    for folder in (bundle.folder, demonstration_bundle()):
        license_text = (folder / "segmenter" / "LICENSE").read_text(encoding="utf-8")
        assert "GNU AFFERO GENERAL PUBLIC LICENSE" in license_text
        assert (folder / "segmenter" / "CARD.md").is_file()
        graph = folder / "segmenter" / "segmenter.onnx"
        assert b"AGPL-3.0" in graph.read_bytes()
    assert bundle.spec.files["segmenter/segmenter.onnx"] == sha256_file(bundle.folder / "segmenter" / "segmenter.onnx")
