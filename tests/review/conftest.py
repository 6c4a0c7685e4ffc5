"""What the tests of the review share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.review.stations import Browser, enter, open_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from marrowscope.review.station import Station
    from tests.fake_runs import FakeRun


@pytest.fixture
def station(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Station]:
    """Give a station over two patients, P1 and P2."""
    station = open_station(fake_run().folder, tmp_path / "review" / "review.sqlite")
    yield station
    station.close()


@pytest.fixture
def browser(station: Station) -> Browser:
    """Give a browser that has entered the station."""
    return enter(station)
