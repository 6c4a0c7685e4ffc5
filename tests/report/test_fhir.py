"""FHIR bundles: valid as R4B, of elements that R4 has too, true to the tables, the same each time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from marrowscope.errors import RunError
from marrowscope.records import Patient
from marrowscope.report.fhir import write_fhir
from marrowscope.report.fhir_parts import UCUM, reference_range
from marrowscope.report.strings import load_strings
from marrowscope.runs.parquet import read_table
from tests.fake_runs import ALL_MADE, ASSESSED, assess_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fake_runs import FakeRun

ADULT = Patient("P1", "A", "control", specimen="marrow", age_group="adult")
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
IN_R4: dict[str, set[str]] = {
    "Bundle": {"resourceType", "id", "language", "type", "timestamp", "entry"},
    "DiagnosticReport": {
        *("resourceType", "id", "language", "status", "code", "subject", "issued", "specimen", "result", "conclusion"),
    },
    "Observation": {
        *("resourceType", "id", "language", "status", "code", "subject", "issued", "device", "note", "component"),
        *("valueQuantity", "valueString", "valueInteger", "valueRange", "dataAbsentReason", "referenceRange"),
        "hasMember",
    },
    "component": {"code", "valueQuantity", "valueInteger", "valueRange", "dataAbsentReason"},
}
"""Elements of R4 (4.0.1) that are used, from hl7.org/fhir/R4; each stands in R4B (4.3.0) with the same meaning."""


def bundles(run: FakeRun, lang: str = "en") -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in write_fhir(run.folder, lang=lang)]


def resources(bundle: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the resources by the text of their code."""
    return {entry["resource"]["code"]["text"]: entry["resource"] for entry in bundle["entry"]}


def components(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["code"]["text"]: item for item in resource["component"]}


def nodes(value: object) -> Iterator[dict[str, Any]]:
    """Walk through every object of a document."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def validated(bundle: dict[str, Any]) -> None:
    """Check a bundle, and each of its resources, with the models of R4B."""
    models = pytest.importorskip("fhir.resources.R4B", reason="no fhir.resources: install the group dev")
    models.get_fhir_model_class("Bundle").model_validate(bundle)
    for entry in bundle["entry"]:
        resource = entry["resource"]
        models.get_fhir_model_class(resource["resourceType"]).model_validate(resource)


@pytest.fixture
def filled(fake_run: Callable[..., FakeRun]) -> FakeRun:
    """Give a run of one adult with every figure."""
    run = fake_run([ADULT], n_fields=6)
    assess_as(run, "P1")
    return run


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_bundle_of_every_kind_of_patient_is_valid(fake_run: Callable[..., FakeRun], lang: str) -> None:
    run = fake_run([ADULT, Patient("患者 <2>", "B & C", "AML", specimen="blood"), Patient("P3", "A\n\tx", "AML")])
    assess_as(run, "P1")
    for bundle in bundles(run, lang):
        validated(bundle)


def test_bundle_of_a_patient_without_a_cell_is_valid(fake_run: Callable[..., FakeRun]) -> None:
    (bundle,) = bundles(fake_run([ADULT], n_cells=0))
    validated(bundle)
    of = resources(bundle)
    for name in ("CBLC ratio, as counted", "Myeloid blast estimate", "N: myeloblast"):
        assert of[name]["dataAbsentReason"]["coding"] == [{"system": ABSENT, "code": "not-applicable"}]


def test_only_elements_of_r4_are_used(filled: FakeRun) -> None:
    (bundle,) = bundles(filled)
    assert set(bundle) <= IN_R4["Bundle"]
    for entry in bundle["entry"]:
        assert set(entry) == {"fullUrl", "resource"}
        assert set(entry["resource"]) <= IN_R4[entry["resource"]["resourceType"]]
        for component in entry["resource"].get("component", ()):
            assert set(component) <= IN_R4["component"]


def test_figures_are_those_of_the_table(filled: FakeRun) -> None:
    row = read_table(filled.folder / "patients.parquet", "patients").row(0, named=True)
    of = resources(bundles(filled)[0])
    counted = of["CBLC ratio, as counted"]
    assert counted["valueQuantity"] == {
        "value": round(100 * row["cblc_ratio"], 4),
        "unit": "%",
        "system": UCUM,
        "code": "%",
    }
    assert components(counted)["cells called CBLC"]["valueInteger"] == row["n_cblc"]
    assert components(counted)["countable cells"]["valueInteger"] == row["n_countable"]
    corrected = of["CBLC ratio, corrected for the classifier's errors"]
    assert corrected["valueQuantity"]["value"] == 31.0
    interval = components(corrected)["95% interval"]["valueRange"]
    assert (interval["low"]["value"], interval["high"]["value"]) == (22.0, 41.0)
    assert components(corrected)["study threshold"]["valueQuantity"]["value"] == 21.0
    assert components(corrected)["confidence that the ratio exceeds the threshold"]["valueQuantity"]["value"] == 98.2
    assert of["Call"]["valueString"] == load_strings()("call.above", t="21.0%")
    for item in row["differential"]:
        shown = of[f"{item['category']}: {load_strings()('category.' + item['category'])}"]
        assert shown["valueQuantity"]["value"] == round(100 * item["share_nucleated"], 4)
        assert components(shown)["cells"]["valueInteger"] == item["n_nucleated"]
        assert ("referenceRange" in shown) == (item["reference_low"] is not None)
    ratio = of["M:E ratio, (granulocytic + monocytic) / erythroid"]
    assert ratio["valueQuantity"] == {"value": round(row["me_ratio"], 4), "unit": "1", "system": UCUM, "code": "1"}
    assert components(ratio)["erythroid cells"]["valueInteger"] == row["me_denominator"]
    blasts = of["Myeloid blast estimate"]
    assert blasts["valueRange"]["low"]["value"] == round(100 * row["who_least"], 4)
    assert "20% (AML)" in blasts["note"][-1]["text"]
    assert of["Flags"]["valueString"].count(";") == len(row["flags"]) - 1
    panel = of["Differential of nucleated cells"]
    assert panel["valueInteger"] == row["n_nucleated"]
    assert row["reference_source"] in panel["note"][0]["text"]


def test_every_observation_says_preliminary_and_whose_it_is(filled: FakeRun) -> None:
    for entry in bundles(filled)[0]["entry"]:
        resource = entry["resource"]
        assert resource["status"] == "preliminary"
        assert resource["subject"] == {"type": "Patient", "identifier": {"value": "P1"}, "display": "P1"}
        assert resource["issued"] == "2026-03-01T10:00:00+00:00"
        assert resource["resourceType"] != "Patient"


def test_conclusion_is_the_call_and_the_research_use(filled: FakeRun) -> None:
    report = bundles(filled)[0]["entry"][0]["resource"]
    assert report["resourceType"] == "DiagnosticReport"
    assert report["conclusion"] == f"{load_strings()('call.above', t='21.0%')} {load_strings()('research_use')}"


def test_conclusion_names_a_lymphoid_marrow_beside_the_call(filled: FakeRun) -> None:
    assess_as(filled, "P1", lymphoid_share=0.412)
    conclusion = bundles(filled)[0]["entry"][0]["resource"]["conclusion"]
    said = "Review the cells. Lymphoid cells 41.2%: blast status not assessed. For research use only."
    assert said in conclusion


@pytest.mark.parametrize("limit", [None, 0.21])
def test_threshold_that_was_given_has_no_interval(filled: FakeRun, limit: float | None) -> None:
    assess_as(filled, "P1", threshold_lower=limit, threshold_upper=limit)
    parts = components(resources(bundles(filled)[0])["CBLC ratio, corrected for the classifier's errors"])
    assert parts["study threshold"]["valueQuantity"]["value"] == 21.0
    assert "95% interval of the study threshold" not in parts


def notes(resource: dict[str, Any]) -> list[str]:
    return [item["text"] for item in resource.get("note", ())]


def test_call_says_why_it_is_so_and_what_it_depends_on(filled: FakeRun) -> None:
    call = resources(bundles(filled)[0])["Call"]
    assert notes(call) == ["The call changes within the threshold's own interval (17.0% to 26.0%)."]
    assess_as(filled, "P1", call="withheld", call_reason="lymphoid", call_depends_on_threshold=False)
    (bundle,) = bundles(filled)
    validated(bundle)
    assert notes(resources(bundle)["Call"]) == [load_strings()("call.reason.lymphoid")]


@pytest.mark.parametrize(("lower", "is_told"), [(0.2, False), (0.6, True)])
def test_a_counted_share_or_estimate_with_a_wide_interval_has_no_value(
    filled: FakeRun, lower: float, *, is_told: bool
) -> None:
    wide = {"cblc_ratio": 1.0, "cblc_ratio_lower": lower, "cblc_ratio_upper": 1.0}
    assess_as(filled, "P1", **wide, who_least=1.0, who_most=1.0, who_lower=lower, who_upper=1.0)
    found = resources(bundles(filled)[0])
    assert ("valueQuantity" in found["CBLC ratio, as counted"]) == is_told
    assert (load_strings("en")("ratio.too_wide") in notes(found["CBLC ratio, as counted"])) != is_told
    assert ("valueRange" in found["Myeloid blast estimate"]) == is_told


@pytest.mark.parametrize(("declared", "which"), [(None, "With promyelocytes"), ("apl", "Without promyelocytes")])
def test_many_promyelocytes_give_a_second_estimate_in_figures(
    filled: FakeRun, declared: str | None, which: str
) -> None:
    main = {"who_declared": declared, "who_least": 0.05, "who_most": 0.06, "who_lower": 0.02, "who_upper": 0.1}
    alt = {"who_alt_least": 0.7, "who_alt_most": 0.72, "who_alt_lower": 0.6, "who_alt_upper": 0.8}
    assess_as(filled, "P1", **main, **alt)
    (bundle,) = bundles(filled)
    validated(bundle)
    ends = {
        name: part["valueRange"]
        for name, part in components(resources(bundle)["Myeloid blast estimate"]).items()
        if "valueRange" in part
    }
    assert [ends[which][end]["value"] for end in ("low", "high")] == [70.0, 72.0]
    assert [ends[f"{which}, 95% interval"][end]["value"] for end in ("low", "high")] == [60.0, 80.0]
    assess_as(filled, "P1", **main, **alt | {"who_alt_lower": 0.1})
    parts = components(resources(bundles(filled)[0])["Myeloid blast estimate"])
    assert "dataAbsentReason" in parts[which]
    assert parts[f"{which}, 95% interval"]["valueRange"]["low"]["value"] == 10.0
    assess_as(filled, "P1", **main, **dict.fromkeys(alt))
    assert which not in components(resources(bundles(filled)[0])["Myeloid blast estimate"])


def test_patient_without_a_call_has_no_confidence(filled: FakeRun) -> None:
    assess_as(filled, "P1", call="no_call", call_reason="few_fields", call_depends_on_threshold=False)
    of = resources(bundles(filled)[0])
    assert not any("confidence" in name for name in components(of["CBLC ratio, corrected for the classifier's errors"]))
    assert notes(of["Call"]) == ["A call needs cells in at least 5 fields."]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"correction_note": "within_false_positive_rate"}, "ratio.within_false_positive_rate"),
        (
            {
                **dict.fromkeys(("corrected_ratio", "corrected_lower", "corrected_upper")),
                "correction_note": "rates_too_close",
            },
            "ratio.not_corrected.rates_too_close",
        ),
        (dict.fromkeys(("corrected_ratio", "corrected_lower", "corrected_upper")), "ratio.not_corrected.no_rates"),
    ],
)
def test_corrected_ratio_says_how_it_is_to_be_read(filled: FakeRun, values: dict[str, Any], told: str) -> None:
    assess_as(filled, "P1", **values)
    corrected = resources(bundles(filled)[0])["CBLC ratio, corrected for the classifier's errors"]
    assert notes(corrected) == [load_strings()(told), load_strings()("ratio.scope.marrow")]


def test_codes_are_text_but_for_units_and_absence(filled: FakeRun) -> None:
    (bundle,) = bundles(filled)
    for node in nodes(bundle):
        assert node.get("system") in {None, UCUM, ABSENT}
        if "coding" in node:
            assert node["coding"][0]["system"] == ABSENT


def test_value_that_is_not_there_has_its_reason(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient("P1", "A", "AML", specimen="blood")])
    assess_as(run, "P1", **(dict.fromkeys(ASSESSED) | {"flags": [], "depth": ALL_MADE}))
    of = resources(bundles(run)[0])
    corrected = of["CBLC ratio, corrected for the classifier's errors"]
    assert corrected["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert all("dataAbsentReason" in item for item in corrected["component"])
    assert of["Call"]["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    ratio = of["M:E ratio, (granulocytic + monocytic) / erythroid"]
    assert ratio["dataAbsentReason"]["coding"][0]["code"] == "not-applicable"
    assert "component" not in ratio
    assert of["Flags"]["valueString"] == load_strings()("flags.none")
    for resource in of.values():
        if resource["resourceType"] == "Observation":
            values = [key for key in resource if key.startswith("value")]
            assert len(values) + ("dataAbsentReason" in resource) == 1, resource["code"]


def test_references_lead_to_resources_of_the_bundle(filled: FakeRun) -> None:
    (bundle,) = bundles(filled)
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(urls) == len(bundle["entry"])
    led_to = {node["reference"] for node in nodes(bundle) if "reference" in node}
    assert led_to == urls - {bundle["entry"][0]["fullUrl"]}
    for entry in bundle["entry"]:
        assert entry["fullUrl"] == f"urn:uuid:{UUID(entry['resource']['id'])}"


def test_ids_belong_to_the_run_and_the_patient(fake_run: Callable[..., FakeRun], tmp_path: Path) -> None:
    run = fake_run([ADULT, Patient("P2", "A", "AML")])
    first = [path.read_bytes() for path in write_fhir(run.folder, tmp_path / "a")]
    assert first == [path.read_bytes() for path in write_fhir(run.folder, tmp_path / "b")]
    ids = [{entry["resource"]["id"] for entry in json.loads(content)["entry"]} for content in first]
    assert ids[0].isdisjoint(ids[1])
    manifest = run.folder / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("01" * 32, "02" * 32), encoding="utf-8")
    again = json.loads(write_fhir(run.folder, tmp_path / "c")[0].read_text(encoding="utf-8"))
    assert ids[0].isdisjoint(entry["resource"]["id"] for entry in again["entry"])


def test_no_text_but_the_id_has_a_line_break_and_none_is_empty(fake_run: Callable[..., FakeRun]) -> None:
    (bundle,) = bundles(fake_run([Patient("P\n1", "A\x01", "AML")]))
    for node in nodes(bundle):
        for key, value in node.items():
            if isinstance(value, str):
                assert value
                if key == "value":
                    assert value == "P\n1"  # the identifier is the id, unchanged
                    continue
                assert not re.search(r"[\x00-\x1f]", value)


@pytest.mark.parametrize(("low", "high"), [(None, 1.0), (1.0, None), (None, None)])
def test_half_a_reference_range_is_none(low: float | None, high: float | None) -> None:
    assert reference_range(low, high, "1", 1.0) == {}


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `marrowscope predict` first"):
        write_fhir(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_specimen_and_center_are_said_to_be_unknown(fake_run: Callable[..., FakeRun]) -> None:
    (bundle,) = bundles(fake_run([Patient("P1", "unknown", "unknown", specimen="unknown")]))
    (report,) = [item["resource"] for item in bundle["entry"] if item["resource"]["resourceType"] == "DiagnosticReport"]
    assert [item["display"] for item in report["specimen"]] == ["smear, specimen unknown, center unknown"]
