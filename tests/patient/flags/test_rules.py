"""Quality flags: a drawn defect raises its flag and no other, the undamaged twin raises none."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import polars as pl
import pytest
from scipy.special import erf

from marrowscope.bundle import load_bundle
from marrowscope.cells.field_measures import FIELD_MEASURES, _quantile_of_the_chosen, measure_field
from marrowscope.cells.field_measures import SCALE_UM_PER_PX as FIELD_SCALE_UM_PER_PX
from marrowscope.imaging import write_image
from marrowscope.patient.flags import (
    FIELD_FLAGS,
    PATIENT_FLAGS,
    Flag,
    FlagRules,
    StainReference,
    field_flags,
    fit_stain_reference,
    patient_flags,
    stain_distance,
)
from marrowscope.predict import PredictConfig, predict
from marrowscope.report.strings import LANGUAGES, load_strings
from marrowscope.runs.parquet import conform, empty_table
from marrowscope.segment.config import SegmenterConfig
from marrowscope.segment.letterbox import letterbox
from marrowscope.simulate import draw_center, draw_patient_style, load_parameters, render_field
from tests.bundles import make_bundle, make_spec
from tests.fake_runs import EMPTY_PATIENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from marrowscope.records import ImageArray

RULES = FlagRules()
CODES = ("N", "N1", "N3", "N5", "R2", "R3", "L", "M2")
N_FIELDS = 6
DENSITIES = ("od_red", "od_green", "od_blue")


@cache
def drawn(number: int) -> tuple[ImageArray, float]:
    """Give a simulated field of eight cells and its scale; all fields are of one center, each of another patient."""
    rng = np.random.default_rng(5)
    center = draw_center(rng, "S1", load_parameters())
    rng = np.random.default_rng(100 + number)
    style = draw_patient_style(rng, center, load_parameters())
    field = render_field(rng, CODES, style, width_px=640, height_px=480)
    return field.image, field.um_per_px


def blurred(image: ImageArray, um_per_px: float) -> ImageArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0 / um_per_px))


def underexposed(image: ImageArray, _: float) -> ImageArray:
    return np.asarray(image // 2)


def overexposed(image: ImageArray, _: float) -> ImageArray:
    return np.asarray(np.clip(image * 1.5, 0, 255), dtype=np.uint8)


def stained(red: float, green: float, blue: float) -> Callable[[ImageArray, float], ImageArray]:
    """Multiply the optical densities against the field's own background."""

    def change(image: ImageArray, _: float) -> ImageArray:
        white = np.quantile(image.reshape(-1, 3), 0.95, axis=0) + 1
        light = np.minimum((image + 1.0) / white, 1) ** np.array([red, green, blue])
        return np.asarray(np.clip(np.rint(white * light - 1), 0, 255), dtype=np.uint8)

    return change


@cache
def reference() -> StainReference:
    """Fit the stain of the undamaged fields."""
    rows = [
        {"patient_id": f"P{number}", "center": "S1"} | measure_field(*drawn(number)) for number in range(1, N_FIELDS)
    ]
    fitted = fit_stain_reference(pl.DataFrame(rows))
    assert fitted is not None
    return fitted


def flags_of(image: ImageArray, um_per_px: float, **more: Any) -> list[str]:  # noqa: ANN401 - columns of a field's row
    measures = measure_field(image, um_per_px)
    return field_flags(measures | {"stain_distance": stain_distance(measures, reference())} | more, RULES)


@pytest.mark.parametrize(
    ("defect", "flag"),
    [
        (blurred, "blurred"),
        (underexposed, "exposure"),
        (overexposed, "exposure"),
        (stained(0.5, 0.5, 0.5), "stain_far"),
        (stained(2, 2, 2), "stain_far"),
        (stained(1.5, 1, 0.65), "stain_far"),
    ],
    ids=["blurred", "underexposed", "overexposed", "pale", "dark", "redder"],
)
def test_a_damaged_field_raises_its_flag_and_its_twin_does_not(
    defect: Callable[[ImageArray, float], ImageArray], flag: str
) -> None:
    image, um_per_px = drawn(0)
    assert flags_of(image, um_per_px) == []
    assert flag in flags_of(defect(image, um_per_px), um_per_px)
    if flag == "stain_far":
        assert flags_of(defect(image, um_per_px), um_per_px) == [flag]


def test_every_measure_of_the_fields_table_is_given_and_finite_on_a_field_with_cells() -> None:
    measures = measure_field(*drawn(0))
    assert list(measures) == [name for name in FIELD_MEASURES if name != "stain_distance"]
    assert all(np.isfinite(value) for value in measures.values())


@pytest.mark.parametrize("sigma_um", [0.6, 0.8, 1.0])
def test_the_sharpness_of_a_blurred_step_is_that_of_the_closed_form(sigma_um: float) -> None:
    x_um = (np.arange(200) - 99.5) * 0.3
    density = 0.3 * (1 + erf(x_um / (sigma_um * np.sqrt(2))))
    row = np.rint(231 * 10**-density - 1).astype(np.uint8)
    image = np.ascontiguousarray(np.broadcast_to(row[None, :, None], (150, 200, 3)))
    measured = measure_field(image, 0.3)["sharpness"]
    within_reach = erf(1.5 / (sigma_um * np.sqrt(2)))
    assert measured == pytest.approx(1 / (sigma_um * np.sqrt(2 * np.pi) * within_reach), rel=0.06)


def test_sharpness_depends_on_neither_stain_nor_scale_nor_empty_slide() -> None:
    image, um_per_px = drawn(0)
    plain = measure_field(image, um_per_px)["sharpness"]
    pale = measure_field(stained(0.5, 0.5, 0.5)(image, um_per_px), um_per_px)["sharpness"]
    doubled = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    white = np.quantile(image.reshape(-1, 3), 0.95, axis=0).astype(np.uint8)
    empty = np.concatenate([image, np.broadcast_to(white, (2 * image.shape[0], image.shape[1], 3))])
    assert pale == pytest.approx(plain, rel=0.1)
    assert measure_field(np.asarray(doubled), um_per_px / 2)["sharpness"] == pytest.approx(plain, rel=0.05)
    assert measure_field(np.ascontiguousarray(empty), um_per_px)["sharpness"] == pytest.approx(plain, rel=0.02)


def test_density_is_measured_against_the_fields_own_background() -> None:
    image = np.full((200, 200, 3), (239, 219, 199), dtype=np.uint8)
    cv2.circle(image, (100, 100), 50, (59, 21, 99), -1)
    measures = measure_field(image, 0.3)
    assert measures["background"] == pytest.approx((239 + 219 + 199) / 3 / 255)
    expected = [np.log10(240 / 60), np.log10(220 / 22), np.log10(200 / 100)]
    np.testing.assert_allclose([measures[name] for name in DENSITIES], expected, rtol=1e-5)


def test_pixels_are_clipped_where_all_three_channels_are() -> None:
    image = np.full((100, 100, 3), (255, 230, 206), dtype=np.uint8)  # a cream background: full in red alone
    image[:10] = 255
    image[10:15] = 0
    image[50:] = (200, 210, 255)
    assert measure_field(image, 0.3)["clipped"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.full((1, 1, 3), 9, np.uint8),
        np.zeros((60, 60, 3), np.uint8),
        np.full((80, 90, 3), 230, np.uint8),
        np.full((500, 1, 3), 230, np.uint8),
    ],
    ids=["no pixels", "one pixel", "black", "empty slide", "a line"],
)
def test_an_image_that_shows_nothing_has_no_sharpness_and_no_stain(image: ImageArray) -> None:
    measures = measure_field(image, 0.15)
    assert all(np.isnan(measures[name]) for name in ("sharpness", *DENSITIES))
    assert not {"blurred", "stain_far"} & set(flags_of(image, 0.15))


def test_a_field_without_a_cell_has_no_stain_to_judge() -> None:
    image, um_per_px = drawn(0)
    pale = stained(0.5, 0.5, 0.5)(image, um_per_px)
    assert flags_of(pale, um_per_px, n_cells=1) == ["stain_far"]
    assert flags_of(pale, um_per_px, n_cells=0) == []


def test_the_distance_is_mahalanobis_in_logarithms_and_missing_values_have_none() -> None:
    identity = ((1.0, 0.0, 0.0), (0.0, 4.0, 0.0), (0.0, 0.0, 1.0))
    unit = StainReference(mean=(0, 0, 0), covariance=identity, n_fields=9, n_patients=3)
    measures: dict[str, float | None] = {"od_red": np.e**3, "od_green": np.e**8, "od_blue": 1.0}
    assert stain_distance(measures, unit) == pytest.approx(5.0)
    assert np.isnan(stain_distance(measures, None))
    for missing in (None, float("nan"), 0.0):
        assert np.isnan(stain_distance(measures | {"od_blue": missing}, unit))


def test_the_reference_of_many_patients_is_their_own_mean_and_covariance() -> None:
    rng = np.random.default_rng(1)
    spread = np.array([[0.3, 0, 0], [0.2, 0.1, 0], [0.1, 0.05, 0.08]])
    densities = rng.normal(size=(4000, 3)) @ spread.T - 0.8
    rows = pl.DataFrame(np.exp(densities), schema=list(DENSITIES)).with_row_index("patient_id")
    fitted = fit_stain_reference(rows.with_columns(center=pl.lit("A")))
    assert fitted is not None
    np.testing.assert_allclose(fitted.mean, densities.mean(axis=0))
    np.testing.assert_allclose(fitted.covariance, np.cov(densities.T), rtol=0.02)


def test_the_reference_of_one_field_can_be_used_and_names_no_patient() -> None:
    row = {"patient_id": "Jane Doe", "center": "A", "od_red": 0.5, "od_green": 0.8, "od_blue": 0.2}
    unusable = [row | {"patient_id": "X", "od_red": value} for value in (None, 0.0, float("nan"))]
    fitted = fit_stain_reference(pl.DataFrame([row, *unusable]))
    assert fitted is not None
    assert (fitted.n_fields, fitted.n_patients, fitted.centers) == (1, 1, ("A",))
    assert stain_distance({name: 2 * value for name, value in row.items() if isinstance(value, float)}, fitted) > 5
    assert "Jane" not in fitted.model_dump_json()
    assert fit_stain_reference(pl.DataFrame(unusable)) is None


PATIENT: dict[str, Any] = {
    "n_fields": 10,
    "n_fields_failed": 0,
    "n_fields_counted": 10,
    "n_contours": 200,
    "n_rejected": 32,
    "rejected": [{"reason": "edge", "n": 20}, {"reason": "not_round", "n": 12}],
    "n_cells": 168,
    "n_countable": 155,
    "n_not_countable": 13,
    "cblc_ratio": 0.30,
    "corrected_ratio": 0.33,
    "lymphoid_share": 0.2,
}


def flags_of_patient(
    *,
    patient: dict[str, Any] | None = None,
    raised: tuple[list[str] | None, ...] = (),
    spread: tuple[float | None, ...] = (0.02, 0.05),
) -> list[dict[str, Any]]:
    flags = pl.DataFrame({"flags": [*raised, *([[]] * (10 - len(raised)))]}, schema={"flags": pl.List(pl.String())})
    cells = pl.DataFrame(
        {
            "reject_reason": [*([None] * len(spread)), None, "edge"],
            "is_countable": [*([True] * len(spread)), False, None],
            "member_spread": [*spread, 0.5, None],
        },
        schema={"reject_reason": pl.String(), "is_countable": pl.Boolean(), "member_spread": pl.Float64()},
    )
    row = EMPTY_PATIENT | PATIENT | (patient or {})
    return patient_flags(row, conform(flags, "fields"), conform(cells, "cells"), RULES)


def test_a_patient_without_a_defect_raises_no_flag() -> None:
    assert flags_of_patient() == []
    unknown = {"corrected_ratio": None, "lymphoid_share": None}
    assert flags_of_patient(patient=unknown, spread=(None, None)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"raised": (["blurred"],) * 3}, ("blurred_fields", 0.3, 0.2, 3)),
        ({"raised": (["blurred", "exposure"],) + (["exposure"],) * 2}, ("exposure_fields", 0.3, 0.2, 3)),
        ({"raised": (["stain_far"],) * 10}, ("stain_far_fields", 1.0, 0.2, 10)),
        ({"patient": {"n_fields_failed": 1}, "raised": (None,)}, ("failed_fields", 0.1, 0.0, 1)),
        ({"patient": {"n_countable": 99}}, ("few_cells", 99.0, 100.0, None)),
        ({"patient": {"n_fields_counted": 4}}, ("few_cells", 4.0, 5.0, 4)),
        ({"patient": {"n_not_countable": 21}}, ("many_not_countable", 0.125, 0.10, None)),
        ({"patient": {"rejected": [{"reason": "not_round", "n": 32}]}}, ("many_rejected", 0.16, 0.15, None)),
        ({"spread": (0.05, 0.2)}, ("members_disagree", 0.125, 0.10, None)),
        ({"patient": {"corrected_ratio": 0.2}}, ("correction_large", 0.1, 0.05, None)),
        ({"patient": {"lymphoid_share": 0.31}}, ("lymphoid_high", 0.31, 0.30, None)),
        ({"patient": {"lymphoid_share": 0.51, "specimen": "Blood"}}, ("lymphoid_high", 0.51, 0.50, None)),
        ({"patient": {"lymphoid_share": 0.51, "specimen": "unknown"}}, ("lymphoid_high", 0.51, 0.50, None)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_defect_of_a_patient_raises_its_flag_with_value_and_limit(
    changes: dict[str, Any], expected: tuple[str, float, float, int | None]
) -> None:
    (flag,) = flags_of_patient(**changes)
    assert flag["flag"] in {known.key for known in PATIENT_FLAGS}
    assert (flag["flag"], flag["limit"], flag["n_fields"]) == (expected[0], expected[2], expected[3])
    assert flag["value"] == pytest.approx(expected[1])


def test_flags_of_fields_are_shares_of_the_images_that_were_read() -> None:
    assert flags_of_patient(raised=(["blurred"],) * 2) == []  # 2 of 10, as many as may be
    few = flags_of_patient(patient={"n_fields_failed": 1}, raised=(["blurred"], ["blurred"], None))
    assert [(flag["flag"], flag["value"]) for flag in few] == [("blurred_fields", 2 / 9), ("failed_fields", 0.1)]


def test_a_patient_without_fields_or_cells_raises_few_cells_alone() -> None:
    found = patient_flags(EMPTY_PATIENT | {"n_fields_counted": 0}, empty_table("fields"), empty_table("cells"), RULES)
    assert [flag["flag"] for flag in found] == ["few_cells"]


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Write one patient's folder with one sharp field."""
    image, um_per_px = drawn(0)
    side = round(192 * 0.3 / um_per_px), round(128 * 0.3 / um_per_px)  # what fills the test bundle's canvas
    folder = tmp_path / "P1"
    folder.mkdir()
    write_image(folder / "a.png", np.ascontiguousarray(image[: side[1], : side[0]]))
    return folder


def test_rules_and_stain_of_the_bundle_decide_the_flags_of_a_run(image_folder: Path, tmp_path: Path) -> None:
    um_per_px = drawn(0)[1]
    config = PredictConfig(backend="onnxruntime", threads=1, um_per_px=um_per_px)
    plain = predict([image_folder], make_bundle(tmp_path / "plain"), tmp_path / "run-plain", config=config)
    assert plain.fields["flags"].to_list() == [[]]
    assert plain.fields["stain_distance"].null_count() == 1
    assert plain.fields["sharpness"].item() > RULES.min_sharpness
    assert [flag["flag"] for flag in plain.patients["flags"].item()] == ["few_cells", "unchecked"]

    strict = FlagRules(min_sharpness=9.0, min_cells=0, min_fields=0, max_stain_distance=0.001)
    spec = make_spec(flags=strict, stain_reference=reference())
    bundle = make_bundle(tmp_path / "strict", spec=spec)
    found = predict([image_folder], bundle, tmp_path / "run-strict", config=config)
    assert found.fields["flags"].to_list() == [["blurred", "stain_far"]]
    measures = found.fields.row(0, named=True)
    assert measures["stain_distance"] == pytest.approx(stain_distance(measures, reference()))
    raised = found.patients["flags"].item().to_list()
    assert raised == [
        {"flag": "blurred_fields", "value": 1.0, "limit": 0.2, "n_fields": 1},
        {"flag": "stain_far_fields", "value": 1.0, "limit": 0.2, "n_fields": 1},
        {"flag": "unchecked", "value": 9.0, "limit": 0.0, "n_fields": None},
    ]


def test_rules_and_stain_are_read_back_from_the_bundle_as_they_were(tmp_path: Path) -> None:
    rules, stain = FlagRules(max_stain_distance=2.5), reference()
    make_bundle(
        tmp_path / "bundle",
        spec=make_spec(flags=rules, stain_reference=stain),
    )
    spec = load_bundle(tmp_path / "bundle").spec
    assert spec.flags == rules
    assert spec.stain_reference == stain


def test_each_flag_of_fields_has_one_of_patients_that_counts_it() -> None:
    assert [flag.of_field for flag in PATIENT_FLAGS if flag.of_field] == [flag.key for flag in FIELD_FLAGS]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("flag", [*FIELD_FLAGS, *PATIENT_FLAGS], ids=lambda flag: flag.key)
def test_every_flag_has_its_words(flag: Flag[Any], language: str) -> None:
    key = f"flag.{flag.key}"
    assert load_strings(language).texts.get(key), f'data/strings.toml: write ["{key}"] in every language'


@pytest.mark.parametrize("flag", [*FIELD_FLAGS, *PATIENT_FLAGS], ids=lambda flag: flag.key)
def test_every_limit_is_a_setting_of_the_rules(flag: Flag[Any]) -> None:
    assert {rule.limit for rule in flag.rules} <= set(FlagRules.model_fields)


@pytest.mark.parametrize("shape", [(90, 80), (9, 31)])
@pytest.mark.parametrize("order", ["as drawn", "the sample is the highest"])
def test_the_quantile_of_an_image_is_numpys_to_the_bit(shape: tuple[int, int], order: str) -> None:
    generator = np.random.default_rng(5)
    values = generator.random(shape).astype(np.float32) ** 3
    if order == "the sample is the highest":  # and tells nothing of the others
        values[::5, ::7] += 1
    chosen = generator.random(shape) < 0.6
    for share in (0.5, 0.9, 0.97, 0.9999, 1.0):
        expected = np.quantile(values[chosen], share)
        assert _quantile_of_the_chosen(values, chosen, share) == expected, share


@pytest.mark.parametrize("um_per_px", [0.1, 0.137, 0.29])
def test_a_field_that_was_shrunk_for_the_segmenter_measures_the_same(um_per_px: float) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(60, 256, (301, 407, 3), dtype=np.uint8)
    image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), dtype=np.uint8)
    canvas, transform = letterbox(image, um_per_px, SegmenterConfig(um_per_px=FIELD_SCALE_UM_PER_PX))
    shrunk = canvas[0, : transform.height_px, : transform.width_px]
    np.testing.assert_equal(
        measure_field(image, um_per_px, np.ascontiguousarray(shrunk)), measure_field(image, um_per_px)
    )
