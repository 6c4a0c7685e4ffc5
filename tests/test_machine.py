import errno
import subprocess
import sys
from pathlib import Path

import pytest

from marrowscope import machine
from marrowscope.errors import MarrowscopeError
from marrowscope.machine import (
    available_cores,
    available_memory,
    is_out_of_memory,
    processor_features,
    refuse_small_address_space,
)


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


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("plugin.cpp:54: can't alloc"),  # OpenVINO, in the words of its threads
        RuntimeError("plugin.cpp:54: Resource temporarily unavailable"),
        RuntimeError("Check 'ptr' failed at cpu_memory.cpp:257: Failed to allocate 3099600000 bytes of memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libscipy_openblas.so: failed to map segment from shared object"),
    ],
)
def test_want_of_memory_is_known_whoever_says_it(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("Check 'ptr' failed: unknown operator"))


def test_too_small_an_address_space_is_refused_before_a_library_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    for limit in (resource.RLIM_INFINITY, 2560 * 1024**2):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        refuse_small_address_space()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2559 * 1024**2, -1))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5 * 1024**3, -1))
    refuse_small_address_space()
    with pytest.raises(MarrowscopeError, match=r"limited to 5\.00 GiB, expected at least 5\.25 GiB to load the librar"):
        refuse_small_address_space(trains=True)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2559 * 1024**2, -1))
    with pytest.raises(MarrowscopeError, match=r"limited to 2\.50 GiB, expected at least 2\.50 GiB to load the librar"):
        refuse_small_address_space()


@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits the address space")
@pytest.mark.parametrize(("command", "n_mib"), [("predict", 940), ("train classifier", 4620)])
def test_a_command_without_room_for_its_libraries_ends_in_a_sentence(command: str, n_mib: int, tmp_path: Path) -> None:
    """Without the check the first call never ends: OpenBLAS asks for its buffers again and again."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({n_mib} * 1024**2,) * 2); "
        "from marrowscope.cli.main import main; main()"
    )
    words = [sys.executable, "-c", code, *command.split(), str(tmp_path), "--out", str(tmp_path.with_name("out"))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 1
    found = f"{n_mib / 1024:.2f} GiB"
    assert done.stderr.startswith(f"Error: found an address space limited to {found}, expected at least ")
    assert len(done.stderr.splitlines()) == 1
