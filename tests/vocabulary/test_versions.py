"""Earlier versions of the shipped vocabulary are read as what they were, and mean the same as the current one."""

from __future__ import annotations

import dataclasses

import pytest

from marrowscope.vocabulary import are_compatible, load_vocabulary, shipped_version
from marrowscope.vocabulary.versions import shipped_versions

VERSION_1 = "3415815ae1a04f5763a96ce167e8f23069608d46081a76945a8d402461435da5"
ADDED = {"plasma"}
"""Facts that a later version added."""


def test_every_version_is_found_by_its_hash() -> None:
    current, *earlier = shipped_versions()
    assert current == load_vocabulary()
    assert [version.sha256 for version in earlier] == [VERSION_1]
    assert all(shipped_version(version.sha256) is version for version in shipped_versions())
    assert shipped_version("f" * 64) is None
    assert len({(version.name, version.version) for version in shipped_versions()}) == len(shipped_versions())


@pytest.mark.parametrize("earlier", shipped_versions()[1:], ids=lambda version: version.version)
def test_a_later_version_changes_no_fact_of_an_earlier_one(earlier: object) -> None:
    current, before = load_vocabulary(), earlier
    assert isinstance(before, type(current))
    assert (before.name, before.categories, before.call_triples) == (
        current.name,
        current.categories,
        current.call_triples,
    )
    assert list(before.codes) == list(current.codes)
    for code, facts in before.codes.items():
        now = dataclasses.asdict(current.codes[code])
        assert {name: value for name, value in dataclasses.asdict(facts).items() if name not in ADDED} == {
            name: value for name, value in now.items() if name not in ADDED
        }


def test_only_shipped_versions_are_compatible_with_each_other() -> None:
    current = load_vocabulary().sha256
    assert are_compatible(VERSION_1, current)
    assert are_compatible("f" * 64, "f" * 64)
    assert not are_compatible("f" * 64, current)
