"""Files that set what a command does: configuration, vocabulary, label mapping, folds, split."""

from __future__ import annotations

import csv
import io
import shutil
import tomllib
from typing import TYPE_CHECKING, Any

from marrowscope.bundle.toml_writer import to_toml
from marrowscope.cohort.folds import read_folds, read_split
from marrowscope.config import load_config
from marrowscope.train.config import ClassifierConfig
from marrowscope.vocabulary import DEFAULT_VOCABULARY, MAPPINGS_DIR, load_mapping, load_vocabulary, mapping_names
from tests.damage.kinds import Kind, is_finite
from tests.damage.mutations import damaged_csv, damaged_toml

if TYPE_CHECKING:
    from pathlib import Path

_FOLDS = "patient_id,center,diagnosis,fold\nP1,A,AML,0\nP2,A,control,1\nP3,B,AML,external\nP4,A,AML,1\n"
_SPLIT = "patient_id,role\nP1,train\nP2,validation\nP3,test\n"


def setting_kinds(root: Path) -> list[Kind]:
    """Write one file of each kind."""
    config, words, mapping = root / "train.toml", root / "vocabulary.toml", root / "mapping.toml"
    folds, split = root / "folds.csv", root / "split.csv"
    config.write_text(to_toml(ClassifierConfig().model_dump(mode="json", exclude_none=True)))
    shutil.copyfile(DEFAULT_VOCABULARY, words)
    shutil.copyfile(MAPPINGS_DIR / f"{mapping_names()[0]}.toml", mapping)
    folds.write_text(_FOLDS)
    split.write_text(_SPLIT)

    def config_is_right(data: bytes) -> bool:
        found = load_config(ClassifierConfig, config).model_dump(mode="json")
        given = tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n"))
        return all(_same(found[key], value) for key, value in given.items()) and is_finite(found)

    def words_are_right(data: bytes) -> bool:
        found = load_vocabulary(words)
        return [*found.codes] == [row["code"] for row in tomllib.loads(data.decode("utf-8-sig"))["codes"]]

    def mapping_is_right(data: bytes) -> bool:
        found = load_mapping(mapping)
        found.check_against(load_vocabulary())
        given = tomllib.loads(data.decode("utf-8-sig"))["labels"]
        return [(row["label"], row.get("code")) for row in given] == [
            (label, item.code) for label, item in found.labels.items()
        ]

    def folds_are_right(data: bytes) -> bool:
        found = {name: "external" if fold is None else str(fold) for name, fold in read_folds(folds).items()}
        rows = _rows(data)
        expected = {row["patient_id"].strip(): row["fold"].strip().lstrip("0") or "0" for row in rows}
        return len(found) == len(rows) and found == expected

    def split_is_right(data: bytes) -> bool:
        return read_split(split) == {row["patient_id"].strip(): row["role"].strip() for row in _rows(data)}

    return [
        Kind("configuration", config, damaged_toml, config_is_right),
        Kind("vocabulary", words, damaged_toml, words_are_right, every=2),
        Kind("mapping", mapping, damaged_toml, mapping_is_right),
        Kind("folds.csv", folds, damaged_csv, folds_are_right),
        Kind("split.csv", split, damaged_csv, split_is_right),
    ]


def _rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def _same(found: Any, given: Any) -> bool:  # noqa: ANN401 - whatever a configuration holds
    """Say whether a value was read as it is given; a dict may have more keys, defaults."""
    if isinstance(given, dict):
        return isinstance(found, dict) and all(key in found and _same(found[key], given[key]) for key in given)
    if isinstance(given, list):
        return len(found) == len(given) and all(map(_same, found, given))
    if isinstance(given, bool) or isinstance(found, str):
        return bool(found == given)
    return float(given) == float(found)
