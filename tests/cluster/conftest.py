"""An object store on loopback for the tests of this folder that ask for it."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from marrowscope.cluster import across
from tests.cluster import crew_here
from tests.stores import Bucket, bucket_on_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.cluster.object_store import ObjectStore


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    yield from bucket_on_loopback()


@pytest.fixture(scope="module")
def store(bucket: Bucket) -> Iterator[ObjectStore]:
    """Give the door to it, opened once: that takes half a second."""
    from marrowscope.cluster.object_store import ObjectStore

    del bucket
    opened = ObjectStore()
    yield opened
    opened.close()


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Put one worker of this process in place of Ray's."""
    crew_here.MADE.clear()
    crew_here.STOPS_AFTER[0] = None
    monkeypatch.setattr(across, "RayCrew", crew_here.CrewHere)
    return monkeypatch


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the system's temporary folder, in which nothing may stay."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
