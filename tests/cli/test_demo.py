"""What the demonstration prints: shares in percent, as its page and the threshold below the table have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.cli.demo import _print_simulated
from marrowscope.report.demo_page import PatientComparison
from marrowscope.studies.demo import Demonstration

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_simulated_patients_are_in_percent_like_their_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    drawn = PatientComparison("P1", "S1", "AML", 100, 200, 0.5, 0.512, 0.4, 0.6, "above", 101, 202, 0.296, 50)
    wide = PatientComparison("P2", "S1", "AML", 3, 4, 0.75, 0.7, 0.1, 0.98, None, 3, 4, 0.296, 50)
    _print_simulated(Demonstration(tmp_path, tmp_path, tmp_path, tmp_path, (drawn, wide), tmp_path, tmp_path, ()))
    printed = capsys.readouterr().out
    assert "100 of 200 = 50.0%" in printed
    assert "51.2% (40.0% to 60.0%)" in printed
    assert "10.0% to 98.0%, no single ratio" in printed
    assert "Study threshold 29.6%" in printed
    assert not [word for word in printed.split() if word.startswith("0.")]
