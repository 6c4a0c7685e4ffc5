"""A run of another vocabulary is refused in every format, and nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.cli.main import main
from marrowscope.errors import RunError
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.runs.manifest import UsedVocabulary, read_manifest, write_manifest
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun


def predicted_with(run: FakeRun, sha256: str) -> None:
    manifest = read_manifest(run.folder)
    used = UsedVocabulary(name="own", version="3", sha256=sha256)
    bundle = manifest.bundle.model_copy(update={"vocabulary": used})
    write_manifest(run.folder, manifest.model_copy(update={"bundle": bundle}))


@pytest.mark.parametrize("form", ["html", "pdf", "csv", "json", "fhir"])
def test_run_of_another_vocabulary_is_refused_in_every_format(
    fake_run: Callable[..., FakeRun], capsys: pytest.CaptureFixture[str], form: str
) -> None:
    if form == "pdf":
        pytest.importorskip("typst", reason="no typst: install the extra pdf")
    run = fake_run()
    predicted_with(run, "9" * 64)
    before = sorted(run.folder.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(run.folder), "--format", form])
    assert stopped.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "found a run with vocabulary own 3" in told
    assert f"expected {load_vocabulary().name}" in told
    assert "read its Parquet tables" in told
    assert sorted(run.folder.rglob("*")) == before


def test_run_of_the_shipped_vocabulary_is_read(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    assert reportable_manifest(run.folder).bundle.vocabulary is None
    predicted_with(run, load_vocabulary().sha256)
    used = reportable_manifest(run.folder).bundle.vocabulary
    assert used == UsedVocabulary(name="own", version="3", sha256=load_vocabulary().sha256)
    predicted_with(run, "9" * 64)
    with pytest.raises(RunError, match="SHA-256 999999999999"):
        reportable_manifest(run.folder)
