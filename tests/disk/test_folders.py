"""Files are written whole, and folders are replaced only where a marker of ours names every file."""

from __future__ import annotations

from pathlib import Path

import pytest

from marrowscope import disk
from marrowscope.errors import BundleError, RunError


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
    with pytest.raises(BundleError, match="not a marrowscope run"):
        disk.refuse_foreign_folder(tmp_path, "run", overwrite=True, error=BundleError)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="found a file, expected a folder for the run"):
        disk.refuse_foreign_folder(tmp_path / "run", "run", overwrite=True)


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    disk.write_text(tmp_path / "a.csv", "a\r\nb\n")
    assert (tmp_path / "a.csv").read_bytes() == b"a\r\nb\n"


def test_a_marked_folder_inside_counts_where_its_kind_may_be_there(tmp_path: Path) -> None:
    disk.mark_folder(tmp_path, "run")
    report = tmp_path / "report"
    report.mkdir()
    (report / "index.html").touch()
    disk.mark_folder(report, "report")
    disk.refuse_foreign_folder(tmp_path, "run", overwrite=True, within=("report",))
    with pytest.raises(RunError, match=r"It contains report/\.marrowscope\.json, report/index\.html; move them"):
        disk.refuse_foreign_folder(tmp_path, "run", overwrite=True)
    (report / "notes.txt").touch()
    with pytest.raises(RunError, match=r"It contains report/notes\.txt; move them"):
        disk.refuse_foreign_folder(tmp_path, "run", overwrite=True, within=("report",))


def test_an_unfinished_folder_inside_is_ours_as_a_whole(tmp_path: Path) -> None:
    disk.mark_folder(tmp_path, "run")
    disk.begin_folder(tmp_path / "report.part", "report")
    (tmp_path / "report.part" / "index.html").touch()
    disk.refuse_foreign_folder(tmp_path, "run", overwrite=True, within=("report",))


def test_an_unfinished_folder_is_not_an_earlier_one(tmp_path: Path) -> None:
    disk.begin_folder(tmp_path / "run", "run")
    with pytest.raises(RunError, match="not a marrowscope run"):
        disk.refuse_foreign_folder(tmp_path / "run", "run", overwrite=True)


def test_what_a_killed_call_left_of_a_file_is_ours(tmp_path: Path) -> None:
    disk.name_files(tmp_path, "run", ["cells.csv"])
    (tmp_path / "cells.csv.part").touch()
    disk.refuse_foreign_folder(tmp_path, "run", overwrite=True)
    (tmp_path / "fields.csv.part").touch()
    with pytest.raises(RunError, match=r"It contains fields\.csv\.part; move them"):
        disk.refuse_foreign_folder(tmp_path, "run", overwrite=True)


def test_a_link_to_a_folder_is_somebodys(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "run").mkdir()
    disk.mark_folder(tmp_path / "run", "run")
    (tmp_path / "run" / "images").symlink_to(tmp_path / "photographs", target_is_directory=True)
    with pytest.raises(RunError, match="It contains images; move them"):
        disk.refuse_foreign_folder(tmp_path / "run", "run", overwrite=True)


def test_what_a_file_manager_leaves_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    disk.refuse_foreign_folder(tmp_path, "run", overwrite=False)


def test_files_are_named_one_after_the_other_and_written_over_only_when_named(tmp_path: Path) -> None:
    disk.name_files(tmp_path / "new", "tables", ["a.csv"])
    disk.name_files(tmp_path / "new", "other", ["b.csv"])
    assert disk.read_marker(tmp_path / "new") == disk.Marker(kind="tables", files=("a.csv", "b.csv"))
    for name in ("a.csv", "c.csv"):
        (tmp_path / "new" / name).touch()
    disk.refuse_foreign_files(tmp_path / "new", ["run", "tables"], ["a.csv", "b.csv", "d.csv"])
    with pytest.raises(BundleError, match=r"found c\.csv, which this command did not write.*nothing is replaced"):
        disk.refuse_foreign_files(tmp_path / "new", ["tables"], ["a.csv", "c.csv"], error=BundleError)
    with pytest.raises(RunError, match=r"found a\.csv, which this command"):
        disk.refuse_foreign_files(tmp_path / "new", ["evaluation"], ["a.csv", "d.csv"])


def test_names_do_not_complete_an_unfinished_folder(tmp_path: Path) -> None:
    disk.begin_folder(tmp_path / "new", "report")
    disk.name_files(tmp_path / "new", "report", ["index.html"])
    assert disk.read_marker(tmp_path / "new") == disk.Marker(kind="report", files=(), complete=False)


def test_an_unfinished_folder_of_ours_is_begun_anew_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "new.part"
    disk.begin_folder(folder, "report")
    (folder / "patients").mkdir()
    (folder / "patients" / "p1.html").touch()
    with pytest.raises(
        RunError, match=r"other than an unfinished marrowscope run.*It contains \.marrowscope\.json, patients/p1"
    ):
        disk.begin_folder(folder, "run")
    disk.begin_folder(folder, "report")
    assert [path.name for path in folder.iterdir()] == [disk.MARKER_NAME]
    disk.remove_unfinished(folder)
    assert not folder.exists()
    folder.write_text("a letter", encoding="utf-8")
    with pytest.raises(RunError, match=r"other than an unfinished marrowscope report.*It contains new\.part"):
        disk.begin_folder(folder, "report")


def test_a_new_folder_is_there_whole_and_marked_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "report"

    def write(text: str, beside: str = "") -> None:
        with disk.new_folder(out, "report", overwrite=True) as folder:
            (folder / "index.html").write_text(text, encoding="utf-8")
            if beside:
                (out / beside).touch()  # somebody's, while the report is made
            if text == "half":
                raise ZeroDivisionError

    write("first")
    assert disk.read_marker(out) == disk.Marker(kind="report", files=("index.html",))
    with pytest.raises(ZeroDivisionError):
        write("half")
    assert (out / "index.html").read_text(encoding="utf-8") == "first"
    with pytest.raises(RunError, match=r"It contains notes\.txt"):
        write("second", beside="notes.txt")
    assert sorted(path.name for path in out.iterdir()) == [disk.MARKER_NAME, "index.html", "notes.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_move_that_fails_puts_the_earlier_folder_back(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "first").touch()
    with pytest.raises(FileNotFoundError):
        disk.replace_folder(tmp_path / "nowhere", out)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["run", "run/first"]


def test_new_files_come_among_others_all_or_none(tmp_path: Path) -> None:
    out = tmp_path / "pdf"
    out.mkdir()
    (out / "notes.txt").write_text("somebody's", encoding="utf-8")

    def write(text: str) -> None:
        with disk.new_files(out, "pdf", ["a.pdf", "b.pdf"]) as folder:
            (folder / "a.pdf").write_text(text, encoding="utf-8")
            if text == "half":
                raise ZeroDivisionError
            (folder / "b.pdf").write_text(text, encoding="utf-8")

    with pytest.raises(ZeroDivisionError):
        write("half")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    for text in ("first", "second"):
        write(text)
        assert (out / "b.pdf").read_text(encoding="utf-8") == text
    assert disk.read_marker(out) == disk.Marker(kind="pdf", files=("a.pdf", "b.pdf"))
    with pytest.raises(RunError, match=r"found notes\.txt, which this command did not write"):
        disk.refuse_foreign_files(out, ["pdf"], ["notes.txt"])
    assert [path.name for path in tmp_path.iterdir()] == ["pdf"]


@pytest.mark.parametrize("name", [".", ".."])
def test_the_working_folder_is_no_folder_to_move_another_to(name: str) -> None:
    with (
        pytest.raises(RunError, match="found the working folder or one above it"),
        disk.new_folder(Path(name), "report", overwrite=True),
    ):
        pass


def test_what_lies_beside_a_replaced_folder_stays(tmp_path: Path) -> None:
    out, complete, beside = tmp_path / "run", tmp_path / "run.part", tmp_path / "run.part.replaced"
    for folder in (out, complete, beside):
        folder.mkdir()
        (folder / folder.name).touch()
    disk.replace_folder(complete, out)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "run",
        "run.part.replaced",
        "run.part.replaced/run.part.replaced",
        "run/run.part",
    ]


def test_a_folder_that_was_complete_and_not_yet_moved_is_made_anew(tmp_path: Path) -> None:
    staging = tmp_path / "cohort.part"
    with disk.new_folder(tmp_path / "cohort", "cohort", overwrite=False) as folder:
        (folder / "a").touch()
        disk.mark_folder(folder, "cohort")
        (folder / "thesis").touch()
        with pytest.raises(RunError, match="thesis"):
            disk.refuse_foreign_unfinished(staging, "cohort")
        (folder / "thesis").unlink()
        disk.refuse_foreign_unfinished(staging, "cohort")
        disk.begin_folder(staging, "cohort")
        assert not (folder / "a").exists()


def test_a_folder_whose_marker_was_never_moved_to_its_place_is_ours(tmp_path: Path) -> None:
    (tmp_path / "cohort.part").mkdir()
    (tmp_path / "cohort.part" / f"{disk.MARKER_NAME}.part").touch()
    with disk.new_folder(tmp_path / "cohort", "cohort", overwrite=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_a_folder_that_a_killed_call_had_put_aside_goes_when_it_is_replaced_again(tmp_path: Path) -> None:
    for _ in range(2):
        with disk.new_folder(tmp_path / "cohort", "cohort", overwrite=True) as folder:
            (folder / "a").touch()
        for name in ("ours", "theirs"):
            aside = tmp_path / f".cohort-replaced-{name}" / "cohort"
            aside.mkdir(parents=True, exist_ok=True)
            (aside / "a").touch()
            disk.mark_folder(aside, "cohort")
        (tmp_path / ".cohort-replaced-theirs" / "thesis").touch()
    disk.begin_folder(tmp_path / "new", "cohort")
    disk.replace_folder(tmp_path / "new", tmp_path / "cohort")
    assert {path.name for path in tmp_path.iterdir()} == {"cohort", ".cohort-replaced-theirs"}
