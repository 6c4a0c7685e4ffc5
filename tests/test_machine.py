from pathlib import Path

import pytest

from marrowscope.machine import available_cores, available_memory, processor_features


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


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse4_1 avx2 avx512f smep\n", ["avx2", "avx512f", "sse4_1"]),
        ("processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\n", ["asimd", "bf16", "i8mm", "sve"]),
        ("", []),
    ],
)
def test_features_of_the_processor_by_which_kernels_are_chosen(
    cpuinfo: str, features: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert processor_features(tmp_path / "cpuinfo").split()[1:] == features
