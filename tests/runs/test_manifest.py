"""The run folder: counts that reconcile, atomic writing, refusals."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from marrowscope.disk import MARKER_NAME, begin_folder, mark_folder
from marrowscope.errors import RunError
from marrowscope.runs.folder import (
    MADE_FROM_A_RUN,
    RUN_KIND,
    new_run_folder,
    refuse_file,
    refuse_run_folder,
    staging_folder,
)
from marrowscope.runs.manifest import Manifest, RunCounts, installed_versions, read_manifest, write_manifest

COUNTS = {
    "patients": 1,
    "images": 3,
    "images_read": 2,
    "images_failed": 1,
    "contours": 10,
    "rejected": {"edge": 2, "too_small": 1},
    "cells": 7,
    "countable": 6,
    "cblc": 2,
    "contradictions": 0,
}


def manifest() -> Manifest:
    return Manifest(
        created_utc="2026-01-02T03:04:05+00:00",
        command=("marrowscope", "predict"),
        versions=installed_versions(),
        bundle={"name": "test"},
        backend="onnxruntime",
        device="CPU",
        precision="f32",
        config={},
        config_sha256="0" * 64,
        input_sha256="0" * 64,
        counts=RunCounts.model_validate(COUNTS),
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images_failed": 0}, "found 3 images, expected 2 read"),
        ({"cells": 8}, "found 10 contours, expected 8 cells"),
        ({"cblc": 7}, "expected ascending numbers"),
    ],
)
def test_counts_that_do_not_reconcile_are_refused(change: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RunCounts.model_validate(COUNTS | change)


def test_manifest_round_trip(tmp_path: Path) -> None:
    written = manifest()
    write_manifest(tmp_path, written)
    assert read_manifest(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_folder_without_or_with_a_broken_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected a finished run; run `marrowscope predict` first"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"manifest\.json: command: found nothing, .*; run `marrowscope predict` again"):
        read_manifest(tmp_path)


def test_only_an_earlier_run_is_replaced_and_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    refuse_run_folder(out, overwrite=False)
    staging = staging_folder(out)
    with new_run_folder(staging, out) as folder:
        write_manifest(folder, manifest())
    assert not staging.exists()
    with pytest.raises(RunError, match=r"found an earlier run.*add --overwrite"):
        refuse_run_folder(out, overwrite=False)
    refuse_run_folder(out, overwrite=True)
    with new_run_folder(staging, out):
        assert (out / "manifest.json").is_file()  # the earlier run stands until the new one is complete
    assert [path.name for path in out.iterdir()] == [MARKER_NAME]

    (out / "thesis.docx").touch()
    with pytest.raises(RunError, match=r"nothing is removed. It contains thesis\.docx; move them away"):
        refuse_run_folder(out, overwrite=True)
    assert (out / "thesis.docx").exists()


def test_a_run_without_marker_is_listed_and_stays(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    write_manifest(out, manifest())
    with pytest.raises(RunError, match=r"nothing is removed. It contains manifest\.json; remove the folder by hand"):
        refuse_run_folder(out, overwrite=True)
    assert read_manifest(out) == manifest()


def test_files_that_come_while_a_run_is_made_stop_its_replacement(tmp_path: Path) -> None:
    out, staging = tmp_path / "run", staging_folder(tmp_path / "run")
    begin_folder(staging, RUN_KIND)
    written = manifest()
    with new_run_folder(staging, out) as folder:
        write_manifest(folder, written)
    begin_folder(staging, RUN_KIND)
    with pytest.raises(RunError, match=r"It contains notes\.txt"), new_run_folder(staging, out):
        (out / "notes.txt").write_text("somebody's", encoding="utf-8")
    assert (out / "notes.txt").is_file()
    assert read_manifest(out) == written
    assert staging.is_dir()


def test_a_folder_of_somebody_where_the_run_is_made_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "run.part").mkdir()
    (tmp_path / "run.part" / "journal.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"other than an unfinished marrowscope run.*It contains journal\.json"):
        refuse_run_folder(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run.part" / "journal.json").is_file()


@pytest.mark.parametrize("kind", MADE_FROM_A_RUN)
def test_what_later_commands_make_of_a_run_goes_with_it_but_not_more(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "run"
    with new_run_folder(staging_folder(out), out) as folder:
        write_manifest(folder, manifest())
    (out / kind / "patients").mkdir(parents=True)
    (out / kind / "patients" / "p1.html").touch()
    with pytest.raises(RunError, match=rf"It contains {kind}/patients/p1\.html"):
        refuse_run_folder(out, overwrite=True)
    mark_folder(out / kind, kind)
    refuse_run_folder(out, overwrite=True)
    mark_folder(out / kind, "bundle")
    with pytest.raises(RunError, match=rf"It contains {kind}/"):
        refuse_run_folder(out, overwrite=True)


def test_a_run_that_fails_while_it_is_written_replaces_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with new_run_folder(staging_folder(out), out) as folder:
        write_manifest(folder, manifest())
    with pytest.raises(KeyboardInterrupt), new_run_folder(staging_folder(out), out):
        raise KeyboardInterrupt
    assert read_manifest(out) == manifest()


def test_a_file_is_no_folder_to_write_to_nor_is_anything_below_it(tmp_path: Path) -> None:
    refuse_file(tmp_path)
    refuse_file(tmp_path / "new" / "deeper")
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    for path in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "runs"):
        with pytest.raises(RunError, match=r"notes\.txt: found a file, expected a folder to write to"):
            refuse_file(path)
