"""The demonstration: what lies in its folder is never overwritten by mistake (its numbers are proved end to end)."""

from pathlib import Path

import pytest

from marrowscope.errors import RunError
from marrowscope.studies import demo


@pytest.mark.parametrize(
    ("there", "overwrite", "sentence"),
    [
        ("cohort/simulation.json", False, r"found an earlier demonstration, .*add --overwrite or choose --out"),
        ("cohort/P0001/field_001.jpg", True, r"not finished, or something else, .*; remove it or choose --out"),
        ("run/manifest.json", False, r"not finished, or something else, .*; remove it or choose --out"),
    ],
)
def test_a_folder_that_holds_something_is_refused_before_anything_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, sentence: str, *, overwrite: bool
) -> None:
    monkeypatch.setattr(demo, "demonstration_bundle", lambda: tmp_path / "bundle")
    path = tmp_path / "demo" / there
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(RunError, match=sentence):
        demo.run_demo(tmp_path / "demo", overwrite=overwrite)
    assert path.is_file()
