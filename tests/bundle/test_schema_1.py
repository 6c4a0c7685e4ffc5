"""Bundles of schema 1 are read as they always were: fixtures written by the version that made such bundles."""

import math
from pathlib import Path

import pytest

from marrowscope.bundle import load_bundle
from marrowscope.bundle.description import StageCounts
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.bundle.spec_file import description_text, read_description
from marrowscope.cells.crop import CropSpec
from marrowscope.cells.quality import QualityRules
from marrowscope.errors import BundleError
from marrowscope.patient.flags import FlagRules, StainReference
from marrowscope.segment.config import SegmenterConfig
from tests.bundles import make_bundle

FIXTURES = Path(__file__).parent / "fixtures"
FILLED = FIXTURES / "schema_1.toml"
CROPS_SHA256 = "60d111d3e9f6d9c0af4cbf43e474c57296497534b25cbc237670843d292b43a5"


def test_the_shipped_bundle_says_in_schema_2_what_it_said_in_schema_1() -> None:
    before = read_description((FIXTURES / "schema_1_demonstration.toml").read_bytes(), Path("bundle.toml"))
    shipped = load_bundle(demonstration_bundle()).spec
    assert shipped.quality_rules == QualityRules()
    # They say since that the cells were simulated, and what the domain is; weights are in half precision; rates and
    # threshold are measured again.
    halved = ("segmenter/segmenter.onnx", "classifier-0.onnx", "golden.npz")
    changed = {name: before.files[name] for name in ("quantification.json", "CARD.md", *halved)}
    files = {name: digest for name, digest in (shipped.files | changed).items() if name != "segmenter/CARD.md"}
    as_before = {"quality_rules": QualityRules(max_overlap=1), "files": files, "domain": None}
    as_before["threshold"] = before.threshold
    assert before == shipped.model_copy(update=as_before)
    assert before.flags == FlagRules()
    assert before.stain_reference is None
    assert before.calibration is None


def test_a_bundle_of_schema_1_is_loaded_with_the_values_it_had(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", n_members=2)
    hashes = "".join(f'"{name}" = "{digest}"\n' for name, digest in bundle.spec.files.items())
    (bundle.folder / "bundle.toml").write_text(FILLED.read_text(encoding="utf-8") + hashes, encoding="utf-8")
    spec = load_bundle(bundle.folder).spec

    assert (spec.schema_version, spec.name, spec.version, spec.threshold) == (2, "laboratory", "3", 0.25)
    assert spec.files == bundle.spec.files
    # What the section leaves out is the package's own, as it was when schema 1 was current.
    assert spec.segmenter == SegmenterConfig(um_per_px=0.3, confidence=0.35, smoothing_px=1.5)
    assert spec.crop == CropSpec(side_um=28.8, size_px=96)
    assert spec.quality_rules == QualityRules(min_circularity=0.5, max_overlap=1)
    assert spec.flags == FlagRules(max_lymphoid=0.4)
    assert spec.stain_reference == StainReference(
        mean=(-1.5, -0.5, -0.75),
        covariance=((0.03, 0.01, 0.0), (0.01, 0.04, 0.01), (0.0, 0.01, 0.05)),
        n_fields=40,
        n_patients=12,
        centers=("Center A", "c2"),
    )
    assert sum(spec.implied_prior.values()) == pytest.approx(1)
    assert spec.implied_prior_cblc == 0.2559861525146649
    assert set(spec.licenses) == {"segmenter", "classifier", "golden_sample"}


def test_members_heads_and_gates_of_schema_1() -> None:
    spec = read_description(FILLED.read_bytes(), FILLED)
    calibration = spec.calibration
    assert calibration is not None
    assert (calibration.source, calibration.n_patients) == ("predicted", 6)
    assert {name: head.temperature for name, head in calibration.heads.items()} == {
        "cblc": 1.5, "countable": 1.0, "category": 0.75,
    }  # fmt: skip
    assert calibration.heads["countable"].ece_after is None
    assert calibration.heads["cblc"].nested_temperatures == {"0": 1.5, "1": 1.625}

    assert list(spec.metrics) == list(spec.training_data.members) == ["classifier-0", "classifier-1"]
    assert spec.metrics["classifier-0"].cblc_auc == 0.9935326547921968
    assert math.isnan(spec.metrics["classifier-1"].cblc_auc)
    assert spec.training_data.description.startswith("Segmenter: 672 simulated fields")
    first, second = spec.training_data.members.values()
    assert first.crops_sha256 == CROPS_SHA256
    assert first.segmenter_sha256 is not None
    assert second.segmenter_sha256 is None
    assert first.stages["yolo-to-yolo"] == StageCounts(
        training_crops=10399, validation_crops=1730, training_patients=61, validation_patients=11
    )

    assert spec.precisions["bf16"].passed
    assert spec.precisions["bf16"].centers["Center A"].cblc_weighted_f1_interval == (-0.001, 0.002)
    assert "[precisions.int8]" in FILLED.read_text(encoding="utf-8")
    assert set(spec.precisions) == {"bf16"}


def test_schema_1_is_written_again_as_schema_2() -> None:
    spec = read_description(FILLED.read_bytes(), FILLED)
    text = description_text(spec)
    assert text.startswith("schema_version = 2\n")
    assert "licences" not in text
    assert description_text(read_description(text.encode(), FILLED)) == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("um_per_px = 0.3\ncat", "um_per_px = 0.25\ncat", r"found um_per_px 0\.25 beside 0\.3 in \[segmenter\]"),
        ("um_per_px = 0.3\ncat", "cat", r"found um_per_px None beside 0\.3 in \[segmenter\]"),
        ("confidence = 0.35", 'confidence = "high"', r"\[segmenter\] confidence: found 'high'"),
        ("[crop]", "[crops]", r"crops: found .*expected no key of this name"),
        ("max_lymphoid = 0.4", "max_lymphoid = 4", r"\[flags\] max_lymphoid: found 4"),
        ("n_fields = 40\n", "", r"\[stain_reference\] n_fields: found nothing"),
        ("[calibration.cblc]\ntemperature = 1.5", "[calibration.cblc]", r"\[calibration\.heads\.cblc\] temperature: "),
        ("n_crops = 1730\n", "", r"\[metrics\.classifier-0\] n_crops: found nothing"),
        ("description = ", "words = ", r"\[training_data\] description: found nothing"),
        (f'"{CROPS_SHA256}"', "7", r"\[training_data\.members\.classifier-0\] crops_sha256: found 7"),
        (
            "[precisions.bf16]\npassed = true",
            "[precisions.bf16]\npassed = false",
            r"\[precisions\.bf16\]: found passed",
        ),
        ("golden_sample = ", "golden_sample = 7 # ", r"\[licenses\] golden_sample: found 7"),
    ],
)
def test_a_fault_in_schema_1_is_named(old: str, new: str, message: str) -> None:
    text = FILLED.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(BundleError, match=message):
        read_description(text.replace(old, new, 1).encode(), FILLED)
