from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.errors import RunError
from marrowscope.studies.reproduce.journal import SETTINGS_NAME, Journal

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import JsonDict

SETTINGS: JsonDict = {"preset": {"seed": 1, "fields": 4}, "version": "1"}


class Work:
    """A step that writes a file and counts how often it is done."""

    def __init__(self, path: Path) -> None:
        self.path, self.times = path, 0

    def __call__(self) -> JsonDict:
        """Do it once more."""
        self.times += 1
        self.path.write_text("made")
        return {"made": self.times}


def test_a_step_is_done_once_for_equal_inputs_and_again_for_others(tmp_path: Path) -> None:
    work = Work(tmp_path / "out" / "file")
    for _ in range(2):  # the second time as a later call would
        journal = Journal(tmp_path / "out", SETTINGS)
        assert journal.step("a", {"seed": 1}, [work.path], work) == {"made": 1}
    assert journal.step("a", {"seed": 2}, [work.path], work) == {"made": 2}
    assert list(journal.seconds()) == ["a"]


def test_a_step_whose_file_is_gone_is_done_again(tmp_path: Path) -> None:
    journal, work = Journal(tmp_path / "out", SETTINGS), Work(tmp_path / "out" / "file")
    journal.step("a", {}, [work.path], work)
    work.path.unlink()
    assert journal.step("a", {}, [work.path], work) == {"made": 2}


def test_a_step_that_fails_leaves_no_marker_not_even_its_earlier_one(tmp_path: Path) -> None:
    journal, work = Journal(tmp_path / "out", SETTINGS), Work(tmp_path / "out" / "file")
    journal.step("a", {"seed": 1}, [work.path], work)

    def fail() -> JsonDict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.step("a", {"seed": 2}, [work.path], fail)
    assert journal.seconds() == {}
    assert journal.step("a", {"seed": 1}, [work.path], work) == {"made": 2}


def test_other_settings_are_refused_with_both_values(tmp_path: Path) -> None:
    Journal(tmp_path / "out", SETTINGS)
    other = {"preset": {"seed": 2, "fields": 4}, "version": "1"}
    with pytest.raises(
        RunError, match=r"other settings \(preset\.seed: 1 there, 2 here\), expected equal ones; contin"
    ):
        Journal(tmp_path / "out", other)
    Journal(tmp_path / "out", SETTINGS)


def test_many_differences_are_counted(tmp_path: Path) -> None:
    Journal(tmp_path / "out", {str(index): index for index in range(7)})
    with pytest.raises(RunError, match="3: 3 there, None here and 3 more"):
        Journal(tmp_path / "out", {})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(RunError, match="found something other than a reproduction, expected a new or empty folder"):
        Journal(tmp_path, SETTINGS)


def test_a_broken_marker_is_named(tmp_path: Path) -> None:
    journal, work = Journal(tmp_path / "out", SETTINGS), Work(tmp_path / "out" / "file")
    journal.step("a", {}, [work.path], work)
    (tmp_path / "out" / "steps" / "a.json").write_text("{")
    with pytest.raises(RunError, match=r"a\.json: found no readable JSON .*; remove the file, and its step"):
        journal.step("a", {}, [work.path], work)


def test_a_call_killed_while_it_wrote_its_first_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f"{SETTINGS_NAME}.part").touch()
    Journal(tmp_path, SETTINGS)
    assert (tmp_path / SETTINGS_NAME).is_file()


def test_broken_settings_are_not_said_to_be_a_step(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_NAME).write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"reproduce\.json: cannot be read .*; choose another --out"):
        Journal(tmp_path, SETTINGS)
