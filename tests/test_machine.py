from pathlib import Path

import pytest

from marrowscope.machine import available_cores


@pytest.mark.parametrize(("text", "most"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 10_000)])
def test_a_container_quota_limits_the_cores(tmp_path: Path, text: str, most: int) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text, encoding="ascii")
    assert 1 <= available_cores(limit) <= most
    assert available_cores(limit) == min(most, available_cores(tmp_path / "none"))
