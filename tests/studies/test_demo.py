"""The demonstration: what lies in its folder is never overwritten by mistake (its numbers are proved end to end)."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from marrowscope.disk import mark_folder
from marrowscope.errors import RunError
from marrowscope.runs.manifest import installed_versions
from marrowscope.simulate import SimulationConfig
from marrowscope.studies import demo
from tests.bundles import make_bundle


@pytest.fixture(autouse=True)
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name bundles that nothing here opens: what is refused is refused before."""
    monkeypatch.setattr(demo, "demonstration_bundle", lambda: tmp_path / "bundle")
    monkeypatch.setattr(demo, "default_bundle", lambda: tmp_path / "real-bundle")


@pytest.mark.parametrize(
    ("there", "overwrite", "sentence"),
    [
        ("cohort/simulation.json", False, r"not a marrowscope simulated cohort.*It contains simulation\.json"),
        ("cohort/P0001/field_001.jpg", True, r"not a marrowscope simulated cohort.*It contains P0001/field_001\.jpg"),
        ("run/manifest.json", True, r"not a marrowscope run.*It contains manifest\.json"),
        ("patients.csv", True, r"found patients\.csv, expected a new or empty folder, or an earlier demonstration"),
        ("index.html", True, r"found index\.html, which this command did not write"),
        ("run.part/notes.txt", True, r"other than an unfinished marrowscope run.*It contains notes\.txt"),
    ],
)
def test_a_folder_that_holds_something_is_refused_before_anything_is_simulated(
    tmp_path: Path, there: str, sentence: str, *, overwrite: bool
) -> None:
    path = tmp_path / "demo" / there
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(RunError, match=sentence):
        demo.run_demo(tmp_path / "demo", overwrite=overwrite)
    assert path.is_file()


def test_an_earlier_demonstration_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "cohort").mkdir()
    mark_folder(tmp_path / "cohort", "simulated cohort")
    with pytest.raises(RunError, match=r"found an earlier simulated cohort, .*add --overwrite"):
        demo.run_demo(tmp_path)


@pytest.mark.parametrize("has_real_run", [False, True])
def test_an_interrupted_demonstration_goes_on_with_what_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_real_run: bool
) -> None:
    asked: list[object] = []

    def is_there(folder: Path, config: SimulationConfig) -> bool:
        asked.append((folder, config.seed))
        return True

    monkeypatch.setattr(demo, "is_simulated", is_there)
    monkeypatch.setattr(
        demo, "load_bundle", lambda folder: SimpleNamespace(folder=folder, vocabulary=None, learned=None)
    )
    monkeypatch.setattr(demo, "_is_run_of", lambda _bundle, run: has_real_run and run.name == "real-run")
    monkeypatch.setattr(demo, "simulate_cohort", lambda *_, **__: pytest.fail("the cohort is there"))
    monkeypatch.setattr(demo, "predict", lambda _paths, _bundle, run, **_: asked.append(run.name))
    monkeypatch.setattr(demo, "compare_with_labels", lambda _run, _vocabulary: ())
    monkeypatch.setattr(demo, "compare_with_truth", lambda _run, _cohort: ())
    demo.run_demo(tmp_path, seed=4)
    assert asked == [(tmp_path / "cohort", 4), *([] if has_real_run else ["real-run"]), "run"]


def test_a_run_is_kept_only_of_the_same_bundle_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert not demo._is_run_of(bundle, tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").touch()
    manifest = SimpleNamespace(bundle=bundle.provenance(), versions=installed_versions())
    monkeypatch.setattr(demo, "read_manifest", lambda _run: manifest)
    assert demo._is_run_of(bundle, tmp_path / "run")
    manifest.versions = manifest.versions | {"numpy": "0"}
    assert not demo._is_run_of(bundle, tmp_path / "run")
    manifest.versions, manifest.bundle = installed_versions(), manifest.bundle.model_copy(update={"sha256": "0"})
    assert not demo._is_run_of(bundle, tmp_path / "run")
