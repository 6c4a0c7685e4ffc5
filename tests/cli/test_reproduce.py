"""`marrowscope reproduce` as a user calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")

from marrowscope.cli.main import main
from marrowscope.disk import MARKER_NAME
from marrowscope.studies import reproduce
from marrowscope.studies.reproduce import study
from marrowscope.studies.reproduce.compare import Comparison
from marrowscope.studies.reproduce.plan import make_plan
from tests.reproduce_presets import MACHINE, RATES, TINY

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object) -> int:
    """Run the command line and give its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reproduce.PRESETS, "quick", TINY)
    monkeypatch.setattr(study, "measure_rates", lambda *_: RATES)


def test_the_plan_says_how_long_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    assert run("reproduce", "--plan", "--out", out) == 0
    assert "min  train 2 folds in two stages" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [MARKER_NAME, "plan.json", "reproduce.json"]
    assert run("reproduce", "--plan", "--json", "--workers", 1, "--out", out) == 0
    assert json.loads(capsys.readouterr().out) == make_plan(TINY, RATES, MACHINE).as_json()


def test_another_seed_in_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reproduce", "--plan", "--out", tmp_path / "study") == 0
    assert run("reproduce", "--out", tmp_path / "study", "--seed", 4) == 2
    assert (
        "found a reproduction with other settings (preset.classifier.seed: 3 there, 4 here" in capsys.readouterr().err
    )


@pytest.mark.parametrize(("beats", "code"), [(True, 0), (False, 1)])
def test_the_table_is_printed_and_the_exit_code_says_whether_the_probe_is_beaten(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    beats: bool,
    code: int,
) -> None:
    comparison = Comparison(centers=(), n_members=2)
    monkeypatch.setattr(Comparison, "beats_probe", property(lambda _: beats))

    def finish(out: Path, *_: object, **options: object) -> study.Reproduction:
        out.mkdir()
        (out / "table.md").write_text("# The table\n")
        (out / "summary.json").write_text('{"preset": "tiny"}')
        plan = make_plan(TINY, RATES, MACHINE)
        if callable(announce := options["on_plan"]):
            announce(plan, plan.seconds)
        return study.Reproduction(out, comparison, {"simulate-S1": 90.0}, plan)

    monkeypatch.setattr(study, "reproduce", finish)
    assert run("reproduce", "--out", tmp_path / "study") == code
    printed = capsys.readouterr()
    assert "# The table" in printed.out
    assert "Took 1.5 minutes, 1.0 expected" in printed.out
    assert "min  in total, " in printed.err
    assert ("does not beat" in printed.err) is not beats
    assert run("reproduce", "--json", "--out", tmp_path / "other") == code
    assert json.loads(capsys.readouterr().out) == {"preset": "tiny"}
