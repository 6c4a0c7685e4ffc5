from concurrent.futures import ThreadPoolExecutor

import pytest

from marrowscope.streaming.clock import StageClock


def test_laps_add_up_over_threads_and_the_longest_stands_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StageClock()
    ticks = iter(range(1000))
    monkeypatch.setattr("marrowscope.streaming.clock.time.perf_counter", lambda: float(next(ticks)))

    def lap(stage: str) -> None:
        with clock(stage):
            pass

    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lap, ["short", "long", "long"]))
    assert clock.seconds() == {"long": 2.0, "short": 1.0}
    assert list(clock.seconds()) == ["long", "short"]
    clock.reset()
    assert clock.seconds() == {}


def test_a_lap_that_raises_counts() -> None:
    clock = StageClock()
    with pytest.raises(KeyError), clock("broken"):
        raise KeyError
    assert clock.seconds()["broken"] > 0
