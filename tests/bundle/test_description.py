"""The models of bundle.toml: every key is documented, and what contradicts itself is refused."""

import re
import typing
from pathlib import Path
from types import UnionType

import pytest
from pydantic import BaseModel

from marrowscope.bundle.description import BundleCalibration, BundleSpec, CenterRates
from marrowscope.patient.depth import DomainScore
from marrowscope.statistics.temperature import Calibration, HeadCalibration

PAGE = Path(__file__).parents[2] / "docs" / "bundle.md"


def models_of(annotation: object, heading: str) -> list[tuple[str, type[BaseModel]]]:
    """Give the models in a field's type, each with its heading: ``a.*`` for a mapping, ``[a]`` for a list of them."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(heading, annotation)]
    if origin is dict:
        return models_of(inner[1], f"{heading}.*")
    if origin is tuple:
        return models_of(inner[0], f"[{heading}]")
    if origin in (UnionType, typing.Union, typing.Annotated):
        return [found for part in inner for found in models_of(part, heading)]
    return []


def sections_of(model: type[BaseModel], heading: str) -> dict[str, set[str]]:
    """Give each section under ``heading`` and the keys that stand in it; a mapping of the first level has none."""
    keys: set[str] = set()
    sections: dict[str, set[str]] = {}
    for name, field in model.model_fields.items():
        below = f"{heading}.{name}".lstrip(".")
        models = models_of(field.annotation, below)
        for deeper, of_section in models:
            sections |= sections_of(of_section, deeper)
        if not models and not heading and typing.get_origin(field.annotation) is dict:
            sections[name] = set()
        elif not models:
            keys.add(name)
    return {heading: keys} | sections


def documented() -> dict[str, set[str]]:
    """Give the sections of the page, and the keys in the table of each; names in capitals are ``*``."""
    text = PAGE.read_text(encoding="utf-8").partition("## bundle.toml, field by field")[2]
    found = {}
    for part in text.split("\n### ")[1:]:
        title, _, body = part.partition("\n")
        heading = re.fullmatch(r"`\[(.+)\]`", title)
        name = re.sub(r"\.[A-Z]+\b", ".*", heading.group(1)) if heading else ""
        found[name] = set(re.findall(r"^\| `(\w+)` \| \S", body, flags=re.MULTILINE))
    return found


def test_every_section_and_key_is_documented() -> None:
    expected = sections_of(BundleSpec, "")
    assert {"sources", "[sources]"} & expected.keys() == {"[sources]"}
    assert len(expected) > 20
    assert documented() == expected


def test_limits_are_in_order_and_those_outside_are_some_of_all() -> None:
    with pytest.raises(ValueError, match=r"found lower_limit 2\.0 above upper_limit 1\.0"):
        DomainScore(mean=1, standard_deviation=1, lower_limit=2, upper_limit=1, n=3)
    with pytest.raises(ValueError, match="found neither lower_limit nor upper_limit"):
        DomainScore(mean=1, standard_deviation=1, n=3)
    with pytest.raises(ValueError, match="found n_outside 3 of n_patients 2"):
        CenterRates(file="a", n_patients=2, n_outside=3, opened=False)
    assert CenterRates(file="a", n_patients=2, n_outside=2, opened=False).n_outside == 2


def test_a_bundle_keeps_of_a_calibration_all_but_the_folders() -> None:
    head = HeadCalibration(
        temperature=1.5, n_cells=9, n_left_out=1, nested_temperatures={"0": 1.25}, nll_before=0.5, nll_after=None,
        ece_before=0.1, ece_after=None,
    )  # fmt: skip
    calibration = Calibration(source="predicted", n_patients=4, members={"fold-0": "0" * 64}, heads={"cblc": head})
    kept = BundleCalibration.of(calibration)
    assert kept.model_dump() == calibration.model_dump(exclude={"schema_version", "members", "joint"})
