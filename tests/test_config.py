"""Configuration: TOML and flags to a frozen value, every fault named, equal values with equal hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import Field, ValidationError, model_validator

from marrowscope.config import StageConfig, config_hash, load_config, load_record, parse_json, validate_config
from marrowscope.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


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
        f"{file}: side_um: found -1.0, Input should be greater than 0; "
        "size_pixels: found 64, Extra inputs are not permitted"
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
    with pytest.raises(ConfigError, match=rf"side_um: found {value}, Input should be a finite number"):
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


def test_json_is_read_no_deeper_than_ours_is_nested() -> None:
    assert parse_json("[" * 32 + "]" * 32) is not None
    for depth in (33, 200, 900):
        with pytest.raises(ValueError, match="nested more than 32 deep"):
            parse_json('{"a":' * depth + "1" + "}" * depth)
