"""A fixed number of damaged files of every kind: read right, named in a fault, or refused in a sentence.

``benchmarks/fuzz_files.py`` is the same with other seeds, more of them, and a process of its own for each group.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.damage.all_kinds import GROUPS
from tests.damage.kinds import READ, REFUSED, judge

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = range(3)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_right_or_refused_in_a_sentence(
    group: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if group == "training" and find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    kinds = GROUPS[group](tmp_path)
    found = {(kind.name, seed): judge(kind, seed) for kind in kinds for seed in SEEDS}
    assert {place: said for place, said in found.items() if said[0] not in {READ, REFUSED}} == {}
    assert REFUSED in {word for word, _ in found.values()}
    assert READ in {word for word, _ in found.values()}
    assert "panicked at" not in capfd.readouterr().err
