"""The same call over its own complete result says so and changes nothing; any other call is refused as ever."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from marrowscope import disk
from marrowscope.cli import same_call
from marrowscope.cli.main import app, main
from marrowscope.disk import mark_folder
from marrowscope.errors import RunError
from marrowscope.review.decisions import Decision
from tests.review.stations import open_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import typer

    from tests.fake_runs import FakeRun

NOT_ONCE = {
    "report.report": "makes its pages anew, into the run too",
    "reproduce.reproduce": "has a journal of its steps",
    "train_classifier.classifier": "goes on with --resume",
    "train.segmenter": "goes on with --resume",
    "cohort_folds.folds": "writes one file, anew",
    "review.start": "goes on in its database",
    "review.backup": "compares the database that is there",
    "review.restore": "compares the database that is there",
}
"""Commands with --out whose same call is not ended at once, and why."""


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def commands(group: typer.Typer) -> Iterator[Callable[..., object]]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance)


def is_made_once(function: Callable[..., object] | None) -> bool:
    while function is not None:
        if function.__code__.co_filename == same_call.__file__:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def test_every_command_that_makes_a_folder_is_made_once_or_named_here_with_the_reason() -> None:
    writing = [function for function in commands(app) if "out" in function.__annotations__]
    others = [function for function in writing if not is_made_once(function)]
    names = {f"{function.__module__.rpartition('.')[2]}.{function.__name__}" for function in others}
    assert names == set(NOT_ONCE)
    assert len(writing) > len(names) + 10


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    assert run("simulate", tmp_path / "cohort", "--patients", 1, "--fields", 1) == 0
    return tmp_path / "cohort"


def test_a_call_killed_after_its_last_step_finds_its_result(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(cohort)
    capsys.readouterr()
    assert run("simulate", cohort, "--patients", 1, "--fields", 1) == 0
    assert (
        "already complete, made by this same call from the same files with the same versions; nothing is changed."
        in (capsys.readouterr().out)
    )
    assert contents(cohort) == before
    assert run("simulate", cohort, "--patients", 1, "--fields", 1, "--seed", 1) == 2
    assert "found an earlier simulated cohort, expected a new or empty folder" in capsys.readouterr().err
    words = ("predict", cohort, "--out", tmp_path / "run", "--no-report", "-b", "demo", "--backend", "onnxruntime")
    assert run(*words) == 0
    made = contents(tmp_path / "run")
    capsys.readouterr()
    assert run(*words, "--json") == 0  # printing only
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"already_complete": str(tmp_path / "run")}
    assert "run: already complete" in printed.err
    assert contents(tmp_path / "run") == made
    labels = min(cohort.glob("*/*.json"))
    os.utime(labels, ns=(1, 1))  # the input changed
    assert run(*words) == 2
    assert "found an earlier run" in capsys.readouterr().err
    assert contents(tmp_path / "run") == made


def test_what_the_first_call_left_out_is_said_again(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = min(path for path in cohort.iterdir() if path.is_dir())
    (patient / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    words = ("predict", cohort, "--out", tmp_path / "run", "--no-report", "-b", "demo", "--backend", "onnxruntime")
    assert run(*words) == 1
    capsys.readouterr()
    assert run(*words) == 1
    assert "nothing is changed. It lacks what the first call named." in capsys.readouterr().out


def test_what_there_was_no_right_to_read_is_added_by_the_same_call(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = min(path for path in cohort.iterdir() if path.is_dir())
    shut = patient / "field_900.jpg"
    assert run("simulate", tmp_path / "other", "--patients", 1, "--fields", 1, "--seed", 1) == 0
    shutil.copy(min((tmp_path / "other").glob("*/*.jpg")), shut)
    access, open_path = os.access, Path.open
    is_shut = True

    def refuse(path: Path, *words: object, **options: object) -> IO[bytes]:
        if is_shut and path.name == shut.name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_path(path, *words, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(Path, "open", refuse)  # root may read whatever its mode says
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and not (is_shut and str(path) == str(shut))
    )
    words = ("predict", cohort, "--out", tmp_path / "run", "--no-report", "-b", "demo", "--backend", "onnxruntime")
    assert run(*words) == 1
    assert shut.name in capsys.readouterr().err
    assert run(*words) == 1
    assert "nothing is changed. It lacks what the first call named." in capsys.readouterr().out
    is_shut = False
    assert run(*words) == 0
    assert "cells from 1 patient in 2 images" in capsys.readouterr().out
    assert run(*words) == 0
    assert "already complete" in capsys.readouterr().out


def test_what_was_left_out_for_want_of_memory_is_added_by_the_same_call(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = min(path for path in cohort.iterdir() if path.is_dir())
    large = patient / "field_900.jpg"
    assert run("simulate", tmp_path / "other", "--patients", 1, "--fields", 1, "--seed", 1) == 0
    shutil.copy(min((tmp_path / "other").glob("*/*.jpg")), large)
    with monkeypatch.context() as short:
        read_bytes = Path.read_bytes

        def refuse(path: Path) -> bytes:
            if path.name == large.name:
                raise MemoryError
            return read_bytes(path)

        short.setattr(Path, "read_bytes", refuse)
        words = ("predict", cohort, "--out", tmp_path / "run", "--no-report", "-b", "demo", "--backend", "onnxruntime")
        assert run(*words) == 1
        assert "found too little memory" in capsys.readouterr().err
    assert run(*words) == 0
    assert "cells from 1 patient in 2 images" in capsys.readouterr().out
    assert run(*words) == 0
    assert "already complete" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["removed", "longer"])
def test_a_result_that_was_changed_is_not_called_complete(change: str, cohort: Path) -> None:
    table = cohort / "patients.csv"
    if change == "removed":
        table.unlink()
    else:
        table.write_text(table.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    before = contents(cohort)
    assert run("simulate", cohort, "--patients", 1, "--fields", 1) == 2
    assert contents(cohort) == before


def test_the_digest_has_options_files_below_folders_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    (folder / "p1").mkdir(parents=True)
    (folder / "p1/a.txt").write_text("1", encoding="utf-8")

    def digest(**options: object) -> str:
        return same_call.digest_of_call("x", {"cohort": folder, "out": tmp_path / "o", "n": 1, **options})

    first = digest()
    assert digest(out=tmp_path / "elsewhere") == first
    assert digest(as_json=True, threads=7, processes=2, workers=3) == first
    (folder / "x.marrowscope-lock").touch()  # of a call that reads nothing here
    assert digest() == first
    different = [digest(n=2), digest(n=None), digest(cohort=[folder, folder]), same_call.digest_of_call("y", {})]
    different.append(digest(segmenter=str(folder / "p1/a.txt")))  # text that names a file
    (folder / "p1/b.txt").symlink_to(tmp_path / "nothing")
    different.append(digest())
    monkeypatch.setattr("marrowscope.__version__", "0")
    different.append(digest())
    assert len({first, *different}) == len(different) + 1


def test_a_folder_that_was_being_filled_is_replaced_without_a_word_and_foreign_files_are_not(tmp_path: Path) -> None:
    complete, out = tmp_path / "new", tmp_path / "out"
    complete.mkdir()
    for name in ("a.csv", "b.csv"):
        (complete / name).touch()
    disk.mark_folder(complete, "evaluation")
    disk.begin_filling(out, complete, "evaluation")
    (complete / "a.csv").replace(out / "a.csv")
    disk.refuse_foreign_folder(out, "evaluation", overwrite=False)  # a call was killed here
    (out / "notes.txt").touch()
    with pytest.raises(RunError, match=r"It contains notes\.txt; move them away"):
        disk.refuse_foreign_folder(out, "evaluation", overwrite=True)


def test_what_is_read_of_a_review_is_made_once_until_something_is_recorded(
    fake_run: Callable[..., FakeRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder, review, out = fake_run().folder, tmp_path / "review", tmp_path / "corrected"
    station = open_station(run_folder, review / "review.sqlite")
    cell_id = station.patient("P1").frozen[0].cell_id
    station.decide("P1", "Ada", [Decision("relabel", cell_id, "N1")], station.store.head().sequence)
    station.close()
    for db in (review, review / "review.sqlite"):
        words = ("review", "export", db, run_folder, "--out", out / db.name)
        assert run(*words) == 0
        made = contents(out / db.name)
        capsys.readouterr()
        for name in ("review.sqlite-shm", "review.sqlite-wal"):  # as a reader leaves them that was killed
            (review / name).touch()
        assert run(*words) == 0
        assert "already complete" in capsys.readouterr().out
        assert contents(out / db.name) == made
        station = open_station(run_folder, review / "review.sqlite")
        station.decide("P1", "Ada", [Decision("relabel", cell_id, "N2")], station.store.head().sequence)
        assert (review / "review.sqlite-wal").stat().st_size > 0, "the decision is in the journal alone"
        assert run(*words) == 2
        assert "expected a new or empty folder" in capsys.readouterr().err
        station.close()


def test_a_review_in_postgresql_has_no_time_of_change_and_is_read_anew(tmp_path: Path) -> None:
    calls = []

    def command(**_: object) -> None:
        calls.append(same_call.digest_of_call("x", {}))
        mark_folder(tmp_path / "out", "cohort")

    (tmp_path / "out").mkdir()
    for _ in range(2):
        same_call.done_once(command)(db="postgresql+psycopg://ada@localhost/review", out=tmp_path / "out")
    assert len(calls) == 2
