"""Files are written whole, and folders are replaced only where a marker of ours names every file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope import disk
from marrowscope.errors import BundleError, RunError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    disk.write_text(path, "first")

    def fail() -> None:
        with disk.written_whole(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text(encoding="utf-8") == "first"
    assert [item.name for item in tmp_path.iterdir()] == ["table.txt"]


def test_new_and_empty_folders_are_free(tmp_path: Path) -> None:
    disk.refuse_foreign_folder(tmp_path / "new", "run", overwrite=False)
    disk.refuse_foreign_folder(tmp_path, "run", overwrite=False)


def test_a_folder_of_ours_is_replaced_when_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    disk.mark_folder(folder, "run")
    with pytest.raises(RunError, match=r"an earlier run.*add --overwrite"):
        disk.refuse_foreign_folder(folder, "run", overwrite=False)
    disk.refuse_foreign_folder(folder, "run", overwrite=True)
    new = tmp_path / "run.part"
    new.mkdir()
    (new / "other").write_text("", encoding="utf-8")
    disk.replace_folder(new, folder)
    assert [item.name for item in folder.iterdir()] == ["other"]
    assert [item.name for item in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("marked", [True, False])
def test_files_of_others_are_named_and_stay(tmp_path: Path, *, marked: bool) -> None:
    if marked:
        disk.mark_folder(tmp_path, "run")
    (tmp_path / "thesis.docx").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunError, match=r"nothing is removed.*thesis\.docx"):
        disk.refuse_foreign_folder(tmp_path, "run", overwrite=True)


def test_another_kind_of_ours_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle.toml").write_text("", encoding="utf-8")
    disk.mark_folder(tmp_path, "bundle")
    with pytest.raises(BundleError, match="no run of ours"):
        disk.refuse_foreign_folder(tmp_path, "run", overwrite=True, error=BundleError)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="found a file, expected a folder for the run"):
        disk.refuse_foreign_folder(tmp_path / "run", "run", overwrite=True)
