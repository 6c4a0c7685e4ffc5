"""bundle.toml: what is written is what is read, and every fault is named by section and key."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from marrowscope.bundle import BundleSpec
from marrowscope.bundle.description import MemberMetrics
from marrowscope.bundle.spec_file import description_text, read_description
from marrowscope.bundle.toml_writer import to_toml
from marrowscope.errors import BundleError
from tests.bundles import make_full_spec, make_spec

PATH = Path("laboratory/bundle.toml")
FULL = tomllib.loads(description_text(make_full_spec()))


def read(values: dict[str, Any]) -> BundleSpec:
    return read_description(to_toml(values).encode(), PATH)


def changed(where: str, value: object) -> dict[str, Any]:
    """Give the tables of a full bundle.toml with one key, ``a/b/c``, changed, or taken away where ``value`` is None."""
    values = tomllib.loads(description_text(make_full_spec()))
    *sections, key = where.split("/")
    table: Any = values
    for section in sections:
        table = table[int(section)] if isinstance(table, list) else table[section]
    assert key in table
    if value is None:
        del table[key]
    else:
        table[key] = value
    return values


def test_every_section_survives_the_file() -> None:
    spec = make_full_spec()
    assert read(FULL) == spec
    empty = {name for name in BundleSpec.model_fields if not getattr(spec, name)}
    assert empty == set()  # a section that the full specification left out would not be tested at all
    assert set(FULL) == set(BundleSpec.model_fields)


def test_what_a_bundle_does_not_have_is_absent_from_the_file() -> None:
    spec = make_spec(categories_trained=(), implied_prior={})
    values = tomllib.loads(description_text(spec))
    assert set(values) == {
        "schema_version", "name", "version", "purpose", "demonstration", "vocabulary", "segmenter", "crop",
        "quality_rules", "flags", "training_data", "licenses",
    }  # fmt: skip
    assert read(values) == spec


def test_a_figure_that_is_not_defined_is_nan_in_the_file_too() -> None:
    values = changed("metrics/classifier-0/cblc_auc", math.nan)
    found = read(values).metrics["classifier-0"]
    assert math.isnan(found.cblc_auc)
    text = description_text(make_full_spec(metrics={"classifier-0": found}))
    assert "cblc_auc = nan" in text
    assert isinstance(found, MemberMetrics)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("name", "name"),
        ("vocabulary", "vocabulary"),
        ("vocabulary/sha256", "[vocabulary] sha256"),
        ("segmenter", "segmenter"),
        ("segmenter/confidence", "[segmenter] confidence"),
        ("crop/side_um", "[crop] side_um"),
        ("quality_rules/min_circularity", "[quality_rules] min_circularity"),
        ("stain_reference/n_fields", "[stain_reference] n_fields"),
        ("calibration/method", "[calibration] method"),
        ("calibration/heads/cblc/temperature", "[calibration.heads.cblc] temperature"),
        ("metrics/classifier-0/cblc_auc", "[metrics.classifier-0] cblc_auc"),
        ("metrics/classifier-0/n_patients", "[metrics.classifier-0] n_patients"),
        ("training_data/description", "[training_data] description"),
        ("training_data/members/classifier-0/crops_sha256", "[training_data.members.classifier-0] crops_sha256"),
        (
            "training_data/members/classifier-0/stages/gt-to-yolo/training_crops",
            "[training_data.members.classifier-0.stages.gt-to-yolo] training_crops",
        ),
        ("sources/1/license", "[sources.1] license"),
        ("domain/measured_on", "[domain] measured_on"),
        ("domain/scores/contradictions/mean", "[domain.scores.contradictions] mean"),
        ("embeddings/n_dimensions", "[embeddings] n_dimensions"),
        ("rates_by_center/B/opened", "[rates_by_center.B] opened"),
        ("precisions/bf16/device", "[precisions.bf16] device"),
    ],
)
def test_a_missing_key_is_named_with_its_section(where: str, named: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(changed(where, None))
    assert str(caught.value) == (
        f"{PATH}: {named}: found nothing, expected a value; correct the file or export the bundle again"
    )


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        ("version", 3, "version: found 3, expected a text in quotes"),
        ("threshold", 1.5, "threshold: found 1.5, expected at most 1"),
        ("categories_trained", "N", "categories_trained: found 'N', expected a list"),
        ("vocabulary", "marrow-37", "vocabulary: found 'marrow-37', expected keys with values"),
        ("vocabulary/sha256", "3415", "[vocabulary] sha256: found '3415', expected a text of the form"),
        ("segmenter/um_per_px", "0.3", "[segmenter] um_per_px: found '0.3', expected a number"),
        ("segmenter/stride", 0, "[segmenter] stride: found 0, expected at least 1"),
        ("crop/size_px", 96.5, "[crop] size_px: found 96.5, expected a whole number"),
        ("quality_rules/min_circularity", True, "[quality_rules] min_circularity: found True"),
        ("flags/max_lymphoid", "a third", "[flags] max_lymphoid: found 'a third', expected a number"),
        ("stain_reference/mean", [1.0, 2.0], "[stain_reference.mean] 2: found nothing, expected a value"),
        ("implied_prior/N", -0.5, "[implied_prior] N: found -0.5, expected at least 0"),
        ("calibration/n_patients", "six", "[calibration] n_patients: found 'six', expected a whole number"),
        ("calibration/heads", 1, "[calibration] heads: found 1, expected keys with values"),
        ("metrics/classifier-0/n_crops", 1.5, "[metrics.classifier-0] n_crops: found 1.5"),
        ("metrics/classifier-0", 0.9, "[metrics] classifier-0: found 0.9, expected keys with values"),
        ("training_data/members/classifier-0/weights_sha256", "x", "[training_data.members.classifier-0] w"),
        ("sources", "marrow", "sources: found 'marrow', expected a list"),
        ("sources/0/n_cells/N", "many", "[sources.0.n_cells] N: found 'many', expected a whole number"),
        ("sources/0/simulated", "no", "[sources.0] simulated: found 'no', expected true or false"),
        ("domain/scores/contradictions/mean", math.nan, "[domain.scores.contradictions] mean: found nan"),
        ("domain/scores/sharpness/lower_limit", 10.0, "[domain.scores.sharpness]: found lower_limit 10.0"),
        ("embeddings/n_dimensions", 0, "[embeddings] n_dimensions: found 0, expected at least"),
        ("rates_by_center/B/n_outside", 13, "[rates_by_center.B]: found n_outside 13 of n_patients 12"),
        ("rates_by_center/B/opened", 1, "[rates_by_center.B] opened: found 1, expected true or false"),
        ("precisions/bf16/passed", False, "[precisions.bf16]: found passed = false beside changes of which none"),
        ("precisions/bf16", 1, "[precisions] bf16: found 1, expected keys with values"),
        ("licenses/segmenter", 3, "[licenses] segmenter: found 3, expected a text in quotes"),
        ("files/CARD.md", "0", "[files] CARD.md: found '0', expected a text of the form"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_section(where: str, value: object, named: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(changed(where, value))
    assert str(caught.value).startswith(f"{PATH}: {named}")
    assert str(caught.value).endswith("; correct the file or export the bundle again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "",
        "vocabulary",
        "segmenter",
        "crop",
        "quality_rules",
        "flags",
        "stain_reference",
        "calibration",
        "calibration/heads/cblc",
        "metrics/classifier-0",
        "training_data",
        "training_data/members/classifier-0",
        "domain",
        "domain/scores/contradictions",
        "embeddings",
        "rates_by_center/B",
        "precisions/bf16",
        "precisions/bf16/centers/A",
    ],
)
def test_a_key_that_nobody_knows_is_refused(where: str) -> None:
    values = changed("name", "test")
    table = values
    for section in filter(None, where.split("/")):
        table = table[section]
    table["surprise"] = 1
    with pytest.raises(BundleError, match=r"surprise: found 1, expected no key of this name"):
        read(values)


def test_every_fault_stands_in_one_sentence() -> None:
    values = changed("segmenter/confidence", None)
    values["crop"]["size_px"] = "large"
    with pytest.raises(BundleError) as caught:
        read(values)
    assert str(caught.value) == (
        f"{PATH}: [segmenter] confidence: found nothing, expected a value; [crop] size_px: found 'large', expected "
        "a whole number; correct the file or export the bundle again"
    )


def test_a_precision_that_nobody_knows_is_refused() -> None:
    values = changed("name", "test")
    values["precisions"]["f8"] = values["precisions"]["bf16"]
    known = "bf16, bf16-segmenter, f16"
    with pytest.raises(BundleError, match=rf"\[precisions\]: found the precisions f8, expected only {known}"):
        read(values)


def test_the_gate_of_a_precision_that_is_there_no_more_is_dropped_unread() -> None:
    values = changed("name", "test")
    kept = read(values)
    for gate in (values["precisions"]["bf16"], {"passed": "perhaps"}):
        values["precisions"]["int8"] = gate
        assert read(values) == kept
    assert set(kept.precisions) == {"bf16"}


def test_a_gate_of_a_mixed_choice_stands_under_its_name() -> None:
    spec = make_full_spec()
    spec = spec.model_copy(update={"precisions": spec.precisions | {"bf16-segmenter": spec.precisions["bf16"]}})
    text = description_text(spec)
    assert list(tomllib.loads(text)["precisions"]) == ["bf16", "bf16-segmenter"]
    assert read_description(text.encode(), PATH) == spec


@pytest.mark.parametrize("version", [0, 3, 99, "2", None])
def test_an_unknown_schema_is_refused_with_what_to_do(version: object) -> None:
    with pytest.raises(BundleError) as caught:
        read(changed("schema_version", version))
    assert str(caught.value) == (
        f"{PATH}: found schema_version {version!r}, expected 1 or 2; use the version of marrowscope that made the "
        "bundle, or export it again with this one"
    )


def test_what_is_no_toml_is_refused() -> None:
    for data in (b"schema_version = ", b"\xff\xfe"):
        with pytest.raises(BundleError, match=r"not readable TOML .*; copy the bundle again"):
            read_description(data, PATH)


def test_a_file_nested_too_deeply_is_refused() -> None:
    with pytest.raises(BundleError, match=r"not readable TOML .*; copy the bundle again"):
        read_description(b"a = " + b"[" * 5000 + b"]" * 5000, PATH)


def test_a_key_with_a_line_break_stays_on_one_line() -> None:
    with pytest.raises(BundleError) as caught:
        read({**tomllib.loads(description_text(make_spec())), "na\nme": 1})
    assert len(str(caught.value).splitlines()) == 1
