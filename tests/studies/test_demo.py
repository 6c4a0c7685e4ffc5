"""The demonstration: what lies in its folder is never overwritten by mistake (its numbers are proved end to end)."""

from pathlib import Path

import pytest

from marrowscope.disk import mark_folder
from marrowscope.errors import RunError
from marrowscope.report import write_report
from marrowscope.simulate import SimulationConfig
from marrowscope.studies import demo


@pytest.mark.parametrize(
    ("there", "overwrite", "sentence"),
    [
        ("cohort/simulation.json", False, r"not a marrowscope simulated cohort.*It contains simulation\.json"),
        ("cohort/P0001/field_001.jpg", True, r"not a marrowscope simulated cohort.*It contains P0001/field_001\.jpg"),
        ("run/manifest.json", True, r"not a marrowscope run.*It contains manifest\.json"),
        ("patients.csv", True, r"found patients\.csv, expected a new or empty folder, or an earlier demonstration"),
        ("run.part/notes.txt", True, r"other than an unfinished marrowscope run.*It contains notes\.txt"),
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


def test_an_earlier_demonstration_is_replaced_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "demonstration_bundle", lambda: tmp_path / "bundle")
    (tmp_path / "cohort").mkdir()
    mark_folder(tmp_path / "cohort", "simulated cohort")
    with pytest.raises(RunError, match=r"found an earlier simulated cohort, .*add --overwrite"):
        demo.run_demo(tmp_path)


def test_an_interrupted_demonstration_goes_on_with_its_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def is_there(folder: Path, config: SimulationConfig) -> bool:
        asked.append((folder, config.seed))
        return True

    monkeypatch.setattr(demo, "demonstration_bundle", lambda: tmp_path / "bundle")
    monkeypatch.setattr(demo, "is_simulated", is_there)
    monkeypatch.setattr(demo, "simulate_cohort", lambda *_, **__: pytest.fail("the cohort is there"))
    monkeypatch.setattr(demo, "predict", lambda *_, **options: asked.append(options["finish"].func))
    monkeypatch.setattr(demo, "compare_with_truth", lambda _run, _cohort: ())
    demo.run_demo(tmp_path, seed=4)
    assert asked == [(tmp_path / "cohort", 4), write_report]
