"""`marrowscope report` on a run on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_runs import FakeRun


def run_main(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def test_command_writes_the_report_and_says_where(
    fake_run: Callable[..., FakeRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake_run()
    assert run_main("report", run.folder, "--out", tmp_path / "elsewhere") == 0
    assert f"Report: {tmp_path / 'elsewhere' / 'index.html'}" in capsys.readouterr().out
    assert (tmp_path / "elsewhere" / "patients" / "P1.html").is_file()
    assert not (run.folder / "report").exists()


def test_folder_that_is_no_run_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("report", tmp_path) == 2
    assert "run `marrowscope predict` first" in capsys.readouterr().err


def test_language_is_chosen_and_an_unknown_one_refused(
    fake_run: Callable[..., FakeRun], capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake_run()
    assert run_main("report", run.folder, "--lang", "zh") == 0
    assert '<html lang="zh-Hans">' in (run.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert run_main("report", run.folder, "--lang", "fr") == 2
    assert "found 'fr', expected en or zh" in " ".join(capsys.readouterr().err.split())


def test_a_folder_of_images_that_is_not_there_is_refused(
    fake_run: Callable[..., FakeRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main("report", fake_run().folder, "--fields-from", tmp_path / "nowhere") == 2
    assert "nowhere: not found, no such file or folder" in capsys.readouterr().err
