"""The door: a path that is not there is named by every command, and nothing is written into what is read."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, get_type_hints

import pytest

from tests.cli.test_main import COMMANDS, exit_code_of

if TYPE_CHECKING:
    from pathlib import Path


def paths_of(path: tuple[str, ...]) -> list[str]:
    """Name the parameters of a command that are paths it reads."""
    hints = get_type_hints(COMMANDS[path].callback)
    return [name for name, hint in hints.items() if "pathlib.Path" in str(hint) and name != "out"] if hints else []


def calls_without(path: tuple[str, ...], missing: str) -> list[list[str]]:
    """Return a call of a command for each of its paths: that one is ``missing``, others are the working folder."""
    calls = []
    for absent in paths_of(path):
        words = [*path]
        for parameter in COMMANDS[path].params:
            if parameter.name == absent or parameter.required:
                value = missing if parameter.name == absent else "../new" if parameter.name == "out" else "."
                words += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
        calls.append(words)
    return calls


PATH_COMMANDS = [path for path in COMMANDS if paths_of(path)]


@pytest.mark.parametrize("path", PATH_COMMANDS, ids=" ".join)
def test_a_path_that_is_not_there_is_not_found(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    calls = calls_without(path, "no/such")
    assert calls
    for words in calls:
        assert exit_code_of(words) == 2, shlex.join(words)
        said = capsys.readouterr().err
        assert "no/such: not found, no such file or folder; check the path" in said, shlex.join(words)
        assert list(tmp_path.iterdir()) == [tmp_path / "here"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("predict . --bundle {} --out ../new", ", or name default or demo"),
        ("evaluate {} . --out ../new", ", or name default or demo"),
        ("precision {} . --out ../new", ", or name default or demo"),
        ("quantify {} . --out ../new", ", or name default or demo"),
        ("prepare . --segmenter {} --out ../new", ", or name default or demo"),
        ("doctor --bundle {}", ", or name default or demo"),
        ("compare {} . . --out ../new", ""),
        ("report {}", ""),
    ],
)
def test_the_name_of_a_shipped_bundle_stands_for_it_where_a_bundle_is_meant(
    words: str, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert exit_code_of(words.format("dema").split()) == 2
    assert capsys.readouterr().err.strip().endswith(f"check the path{names}")
    if words.startswith("doctor"):
        return  # it goes on, and runs the bundle
    assert exit_code_of(words.format("default").split()) == 2
    said = capsys.readouterr().err
    assert ("default: not found" in said) is not bool(names)
    assert "default: found no" not in said


def test_words_that_may_be_paths_are_looked_for_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crops").mkdir()
    for words in (
        "train segmenter nowhere:4x3 --out run",
        "train classifier crops --folds nowhere --out run",
        "train classifier crops --segmenter nowhere --out run",
        "vocabulary mapping nowhere",
    ):
        assert exit_code_of(words.split()) == 2
        assert "nowhere: not found" in capsys.readouterr().err, words


@pytest.mark.parametrize(
    "words",
    [
        "predict photos --out photos/run",
        "predict . --out run",
        "prepare photos --out photos/crops",
        "quantify bundle photos --out photos/measured",
        "precision bundle photos --out bundle/measured",
        "cohort export run --out run/contours",
        "cohort folds photos --out photos/folds.csv",
        "evaluate run photos --out photos/deep/below",
        "export run --segmenter demo --out run/bundle",
        "train classifier photos --out photos/training",
    ],
)
def test_nothing_is_written_into_what_is_read(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "bundle", "run"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert exit_code_of(words.split()) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "found an output inside" in said
    assert "choose another place for --out" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_into_the_input_is_inside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    assert exit_code_of(["predict", "photos", "--out", "link/run"]) == 2
    assert "found an output inside photos" in capsys.readouterr().err


def test_a_report_may_be_written_into_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    assert exit_code_of(["report", "run", "--out", "run/report"]) == 2
    assert "manifest.json" in capsys.readouterr().err  # refused for what the folder is, not for where it writes
