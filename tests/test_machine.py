from pathlib import Path

import pytest

from marrowscope.machine import available_cores, available_memory


@pytest.mark.parametrize(("text", "most"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 10_000)])
def test_a_container_quota_limits_the_cores(tmp_path: Path, text: str, most: int) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text, encoding="ascii")
    assert 1 <= available_cores(limit) <= most
    assert available_cores(limit) == min(most, available_cores(tmp_path / "none"))


def test_the_memory_is_the_least_of_what_machine_and_container_leave(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    assert available_memory(meminfo, tmp_path) is None
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:   4000 kB\n", encoding="ascii")
    assert available_memory(meminfo, tmp_path) == 4_096_000
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    (tmp_path / "memory.current").write_text("2500000\n", encoding="ascii")
    assert available_memory(meminfo, tmp_path) == 4_096_000
    (tmp_path / "memory.max").write_text("3000000\n", encoding="ascii")
    assert available_memory(meminfo, tmp_path) == 500_000
    (tmp_path / "memory.stat").write_text("anon 1500000\ninactive_file 700000\n", encoding="ascii")
    assert available_memory(meminfo, tmp_path) == 1_200_000
