"""The speed table of another device asks both sides for that device, and states medians with their range."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from benchmarks.device_speed import bench_command, table_row

GIVEN = argparse.Namespace(
    cohort=Path("cohort"), bundle=None, segmenter=Path("seg.pt"), members=2, views=2, image_size=480, crop_size=96,
    fields=4, rounds=1,
)  # fmt: skip


@pytest.mark.parametrize(("device", "theirs"), [("cuda", "cuda:0"), ("cpu", "cpu")])
def test_both_sides_run_on_the_device_at_the_same_sizes(device: str, theirs: str) -> None:
    GIVEN.device = device
    ours = bench_command(GIVEN, ["--no-morphology"])
    other = shlex.split(ours[ours.index("--other") + 1])
    assert (ours[ours.index("--device") + 1], other[other.index("--device") + 1]) == (device, theirs)
    assert ours[ours.index("--other-size") + 1 :][:2] == ["480", "96"]
    assert ours[ours.index("--image-size") + 1] == "480"
    assert ours[ours.index("--crop-size") + 1] == "96"
    assert Path(other[0]).is_file()
    assert "--no-morphology" in ours


def test_a_row_states_medians_over_the_rounds_with_their_range() -> None:
    rounds = [{"whole_s": whole, "other_s": 4.0, "networks_s": 0.5} for whole in (1.0, 2.0, 4.0)]
    assert table_row("all", {"fields": 8, "rounds": rounds}) == (
        "| all | 4.00 (2.00-8.00) | 2.00 (2.00-2.00) | 2.00 (1.00-4.00) | 4.00 (2.00-8.00) |"
    )
