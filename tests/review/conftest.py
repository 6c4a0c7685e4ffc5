"""What the tests of the review share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher

from marrowscope.review import accounts
from marrowscope.review.database import make_private_file, sqlite_url
from tests.required import POSTGRESQL, skip_without
from tests.review.postgres import Cluster, reason_absent, running_cluster
from tests.review.stations import Browser, enter, open_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from marrowscope.review.station import Station
    from tests.fake_runs import FakeRun


HASHER_IN_USE = accounts._HASHER


@pytest.fixture(scope="session", autouse=True)
def _passwords_are_hashed_in_a_moment() -> Iterator[None]:
    """Hash with the least that argon2id takes: half a second for each password is what the station is to spend."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_HASHER", quick)
        patch.setattr(accounts, "_NOBODYS_HASH", quick.hash("nobody has this password"))
        yield


@pytest.fixture
def station(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Station]:
    """Give a station over two patients, P1 and P2."""
    station = open_station(fake_run().folder, tmp_path / "review" / "review.sqlite")
    yield station
    station.close()


@pytest.fixture
def large_station(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Station]:
    """Give a station whose patient P1 has more cells than the first look of an audit."""
    station = open_station(fake_run(n_fields=6).folder, tmp_path / "review" / "review.sqlite")
    yield station
    station.close()


@pytest.fixture
def browser(station: Station) -> Browser:
    """Give a browser that has entered the station."""
    return enter(station)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Give a PostgreSQL server of the tests' own; skips, and says why, where there is none."""
    if reason := reason_absent():
        skip_without(POSTGRESQL, reason)
    with running_cluster() as started:
        yield started


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.apart)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty database, of each kind in turn."""
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("cluster")
        return cluster.new_database()
    make_private_file(tmp_path / "any.sqlite")
    return sqlite_url(tmp_path / "any.sqlite")
