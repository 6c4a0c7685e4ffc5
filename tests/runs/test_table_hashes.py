"""No byte of a run's tables can change, and no table go or come, without report, evaluate and export refusing it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from marrowscope.cli.main import main
from marrowscope.errors import RunError
from marrowscope.evaluate import evaluate_run
from marrowscope.report import write_report
from marrowscope.report.exchange import write_csv, write_json
from marrowscope.report.fhir import write_fhir
from marrowscope.runs.manifest import Manifest, read_manifest, write_manifest
from marrowscope.runs.parquet import empty_table, write_table
from marrowscope.runs.table_hashes import hash_tables, read_checked_manifest
from marrowscope.runs.to_annotations import export_run
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_runs import FakeRun

VOCABULARY = load_vocabulary()
READERS: dict[str, Callable[[Path, Path], object]] = {
    "html": write_report,
    "csv": write_csv,
    "json": write_json,
    "fhir": write_fhir,
    "evaluate": lambda run, _: evaluate_run(run, [], [], VOCABULARY),
    "export": lambda run, out: export_run(run, out, "labelme", VOCABULARY),
}


@pytest.fixture
def run(fake_run: Callable[..., FakeRun]) -> Path:
    """Give a run with every table."""
    folder = fake_run().folder
    write_table(folder / "regions.parquet", empty_table("regions"), "regions")
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"tables": hash_tables(folder)}))
    return folder


@pytest.mark.parametrize("kind", ["fields", "cells", "patients", "regions"])
def test_every_flipped_byte_is_refused(run: Path, kind: str) -> None:
    path = run / f"{kind}.parquet"
    whole = path.read_bytes()
    generator = random.Random(7)  # noqa: S311 - a fixed choice of bytes
    for place in generator.sample(range(len(whole)), 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :])
        with pytest.raises(RunError, match=rf"{kind}\.parquet: found SHA-256 [0-9a-f]{{64}}, expected SHA-256"):
            read_checked_manifest(run)
    path.write_bytes(whole)
    assert read_checked_manifest(run) == read_manifest(run)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_a_changed_table(run: Path, tmp_path: Path, reader: str) -> None:
    path = run / "cells.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0")
    with pytest.raises(RunError, match=r"cells\.parquet: found SHA-256 .* as in manifest.json; copy the run again"):
        READERS[reader](run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_commands_refuse_in_one_sentence(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "patients.parquet").write_bytes(b"PAR1")
    (tmp_path / "cohort").mkdir()
    for command in (["report", "-f", "csv"], ["evaluate", str(tmp_path / "cohort")], ["cohort", "export"]):
        words = [*command[: 1 + (command[0] == "cohort")], str(run), *command[1 + (command[0] == "cohort") :]]
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--out", str(tmp_path / "out")])
        assert stopped.value.code == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "patients.parquet: found SHA-256" in told.replace("patients. parquet", "patients.parquet")
        assert "Traceback" not in told


def test_a_table_that_is_gone_or_added_is_refused(run: Path) -> None:
    (run / "regions.parquet").unlink()
    with pytest.raises(RunError, match=r"regions\.parquet: found no such table, expected SHA-256"):
        read_checked_manifest(run)
    stated = read_manifest(run)
    stated.tables.pop("regions.parquet")
    write_manifest(run, stated)
    read_checked_manifest(run)
    write_table(run / "regions.parquet", empty_table("regions"), "regions")
    with pytest.raises(RunError, match=r"regions\.parquet: found SHA-256 .*, expected no such table"):
        read_checked_manifest(run)


def test_a_run_without_hashes_is_read(run: Path) -> None:
    stated = read_manifest(run).model_dump()
    stated.pop("tables")
    older = Manifest.model_validate(stated)
    write_manifest(run, older)
    (run / "cells.parquet").write_bytes(b"PAR1")
    assert read_checked_manifest(run) == older
