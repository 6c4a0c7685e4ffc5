"""Configuration: TOML and flags to a frozen value, every fault named, equal values with equal hashes."""

from __future__ import annotations

import math
import re
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import Field, ValidationError, model_validator

import marrowscope
from marrowscope.config import StageConfig, config_hash, load_config, load_record, parse_json, validate_config
from marrowscope.errors import ConfigError


class Cutter(StageConfig):
    """A stage of its own, so that no real stage is tested here."""

    side_um: float = Field(default=28.8, gt=0)
    size_px: int = Field(default=96, gt=0)
    name: str | None = None

    @model_validator(mode="after")
    def _fine_enough(self) -> Cutter:
        if self.side_um > self.size_px:
            message = f"{self.side_um} um on {self.size_px} px is coarser than 1 um/px"
            raise ValueError(message)
        return self


def test_no_file_gives_the_defaults() -> None:
    assert load_config(Cutter, None) == Cutter()


def test_flags_stand_above_the_file_and_absent_flags_do_not(tmp_path: Path) -> None:
    file = tmp_path / "cutter.toml"
    file.write_text("side_um = 20.0\nsize_px = 64\n", encoding="utf-8")
    assert load_config(Cutter, file, {"size_px": 128, "side_um": None}) == Cutter(side_um=20.0, size_px=128)


def test_every_fault_is_named_with_file_key_value_and_rule(tmp_path: Path) -> None:
    file = tmp_path / "cutter.toml"
    file.write_text("side_um = -1.0\nsize_pixels = 64\n", encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_config(Cutter, file)
    assert str(raised.value) == (
        f"{file}: side_um: found -1.0, expected more than 0; size_pixels: found 64, expected no key of this name"
    )


def test_values_that_contradict_each_other_are_named_without_a_key() -> None:
    with pytest.raises(ConfigError, match=r"^flags: 28\.8 um on 8 px is coarser than 1 um/px$"):
        validate_config(Cutter, {"size_px": 8}, where="flags")


def test_a_byte_order_mark_that_an_editor_wrote_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "cutter.toml"
    file.write_bytes(b"\xef\xbb\xbfsize_px = 64\n")
    assert load_config(Cutter, file).size_px == 64


@pytest.mark.parametrize("content", [b"side_um = ", b"\xff\xfe"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "cutter.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cutter\.toml: not a readable TOML configuration .*; correct the file"):
        load_config(Cutter, file)


@pytest.mark.parametrize("content", ["a = " + "[" * 5000 + "]" * 5000, "size_px = " + "9" * 5000])
def test_a_file_beyond_what_is_read_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "cutter.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"cutter\.toml: not a readable TOML configuration .*; correct the file"):
        load_config(Cutter, file)


@pytest.mark.parametrize("content", ['{"a":' * 5000 + "1" + "}" * 5000, '{"name": "\\ud800"}'])
def test_a_record_beyond_what_can_be_shown_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "record.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"record\.json: found no readable JSON .*; write it again"):
        load_record(Cutter, file, error=ConfigError, advice="write it again")


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_setting_is_a_finite_number(tmp_path: Path, value: str) -> None:
    file = tmp_path / "cutter.toml"
    file.write_text(f"side_um = {value}")
    with pytest.raises(ConfigError, match=rf"side_um: found {value}, expected a finite number"):
        load_config(Cutter, file)


def test_a_key_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    file = tmp_path / "cutter.toml"
    file.write_text('"size\\npx" = 1')
    with pytest.raises(ConfigError) as caught:
        load_config(Cutter, file)
    assert "'size\\npx': found 1" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: not a readable TOML configuration"):
        load_config(Cutter, tmp_path / "absent.toml")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Cutter().size_px = 64  # type: ignore[misc]


def test_hash_depends_on_values_alone() -> None:
    assert config_hash(Cutter(size_px=96)) == config_hash(Cutter())
    assert config_hash(Cutter(size_px=97)) != config_hash(Cutter())
    assert len(config_hash(Cutter())) == 64


def stage_configurations() -> list[type[StageConfig]]:
    """Import every module of the package that declares a configuration, and list the classes."""
    package = Path(marrowscope.__file__).parent
    for path in package.rglob("*.py"):
        if re.search(r"^class \w+\((StageConfig|FrozenModel)\)", path.read_text(encoding="utf-8"), re.MULTILINE):
            import_module(".".join(path.relative_to(package.parent).with_suffix("").parts))
    found, left = [], list(StageConfig.__subclasses__())
    while left:
        found.append(left.pop())
        left += found[-1].__subclasses__()
    return [model for model in found if model.__module__.startswith("marrowscope.")]


def refusal(model: type[StageConfig], values: dict[str, object]) -> str:
    """Return the sentence in which ``values`` are refused, empty where they are not."""
    try:
        validate_config(model, values, where="file.toml")
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("value", [-1e30, 1e30, 2.5, "no such word!", "", [], {}, True, math.nan], ids=repr)
def test_no_setting_of_any_stage_is_refused_in_the_words_of_pydantic(value: object) -> None:
    refused = 0
    for model in stage_configurations():
        for name in (*model.model_fields, "no_such_key"):
            sentence = refusal(model, {name: value})
            refused += bool(sentence)
            for words in ("Input should", "should have", "should match", "not permitted", "expected another value"):
                assert words not in sentence
    assert refused > 100


def test_json_is_read_no_deeper_than_ours_is_nested() -> None:
    assert parse_json("[" * 32 + "]" * 32) is not None
    for depth in (33, 200, 900):
        with pytest.raises(ValueError, match="nested more than 32 deep"):
            parse_json('{"a":' * depth + "1" + "}" * depth)
